"""Erasing removed videos from a library's indexes: a small segment is written anew without them, in a larger one their
bytes are overwritten where they lie, so that a removal costs the same however large an index is."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reelseek.errors import LibraryError
from reelseek.library.files import delete_folder, sync_folder
from reelseek.library.store import Library
from reelseek.search.columns import hash_ids
from reelseek.search.generation import read_manifest
from reelseek.search.index import index_folders, mark_index, open_folder, put_index
from reelseek.search.merge import write_segments
from reelseek.search.merging_folder import drop_merging
from reelseek.search.overwrite import patches_of
from reelseek.search.patches import Patch, patched_checksum, write_patches
from reelseek.search.segment import Segment

__all__ = ["erase_videos"]

_REWRITTEN = 4096  # clips; a smaller segment is written anew
_log = logging.getLogger("reelseek")


def erase_videos(library: Library, videos: Sequence[str]) -> None:
    """Leave no byte of some videos in any index; call it as the writer. What they have of others is not embedded again.

    Who has a segment open reads zeros where a video was erased in it, until the new manifest is followed. Merges that
    are under way are lost, for they may have copied what is erased.
    An index that cannot be read is deleted, and is built again when it is next asked for.

    Raises:
        OSError: the disk is full.
    """
    for folder in index_folders(library):
        try:
            _erase(library, folder, videos)
        except LibraryError as error:
            _log.warning("%s is deleted, since removed videos cannot be erased from it alone: %s", folder, error)
            delete_folder(folder)


def _erase(library: Library, folder: Path, videos: Sequence[str]) -> None:
    drop_merging(folder)  # it would be lost in the end, and takes room on the disk
    _overwrite_the_rest(folder)
    index = open_folder(folder)
    if index is None or index.damaged:
        raise LibraryError("it has no manifest" if index is None else index.damaged[0].reason)
    hashes = hash_ids(videos)
    segments: list[Segment] = []
    patches: dict[str, list[Patch]] = {}
    for segment in index.segments:
        numbers = segment.find(videos, hashes, deleted=True)
        gone = numbers[numbers >= 0]
        if not len(gone):
            segments.append(segment)
        elif len(segment) <= _REWRITTEN and not segment.record.lists:
            segments += _copies(segment.delete(segment.rows_of(gone), write=False))
        else:
            rest = segment.delete(segment.rows_of(gone), write=True)
            by_name = patches_of(rest, gone)
            rest.sums |= {name: _patched_sums(rest, name, several) for name, several in by_name.items()}
            patches |= {rest.file_name(name): several for name, several in by_name.items()}
            segments.append(rest)
    left_out = tuple(video for video in index.left_out if video.video not in set(videos))
    put_index(mark_index(library, replace(index, segments=tuple(segments), left_out=left_out)), patches)
    for name, several in patches.items():
        write_patches(folder / name, several)
    sync_folder(folder)  # the names of the old files are gone for good
    drop_merging(folder)  # of a merge that began meanwhile, and read the manifest before it was replaced


def _overwrite_the_rest(folder: Path) -> None:
    """Do what an erasure that was stopped had begun, before its list of patches is replaced; twice is as once."""
    generation = read_manifest(folder)
    for name, several in generation.patches.items() if generation is not None else ():
        try:
            write_patches(folder / name, several)
        except FileNotFoundError as error:
            raise LibraryError(f"{name} is missing") from error


def _patched_sums(segment: Segment, name: str, patches: Sequence[Patch]) -> tuple[int, int]:
    size, checksum = segment.sums[name]
    return size, patched_checksum(segment.folder / segment.file_name(name), size, checksum, patches)


def _copies(segment: Segment) -> list[Segment]:
    """What is not deleted of a segment without lists, in files of its own; what was measured of it stays as it was.

    Raises:
        LibraryError: it does not hold what was written.
    """
    segment.check()  # a copy would have checksums of its own
    old = segment.record
    copies = []
    for copy in write_segments(segment.folder, [segment], [], lambda _: iter(()), old.live):
        copy.record = replace(
            copy.record, background=old.background, candidates=old.candidates, recall=old.recall, coarse=old.coarse
        )
        copies.append(copy)
    return copies
