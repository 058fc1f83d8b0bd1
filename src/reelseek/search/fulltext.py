"""What was said and written, word for word: which of the query's words a line holds, and how rare they are.

Both sides go through `reelseek.library.words`; what a script writes without blanks is looked for by pairs of
characters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reelseek.library.catalog import Stemmer, TextMatch
from reelseek.library.filters import NO_FILTER, Filter
from reelseek.library.store import Library
from reelseek.library.words import is_character, token_runs, tokens

__all__ = ["Line", "lines_with_phrase", "matching_lines"]

_LINES = 100
_MOST = 48
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


_STEMMER = Stemmer()


def matching_lines(library: Library, text: str, conditions: Filter = NO_FILTER) -> list[Line]:
    """The lines said or written that hold the query's rarest words, best first.

    Args:
        conditions: only lines of videos that meet these.
    """
    words = _words(text)[:_MOST]
    if not words:
        return []
    selected = library.catalog.selection.where(conditions) if conditions else None
    rows = library.catalog.texts.best_matches(words, _LINES, selected)
    if not rows:
        return []
    stems = _STEMMER.stems([*words, *(row.words for row in rows)])
    word_stems, row_stems = stems[: len(words)], stems[len(words) :]
    weight = _information(library, words)
    total = sum(weight)
    lines = []
    for row, present in zip(rows, row_stems, strict=True):
        hits = [
            index
            for index, stem in enumerate(word_stems)
            if stem and stem <= present and (" " not in words[index] or f" {words[index]} " in f" {row.words} ")
        ]
        coverage = sum(weight[index] for index in hits) / total
        if hits:
            lines.append(_line(row, coverage, tuple(words[index] for index in hits)))
    return sorted(lines, key=lambda line: (-line.coverage, line.owner, line.start_seconds))


def _line(row: TextMatch, coverage: float, words: tuple[str, ...]) -> Line:
    return Line(row.owner, row.kind, row.text, row.start_seconds, row.end_seconds, coverage, words)


def _information(library: Library, words: Sequence[str]) -> list[float]:
    """`log(1 + lines / lines that hold the word)`; what no line holds counts as if one did."""
    total = library.catalog.texts.last_id()
    counts = [library.catalog.texts.count_matches(word) for word in words]
    return [math.log(1 + total / max(1, count)) for count in counts]


def lines_with_phrase(library: Library, phrase: str) -> list[Line]:
    """Every line said or written that holds a phrase word for word (letter case, accents and signs aside)."""
    words = " ".join(tokens(phrase))
    if not words:
        return []
    rows = library.catalog.texts.phrase_matches(words)
    return [_line(row, 1.0, (phrase,)) for row in rows if f" {words} " in f" {row.words} "]  # not only its stems
