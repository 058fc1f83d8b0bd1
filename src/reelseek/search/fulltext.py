"""What was said and written, word for word: which of the query's words a line holds, and how rare they are.

Both sides go through `reelseek.library.words`; what a script writes without blanks is looked for by pairs of
characters.
"""

import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reelseek.library.store import Library
from reelseek.library.words import is_character, token_runs, tokens, words_for_reading

__all__ = ["Line", "lines_with_phrase", "matching_lines"]

_LINES = 100
_MOST = 48
_ROWS = (
    "SELECT t.owner, t.kind, t.text, t.start_seconds, t.end_seconds, f.words FROM texts_words f"
    " JOIN texts t ON t.id = f.rowid WHERE texts_words MATCH ? AND t.kind != 'label' ORDER BY "
)
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
    """What to look for: words, and pairs of characters that follow upon each other, as tokens between blanks."""
    words = [word for run in token_runs(text) for word in _pairs(run)]
    words = list(dict.fromkeys(words))
    return [word for word in words if word not in _STOP] or words


def _pairs(run: Sequence[str]) -> list[str]:
    words = []
    for at, token in enumerate(run):
        after = run[at + 1] if at + 1 < len(run) else ""
        if is_character(token) and after and is_character(after):
            words.append(f"{token} {after}")
        elif not (is_character(token) and at and is_character(run[at - 1])):
            words.append(token)
    return words


def _quoted(words: Sequence[str]) -> str:
    return " OR ".join('"' + word.replace('"', '""') + '"' for word in words)


class _Stemmer:
    """SQLite's own tokenizer, asked through a table in memory, so that words match here as they match there."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.execute("CREATE VIRTUAL TABLE line USING fts5(text, tokenize='porter ascii')")
        self._db.execute("CREATE VIRTUAL TABLE token USING fts5vocab(line, 'instance')")

    def stems(self, texts: Sequence[str]) -> list[set[str]]:
        """Of texts that are tokens between blanks."""
        self._db.execute("DELETE FROM line")
        self._db.executemany("INSERT INTO line(rowid, text) VALUES (?, ?)", list(enumerate(texts, 1)))
        stems: list[set[str]] = [set() for _ in texts]
        for term, row in self._db.execute("SELECT term, doc FROM token"):
            stems[row - 1].add(term)
        return stems


_STEMMER = _Stemmer()


def matching_lines(library: Library, text: str) -> list[Line]:
    """The lines said or written that hold the query's rarest words, best first."""
    words = _words(text)[:_MOST]
    if not words:
        return []
    words_for_reading(library.db)
    rows = library.db.execute(f"{_ROWS} f.rank LIMIT ?", (_quoted(words), _LINES)).fetchall()
    if not rows:
        return []
    stems = _STEMMER.stems([*words, *(row[-1] for row in rows)])
    word_stems, row_stems = stems[: len(words)], stems[len(words) :]
    weight = _information(library, words)
    total = sum(weight)
    lines = []
    for row, present in zip(rows, row_stems, strict=True):
        hits = [
            index
            for index, stem in enumerate(word_stems)
            if stem and stem <= present and (" " not in words[index] or f" {words[index]} " in f" {row[-1]} ")
        ]
        coverage = sum(weight[index] for index in hits) / total
        if hits:
            lines.append(_line(row, coverage, tuple(words[index] for index in hits)))
    return sorted(lines, key=lambda line: (-line.coverage, line.owner, line.start_seconds))


def _line(row: Sequence[Any], coverage: float, words: tuple[str, ...]) -> Line:
    owner, kind, text, start, end, _ = row
    return Line(owner, kind, text, start, end, coverage, words)


def _information(library: Library, words: Sequence[str]) -> list[float]:
    """`log(1 + lines / lines that hold the word)`; what no line holds counts as if one did."""
    total = library.db.execute("SELECT coalesce(max(id), 1) FROM texts").fetchone()[0]
    counts = [
        library.db.execute(
            "SELECT count(*) FROM (SELECT 1 FROM texts_words WHERE texts_words MATCH ? LIMIT 5000)", (_quoted([word]),)
        ).fetchone()[0]
        for word in words
    ]
    return [math.log(1 + total / max(1, count)) for count in counts]


def lines_with_phrase(library: Library, phrase: str) -> list[Line]:
    """Every line said or written that holds a phrase word for word (letter case, accents and signs aside)."""
    words = " ".join(tokens(phrase))
    if not words:
        return []
    words_for_reading(library.db)
    rows = library.db.execute(f"{_ROWS} t.id", (_quoted([words]),)).fetchall()
    return [_line(row, 1.0, (phrase,)) for row in rows if f" {words} " in f" {row[-1]} "]  # not only its stems
