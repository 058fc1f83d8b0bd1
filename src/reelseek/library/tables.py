"""One door for lists and tables that people give: decoded, split into rows, and every row that is not read is named.

A line ends at a line feed or carriage return and nowhere else: U+2028, U+0085, form feeds and vertical tabs are text.
"""

import csv
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelseek.errors import CollectionError, MediaError
from reelseek.library.names import printable
from reelseek.library.texts import is_unicode, read_text, split_lines
from reelseek.media.guard import guarded
from reelseek.media.notice import Notice

__all__ = ["TABLE_SUFFIXES", "Row", "Table", "parse_json", "read_json", "read_table", "split_cells"]

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".json", ".jsonl", ".ndjson", ".parquet")
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_LONGEST_QUOTE = 200  # lines; a quote that is open for longer was never closed
_LARGEST_CELL = 2**27
_PARQUET_SECONDS = 600.0


@dataclass(frozen=True)
class Row:
    """A row of a table: the file and line where it begins, and cells by column (of CSV always text)."""

    place: str
    cells: dict[str, Any]


@dataclass
class Table:
    """What a table holds.

    Attributes:
        columns: names in their order, without surrounding blanks.
        rows: those that could be read.
        lost: one notice for each row that could not.
        notices: what was guessed about the table as a whole.
    """

    columns: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    lost: list[Notice] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    def require_all(self) -> list[Row]:
        """Return the rows, where a part of them is of no use.

        Raises:
            CollectionError: a row could not be read; names the first.
        """
        for notice in [*self.lost, *self.notices]:
            if notice.lost:
                raise CollectionError(str(notice))
        return self.rows


