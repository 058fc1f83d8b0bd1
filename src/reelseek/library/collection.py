"""A collection as people have it: a folder, files, a list of paths, or a table (CSV, TSV, JSONL, Parquet)."""

import contextlib
import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelseek.errors import CollectionError
from reelseek.library.store import Caption
from reelseek.media.container import MEDIA_SUFFIXES

__all__ = ["Collection", "Entry", "read_collection", "read_table"]

_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_LISTS = (".txt", ".lst", ".list")
_LONGEST_CAPTION = 20_000
_BROKEN = "\0broken"  # stands for a line that could not be read; no table can have such a column
_COLUMNS = {
    "video": ("video", "video_id", "videoid", "id", "name", "clip"),
    "path": ("path", "file", "filename", "file_name", "video_path"),
    "captions": ("captions", "caption", "sentences", "sentence", "text", "description"),
    "start": ("start", "start_seconds", "start_time", "begin"),
    "end": ("end", "end_seconds", "end_time"),
    "split": ("split", "subset", "partition"),
}


@dataclass(frozen=True)
class Entry:
    """One video of a collection: its id and, where it is at hand, its file."""

    id: str
    path: Path | None


@dataclass
class Collection:
    """Entries, captions by video id, the split of videos, and rows that could not be used (name, reason)."""

    entries: list[Entry] = field(default_factory=list)
    captions: list[Caption] = field(default_factory=list)
    splits: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)


def printable(path: str | os.PathLike[str]) -> str:
    """A path as text: bytes that are not UTF-8 become escapes such as \\xff."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read_collection(paths: Sequence[Path], captions: Path | None = None, *, media: bool = True) -> Collection:
    """Everything that `paths` name, with the captions of a table.

    Args:
        paths: folders (read to the bottom; link loops are stepped over), media files, lists and tables.
        captions: a table of captions for these videos, or for videos the library has already.
        media: False takes rows from tables only and asks for no file.

    Raises:
        CollectionError: a path does not exist or cannot be read, or a table has no usable column.
    """
    found = Collection()
    for path in paths:
        suffix = path.suffix.lower()
        if path.is_dir():
            found.entries += [Entry(printable(p.relative_to(path)), p) for p in _walk(path, found)]
        elif not os.path.lexists(path):
            raise CollectionError(f"{printable(path)}: no such file or folder")
        elif suffix in _TABLES:
            _add_table(found, path, media=media)
        elif suffix in _LISTS:
            found.entries += _list(path)
        else:
            found.entries.append(Entry(printable(path.name), path))
    if captions is not None:
        _add_table(found, captions, media=media, only_known=bool(found.entries))
    return found


def _walk(folder: Path, found: Collection) -> Iterator[Path]:
    """Media files below a folder in order of name; each real folder once, so that links cannot loop."""
    seen: set[tuple[int, int]] = set()

    def unreadable(error: OSError) -> None:
        found.problems.append((printable(error.filename or folder), f"folder cannot be read: {error.strerror}"))

    for root, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        status = os.stat(root)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if os.path.splitext(name)[1].lower() in MEDIA_SUFFIXES and not name.startswith("."):
                yield Path(root) / name


def _list(path: Path) -> list[Entry]:
    """One path a line, relative to the list's own folder."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise CollectionError(f"{printable(path)} cannot be read: {error.strerror}") from error
    names = [os.fsdecode(line.strip()) for line in lines if line.strip()]
    return [Entry(printable(name), path.parent / name) for name in names]


