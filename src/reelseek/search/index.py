"""Where the indexes of a library lie, how one is opened, and what they say of themselves.

Everything here is derived: it is made from tracks at will. Segments never change (see `segment`); a manifest names
those that are read, and is swapped in one rename (see `generation`).
"""

import contextlib
import hashlib
import json
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelseek.errors import LibraryError
from reelseek.library.clips import ClipRule
from reelseek.library.files import make_folder
from reelseek.library.store import Library
from reelseek.models.embedding import Embedding
from reelseek.models.model import RetrievalModel
from reelseek.search.generation import (
    Generation,
    array_file,
    damaged_files,
    read_manifest,
    write_files,
    write_manifest,
)
from reelseek.search.merging_folder import clean_merging
from reelseek.search.patches import Patches
from reelseek.search.segment import Record, Segment
from reelseek.search.segments import DamagedSegment, Index, LeftOut

__all__ = ["CHECKED_AT_ONCE", "Index", "LeftOut", "describe_index", "describe_indexes", "index_folder", "index_folders",
           "mark_index", "open_folder", "open_index", "problem_of", "put_index", "verify"]  # fmt: skip

CHECKED_AT_ONCE = 2**26  # bytes; every byte of a smaller index is checked whenever it is opened
_log = logging.getLogger("reelseek")


def index_folder(library: Library, model: RetrievalModel, experts: Sequence[str] | None = None) -> Path:
    """Where a model's index of a library lies.

    Args:
        experts: of an index of clips embedded from these alone; None is the one of all that the library has.
    """
    name = _folder_name(model.fingerprint)
    if experts is not None:
        name += "+" + hashlib.sha256(json.dumps(sorted(experts)).encode()).hexdigest()[:12]
    return library.path / "index" / name


def _folder_name(fingerprint: str) -> str:
    return fingerprint.replace(":", "-")


def open_index(
    library: Library,
    model: RetrievalModel,
    experts: Sequence[str] | None = None,
    *,
    previous: Index | None = None,
    quiet: bool = False,
) -> Index | None:
    """Open the index on disk; None where there is none that can be used, which is said.

    Every byte of an index of up to 64 MiB is checked. Of a larger one small files are, and of others the sizes:
    `Segment.check` reads the rest. A damaged segment is named, and stands in `Index.damaged`. What a merge that was
    killed left beside is deleted.

    Args:
        experts: see `index_folder`.
        previous: an open index, whose segments are taken over where they are the same.
        quiet: do not say why it cannot be used.
    """
    folder = index_folder(library, model, experts)
    clean_merging(folder)
    try:
        return open_folder(folder, previous)
    except (LibraryError, OSError) as error:
        if not quiet:
            _log.warning("the index of %s cannot be used: %s", model.system, error)
        return None


def open_folder(folder: Path, previous: Index | None = None) -> Index | None:
    """The index that a folder's manifest names; that of the next one, where files of the first are gone by now.

    Raises:
        LibraryError: nothing of it can be used.
    """
    number = None
    while True:
        generation = read_manifest(folder)
        if generation is None:
            return None
        try:
            index = _load(generation, previous, gone_is_damage=generation.number == number)
        except FileNotFoundError as error:
            if generation.number == number:
                raise LibraryError(f"{error.filename} is gone") from error
            number = generation.number
            continue
        if index.damaged and is_replaced(generation):
            continue  # what was damaged is erased, or gone
        if index.damaged and not index.segments:
            raise LibraryError("; ".join(segment.reason for segment in index.damaged))
        return index


def is_replaced(generation: Generation) -> bool:
    """Whether another manifest has taken the place of one since."""
    try:
        present = read_manifest(generation.folder)
    except LibraryError:
        return False
    return present is not None and present.number != generation.number


def problem_of(segment: Segment) -> str | None:
    """In what way a segment is damaged; where a video was erased in it since it was opened, as it is now."""
    while True:
        try:
            segment.check()
            return None
        except (LibraryError, OSError) as error:
            present = _as_it_is_now(segment)
            if present is segment:
                return str(error)
            segment = present


def _as_it_is_now(segment: Segment) -> Segment:
    """A segment opened again where the manifest says that its files hold something else now; else the same."""
    with contextlib.suppress(LibraryError, OSError):
        generation = read_manifest(segment.folder)
        if generation is None:
            return segment
        for entry in generation.description["segments"]:
            record = Record(**entry)
            present = _open_segment(generation, record, check=False) if record.name == segment.record.name else None
            if present is not None and not present.has_columns_of(segment):
                return present
    return segment


