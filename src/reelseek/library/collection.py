"""A collection as people have it: a folder, files, a list of paths, or a table (CSV, TSV, JSON, JSONL, Parquet)."""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from reelseek.errors import CollectionError, MediaError
from reelseek.library.cells import caption_text, caption_texts, cell_name, cell_seconds, cell_value
from reelseek.library.listing import Listing, Sample, expand_paths, read_folder, read_samples, unique_ids
from reelseek.library.names import Names, name_some, printable, same_name
from reelseek.library.records import Caption
from reelseek.library.tables import TABLE_SUFFIXES, Row, read_table
from reelseek.library.texts import read_text, split_lines
from reelseek.library.video_lookup import VideoLookup
from reelseek.media.address import Address, FilePath, is_address, parse_path, parse_paths
from reelseek.media.beside import files_in
from reelseek.media.local_copy import local_copy
from reelseek.media.notice import Notice
from reelseek.media.store import is_directory
from reelseek.media.tar import is_tar

__all__ = ["Collection", "Entry", "read_collection"]

_LISTS = (".txt", ".lst", ".list")
_COLUMNS = {
    "video": ("video", "video_id", "videoid", "id", "name", "clip"),
    "path": ("path", "file", "filename", "file_name", "video_path"),
    "captions": ("captions", "caption", "sentences", "sentence", "text", "description"),
    "start": ("start", "start_seconds", "start_time", "begin"),
    "end": ("end", "end_seconds", "end_time"),
    "split": ("split", "subset", "partition"),
}
_COLUMN_NAMES = frozenset(name for names in _COLUMNS.values() for name in names)


@dataclass(frozen=True)
class Entry:
    """One video of a collection: its id and, where it is at hand, its file."""

    id: str
    path: FilePath | None


@dataclass
class Collection:
    """Attributes:
    entries: videos, in the order of folders, lists and tables.
    captions: by video id.
    splits: the split of videos by id.
    rows: rows of tables and lines of lists that were read.
    lost_rows: those that could not be used; `problems` says why, one for each.
    problems: what was guessed, mended or left out.
    beside: what lies beside a video in its shard, by its address: captions (of no id yet) and a split or ''.
    rows_by_name: how many rows of tables each video has.
    """

    entries: list[Entry] = field(default_factory=list)
    captions: list[Caption] = field(default_factory=list)
    splits: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    lost_rows: int = 0
    problems: list[Notice] = field(default_factory=list)
    beside: dict[FilePath, tuple[list[Caption], str]] = field(default_factory=dict)
    rows_by_name: Counter[str] = field(default_factory=Counter, repr=False)

    def lose_row(self, place: str, message: str) -> None:
        """Count a row that cannot be used and say why."""
        self.lost_rows += 1
        self.problems.append(Notice(place, message, lost=True))

    def use_names_of(self, names: VideoLookup) -> None:
        """Call by a library's id what it has already: the same file, or a name that differs in its form alone.

        What a table says of a name that several ids are forms of is lost, and `problems` says so.
        """
        matches: dict[str, set[str]] = {}
        for entry in self.entries:
            if entry.path is not None and (video := names.at(entry.path)):
                matches.setdefault(entry.id, set()).add(video.id)
        files = {entry.id for entry in self.entries if entry.path is not None}
        named = {caption.video for caption in self.captions}.union(self.splits, (entry.id for entry in self.entries))
        for name in sorted(named):
            same = sorted({video.id for video in names.same(name)})
            if len(same) > 1 and name not in files:
                self._lose_name(name, same)
            elif name not in same:
                matches.setdefault(name, set(same))
        renamed = {name: next(iter(ids)) for name, ids in matches.items() if len(ids) == 1 and name not in ids}
        self.entries = [Entry(renamed.get(entry.id, entry.id), entry.path) for entry in self.entries]
        self.captions = [replace(c, video=renamed[c.video]) if c.video in renamed else c for c in self.captions]
        self.splits = {renamed.get(name, name): split for name, split in self.splits.items()}

    def _lose_name(self, name: str, ids: Sequence[str]) -> None:
        """Drop what was said of a name that could be several of the library's videos."""
        rows = self.rows_by_name[name]
        self.captions = [caption for caption in self.captions if caption.video != name]
        self.entries = [entry for entry in self.entries if entry.id != name]
        self.splits.pop(name, None)
        self.lost_rows += rows
        self.rows -= rows
        self.problems.append(Notice(name, f"it could be {name_some(ids)}; name one by its id", lost=True))