def read_table(path: Path) -> Iterable[dict[str, Any]]:
    """Rows of a CSV, TSV, JSONL or Parquet table.

    Raises:
        CollectionError: it cannot be read; says where.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise CollectionError(f"{printable(path)}: no such file, or not a regular one")
    try:
        if suffix == ".parquet":
            import pyarrow.parquet

            return list(pyarrow.parquet.read_table(path).to_pylist())
        if suffix in (".jsonl", ".ndjson"):
            return _json_lines(path)
        csv.field_size_limit(2**27)
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            return list(csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ","))
    except (OSError, ValueError, csv.Error) as error:
        raise CollectionError(f"{printable(path)} cannot be read as a table: {error}") from error


def _json_lines(path: Path) -> list[dict[str, Any]]:
    rows = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    row = {_BROKEN: f"line {number} is not JSON: {error}"}
                rows.append(row if isinstance(row, dict) else {_BROKEN: f"line {number} is not an object"})
    return rows


def _add_table(found: Collection, path: Path, *, media: bool, only_known: bool = False) -> None:
    rows = list(read_table(path))
    if not rows:
        raise CollectionError(f"{printable(path)} has no rows")
    columns = {name.strip().lower(): name for row in rows for name in row if name is not None and name != _BROKEN}
    named = {field: [columns[name] for name in names if name in columns] for field, names in _COLUMNS.items()}
    if not named["video"] and not named["path"]:
        raise CollectionError(
            f"{printable(path)} has no column that names the video; columns are {', '.join(columns)[:300]!r}; "
            "wanted: video (and caption, start, end, split)"
        )
    rename = _Names(found.entries, path.parent)
    seen = {entry.id for entry in found.entries}
    for number, row in enumerate(rows, 2):
        try:
            if _BROKEN in row:
                raise ValueError(row[_BROKEN])
            entry = rename.entry(row, named, media=media)
            captions = _captions(entry.id, row, named)
        except ValueError as error:
            found.problems.append((f"{printable(path)}, row {number}", str(error)))
            continue
        if entry.id not in seen and not only_known:
            found.entries.append(entry)
        seen.add(entry.id)
        found.captions += captions
        split = _text(row, named["split"])
        if split:
            found.splits[entry.id] = split
    renamed = rename.given
    found.entries[:] = [Entry(renamed.get(e.path, e.id) if e.path else e.id, e.path) for e in found.entries]


class _Names:
    """Which video a table's row means: one of the entries at hand, by path, name or stem, or a new one."""

    def __init__(self, entries: Sequence[Entry], folder: Path) -> None:
        self._folder = folder
        self.given: dict[Path, str] = {}
        self._by_name: dict[str, list[Path]] = {}
        for entry in entries:
            if entry.path is not None:
                for name in {entry.id, entry.path.name, entry.path.stem, os.path.splitext(entry.id)[0]}:
                    self._by_name.setdefault(name, []).append(entry.path)

    def entry(self, row: dict[str, Any], named: dict[str, list[str]], *, media: bool) -> Entry:
        identifier, file = _text(row, named["video"]), _text(row, named["path"])
        name = identifier or file
        if not name:
            raise ValueError("names no video")
        if "\0" in name or "\0" in (file or ""):
            raise ValueError("the video's name holds a NUL byte")
        for key in (file, identifier):
            paths = self._by_name.get(key, []) if key else []
            if len(set(paths)) == 1:
                self.given[paths[0]] = name
                return Entry(name, paths[0])
        path = self._folder / (file or name)
        return Entry(name, path if media and (file or path.exists()) else None)


def _value(row: dict[str, Any], columns: Sequence[str]) -> Any:
    """The first of some columns that the row fills."""
    return next((row[column] for column in columns if row.get(column) not in (None, "")), None)


def _text(row: dict[str, Any], columns: Sequence[str]) -> str:
    value = _value(row, columns)
    return "" if value is None else str(value).strip()


def _captions(video: str, row: dict[str, Any], named: dict[str, list[str]]) -> list[Caption]:
    value = _value(row, named["captions"])
    if isinstance(value, str) and value.lstrip().startswith("["):
        with contextlib.suppress(ValueError):  # else it is a caption that begins with a bracket
            value = json.loads(value)
    texts = value if isinstance(value, list) else [value]
    start, end = _number(row, named["start"]), _number(row, named["end"])
    if start is not None and end is not None and end <= start:
        raise ValueError(f"ends at {end} s, before or where it starts ({start} s)")
    captions = []
    for text in texts:
        if text is None or not str(text).strip():
            continue
        words = " ".join(str(text).encode("utf-8", "replace").decode().split())
        if "\0" in words:
            raise ValueError(f"the caption of {video!r} holds a NUL byte")
        if len(words) > _LONGEST_CAPTION:
            raise ValueError(f"the caption of {video!r} has {len(words)} characters; at most {_LONGEST_CAPTION}")
        captions.append(Caption(video, words, start, end, _text(row, named["split"]) or None))
    return captions


def _number(row: dict[str, Any], columns: Sequence[str]) -> float | None:
    value = _text(row, columns)
    if not value:
        return None
    try:
        number = float(value)
    except ValueError as error:
        raise ValueError(f"{columns[0]} is {value!r}, not a number of seconds") from error
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{columns[0]} is {value!r}, not a time in seconds")
    return number