def _load(generation: Generation, previous: Index | None, *, gone_is_damage: bool) -> Index:
    description = generation.description
    check = generation.size <= CHECKED_AT_ONCE
    opened = {
        (segment.record.name, segment.record.deletions, segment.record.deleted): segment
        for segment in (previous.segments if previous else ())
    }
    segments, damaged = [], []
    for entry in description["segments"]:
        record = Record(**entry)
        try:
            segment = opened.get((record.name, record.deletions, record.deleted))
            segments.append(segment or _open_segment(generation, record, check=check))
        except FileNotFoundError as error:
            if not gone_is_damage:
                raise
            damaged.append(DamagedSegment(record.name, record.live, f"{error.filename} is gone"))
        except (LibraryError, OSError) as error:
            damaged.append(DamagedSegment(record.name, record.live, str(error)))
    sums = {name: generation.files[name] for name in description["unrelated"]}
    unrelated = [torch.from_numpy(np.array(generation.open(name).array())) for name in sums]
    return Index(
        generation.folder, tuple(segments), description["system"], tuple(description["slots"]),
        ClipRule(**description["rule"]), description["revision"], tuple(description["experts"]),
        Embedding(*unrelated), description["candidates"],
        tuple(LeftOut(**video) for video in description["left_out"]), tuple(damaged), sums,
        description.get("mark", ""),
    )  # fmt: skip


def _open_segment(generation: Generation, record: Record, *, check: bool) -> Segment:
    prefix = f"{record.name}-"
    names = {
        name: name if name == record.deletions else name.removeprefix(prefix)
        for name in generation.files
        if name.startswith(prefix)
    }
    sums = {short: generation.files[name] for name, short in names.items()}
    patches = {short: generation.patches[name] for name, short in names.items() if name in generation.patches}
    return Segment(generation.folder, record, sums, check=check, patches=patches)


def mark_index(library: Library, index: Index) -> Index:
    """The index with a new mark, which the library's database notes; call it as the writer, before `put_index`.

    An index whose mark the database lacks was made from another one, or from this one before an earlier copy took its
    place, so that revisions say nothing: see `find_stale`.
    """
    mark = secrets.token_hex(8)
    library.catalog.add_index_mark(index.folder.name, mark)
    return replace(index, mark=mark)


def put_index(index: Index, patches: Patches | None = None) -> Index:
    """Make an index the one that is read.

    Args:
        patches: what is overwritten in its files next, see `write_manifest`.
    """
    if not index.sums:
        token = secrets.token_hex(4)
        parts = (index.unrelated.values, index.unrelated.present, index.unrelated.weights)
        make_folder(index.folder)
        names = [f"{token}-unrelated.{name}.npy" for name in ("values", "present", "weights")]
        files = {name: array_file(part.numpy()) for name, part in zip(names, parts, strict=True)}
        index = replace(index, sums=write_files(index.folder, files))
    write_manifest(index.folder, index.description(), index.files(), patches)
    return index


# All indexes of a library


def index_folders(library: Library) -> list[Path]:
    """The folders of a library's indexes."""
    return sorted(path for path in (library.path / "index").glob("[!.]*") if path.is_dir())


def describe_indexes(library: Library) -> list[dict[str, Any]]:
    """What a library's indexes say of themselves; those that are damaged or of an earlier version are stepped over.

    Returns:
        for each index `system`, `model` (its fingerprint), `experts`, `clips`, `candidates`, `recall`, see `Index`, and
        how many `segments` it has.
    """
    described = []
    for folder in index_folders(library):
        try:
            manifest = read_manifest(folder)
        except LibraryError:
            continue
        if manifest is not None:
            names = ("system", "experts", "clips", "candidates", "recall")
            summary = {name: manifest.description[name] for name in names}
            segments = len(manifest.description["segments"])
            described.append({"model": folder.name.partition("+")[0], **summary, "segments": segments})
    return described


def describe_index(library: Library, fingerprint: str) -> Mapping[str, Any] | None:
    """What the index of a model says of itself, see `Index`; None where there is none that can be used.

    Args:
        fingerprint: of the model.
    """
    try:
        manifest = read_manifest(library.path / "index" / _folder_name(fingerprint))
    except LibraryError:
        return None
    return None if manifest is None else dict(manifest.description)


def verify(library: Library) -> list[tuple[str, str]]:
    """Files of a library's indexes that are not what was written, and in what way; every byte of them is read."""
    return [damage for folder in index_folders(library) for damage in damaged_files(folder)]
