"""Ranks of the right answers in a similarity matrix; NaN raises, ties take the mean rank."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Direction", "TieRule", "metrics", "ranks_of", "text_to_video_ranks", "video_to_text_ranks"]

Matrix = npt.NDArray[np.floating]
TieRule = Literal["mean", "optimistic", "pessimistic"]


def ranks_of(scores: Matrix, own: npt.NDArray[np.floating], ties: TieRule = "mean") -> npt.NDArray[np.float64]:
    """Rank, from 1, of each row's own score among the row's scores, which hold it once.

    Args:
        ties: equal scores share the `mean` of their places, or the own one stands first or last among them.

    >>> ranks_of(np.array([[.9, .9, .1]]), np.array([.9]))
    array([1.5])
    """
    better = (scores > own[:, None]).sum(1)
    equal = (scores == own[:, None]).sum(1) - 1
    share = {"mean": 0.5, "optimistic": 0.0, "pessimistic": 1.0}[ties]
    return 1.0 + better + share * equal


def _checked(similarity: Matrix, texts: int, videos: int) -> npt.NDArray[np.float64]:
    if similarity.shape != (texts, videos):
        raise ValueError(f"similarity must be [text, video] = [{texts}, {videos}], got {similarity.shape}")
    if np.isnan(similarity).any():
        rows = np.flatnonzero(np.isnan(similarity).any(axis=1))
        raise ValueError(
            f"similarity holds NaN in {len(rows)} rows, the first is row {rows[0]}; a NaN cannot be ranked"
        )
    return similarity.astype(np.float64)


def text_to_video_ranks(
    similarity: Matrix, video_of_text: Sequence[int], scorable: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.float64]:
    """Rank of each caption's own video among all videos, counted from 1.

    Args:
        similarity: [text, video].
        video_of_text: the column of each row's video.
        scorable: which videos have evidence at all; one that has none is a miss, ranked last.

    >>> text_to_video_ranks(np.array([[.9, .1, .9], [.2, .3, .1]]), [0, 2])
    array([1.5, 3. ])
    """
    scores = _checked(similarity, len(video_of_text), similarity.shape[1])
    if scorable is not None:
        scores[:, ~scorable] = -np.inf
    ranks = ranks_of(scores, scores[np.arange(len(scores)), list(video_of_text)])
    if scorable is not None:
        ranks[~scorable[list(video_of_text)]] = scores.shape[1]
    return ranks


def video_to_text_ranks(
    similarity: Matrix, video_of_text: Sequence[int], scorable: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.float64]:
    """Best rank of a video's own captions among all captions, for each video that has one (as MMT and CE count).

    >>> video_to_text_ranks(np.array([[.9, .1], [.2, .3], [.95, .4]]), [0, 0, 1])
    array([2., 1.])
    """
    scores = _checked(similarity, len(video_of_text), similarity.shape[1])
    owners = np.asarray(video_of_text)
    ranks = []
    for video in np.unique(owners):
        column, mine = scores[:, video], owners == video
        if scorable is not None and not scorable[video]:
            ranks.append(float(len(column)))
            continue
        best = column[mine].max()
        others = column[~mine]
        ranks.append(1 + (others > best).sum() + (others == best).sum() / 2)
    return np.array(ranks)


@dataclass(frozen=True)
class Direction:
    """Recalls as fractions; ranks from 1."""

    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    recall_at_50: float
    median_rank: float
    mean_rank: float
    queries: int

    @property
    def geometric_mean(self) -> float:
        """Of R@1, R@5 and R@10, as the field selects models."""
        return float((self.recall_at_1 * self.recall_at_5 * self.recall_at_10) ** (1 / 3))


def metrics(ranks: npt.NDArray[np.float64]) -> Direction:
    """R@1/5/10/50, median and mean of ranks.

    >>> metrics(np.array([1.0, 3.0, 20.0, 4.0])).recall_at_5
    0.75

    Raises:
        ValueError: there is not a single query.
    """
    if not len(ranks):
        raise ValueError("there is no query to rank")
    at_1, at_5, at_10, at_50 = (float((ranks <= k).mean()) for k in (1, 5, 10, 50))
    return Direction(at_1, at_5, at_10, at_50, float(np.median(ranks)), float(ranks.mean()), len(ranks))