def read_collection(
    paths: Sequence[str | os.PathLike[str] | Address],
    captions: str | os.PathLike[str] | Address | None = None,
    *,
    media: bool = True,
) -> Collection:
    """Everything that `paths` name, with the captions of a table.

    Args:
        paths: folders (read to the bottom; link loops are stepped over), media files, tar shards, lists and tables,
            on this machine or by address.
        captions: a table of captions for these videos, or for videos the library has already.
        media: False takes rows from tables only and asks for no file.

    Raises:
        CollectionError: a path does not exist or cannot be read, or a table has no usable column.
    """
    collection = Collection()
    listing = Listing()
    for path in expand_paths(parse_paths(paths)):
        suffix = path.suffix.lower()
        if is_directory(path):
            inside = read_folder(path)
            collection.entries += [Entry(name, file) for name, file in inside.files]
            collection.problems += inside.notices
            listing.samples += inside.samples
        elif is_tar(path):
            _read_shard(path, listing)
        elif suffix in TABLE_SUFFIXES:
            _add_table(collection, path, media=media)
        elif suffix in _LISTS:
            _add_list(collection, path)
        else:
            collection.entries.append(Entry(printable(path.name), path))
    listing.note_others("shards")
    collection.problems += listing.notices
    for name, sample in unique_ids(listing.samples):
        _add_sample(collection, name, sample, media=media)
    if captions is not None:
        _add_table(collection, parse_path(captions), media=media, only_known=bool(collection.entries))
    return collection


# Shards


def _read_shard(path: FilePath, listing: Listing) -> None:
    before = len(listing.samples)
    try:
        read_samples(path, listing, printable(path.name))
    except OSError as error:
        raise CollectionError(f"{printable(path)} cannot be read: {error.strerror or error}") from error
    if len(listing.samples) == before:
        raise CollectionError(f"{printable(path)} holds no video")


def _add_sample(collection: Collection, name: str, sample: Sample, *, media: bool) -> None:
    """A video of a shard, with the captions of the .txt and .json members of its key.

    They wait `beside` it until its file was read, which may turn out to be one that moved.
    """
    columns = {field: [name for name in names if name in sample.cells] for field, names in _COLUMNS.items()}
    collection.entries.append(Entry(name, sample.path))
    for place, message in sample.problems:
        collection.lose_row(f"{sample.path.shard}, {place}", message)
    try:
        captions = _captions(name, sample.cells, columns)
        split = cell_name(sample.cells, columns["split"])
        texts = [caption_text(text) for text in sample.texts]
    except ValueError as error:
        collection.lose_row(str(sample.path), str(error))
        return
    others = {caption.text for caption in captions}
    captions += [Caption(name, text, split=split or None) for text in texts if text and text not in others]
    if media:
        collection.beside[sample.path] = captions, split
        return
    collection.captions += captions
    if split:
        collection.splits[name] = split


# Lists


@contextlib.contextmanager
def _readable(collection: Collection, path: FilePath) -> Iterator[Path]:
    """A list or table where it can be read; messages call it by its address."""
    if isinstance(path, Path):
        yield path
        return
    before = len(collection.problems)
    try:
        with local_copy(path) as copy:
            try:
                yield copy
            finally:
                collection.problems[before:] = [
                    replace(notice, place=notice.place.replace(str(copy), str(path)))
                    for notice in collection.problems[before:]
                ]
    except MediaError as error:
        raise CollectionError(str(error)) from error


