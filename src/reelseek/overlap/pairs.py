"""Pairs of videos with the place where they match, in the files that people exchange."""

import csv
import io
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from reelseek.errors import CollectionError
from reelseek.library.files import write_whole
from reelseek.library.tables import parse_json, read_table
from reelseek.library.texts import read_text, split_lines

__all__ = ["Pair", "json_line", "read_pairs", "write_pairs"]


@dataclass(frozen=True)
class Pair:
    """Two videos, their score, and where they match, in seconds; `sound` scores their sound, where both have any."""

    test: str
    train: str
    score: float
    test_start: float
    train_start: float
    window: float
    sound: float | None = None

    def as_json(self) -> dict[str, Any]:
        """A line of a pairs file."""
        row = {name: value for name, value in vars(self).items() if value is not None}
        return {**row, "score": round(self.score, 6)}


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write pairs as the path's ending says.

    `.csv` has a header; `.lst` is what MDMMT publishes: test file, start, end, train file, start, end, tab-separated;
    anything else is one JSON line per pair.
    """
    if path.suffix == ".lst":
        text = "".join(
            f"{p.test}\t{p.test_start:.10g}\t{p.test_start + p.window:.10g}"
            f"\t{p.train}\t{p.train_start:.10g}\t{p.train_start + p.window:.10g}\n"
            for p in pairs
        )
    elif path.suffix == ".csv":
        buffer = io.StringIO()
        rows = csv.DictWriter(buffer, [field.name for field in fields(Pair)], lineterminator="\n")
        rows.writeheader()
        rows.writerows(p.as_json() for p in pairs)
        text = buffer.getvalue()
    else:
        text = "".join(json_line(p.as_json()) for p in pairs)
    write_whole(path, text)


def json_line(row: dict[str, Any]) -> str:
    """Encode a row as a line of JSON that any reader of lines takes for one; file names that are no Unicode survive."""
    text = json.dumps(row, ensure_ascii=False)
    one_line = len(text.splitlines()) == 1 and not any("\ud800" <= sign <= "\udfff" for sign in text)
    return (text if one_line else json.dumps(row)) + "\n"


def read_pairs(path: Path) -> list[Pair]:
    """Read pairs from a JSON-lines, `.csv` or `.lst` file. A list without scores has the score 1.

    Raises:
        CollectionError: the file cannot be read, or a line is not of its form; says which.
    """
    if path.suffix == ".csv":
        return [_parse_pair(row.place, row.cells) for row in read_table(path).require_all()]
    pairs = []
    for number, line in enumerate(split_lines(read_text(path)), 1):
        if line.strip():
            parse = _parse_lst_line if path.suffix == ".lst" else _parse_json_line
            pairs.append(parse(f"{path}, line {number}", line))
    return pairs


def _parse_json_line(place: str, line: str) -> Pair:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise CollectionError(f"{place} is not JSON: {error}") from error
    return _parse_pair(place, row)


def _parse_lst_line(place: str, line: str) -> Pair:
    parts = line.split("\t") if "\t" in line else line.split()
    if len(parts) != 6:
        columns = "test file, start, end, train file, start, end, with tabs between"
        raise CollectionError(f"{place} has {len(parts)} fields; wanted {columns}")
    test, start, end, train, other, _ = parts
    try:
        window = float(end) - float(start)
    except ValueError as error:
        raise CollectionError(f"{place}: {error}") from error
    return _parse_pair(place, {"test": test, "train": train, "score": 1.0, "test_start": start, "train_start": other,
                                "window": window})  # fmt: skip


def _parse_pair(place: str, row: Any) -> Pair:
    try:
        times = {name: float(row[name]) for name in ("score", "test_start", "train_start", "window")}
        heard = row.get("sound")
        sound = float(heard) if heard not in (None, "") else None
        if not all(map(math.isfinite, times.values())):
            raise ValueError("a number is not finite")
        return Pair(str(row["test"]), str(row["train"]), **times, sound=sound)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        keys = "test, train, score, test_start, train_start and window"
        raise CollectionError(f"{place} is no pair ({error!r}); wanted {keys}") from error