def read_table(path: Path, column_names: Collection[str] = (), notices: list[Notice] | None = None) -> Table:
    """Read a CSV, TSV, JSON, JSON-lines or Parquet table; anything else is read as CSV.

    Args:
        column_names: names of columns, in lower case, by which the delimiter is recognised.
        notices: takes a guess at the encoding; without it a guess is refused.

    Raises:
        CollectionError: the file cannot be read as a table at all; says where.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path)
    text = read_text(path, notices)
    if suffix in (".json", ".jsonl", ".ndjson"):
        return _read_objects(path, text, lines=suffix != ".json")
    return _CsvReader(path, split_lines(text), column_names).read()


# CSV


def split_cells(line: str) -> list[str]:
    """The cells of one line of CSV, with blanks before a quote or without; for files that are no tables with a header.

    >>> split_cells('a1b2, 0.0, 10.0, "/m/1,/m/2"')
    ['a1b2', '0.0', '10.0', '/m/1,/m/2']
    """
    return next(csv.reader([line], skipinitialspace=True))


class _CsvReader:
    """Reads delimited rows one by one, so that one wrong quote or comma costs one row.

    Python's csv module alone lets a quote that is never closed swallow the rows behind it, and `DictReader` moves what
    stands behind a comma without quotes into the next column.
    """

    def __init__(self, path: Path, lines: Sequence[str], column_names: Collection[str]) -> None:
        csv.field_size_limit(_LARGEST_CELL)
        self._name, self._lines, self._table = printable(path), lines, Table()
        self._literal: list[int] = []
        self._width: int | None = None
        self._start = next((at for at, line in enumerate(lines) if line.strip()), len(lines))
        self._delimiter = self._choose_delimiter("\t" if path.suffix.lower() in (".tsv", ".tab") else ",", column_names)

    def read(self) -> Table:
        if self._start >= len(self._lines):
            return self._table
        header, used = self._record(self._start)
        if isinstance(header, str):
            raise CollectionError(f"{self._place(self._start)}: the header cannot be read: {header}")
        names = self._name_columns(header)
        self._width = len(header)
        has_unnamed = False
        for start, cells in self._records(self._start + used):
            if isinstance(cells, str):
                self._lose(start, cells)
            elif not is_unicode("".join(cells)):
                self._lose(start, "bytes that are no UTF-8, as the rest of the file is")
            elif any(cell.strip() for cell in cells):
                if len(cells) != self._width and any(cell.strip() for cell in cells[self._width :]):
                    self._lose(start, f"{len(cells)} cells where the header has {self._width}; {self._advice()}")
                elif len(cells) < self._width:
                    self._lose(start, f"{len(cells)} cells where the header has {self._width}")
                else:
                    row = {name: cell for name, cell in zip(names, cells, strict=False) if name}
                    has_unnamed |= any(
                        cell.strip() for name, cell in zip(header, cells, strict=False) if not name.strip()
                    )
                    self._table.rows.append(Row(self._place(start), row))
        if has_unnamed:
            self._note("a column without a name in the header is not read")
        if self._literal:
            self._note(
                f"{len(self._literal)} rows (the first in line {self._literal[0] + 1}) have quotes inside a text; they "
                "are taken as part of it"
            )
        return self._table

    def _choose_delimiter(self, usual: str, column_names: Collection[str]) -> str:
        if self._start >= len(self._lines):
            return usual
        line = self._lines[self._start].strip()
        if line.lower().startswith("sep=") and len(line) == 5:  # what Excel writes above a header
            self._start += 1
            return line[-1]

        def score(delimiter: str) -> tuple[int, bool]:
            cells = [cell.strip().strip('"').strip().lower() for cell in line.split(delimiter)]
            return len(set(cells) & set(column_names)), len(cells) > 1

        best = max([usual, *(other for other in _DELIMITERS if other != usual)], key=score)  # the usual wins a tie
        if best != usual:
            self._note(f"read with {_DELIMITERS[best]} between cells, not {_DELIMITERS[usual]}, as its header has them")
        return best

    def _name_columns(self, header: Sequence[str]) -> list[str]:
        """Names in order; a column whose name is empty or taken has '' and is not read."""
        names: list[str] = []
        for number, name in enumerate((cell.strip() for cell in header), 1):
            if name and name.lower() in (other.lower() for other in names):
                message = f"column {number} is called {name!r} as another one is, and is not read; rename it"
                self._table.notices.append(Notice(self._name, message, lost=True))
                name = ""
            names.append(name)
        self._table.columns = [name for name in names if name]
        return names

    def _records(self, start: int) -> Iterator[tuple[int, list[str] | str]]:
        while start < len(self._lines):
            cells, used = self._record(start)
            yield start, cells
            start += used

    def _record(self, start: int) -> tuple[list[str] | str, int]:
        """The cells of the record that begins at a line, or why there are none; and how many lines it took."""
        line = self._lines[start]
        if '"' not in line:
            return line.split(self._delimiter), 1
        candidates = [self._parse(start, blanks=blanks) for blanks in (False, True)]
        fits = [parsed for parsed in candidates if parsed is not None and len(parsed[0]) == self._width]
        if not fits and self._width is None:
            fits = [parsed for parsed in candidates if parsed is not None]
        if fits:
            return fits[0]
        literal = line.split(self._delimiter)
        if line.count('"') % 2 == 0 and len(literal) == self._width:
            self._literal.append(start)
            return literal, 1
        if candidates[0] is not None:
            return candidates[0]
        if line.count('"') % 2:
            return "a quote opens here and does not close before the next row; close it, or double it inside a text", 1
        return f"a quote closes inside a cell; {self._advice()}", 1

    def _parse(self, start: int, *, blanks: bool) -> tuple[list[str], int] | None:
        """By the rules of CSV, with blanks before an opening quote or without; None where they are broken."""
        stop = min(start + _LONGEST_QUOTE, len(self._lines))
        lines = (self._lines[at] + "\n" for at in range(start, stop))
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True, skipinitialspace=blanks)
        try:
            cells = next(reader)
        except csv.Error:
            return None
        return None if self._swallows(start, reader.line_num) else (cells, reader.line_num)

    def _swallows(self, start: int, used: int) -> bool:
        """Whether a record over several lines is several rows: each line alone has all cells, and names in the same."""
        if used == 1 or self._width is None or self._width == 1:
            return False
        first, *others = (line.split(self._delimiter) for line in self._lines[start : start + used])
        if any(len(cells) != self._width for cells in others):
            return False
        opening = next(at for at, cell in enumerate(first) if '"' in cell)
        if len(first) > self._width > 2:  # a delimiter in its text: only what stands before the quote is certain
            first = first[:opening]
        elif len(first) != self._width:
            return False
        words = [at for at, cell in enumerate(first) if at != opening and len(cell.split()) == 1]
        return bool(words) and all(len(cells[at].split()) == 1 for cells in others for at in words)

    def _advice(self) -> str:
        name = _DELIMITERS.get(self._delimiter, repr(self._delimiter))
        return f"a text with {name} in it needs quotes around it, and quotes in it are doubled"

    def _place(self, start: int) -> str:
        return f"{self._name}, line {start + 1}"

    def _lose(self, start: int, message: str) -> None:
        self._table.lost.append(Notice(self._place(start), message, lost=True))

    def _note(self, message: str) -> None:
        self._table.notices.append(Notice(self._name, message))


# JSON and Parquet


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)[:80]!r} stands twice in one object")
    return value


def parse_json(text: str) -> Any:
    """Parse JSON; nothing in it is dropped, and no depth of brackets goes beyond an error.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError) or "digits" not in str(error):
            raise
        raise ValueError("a number in it has thousands of digits") from None


