"""Writing a library into a folder of Parquet or Lance; the folder is there whole, or not at all."""

import contextlib
import glob
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow

from reelseek.errors import LibraryError, UsageError
from reelseek.library.catalog import EXCHANGED
from reelseek.library.catalog.tracks import TrackGroup
from reelseek.library.export.caption_vectors import write_caption_vectors
from reelseek.library.export.lake import Lake, open_lake
from reelseek.library.export.tables import TRACK_SCHEMA, batches_of, schema_of, values_schema
from reelseek.library.files import sync_folder, write_whole
from reelseek.library.records import TrackRow
from reelseek.library.shards import folder_name
from reelseek.library.store import Library

__all__ = ["FORMAT", "MANIFEST", "META_KEYS", "ExportReport", "Progress", "export_library", "whole_folder"]

Progress = Callable[[str, int, int, str], None]

MANIFEST = "export.json"
FORMAT = 1
META_KEYS = ("experts", "datasets", "imports", "text_space", "absent")
_BATCH_BYTES = 2**24
_TRACKS_A_BATCH = 4096


@dataclass
class ExportReport:
    """What was written: rows by table, and the digest that an import has to come to.

    `damaged` names tracks whose bytes are lost, which are left out (owner and expert, reason); `sets` what the tables
    of captions' features are.
    """

    digest: str
    rows: dict[str, int] = field(default_factory=dict)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    sets: dict[str, dict[str, Any]] = field(default_factory=dict)


