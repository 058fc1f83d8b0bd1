"""What a random order of the candidates gives: the metrics with which a system that knows nothing is expected."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Chance", "chance_text_to_video", "chance_video_to_text"]

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Chance:
    """Expected metrics of a random order, named as in `Direction`; the median is that of the ranks of all queries."""

    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    median_rank: float
    mean_rank: float


def chance_text_to_video(
    video_of_text: Sequence[int], videos: int, *, same_words: Sequence[int] | None = None
) -> Chance:
    """Compute what a random order gives where `text_to_video_ranks` ranks.

    Args:
        videos: how many there are.
        same_words: see `text_to_video_ranks`.

    >>> chance_text_to_video([0, 1, 2, 3], 4).mean_rank
    2.5
    """
    owners = np.asarray(video_of_text)
    pairs = np.unique(np.stack([_words(same_words, len(owners)), owners]), axis=1)
    carriers = np.bincount(pairs[0])[_words(same_words, len(owners))]  # videos that carry the words of each text
    return _expected(videos - carriers + 1, np.ones_like(carriers))


def chance_video_to_text(
    video_of_text: Sequence[int], *, same_words: Sequence[int] | None = None, each: bool = False
) -> Chance:
    """Compute what a random order gives where `video_to_text_ranks` ranks.

    Args:
        same_words, each: see `video_to_text_ranks`.

    >>> round(chance_video_to_text([0, 0, 1]).recall_at_1, 3)  # of three captions two are right, or one
    0.5
    """
    owners = np.asarray(video_of_text)
    words, carriers = np.unique(np.stack([_words(same_words, len(owners)), owners]), axis=1)
    right = np.bincount(carriers)  # captions of each video, of different words
    others = len(np.unique(words)) - right
    if each:
        return _expected(others[owners] + 1, np.ones_like(owners))
    right, others = right[right > 0], others[right > 0]
    return _expected(others + right, right)


def _words(same_words: Sequence[int] | None, texts: int) -> Counts:
    """A number for each text [text], equal where the words are."""
    return np.arange(texts) if same_words is None else np.unique(np.asarray(same_words), return_inverse=True)[1]


def _expected(candidates: Counts, right: Counts) -> Chance:
    """Metrics of the first of `right` answers [query] among `candidates` [query], all orders being as likely."""
    pairs, counts = np.unique(np.stack([candidates, right]), axis=1, return_counts=True)

    def reached(rank: int) -> float:
        """The share of queries with a rank up to this one."""
        return float(np.average([_reached(rank, *pair) for pair in pairs.T.tolist()], weights=counts))

    low, high = 1, int(candidates.max())
    while low < high:  # the first rank up to which half of the queries lie
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= 0.5 - 1e-9 else (middle + 1, high)
    median = low + 0.5 if abs(reached(low) - 0.5) < 1e-9 else float(low)
    return Chance(reached(1), reached(5), reached(10), median, float(np.mean((candidates + 1) / (right + 1))))


def _reached(rank: int, candidates: int, right: int) -> float:
    """The chance that one of the right candidates is among the first ones, up to a rank."""
    places = np.arange(right)
    return float(1 - np.prod(np.maximum(candidates - rank - places, 0) / (candidates - places)))