def read_json(path: Path, notices: list[Notice] | None = None) -> Any:
    """Read one JSON value.

    Raises:
        CollectionError: the file cannot be read, or is not JSON.
    """
    text = read_text(path, notices)
    try:
        return parse_json(text)
    except ValueError as error:
        raise CollectionError(f"{printable(path)} cannot be read as JSON: {error}") from error


def _read_objects(path: Path, text: str, *, lines: bool) -> Table:
    """A JSON line a row, or one JSON list of rows or object of rows by video; which it is, its text says."""
    name, table = printable(path), Table()
    start = text.lstrip()[:1]
    if lines and start == "[":
        table.notices.append(Notice(name, "read as one JSON list, not as a line a row"))
        lines = False
    elif not lines and start == "{" and len(rows := [line for line in split_lines(text) if line.strip()]) > 1:
        with_objects = [_is_object(line) for line in rows[:2]]
        if all(with_objects):
            table.notices.append(Notice(name, "read as a JSON line a row, not as one JSON value"))
            lines = True
    if lines:
        for number, line in enumerate(split_lines(text), 1):
            if line.strip():
                _add_object(table, f"{name}, line {number}", line)
    else:
        _add_items(table, name, text)
    table.columns = list(dict.fromkeys(key for row in table.rows for key in row.cells))
    return table


def _is_object(text: str) -> bool:
    try:
        return isinstance(parse_json(text), dict)
    except ValueError:
        return False


def _add_object(table: Table, place: str, line: str) -> None:
    try:
        if not is_unicode(line):
            raise ValueError("bytes that are no UTF-8, as the rest of the file is")
        value = parse_json(line)
        if not isinstance(value, dict):
            raise ValueError(f'a JSON {type(value).__name__}, not an object; wanted one such as {{"video": "a"}}')
        table.rows.append(Row(place, value))
    except ValueError as error:
        table.lost.append(Notice(place, f"it is not JSON of a row: {error}", lost=True))


def _add_items(table: Table, name: str, text: str) -> None:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise CollectionError(f"{name} cannot be read as JSON: {error}") from error
    if isinstance(value, dict) and any(isinstance(cells, dict | str | list) for cells in value.values()):
        items: list[tuple[str, Any]] = [
            (f"{name}, {key!r}", {"video": key} | (cells if isinstance(cells, dict) else {"captions": cells}))
            for key, cells in value.items()
        ]
    elif isinstance(value, list):
        items = [(f"{name}, item {number}", cells) for number, cells in enumerate(value, 1)]
    else:
        raise CollectionError(
            f"{name} holds a JSON {type(value).__name__}; wanted a list of objects, or captions by video"
        )
    for place, cells in items:
        if isinstance(cells, dict):
            table.rows.append(Row(place, cells))
        else:
            table.lost.append(Notice(place, f"a JSON {type(cells).__name__}, not an object", lost=True))


def _read_parquet(path: Path) -> Table:
    """In a process of its own, since a damaged file ends the one that reads it."""
    name = printable(path)
    if not path.is_file():
        raise CollectionError(f"{name}: no such file, or not a regular one")
    try:
        columns, rows = guarded(_parquet_rows, path, seconds=_PARQUET_SECONDS)
    except MediaError as error:
        raise CollectionError(f"{name} cannot be read as a table: {error}") from error
    return Table(columns, [Row(f"{name}, row {number}", row) for number, row in enumerate(rows, 1)])


def _parquet_rows(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        data = pyarrow.parquet.ParquetFile(path).read()
        if len(set(data.column_names)) < len(data.column_names):
            raise ValueError(f"two columns have one name; they are {', '.join(data.column_names)[:300]}")
        return list(data.column_names), data.to_pylist()
    except (OSError, ValueError, RecursionError, pyarrow.ArrowException) as error:
        raise CollectionError(f"{printable(path)} cannot be read as a table: {error}") from error
