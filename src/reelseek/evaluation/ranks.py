"""Ranks of the right answers in a similarity matrix; NaN raises, ties take the mean rank."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "DUAL_TEMPERATURE",
    "Direction",
    "TieRule",
    "dual_softmax",
    "metrics",
    "rank_from_counts",
    "ranks_of",
    "text_to_video_ranks",
    "video_to_text_ranks",
]

Matrix = npt.NDArray[np.floating]
DUAL_TEMPERATURE = 0.01
TieRule = Literal["mean", "optimistic", "pessimistic"]


def ranks_of(scores: Matrix, targets: npt.NDArray[np.floating], ties: TieRule = "mean") -> npt.NDArray[np.float64]:
    """Compute the rank, from 1, of each row's target among the row's scores.

    Args:
        scores: [query, candidate], the target among them.
        targets: the score of the right answer [query].
        ties: of equal scores the target takes the `mean` rank, the first (`optimistic`) or the last (`pessimistic`).

    >>> ranks_of(np.array([[.9, .9, .1]]), np.array([.9]))
    array([1.5])
    """
    better = (scores > targets[:, None]).sum(1)
    equal = (scores == targets[:, None]).sum(1) - 1
    return rank_from_counts(better, equal, ties)


def rank_from_counts(
    better: npt.NDArray[np.int64], equal: npt.NDArray[np.int64], ties: TieRule
) -> npt.NDArray[np.float64]:
    """Compute ranks, from 1, of targets with so many other scores above them, and so many equal to them [query]."""
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
    similarity: Matrix,
    video_of_text: Sequence[int],
    scorable: npt.NDArray[np.bool_] | None = None,
    *,
    ties: TieRule = "mean",
    same_words: Sequence[int] | None = None,
) -> npt.NDArray[np.float64]:
    """Compute the rank, from 1, of each caption's video among all videos.

    Args:
        similarity: [text, video].
        video_of_text: the column of each row's video.
        scorable: which videos have evidence at all; one without any is a miss, ranked last.
        ties: see `ranks_of`.
        same_words: a number for each text, equal where the words are; other videos with the same words are not counted.

    Returns:
        A rank for each text [text].

    Raises:
        ValueError: there are not as many rows as texts, or the similarity holds NaN.

    >>> text_to_video_ranks(np.array([[.9, .1, .9], [.2, .3, .1]]), [0, 2])
    array([1.5, 3. ])
    """
    scores = _checked(similarity, len(video_of_text), similarity.shape[1])
    owners = np.asarray(video_of_text)
    if scorable is not None:
        scores[:, ~scorable] = -np.inf
    targets = scores[np.arange(len(scores)), owners].copy()
    if same_words is not None:
        carries = _carries(same_words, owners, scores.shape[1])
        carries[np.arange(len(owners)), owners] = False
        scores[carries] = -np.inf
    ranks = ranks_of(scores, targets, ties)
    if scorable is not None:
        ranks[~scorable[owners]] = scores.shape[1]
    return ranks


def _carries(same_words: Sequence[int], owners: npt.NDArray[np.int64], videos: int) -> npt.NDArray[np.bool_]:
    """Which videos carry the words of each text [text, video]."""
    words = np.unique(np.asarray(same_words), return_inverse=True)[1]
    table = np.zeros((words.max() + 1, videos), bool)
    table[words, owners] = True
    return table[words]


def video_to_text_ranks(
    similarity: Matrix,
    video_of_text: Sequence[int],
    scorable: npt.NDArray[np.bool_] | None = None,
    *,
    ties: TieRule = "mean",
    same_words: Sequence[int] | None = None,
    each: bool = False,
) -> npt.NDArray[np.float64]:
    """Compute the rank of a video's captions among all captions, for each video that has one.

    Args:
        similarity: [text, video].
        video_of_text: the column of each row's video.
        scorable: which videos have evidence at all; one without any is a miss, ranked last.
        ties: see `ranks_of`.
        same_words: a number for each text, equal where the words are; texts with the words of one of the video's
            captions are not counted, and others that share their words count once.
        each: every caption is a query, ranked without the video's other captions (MDMMT); else a video is one query,
            and its best caption counts (MMT and CE).

    Returns:
        A rank for each video that has a caption, or with `each` for each text, in order of the texts.

    Raises:
        ValueError: there are not as many rows as texts, or the similarity holds NaN.

    >>> video_to_text_ranks(np.array([[.9, .1], [.2, .3], [.95, .4]]), [0, 0, 1])
    array([2., 1.])
    """
    scores = _checked(similarity, len(video_of_text), similarity.shape[1])
    owners = np.asarray(video_of_text)
    words = np.arange(len(owners)) if same_words is None else np.asarray(same_words)
    once = np.zeros(len(owners), bool)
    once[np.unique(words, return_index=True)[1]] = True
    rank_of_text: dict[int, float] = {}
    for video in np.unique(owners):
        column, mine = scores[:, video], np.flatnonzero(owners == video)
        others = column[once & ~np.isin(words, words[mine])]
        targets = column[mine] if each else column[mine].max(keepdims=True)
        rows = np.concatenate([np.repeat(others[None], len(targets), 0), targets[:, None]], 1)
        ranks = ranks_of(rows, targets, ties)
        if scorable is not None and not scorable[video]:
            ranks = np.full(len(targets), float(len(others) + 1))  # a miss is last
        for place, rank in zip(mine if each else mine[:1], ranks, strict=True):
            rank_of_text[int(place)] = float(rank)
    return np.array([rank_of_text[text] for text in sorted(rank_of_text)] if each else list(rank_of_text.values()))


def dual_softmax(similarity: Matrix, temperature: float = DUAL_TEMPERATURE) -> npt.NDArray[np.float64]:
    """Multiply scores by their softmax over texts (Cheng et al. 2021), which needs all queries at once.

    Args:
        similarity: [text, video].
        temperature: > 0; the smaller it is, the more the best text of each video counts.

    >>> dual_softmax(np.array([[.5, .5], [.5, .1]])).argmax(1)
    array([1, 0])
    """
    scores = similarity.astype(np.float64)
    shifted = np.exp((scores - scores.max(0, keepdims=True)) / temperature)
    product: npt.NDArray[np.float64] = scores * shifted / shifted.sum(0, keepdims=True)
    return product


@dataclass(frozen=True)
class Direction:
    """Metrics of one direction. Recalls are fractions, ranks count from 1.

    With one right answer per query, the average precision is the reciprocal rank.
    """

    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    recall_at_50: float
    median_rank: float
    mean_rank: float
    queries: int
    mean_average_precision: float
    ndcg: float

    @property
    def geometric_mean(self) -> float:
        """Geometric mean of R@1, R@5 and R@10, by which models are commonly selected."""
        return float((self.recall_at_1 * self.recall_at_5 * self.recall_at_10) ** (1 / 3))


def metrics(ranks: npt.NDArray[np.float64]) -> Direction:
    """Compute R@1/5/10/50, median and mean rank, mean average precision and nDCG, with one right answer per query.

    >>> metrics(np.array([1.0, 3.0, 20.0, 4.0])).recall_at_5
    0.75

    Raises:
        ValueError: there is not a single query, or what is given are no ranks: a matrix, not a number, or below 1.
    """
    if np.ndim(ranks) != 1:
        raise ValueError(
            f"ranks are {np.shape(ranks)}; wanted one rank per query. Of a similarity matrix, reelseek.metrics."
            "retrieval_metrics makes them"
        )
    if not len(ranks):
        raise ValueError("there is no query to rank")
    if np.isnan(ranks).any():
        raise ValueError(f"{int(np.isnan(ranks).sum())} of {len(ranks)} ranks are not numbers")
    if (ranks < 1).any():
        raise ValueError(f"a rank is {float(ranks.min()):g}; ranks count from 1")
    at_1, at_5, at_10, at_50 = (float((ranks <= k).mean()) for k in (1, 5, 10, 50))
    return Direction(
        at_1, at_5, at_10, at_50, float(np.median(ranks)), float(ranks.mean()), len(ranks),
        float((1 / ranks).mean()), float((1 / np.log2(1 + ranks)).mean()),
    )  # fmt: skip
