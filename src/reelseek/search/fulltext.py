"""What was said and written, word for word: which of the query's words a line holds, and how rare they are."""

import math
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reelseek.library.store import Library

__all__ = ["Line", "lines_with_phrase", "matching_lines"]

_TOKENIZER = "porter unicode61 remove_diacritics 2"
_LINES = 100
_STOP = frozenset(
    (
        "a an and are as at be by for from has he her his how i in into is it its me my of on or our over she so some "
        "that the their them then there they this to up us was we were what when where which who will with you your"
    ).split()
)


@dataclass(frozen=True)
class Line:
    """A line of text that holds words of the query; `coverage` in (0, 1] is their share of the query's information."""

    owner: str
    kind: str
    text: str
    start_seconds: float
    end_seconds: float
    coverage: float
    words: tuple[str, ...]


def _words(text: str) -> list[str]:
    words = list(dict.fromkeys(re.findall(r"\w+", text.lower())))
    return [word for word in words if word not in _STOP] or words


def _quoted(words: Sequence[str]) -> str:
    return " OR ".join('"' + word.replace('"', '""') + '"' for word in words)


class _Stemmer:
    """SQLite's own tokenizer, asked through a table in memory, so that words match here as they match there."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.execute(f"CREATE VIRTUAL TABLE line USING fts5(text, tokenize='{_TOKENIZER}')")
        self._db.execute("CREATE VIRTUAL TABLE token USING fts5vocab(line, 'instance')")

    def stems(self, texts: Sequence[str]) -> list[set[str]]:
        self._db.execute("DELETE FROM line")
        self._db.executemany("INSERT INTO line(rowid, text) VALUES (?, ?)", list(enumerate(texts, 1)))
        found: list[set[str]] = [set() for _ in texts]
        for term, row in self._db.execute("SELECT term, doc FROM token"):
            found[row - 1].add(term)
        return found


_STEMMER = _Stemmer()


def matching_lines(library: Library, text: str) -> list[Line]:
    """The lines said or written that hold the query's rarest words, best first."""
    words = _words(text)[:24]
    if not words:
        return []
    rows = library.db.execute(
        "SELECT t.owner, t.kind, t.text, t.start_seconds, t.end_seconds FROM texts_fts f JOIN texts t ON t.id = f.rowid"
        " WHERE texts_fts MATCH ? AND t.kind != 'label' ORDER BY f.rank LIMIT ?",
        (_quoted(words), _LINES),
    ).fetchall()
    if not rows:
        return []
    stems = _STEMMER.stems([*words, *(row[2] for row in rows)])
    wanted, held = stems[: len(words)], stems[len(words) :]
    weight = _information(library, words)
    total = sum(weight)
    lines = []
    for row, there in zip(rows, held, strict=True):
        hits = [index for index, stem in enumerate(wanted) if stem and stem <= there]
        coverage = sum(weight[index] for index in hits) / total
        if hits:
            lines.append(_line(row, coverage, tuple(words[index] for index in hits)))
    return sorted(lines, key=lambda line: (-line.coverage, line.owner, line.start_seconds))


def _line(row: Sequence[Any], coverage: float, words: tuple[str, ...]) -> Line:
    owner, kind, text, start, end = row
    return Line(owner, kind, text, start, end, coverage, words)


def _information(library: Library, words: Sequence[str]) -> list[float]:
    """`log(1 + lines / lines that hold the word)`; what no line holds counts as if one did."""
    total = library.db.execute("SELECT coalesce(max(id), 1) FROM texts").fetchone()[0]
    counts = [
        library.db.execute(
            "SELECT count(*) FROM (SELECT 1 FROM texts_fts WHERE texts_fts MATCH ? LIMIT 5000)", (_quoted([word]),)
        ).fetchone()[0]
        for word in words
    ]
    return [math.log(1 + total / max(1, count)) for count in counts]


def lines_with_phrase(library: Library, phrase: str) -> list[Line]:
    """Every line said or written that holds a phrase word for word (letter case and accents aside)."""
    rows = library.db.execute(
        "SELECT t.owner, t.kind, t.text, t.start_seconds, t.end_seconds FROM texts_fts f JOIN texts t ON t.id = f.rowid"
        " WHERE texts_fts MATCH ? AND t.kind != 'label' ORDER BY t.id",
        ('"' + phrase.replace('"', '""') + '"',),
    ).fetchall()
    wanted = _plain(phrase)
    return [_line(row, 1.0, (phrase,)) for row in rows if wanted in _plain(row[2])]


def _plain(text: str) -> str:
    """Words alone, lower case and without accents, each between spaces."""
    import unicodedata

    letters = "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))
    return " " + " ".join(re.findall(r"\w+", letters)) + " "
