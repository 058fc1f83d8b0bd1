"""Words that are nearly another one: its beginning, or one that is spelled alike, as trigrams tell."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from functools import lru_cache

__all__ = ["nearest_words"]

_SHORTEST = 4  # letters of a word that is forgiven
_ALIKE = 0.55  # share of trigrams that two spellings have in common
_MOST = 3


def nearest_words(word: str, terms: Iterable[str]) -> list[tuple[str, float]]:
    """The terms that a word may have meant, nearest first, each with the share of letters in common.

    >>> [term for term, _ in nearest_words("pancacke", ["pan", "pancake", "panic"])]
    ['pancake']
    """
    if len(word) < _SHORTEST or not word.isalpha():
        return []
    alike = [term for term in terms if term != word and _alike(word, term) >= _ALIKE]
    shares = [(term, SequenceMatcher(None, word, term).ratio()) for term in alike]
    return sorted(shares, key=lambda pair: (-pair[1], pair[0]))[:_MOST]


def _alike(word: str, term: str) -> float:
    """Dice's share of the trigrams of both, or how much of the term the word begins."""
    if abs(len(word) - len(term)) > len(word) or not term.isalpha():
        return 0.0
    mine, theirs = _trigrams(word), _trigrams(term)
    shared = 2 * len(mine & theirs) / (len(mine) + len(theirs))
    return max(shared, len(word) / len(term) if term.startswith(word) else 0.0)


@lru_cache(maxsize=2**16)
def _trigrams(word: str) -> frozenset[str]:
    padded = f"  {word} "
    return frozenset(padded[place : place + 3] for place in range(len(padded) - 2))