def _add_list(collection: Collection, path: FilePath) -> None:
    """One path a line, relative to the list's own folder; names on disks that are no text in any encoding too."""
    with _readable(collection, path) as file:
        _add_lines(collection, file, path.parent)


def _add_lines(collection: Collection, path: Path, folder: FilePath) -> None:
    notices: list[Notice] = []
    lines = split_lines(read_text(path, notices))
    native = [os.fsdecode(line) for line in re.split(rb"\r\n|\n|\r", path.read_bytes())]
    files, guessed = _Files(), False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if "\0" in line:
            collection.lose_row(f"{printable(path)}, line {number}", "a name holds a NUL byte")
            continue
        name = native[number - 1].strip() if len(native) == len(lines) else line.strip()
        if name != line.strip() and not (isinstance(folder, Path) and os.path.lexists(folder / name)):
            name, guessed = line.strip(), True
        collection.rows += 1
        collection.entries.append(Entry(printable(name), files.locate(folder, name)))
    if guessed:
        collection.problems += notices


class _Files:
    """Files by the names that lists and tables call them: other forms of accents, backslashes, quotes, addresses."""

    def __init__(self) -> None:
        self._listings: dict[Path, dict[str, str]] = {}
        self._inside: dict[FilePath, Mapping[str, FilePath]] = {}

    def locate(self, folder: FilePath, name: str) -> FilePath:
        """Return the file of that name, else where it would be."""
        if is_address(name):
            return Address(name)
        if isinstance(folder, Address):
            if name.startswith("/"):
                return Path(name)
            return folder.join(name)
        for spelling in _spellings(name):
            path = folder / spelling
            if os.path.lexists(path):
                return path
            if (match := self._match(folder, spelling)) is not None:
                return match
        return folder / name

    def exists(self, path: FilePath) -> bool:
        """Whether there is a file, as far as a listing of its folder tells; a web page is none."""
        if isinstance(path, Path):
            return os.path.exists(path)
        if path.text.lower().startswith(("http://", "https://")):
            return False
        folder = path.parent
        if folder not in self._inside:
            self._inside[folder] = files_in(folder)
        return path.name in self._inside[folder]

    def _match(self, folder: Path, name: str) -> Path | None:
        path = folder
        for part in PurePosixPath(same_name(name)).parts:
            if part in ("/", ".."):
                path = path / part
                continue
            listed = self._listing(path).get(part)
            if listed is None:
                return None
            path = path / listed
        return path

    def _listing(self, folder: Path) -> dict[str, str]:
        if folder not in self._listings:
            try:
                names = sorted(os.listdir(folder))
            except (OSError, ValueError):
                names = []
            self._listings[folder] = {same_name(name): name for name in names}
        return self._listings[folder]


def _spellings(name: str) -> list[str]:
    """A name as it stands, and as what it may be: a quoted one, or a `file:` address."""
    spellings = [name]
    if len(name) > 2 and name[0] == name[-1] == '"':
        spellings.append(name[1:-1])
    if name.lower().startswith("file:"):
        with contextlib.suppress(ValueError):  # no address after all
            spellings.append(unquote(urlsplit(name).path))
    return spellings


# Tables


def _add_table(collection: Collection, path: FilePath, *, media: bool, only_known: bool = False) -> None:
    with _readable(collection, path) as file:
        _add_rows(collection, file, path.parent, media=media, only_known=only_known)


