"""Merging segments of an index while others add, erase and search.

Segments never change but for their deletions, so that they are copied without being the writer of the library. To put
the copies in their place takes the writer's lock for a moment: what was deleted meanwhile is deleted in the copies, and
one rename swaps the manifest. Where a segment was replaced or erased meanwhile the copies are dropped.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reelseek.errors import LibraryError
from reelseek.library.files import sync_folder
from reelseek.library.storage import BusyError
from reelseek.library.store import Library
from reelseek.models.model import RetrievalModel
from reelseek.search.columns import hash_ids
from reelseek.search.finish import candidates_of, finish
from reelseek.search.generation import read_manifest
from reelseek.search.index import Index, index_folder, open_folder, open_index, problem_of, put_index
from reelseek.search.merge import due, write_segments
from reelseek.search.merging_folder import MergingFolder, claim_merging_folder
from reelseek.search.patches import Patch
from reelseek.search.segment import Segment

__all__ = ["merge_due", "merge_index"]

_ATTEMPTS = 3
_PATIENCE = 60.0  # seconds that a finished merge waits for another process to end writing
_log = logging.getLogger("reelseek")
Select = Callable[[Index], Sequence[Segment]]
"""Which segments of an index are to be merged."""


class _Dropped(Exception):
    """The segments that were merged are replaced or erased by now, or the merge was stopped."""


class _Busy(Exception):
    """Another process merges segments of the index."""


def merge_due(
    library: Library,
    model: RetrievalModel,
    experts: Sequence[str] | None = None,
    *,
    stop: threading.Event | None = None,
) -> Index | None:
    """Merge segments of one size, as long as there are several; others add, erase and search meanwhile.

    Where another process merges, or replaces the segments again and again, they are left to a later merge; what keeps
    it from being written is said.

    Args:
        experts: of which index, see `index_folder`.
        stop: ends it, which is looked at between steps; until then it waits for whoever writes, a minute without.

    Returns:
        The index as it is then; None where there is none.
    """
    folder, merged = index_folder(library, model, experts), None
    try:
        with library.write_errors():
            while index := _merge_selected(library, model, folder, _due, stop):
                merged = index
    except (_Dropped, _Busy) as reason:
        _log.info("segments of the index of %s are left to a later merge: %s", model.system, reason)
    except LibraryError as error:
        _log.warning("segments of the index of %s are not merged, and searched as they are: %s", model.system, error)
    return merged or open_index(library, model, experts, quiet=True)


def merge_index(library: Library, model: RetrievalModel) -> Index | None:
    """Merge all segments of an index into as few as there can be; None where there is no index.

    Raises:
        LibraryError: another process merges it or is writing, the disk is full, or a segment is damaged; the old index
            stays.
    """
    try:
        with library.write_errors():
            merged = _merge_selected(library, model, index_folder(library, model), _divided, None)
    except (_Dropped, _Busy) as reason:
        raise LibraryError(f"the index of {model.system} is not merged: {reason}; try again later") from reason
    return merged or open_index(library, model)


def _due(index: Index) -> Sequence[Segment]:
    return due(index.segments)


def _divided(index: Index) -> Sequence[Segment]:
    """All segments, unless there is one without deletions."""
    is_divided = len(index.segments) > 1 or any(segment.record.deleted for segment in index.segments)
    return index.segments if is_divided or index.damaged else ()


def _merge_selected(
    library: Library, model: RetrievalModel, folder: Path, select: Select, stop: threading.Event | None
) -> Index | None:
    """Merge what is selected of an index; None where nothing is.

    Raises:
        _Busy, _Dropped: see there.
        LibraryError, OSError: a segment is damaged, or nothing can be written.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        index = open_folder(folder)
        if index is None or not select(index):
            return None
        with claim_merging_folder(folder) as place:
            if place is None and attempt < _ATTEMPTS:  # perhaps a reader, which looks for what a killed merge left
                time.sleep(0.2)
                continue
            if place is None:
                raise _Busy("another process merges them")
            # Opened when the folder exists: who erases a video of what is read here deletes the folder afterwards.
            index = open_folder(folder)
            if index is None or not (sources := select(index)):
                return None
            try:
                return _Merge(library, model, index, sources, place, stop).run()
            except _Dropped:
                if attempt == _ATTEMPTS or (stop is not None and stop.is_set()):
                    raise
    return None


