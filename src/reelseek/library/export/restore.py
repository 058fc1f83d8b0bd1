"""A library made of an export: the same rows, tracks and digest; it is there whole, or not at all."""

import json
from collections.abc import Callable, Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import LibraryError, UsageError
from reelseek.experts.expert import Text, Track
from reelseek.library.catalog import EXCHANGED
from reelseek.library.export.caption_vectors import put_caption_vectors
from reelseek.library.export.lake import Lake, open_lake, read_table
from reelseek.library.export.tables import rows_of
from reelseek.library.export.write import FORMAT, MANIFEST, META_KEYS, whole_folder
from reelseek.library.shards import folder_name
from reelseek.library.store import Library

__all__ = ["import_library"]

_TRACKS_A_TRANSACTION = 256
_AFTER_TRACKS = ("texts", "failures")  # a track that is stored replaces the words and failures of its expert
_LATER = ("tags",)  # exports of earlier releases lack them
Progress = Callable[[str, int, int, str], None]


def import_library(library: Path, folder: Path, *, progress: Progress | None = None) -> dict[str, int]:
    """Make a new library of a folder that `export_library` wrote.

    Args:
        library: the folder of the new library.
        folder: the export.

    Returns:
        Rows by table.

    Raises:
        UsageError: the folder is no export, or there is something at the library's place already.
        LibraryError: the export is damaged or cannot be read, or the library cannot be written; nothing of it stays.
    """
    manifest = _manifest(folder)
    lake, progress = open_lake(manifest["format"]), progress or (lambda *_: None)
    with whole_folder(library) as partial, Library.open(partial, create=True) as opened, opened.writing():
        rows: dict[str, int] = {}
        for number, table in enumerate(EXCHANGED, 1):
            if table in _LATER and table not in manifest["rows"]:
                continue
            if table not in _AFTER_TRACKS:
                rows[table] = _put_table(opened, lake, folder, table)
            progress("importing", number, len(EXCHANGED), table)
        rows["tracks"] = _put_tracks(opened, lake, folder, progress)
        rows["texts"] = _put_texts(opened, lake, folder)
        rows["failures"] = _put_table(opened, lake, folder, "failures")
        for table, description in manifest.get("caption_features", {}).items():
            rows[table] = put_caption_vectors(opened, lake, folder, table, description)
        for key, value in manifest["meta"].items():
            if key in META_KEYS:
                opened.set_meta(key, str(value))
        for table, count in rows.items():
            if count != manifest["rows"].get(table):
                raise LibraryError(
                    f"{folder}: {table} has {count} rows where {manifest['rows'].get(table)} were written"
                )
        if manifest["digest"] and opened.digest() != manifest["digest"]:
            raise LibraryError(f"{folder} does not hold what was exported: the library of it has another digest")
    return rows


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        if manifest["reelseek"] != FORMAT:
            raise UsageError(f"{folder} is an export of version {manifest['reelseek']}; this release reads {FORMAT}")
        if not isinstance(manifest["rows"], dict) or not isinstance(manifest["meta"], dict):
            raise ValueError("rows and meta are no tables")
        if not all(isinstance(encoder, dict) for encoder in manifest.get("caption_features", {}).values()):
            raise ValueError("caption_features is no table")
        str(manifest["digest"]), str(manifest["format"])
    except OSError as error:
        raise UsageError(f"{folder} is no export of a library: {MANIFEST}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{folder} is no export of a library: {MANIFEST}: {error!r}") from error
    return dict(manifest)


def _put_table(library: Library, lake: Lake, folder: Path, table: str) -> int:
    count = 0
    for block in rows_of(table, read_table(lake, folder / f"{table}{lake.suffix}")):
        with library.saving():
            library.catalog.exchange.add(table, block)
        count += len(block)
    return count


def _put_texts(library: Library, lake: Lake, folder: Path) -> int:
    rows = (row for block in rows_of("texts", read_table(lake, folder / f"texts{lake.suffix}")) for row in block)
    count = 0
    with library.saving():
        for number, ((owner, expert), lines) in enumerate(groupby(rows, key=lambda row: (row[0], row[1])), 1):
            texts = [Text(text, start, end, kind, score) for _, _, kind, text, start, end, score in lines]
            library.put_texts(owner, expert, texts)
            count += len(texts)
            if number % _TRACKS_A_TRANSACTION == 0:
                library.commit()
    return count


def _put_tracks(library: Library, lake: Lake, folder: Path, progress: Progress) -> int:
    """Tracks kind by kind, each in the order of its values, which is that of the rows."""
    path = folder / f"tracks{lake.suffix}"
    fingerprints = {name for batch in read_table(lake, path) for name in batch.column("fingerprint").to_pylist()}
    count = 0
    for done, fingerprint in enumerate(sorted(fingerprints), 1):
        steps = _values_by_owner(lake, folder / "tracks" / f"{folder_name(fingerprint)}{lake.suffix}")
        with library.saving():
            for row in _rows(lake, path, fingerprint):
                _put_track(library, row, steps, folder)
                count += 1
                if count % _TRACKS_A_TRANSACTION == 0:
                    library.commit()
        progress("importing", done, len(fingerprints), fingerprint.partition(":")[0])
    return count


def _rows(lake: Lake, path: Path, fingerprint: str) -> Iterator[dict[str, Any]]:
    for batch in read_table(lake, path):
        yield from (row for row in batch.to_pylist() if row["fingerprint"] == fingerprint)


def _put_track(
    library: Library, row: dict[str, Any], steps: Iterator[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]], folder: Path
) -> None:
    values = np.zeros((0, row["dim"]), row["dtype"])
    spans = np.zeros((0, 2))
    if row["steps"]:
        owner, values, spans = next(steps, ("", values, spans))
        if owner != row["owner"] or values.shape != (row["steps"], row["dim"]):
            raise LibraryError(f"{folder}: the values of {row['expert']} of {row['owner']} are missing or cut off")
    track = Track(np.asarray(values, row["dtype"]), spans, note=row["note"])
    library.put_track(row["owner"], row["expert"], row["fingerprint"], row["modality"], track)
    if library.catalog.tracks.sha256(row["owner"], row["expert"]) != row["sha256"]:
        raise LibraryError(f"{folder}: the values of {row['expert']} of {row['owner']} are not those that were written")


def _values_by_owner(lake: Lake, path: Path) -> Iterator[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]]:
    """The values and spans of one track after the other."""
    parts: list[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]] = []
    for owner, values, spans in _runs(lake, path):
        if parts and parts[0][0] != owner:
            yield _joined(parts)
            parts = []
        parts.append((owner, values, spans))
    if parts:
        yield _joined(parts)


def _joined(parts: list[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]]) -> tuple[str, Any, Any]:
    return parts[0][0], np.concatenate([values for _, values, _ in parts]), np.concatenate([s for _, _, s in parts])


def _runs(lake: Lake, path: Path) -> Iterator[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]]:
    """Each batch in its runs of one owner."""
    for batch in read_table(lake, path):
        if not len(batch):
            continue
        owners = np.array(batch.column("owner").to_pylist(), dtype=object)
        column = batch.column("values")
        values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(batch), column.type.list_size)
        spans = np.stack([batch.column(name).to_numpy() for name in ("start_seconds", "end_seconds")], axis=1)
        edges = [0, *(np.flatnonzero(owners[1:] != owners[:-1]) + 1), len(owners)]
        for start, end in pairwise(edges):
            yield str(owners[start]), values[start:end], spans[start:end]
