"""What a query line says: words to look for, words to take away, weights, phrases that must occur."""

import math
import re
import unicodedata
from dataclasses import dataclass

from reelseek.errors import QueryError
from reelseek.library.filters import NO_FILTER, TYPED, Filter, parse_filter, split_filter
from reelseek.library.words import tokens

__all__ = ["Query", "Term", "parse_query"]

_LONGEST = 2_000
_TOKEN = re.compile(r'(?P<minus>(?<!\S)-)?(?:"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+))')
_WEIGHTED = re.compile(r"^(?P<word>.+?)\^(?P<weight>[^^]*)$")


@dataclass(frozen=True)
class Term:
    """Words with their weight in the sum that is searched for; negative takes away."""

    text: str
    weight: float


@dataclass(frozen=True)
class Query:
    """A parsed query.

    Args:
        text: as typed, with single blanks.
        terms: plain words together as one term of weight 1, then the weighted ones and those taken away.
        phrases: each must occur, word for word, in speech or on screen.
        refused: phrases that must not occur.
        filter: which videos count.
    """

    text: str
    terms: tuple[Term, ...]
    phrases: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    filter: Filter = NO_FILTER

    @property
    def words(self) -> str:
        """All that is wanted, for full text."""
        return " ".join(term.text for term in self.terms if term.weight > 0)


def parse_query(text: str, *, filter: str = "", words_required: bool = True) -> Query:
    """Read a query: `-people` takes away, `car^2` weighs, `"quoted phrase"` must occur in speech or text, and
    `before:2020` is a term of a filter, see `library.filters`.

    Args:
        filter: more terms of a filter, which must hold too.
        words_required: False takes a query without words, for a search by examples.

    >>> parse_query('red car^2 -people "open door"').terms
    (Term(text='red open door', weight=1.0), Term(text='car', weight=2.0), Term(text='people', weight=-1.0))

    Raises:
        QueryError: it is empty, too long, only takes away, has nothing that can be looked for, or holds a weight that
            is no number.
    """
    clean = " ".join(text.replace("\0", " ").encode("utf-8", "replace").decode().split())
    if len(clean) > _LONGEST:
        raise QueryError(f"the query has {len(clean)} characters; at most {_LONGEST} are read")
    words, conditions = split_filter(clean)
    conditions &= parse_filter(filter)
    if not words and not words_required:
        return Query(clean, (), filter=conditions)
    if not words and conditions:
        raise QueryError(f"{str(conditions)!r} says only which videos count; add what to look for in them")
    if not words:
        raise QueryError("the query is empty; say what to look for, such as: dog barking")
    if not tokens(words):
        raise QueryError(f"nothing in {words!r} can be looked for; say it in words, such as: dog barking")
    plain: list[str] = []
    others: list[Term] = []
    phrases: list[str] = []
    refused: list[str] = []
    for match in _TOKEN.finditer(unicodedata.normalize("NFKC", words).translate(TYPED)):
        minus, phrase, word = match["minus"], match["phrase"], match["word"]
        if phrase is not None:
            if tokens(phrase):
                (refused if minus else phrases).append(phrase.strip())
                if not minus:
                    plain.append(phrase.strip())
            continue
        body, weight = _weight(word)
        if not tokens(body):
            continue
        if minus:
            others.append(Term(body, -weight))
        elif weight == 1:
            plain.append(body)
        elif weight > 0:
            others.append(Term(body, weight))
    terms = ([Term(" ".join(plain), 1.0)] if plain else []) + others
    if not any(term.weight > 0 for term in terms):
        raise QueryError(f"{words!r} says only what not to find; add what to look for")
    return Query(clean, tuple(terms), tuple(phrases), tuple(refused), conditions)


def _weight(word: str) -> tuple[str, float]:
    match = _WEIGHTED.match(word)
    if not match:
        return word, 1.0
    try:
        weight = float(match["weight"])
    except ValueError as error:
        raise QueryError(f"{word!r}: the weight after ^ must be a number, such as car^2") from error
    if not (math.isfinite(weight) and 0 <= weight <= 100):
        raise QueryError(f"{word!r}: the weight after ^ must be from 0 to 100")
    return match["word"], weight