@dataclass(frozen=True)
class _Merge:
    """One merge.

    Args:
        index: as it was when the merge began.
        sources: its segments that become one, or as few as there can be.
        place: where they are written.
        stop: ends it.
    """

    library: Library
    model: RetrievalModel
    index: Index
    sources: Sequence[Segment]
    place: MergingFolder
    stop: threading.Event | None

    def run(self) -> Index:
        """Write the merged segments and put them in place of their sources."""
        try:
            self._check_sources()
            merged = self._write()
        except _Dropped:
            raise
        except Exception as error:  # what is erased while it is read is not what was written
            self._refuse_if_replaced(error)
            raise
        with self._writing():
            return self._swap(merged)

    def _check_sources(self) -> None:
        """Refuse damaged segments: a copy would have checksums of its own, and hide it."""
        reasons = [segment.reason for segment in self.index.damaged]
        reasons += [reason for segment in self.sources if (reason := problem_of(segment)) is not None]
        if reasons:
            raise LibraryError(
                f"a segment of the index of {self.index.system} is damaged: {reasons[0]}; before merging, "
                f"build it again with: reelseek index build {self.library.path} [MODEL]"
            )

    def _write(self) -> list[Segment]:
        clips = sum(segment.record.live for segment in self.sources)
        _log.info("merging %d segments of the index of %s: %d clips", len(self.sources), self.index.system, clips)
        merged = []
        for segment in write_segments(self.place.path, self.sources, [], lambda _: iter(()), clips):
            self._refuse_if_stopped()
            empty = replace(self.index, segments=())
            merged.append(finish(self.library, self.model, segment, empty, self.index.live))
        return merged

    def _refuse_if_stopped(self) -> None:
        if self.stop is not None and self.stop.is_set():
            raise _Dropped("it was stopped")
        if not self.place.is_present():
            raise _Dropped("a video was erased meanwhile")

    def _refuse_if_replaced(self, cause: Exception | None = None) -> None:
        self._refuse_if_stopped()
        self._current_sources(open_folder(self.index.folder), cause)

    def _current_sources(self, current: Index | None, cause: Exception | None = None) -> list[Segment]:
        """The sources as they are now, which may have more deletions.

        Raises:
            _Dropped: one is gone, or a video was erased in it.
        """
        by_name = {segment.record.name: segment for segment in (current.segments if current is not None else ())}
        present = [by_name.get(source.record.name) for source in self.sources]
        same = [now for now, old in zip(present, self.sources, strict=True) if now and now.has_columns_of(old)]
        if len(same) < len(self.sources):
            raise _Dropped("other segments took their place meanwhile") from cause
        return same

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Be the writer for a moment, as soon as nobody else is.

        Raises:
            _Dropped: a video was erased meanwhile, or it was stopped.
            BusyError: another process is writing.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                with self.library.writing(finish=False, brief=True):
                    self._refuse_if_stopped()
                    yield
                    return
            except BusyError:
                if self.stop is None and time.monotonic() > deadline:
                    raise
            self._refuse_if_stopped()
            time.sleep(0.2)

    def _pending_patches(self, index: Index) -> dict[str, Sequence[Patch]]:
        """What an erasure that was killed has yet to overwrite in files that stay."""
        generation = read_manifest(self.index.folder)
        patches = generation.patches if generation is not None else {}
        return {name: several for name, several in patches.items() if name in index.files()}

    def _swap(self, merged: Sequence[Segment]) -> Index:
        """Put the merged segments in place of their sources, without what was deleted meanwhile."""
        folder = self.index.folder
        current = open_folder(folder, self.index)
        if current is None or current.damaged:  # whose clips a manifest without them would forget
            raise _Dropped("the index was deleted or damaged meanwhile")
        deleted = _deleted_since(self.sources, self._current_sources(current))
        try:
            self.place.move_out([segment.record.name for segment in merged])
            sync_folder(folder)
            names = {segment.record.name for segment in self.sources}
            segments = [segment for segment in current.segments if segment.record.name not in names]
            for old in merged:
                segment = _without(Segment(folder, old.record, old.sums, check=False), deleted)
                segments += [segment] if segment.record.live else []
            index = replace(current, segments=tuple(segments), candidates=candidates_of(self.model, segments))
            return put_index(index, self._pending_patches(index))
        except BaseException:
            self.place.delete_moved()
            raise


def _deleted_since(before: Sequence[Segment], now: Sequence[Segment]) -> list[str]:
    """Ids of videos that some segments had."""
    videos: list[str] = []
    for old, new in zip(before, now, strict=True):
        if new.deleted is not None:
            rows = np.flatnonzero(new.deleted if old.deleted is None else new.deleted & ~old.deleted)
            videos += old.ids(np.unique(old.clips["video"][rows]).astype(np.int64))
    return videos


def _without(segment: Segment, videos: Sequence[str]) -> Segment:
    """A segment with the clips of some videos deleted."""
    numbers = segment.find(videos, hash_ids(videos))
    numbers = numbers[numbers >= 0]
    return segment.delete(segment.rows_of(numbers), write=True) if len(numbers) else segment