def _add_rows(collection: Collection, path: Path, folder: FilePath, *, media: bool, only_known: bool) -> None:
    table = read_table(path, _COLUMN_NAMES, collection.problems)
    collection.rows += len(table.rows)
    collection.lost_rows += len(table.lost)
    collection.problems += table.notices + table.lost
    if not table.rows and not table.lost:
        raise CollectionError(f"{printable(path)} has no rows")
    columns = {name.strip().lower(): name for name in reversed(table.columns)}
    named = {field: [columns[name] for name in names if name in columns] for field, names in _COLUMNS.items()}
    if table.columns and not named["video"] and not named["path"]:
        raise CollectionError(
            f"{printable(path)} has no column that names the video; columns are {', '.join(columns)[:300]!r}; "
            "wanted: video (and caption, start, end, split)"
        )
    names = _RowNames(collection.entries, folder)
    ids = {entry.id for entry in collection.entries}
    for row in table.rows:
        try:
            entry = names.entry(row.cells, named, media=media)
            captions = _captions(entry.id, row.cells, named)
            split = cell_name(row.cells, named["split"])
        except ValueError as error:
            collection.rows -= 1
            collection.lose_row(row.place, str(error))
            continue
        if entry.id not in ids and not only_known:
            collection.entries.append(entry)
        ids.add(entry.id)
        collection.rows_by_name[entry.id] += 1
        collection.captions += captions
        if split:
            collection.splits[entry.id] = split
    _tell_unread(collection, printable(path), table.rows, named["captions"])
    renamed = names.renamed
    collection.entries[:] = [Entry(renamed.get(e.path, e.id) if e.path else e.id, e.path) for e in collection.entries]


def _tell_unread(collection: Collection, place: str, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Say which columns of captions were not read because another one was."""
    unread = {name for row in rows for name in columns[1:] if cell_value(row.cells, columns) is not row.cells.get(name)
              and row.cells.get(name) not in (None, "")}  # fmt: skip
    if unread:
        message = f"captions are read from {columns[0]!r}; not read: {', '.join(sorted(unread))}"
        collection.problems.append(Notice(place, message))


class _RowNames:
    """Which video a table's row means: one of the entries at hand, or a new one."""

    def __init__(self, entries: Sequence[Entry], folder: FilePath) -> None:
        self._folder, self._files = folder, _Files()
        self.renamed: dict[FilePath, str] = {}
        files = ((entry.path, entry.id, entry.path) for entry in entries if entry.path is not None)
        self._names = Names(files, any_suffix=True)

    def entry(self, row: dict[str, Any], named: dict[str, list[str]], *, media: bool) -> Entry:
        """Return the video that a row names.

        Raises:
            ValueError: it names none, or could be several.
        """
        identifier, file = cell_name(row, named["video"]), cell_name(row, named["path"])
        name = identifier or file
        if not name:
            raise ValueError("names no video")
        path = self._files.locate(self._folder, file or name)
        match = self._match(file, identifier, path)
        if match is not None:
            self.renamed[match] = name
            return Entry(name, match)
        return Entry(name, path if media and (file or self._files.exists(path)) else None)

    def _match(self, file: str, identifier: str, path: FilePath) -> FilePath | None:
        matches = [self._names.matches(name) for name in (file, identifier) if name]
        for paths in matches:
            if len(paths) == 1:
                return paths[0]
        if (at_path := self._names.at(path)) is not None:
            return at_path
        name = file or identifier
        if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[\\/]", name):
            for key in self._names.from_elsewhere(name):
                return key
        if several := next((paths for paths in matches if paths), ()):
            candidates = name_some([printable(path) for path in several])
            raise ValueError(f"{name} could be {candidates}; name one by its path")
        return None


def _captions(video: str, row: dict[str, Any], named: dict[str, list[str]]) -> list[Caption]:
    start, end = cell_seconds(row, named["start"]), cell_seconds(row, named["end"])
    if start is not None and end is not None and end <= start:
        raise ValueError(f"ends at {end} s, before or where it starts ({start} s)")
    texts = caption_texts(cell_value(row, named["captions"]))
    split = cell_name(row, named["split"]) or None
    return [Caption(video, text, start, end, split) for text in texts]
