"""Names of files and folders, and captions, are evidence of a search like what is said and written."""

import os
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

import numpy as np

from reelseek.library.records import Video
from reelseek.library.store import Library
from reelseek.search.fulltext import ABOUT, Line, Word, covered

__all__ = ["Names"]

_LINES = 100
_CANDIDATES = 400  # by SQLite's rank, of which the best by coverage are taken


class Names:
    """Names and captions of a library as it is now, looked up by word."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._sample: tuple[int, int, list[tuple[str, str]]] | None = None  # revision, most, captions

    def other_terms(self, word: str, beginning: str) -> list[str] | None:
        """The words that begin with some letters; None where one of them is the word itself."""
        vocabulary = self._library.catalog.about
        return None if vocabulary.holds(word) else vocabulary.terms(beginning)

    def some_captions(self, most: int) -> list[tuple[str, str]]:
        """Some captions, evenly spread, each with its video; of several with the same words one."""
        revision = self._library.catalog.revision()
        if self._sample is None or self._sample[:2] != (revision, most):
            by_words: dict[str, tuple[str, str]] = {}
            for caption in self._library.catalog.about.some_captions(4 * most):  # some are alike
                by_words.setdefault(caption.words, (caption.video, caption.text))
            captions = [pair for words, pair in by_words.items() if words]
            places = np.linspace(0, len(captions), min(most, len(captions)), endpoint=False).astype(int)
            self._sample = revision, most, [captions[place] for place in places.tolist()]
        return self._sample[2]

    def lines(
        self, words: Sequence[Word], *, kinds: Collection[str], videos: Collection[str] | None = None
    ) -> list[Line]:
        """The names and captions that hold most of a query, best first, of each kind.

        Args:
            kinds: `name`, `captions` or both.
            videos: only of these; None is all.
        """
        spellings = [spelling for word in words for spelling, _ in word.spellings]
        lines_of = {"name": self._names, "captions": self._captions}
        return [line for kind in ABOUT if kind in kinds for line in _best(lines_of[kind](words, spellings, videos))]

    def _names(self, words: Sequence[Word], spellings: Sequence[str], videos: Collection[str] | None) -> list[Line]:
        catalog = self._library.catalog
        rows = catalog.about.names(spellings, _CANDIDATES, videos)
        shares = covered(words, [folded for _, folded in rows])
        matches = [(-coverage, video, held) for (video, _), (coverage, held) in zip(rows, shares, strict=True) if held]
        return [
            Line(f"id:{video.id}", "name", _shown_name(video), 0.0, float("inf"), -negative, held)
            for negative, identifier, held in sorted(matches)[:_LINES]  # the best, before each is looked up
            if (video := catalog.videos.get(identifier)) is not None
        ]

    def _captions(self, words: Sequence[Word], spellings: Sequence[str], videos: Collection[str] | None) -> list[Line]:
        captions = self._library.catalog.about.captions(spellings, _CANDIDATES, videos)
        shares = covered(words, [caption.words for caption in captions])
        return [
            Line(f"id:{c.video}", "captions", c.text, c.start_seconds or 0.0,
                 float("inf") if c.end_seconds is None else c.end_seconds, coverage, held)
            for c, (coverage, held) in zip(captions, shares, strict=True)
            if held
        ]  # fmt: skip


def _best(lines: Sequence[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: (-line.coverage, line.owner, line.start_seconds, line.text))[:_LINES]


def _shown_name(video: Video) -> str:
    return PurePosixPath(os.fspath(video.id) if video.path is None else str(video.path)).name