def export_library(
    library: Library,
    folder: Path,
    *,
    to: str = "parquet",
    more: Callable[[Path, Lake], dict[str, int]] | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write videos, captions with their features, texts, pictures and tracks of a library into a new folder.

    Args:
        to: `parquet` or `lance`.
        more: writes other tables into the same folder, such as embeddings, and says how many rows each has.

    Raises:
        UsageError: the folder exists and is not empty, or the format cannot be written here.
        LibraryError: the library was changed meanwhile, or the folder cannot be written.

    Example:
        export_library(library, Path("lake/films"))
    """
    lake = open_lake(to)
    progress = progress or (lambda *_: None)
    with whole_folder(folder) as partial:
        try:
            revision, digest = library.revision(), library.digest()
            report = ExportReport(digest)
            for table in EXCHANGED:
                blocks = _counted(library.catalog.exchange.blocks(table), table, report)
                lake.write(partial / f"{table}{lake.suffix}", schema_of(table), batches_of(table, blocks))
                progress("exporting", len(report.rows), len(EXCHANGED), table)
            _write_tracks(library, partial, lake, report, progress)
            for name, description, count in write_caption_vectors(library, partial, lake):
                report.sets[name], report.rows[name] = description, count
            report.rows |= more(partial, lake) if more else {}
            if library.revision() != revision:
                raise LibraryError(f"{library.path} was changed while it was exported; export it again")
            if report.damaged:
                report.digest = ""  # of a library that is not the one that is written
            _write_manifest(library, partial, to, report)
        except (OSError, arrow.ArrowException) as error:
            raise LibraryError(f"{folder} cannot be written: {error}; nothing of it stays") from error
    return report


def _counted(blocks: Iterator[list[tuple[Any, ...]]], table: str, report: ExportReport) -> Iterator[Any]:
    report.rows[table] = 0
    for block in blocks:
        report.rows[table] += len(block)
        yield block


def _write_manifest(library: Library, folder: Path, to: str, report: ExportReport) -> None:
    meta = {key: value for key in META_KEYS if (value := library.meta(key)) is not None}
    manifest = {"reelseek": FORMAT, "format": to, "digest": report.digest, "rows": report.rows, "meta": meta}
    manifest |= {"caption_features": report.sets} if report.sets else {}
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")


# Tracks


def _write_tracks(library: Library, folder: Path, lake: Lake, report: ExportReport, progress: Progress) -> None:
    groups = library.catalog.tracks.groups()
    kinds: dict[str, TrackGroup] = {group.fingerprint: group for group in groups}
    for done, (fingerprint, kind) in enumerate(sorted(kinds.items()), 1):
        path = folder / "tracks" / f"{folder_name(fingerprint)}{lake.suffix}"
        lake.write(path, values_schema(kind.dim, kind.dtype), _value_batches(library, kind, report))
        progress("exporting", done, len(kinds), kind.expert)
    damaged = {name for name, _ in report.damaged}
    lake.write(folder / f"tracks{lake.suffix}", TRACK_SCHEMA, _track_batches(library, damaged, report))


def _value_batches(library: Library, kind: TrackGroup, report: ExportReport) -> Iterator[Any]:
    """The steps of all tracks of a kind, in order of owner, about 16 MB at a time."""
    schema, name = values_schema(kind.dim, kind.dtype), f"tracks/{folder_name(kind.fingerprint)}"
    report.rows[name] = 0
    waiting: list[tuple[TrackRow, Any, Any]] = []
    size = 0
    for row, _ in library.catalog.tracks.pages():
        if row.fingerprint != kind.fingerprint or not row.steps:
            continue
        problem = library.damage(row)
        if problem is not None:
            report.damaged.append((f"{row.owner} {row.expert}", problem))
            continue
        for start in range(0, row.steps, max(1, _BATCH_BYTES // max(1, row.dim * 4))):
            values, spans = library.read(row)
            part = slice(start, start + max(1, _BATCH_BYTES // max(1, row.dim * 4)))
            waiting.append((row, (values[part], start), spans[part]))
            size += values[part].nbytes
            if size >= _BATCH_BYTES:
                yield _steps(schema, waiting, report, name)
                waiting, size = [], 0
    if waiting:
        yield _steps(schema, waiting, report, name)


def _steps(schema: Any, parts: list[tuple[TrackRow, Any, Any]], report: ExportReport, name: str) -> Any:
    values = np.concatenate([values for _, (values, _), _ in parts])
    spans = np.concatenate([spans for _, _, spans in parts])
    owners = [row.owner for row, (rows, _), _ in parts for _ in range(len(rows))]
    steps = np.concatenate([np.arange(start, start + len(rows)) for _, (rows, start), _ in parts])
    report.rows[name] += len(values)
    numbers = arrow.array(np.ascontiguousarray(values).reshape(-1))
    arrays = [
        arrow.array(owners, arrow.string()), arrow.array(steps, arrow.int64()), arrow.array(spans[:, 0].copy()),
        arrow.array(spans[:, 1].copy()), arrow.FixedSizeListArray.from_arrays(numbers, values.shape[1]),
    ]  # fmt: skip
    return arrow.record_batch([array.cast(f.type) for array, f in zip(arrays, schema, strict=True)], schema=schema)


def _track_batches(library: Library, damaged: set[str], report: ExportReport) -> Iterator[Any]:
    report.rows["tracks"] = 0
    waiting: list[tuple[Any, ...]] = []
    for row, sha256 in library.catalog.tracks.pages():
        if f"{row.owner} {row.expert}" in damaged:
            continue
        videos = [video.id for video in library.catalog.videos.of_owner(row.owner)]
        waiting.append((row.owner, videos, row.expert, row.fingerprint, row.modality, row.steps, row.dim, row.dtype,
                        sha256, row.note))  # fmt: skip
        if len(waiting) >= _TRACKS_A_BATCH:
            yield _tracks(waiting, report)
            waiting = []
    if waiting:
        yield _tracks(waiting, report)


def _tracks(rows: list[tuple[Any, ...]], report: ExportReport) -> Any:
    report.rows["tracks"] += len(rows)
    columns = zip(*rows, strict=True)
    arrays = [arrow.array(list(cells), f.type) for cells, f in zip(columns, TRACK_SCHEMA, strict=True)]
    return arrow.record_batch(arrays, schema=TRACK_SCHEMA)


# The folder


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder beside a new one, which becomes the new one when the block ends well, and else goes.

    What a killed process left of an earlier try goes too.

    Raises:
        UsageError: the folder exists and is not empty.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists already; name a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for old in folder.parent.glob(f".{glob.escape(folder.name)}.partial-*"):
            if not _is_running(old.name.rpartition("-")[2]):
                shutil.rmtree(old)
        partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
        partial.mkdir()
    except OSError as error:
        raise LibraryError(f"{folder} cannot be made: {error.strerror}") from error
    try:
        yield partial
        sync_folder(partial)
        with contextlib.suppress(FileNotFoundError):
            folder.rmdir()
        os.replace(partial, folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
