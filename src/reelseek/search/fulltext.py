"""What was said and written, word for word: which of the query's words a line holds, and how rare they are.

Both sides go through `reelseek.library.words`; what a script writes without blanks is looked for by pairs of
characters.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from reelseek.library.catalog import Stemmer, TextMatch
from reelseek.library.store import Library
from reelseek.library.words import is_character, token_runs, tokens
from reelseek.search.spelling import nearest_words

__all__ = [
    "ABOUT",
    "SOURCES",
    "Line",
    "Word",
    "covered",
    "lines_with_phrase",
    "lines_with_words",
    "matching_lines",
    "stems_of",
    "words_of",
]

_LINES = 100
_MOST = 48
_STOP = frozenset(
    (
        "a an and are as at be by for from has he her his how i in into is it its me my of on or our over she so some "
        "that the their them then there they this to up us was we were what when where which who will with you your"
    ).split()
)


ABOUT = ("name", "captions")
"""Kinds of words about a video, which `without` and `weights` name: of files and folders, and captions."""
SOURCES = {"said": "speech", "written": "ocr", "told": "machine-written"}
"""Whose words the other kinds are, by which `without` leaves them out."""


@dataclass(frozen=True)
class Line:
    """A line of text that holds words of the query.

    Args:
        owner: whose it is, see `Video.owners`.
        kind: `said`, `written` or `told` of words in the video, `name` or `captions` of words about it.
        coverage: in (0, 1], the words' share of the query's information.
    """

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


@dataclass(frozen=True)
class Word:
    """A word that is looked for, as lines may have it.

    Args:
        text: as it stands in the query; characters that follow upon each other, between blanks.
        information: `log(1 + lines / lines that hold it)`; what no line holds counts as if one did.
        spellings: what is looked for, and how much of the word each stands for: itself, or what is spelled alike where
            nothing holds it.
    """

    text: str
    information: float
    spellings: tuple[tuple[str, float], ...]


def words_of(
    library: Library, text: str, other_terms: Callable[[str, str], Sequence[str] | None] | None = None
) -> list[Word]:
    """The words of a query; of those that nothing holds, also the words that are spelled alike.

    Args:
        other_terms: for a word and its first letter the words of names and captions that begin with that letter; None
            where one of them is the word itself. Without it spelling is not forgiven.
    """
    texts = library.catalog.texts
    total = texts.last_id()
    words = []
    for word in _words(text)[:_MOST]:
        count = texts.count_matches(word)
        spellings: list[tuple[str, float]] = [(word, 1.0)]
        others = other_terms(word, word[0]) if other_terms is not None and not count else None
        if others is not None:
            spellings += nearest_words(word, dict.fromkeys([*texts.terms(word[0]), *others]))
        words.append(Word(word, math.log(1 + total / max(1, count)), tuple(spellings)))
    return words


def matching_lines(library: Library, text: str) -> list[Line]:
    """The lines said or written that hold the rarest words of a text, best first, as they are spelled."""
    return lines_with_words(library, words_of(library, text))


def lines_with_words(
    library: Library, words: Sequence[Word], owners: Collection[str] | None = None, *, without: Collection[str] = ()
) -> list[Line]:
    """The lines said or written that hold the rarest of some words, best first.

    Args:
        owners: only lines of these; None is all.
        without: kinds of lines that do not count.
    """
    if not words:
        return []
    spellings = [spelling for word in words for spelling, _ in word.spellings]
    rows = library.catalog.texts.best_matches(spellings, _LINES, owners, without=without)
    lines = [_line(row, *held) for row, held in zip(rows, covered(words, [row.words for row in rows]), strict=True)]
    return sorted(
        (line for line in lines if line.words), key=lambda line: (-line.coverage, line.owner, line.start_seconds)
    )


def stems_of(texts: Sequence[str]) -> list[set[str]]:
    """The stems of each text, which is folded words between blanks."""
    return _STEMMER.stems(texts)


def covered(words: Sequence[Word], texts: Sequence[str]) -> list[tuple[float, tuple[str, ...]]]:
    """For each text the share of the words' information that it holds, and the words that it holds.

    Args:
        texts: folded words between blanks.
    """
    if not texts:
        return []
    pairs = [(place, *pair) for place, word in enumerate(words) for pair in word.spellings]
    stems = _STEMMER.stems([*(spelling for _, spelling, _ in pairs), *texts])
    looked_for = [(place, f" {spelling} " if " " in spelling else "", share, stem)
                  for (place, spelling, share), stem in zip(pairs, stems, strict=False) if stem]  # fmt: skip
    total = sum(word.information for word in words)
    shares = []
    for text, present in zip(texts, stems[len(pairs) :], strict=True):
        best: dict[int, float] = {}
        for place, together, share, stem in looked_for:
            if stem <= present and share > best.get(place, 0.0) and (not together or together in f" {text} "):
                best[place] = share
        coverage = sum(words[place].information * share for place, share in best.items()) / total
        shares.append((coverage, tuple(words[place].text for place in best)))
    return shares


def _line(row: TextMatch, coverage: float, words: tuple[str, ...]) -> Line:
    return Line(row.owner, row.kind, row.text, row.start_seconds, row.end_seconds, coverage, words)


def lines_with_phrase(library: Library, phrase: str) -> list[Line]:
    """Every line said or written that holds a phrase word for word (letter case, accents and signs aside)."""
    words = " ".join(tokens(phrase))
    if not words:
        return []
    rows = library.catalog.texts.phrase_matches(words)
    return [_line(row, 1.0, (phrase,)) for row in rows if f" {words} " in f" {row.words} "]  # not only its stems
