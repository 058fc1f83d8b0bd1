"""Retrieval metrics of a similarity matrix, numpy or torch, without the rest of Reelseek.

>>> import numpy as np
>>> retrieval_metrics(np.eye(4)).text_to_video.recall_at_1
1.0

Ranks count from 1, and equal scores share the mean of their places. NaN raises; minus infinity is a score like any
other, the lowest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.evaluation import ranks as ranking
from reelseek.evaluation.ranks import Direction

__all__ = [
    "Direction",
    "RetrievalMetrics",
    "dual_softmax",
    "metrics",
    "recall_at_k",
    "retrieval_metrics",
    "text_to_video_ranks",
    "video_to_text_ranks",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RetrievalMetrics:
    """Both directions: texts that look for their video, and videos that look for a text of theirs."""

    text_to_video: Direction
    video_to_text: Direction


def retrieval_metrics(similarity: Any, video_of_text: Sequence[int] | None = None) -> RetrievalMetrics:
    """Measure recalls, median and mean rank of both directions; ties take the mean of their places.

    Args:
        similarity: array or tensor [text, video], higher is nearer, on any device.
        video_of_text: the column of each row's video; None pairs row i with column i of a square matrix.

    Raises:
        ValueError: it is no matrix, holds NaN, or is not square and `video_of_text` is not given.
    """
    matrix, owners = _paired(similarity, video_of_text)
    return RetrievalMetrics(
        ranking.metrics(ranking.text_to_video_ranks(matrix, owners)),
        ranking.metrics(ranking.video_to_text_ranks(matrix, owners)),
    )


def recall_at_k(similarity: Any, k: int, video_of_text: Sequence[int] | None = None) -> float:
    """Return the share of texts whose own video is among the first `k`, a fraction; see `retrieval_metrics`.

    >>> recall_at_k(np.array([[.9, .8], [.7, .1]]), k=1)
    0.5
    """
    if k < 1:
        raise ValueError(f"k is {k}; wanted 1 or more")
    return float((text_to_video_ranks(similarity, video_of_text) <= k).mean())


def text_to_video_ranks(similarity: Any, video_of_text: Sequence[int] | None = None, **options: Any) -> Floats:
    """Rank each text's own video among all videos; see `retrieval_metrics`.

    Args:
        options: of `reelseek.evaluation.ranks.text_to_video_ranks`, such as `ties="pessimistic"`.

    >>> text_to_video_ranks(np.array([[.9, .1, .9], [.2, .3, .1]]), [0, 2])
    array([1.5, 3. ])
    """
    return ranking.text_to_video_ranks(*_paired(similarity, video_of_text), **options)


def video_to_text_ranks(similarity: Any, video_of_text: Sequence[int] | None = None, **options: Any) -> Floats:
    """Rank the best of each video's own texts among all texts; see `retrieval_metrics`.

    Args:
        options: of `reelseek.evaluation.ranks.video_to_text_ranks`, such as `each=True`.

    >>> video_to_text_ranks(np.array([[.9, .1], [.2, .3], [.95, .4]]), [0, 0, 1])
    array([2., 1.])
    """
    return ranking.video_to_text_ranks(*_paired(similarity, video_of_text), **options)


def dual_softmax(similarity: Any, temperature: float = 0.01) -> Floats:
    """Multiply scores by a softmax over texts: it needs all queries at once (Cheng et al. 2021).

    >>> dual_softmax(np.array([[.5, .5], [.5, .1]])).argmax(1)
    array([1, 0])
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; wanted more than 0")
    return ranking.dual_softmax(_matrix(similarity), temperature)


def metrics(ranks: Any) -> Direction:
    """Measure R@1/5/10/50, median and mean rank, mean average precision and nDCG of one right answer per query.

    >>> metrics(np.array([1.0, 3.0, 20.0, 4.0])).recall_at_5
    0.75

    Args:
        ranks: array or tensor [query], from 1; whole or, where scores tie, halves.

    Raises:
        ValueError: they are no ranks: a matrix, nothing, not finite, below 1, or fractions other than halves.
    """
    values = _array(ranks)
    if values.ndim == 1 and values.dtype.kind not in "fiu":
        raise ValueError(f"ranks are {values.dtype}; wanted numbers, one rank per query")
    measured = ranking.metrics(values)
    fits = np.isfinite(values) & (2 * values == np.round(2 * values))
    if not fits.all():
        wrong = values[~fits][0]
        raise ValueError(
            f"{float(wrong):g} is no rank; wanted one rank per query, whole or halves. Of scores, "
            "text_to_video_ranks makes ranks"
        )
    return measured


def _array(values: Any) -> npt.NDArray[Any]:
    """An array of what may be a tensor on any device, of any precision."""
    if hasattr(values, "detach"):
        values = values.detach()
        values = (values.double() if values.is_floating_point() else values).cpu().numpy()
    return np.asarray(values)


def _matrix(similarity: Any) -> Floats:
    matrix = _array(similarity)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu" or not matrix.size:
        raise ValueError(f"similarity is {matrix.dtype} {matrix.shape}; wanted numbers [text, video]")
    return matrix.astype(np.float64)


def _paired(similarity: Any, video_of_text: Sequence[int] | None) -> tuple[Floats, Sequence[int]]:
    """The matrix in float64, and the column of each row's video."""
    matrix = _matrix(similarity)
    if video_of_text is None:
        if matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"similarity is {matrix.shape}, not square; say with video_of_text whose text each row is")
        return matrix, range(len(matrix))
    owners = _array(video_of_text)
    if owners.dtype.kind not in "iu" or owners.shape != (len(matrix),):
        raise ValueError(
            f"video_of_text is {owners.dtype} {owners.shape}; wanted one column number for each of {len(matrix)} texts"
        )
    if (owners < 0).any() or (owners >= matrix.shape[1]).any():
        raise ValueError(f"video_of_text names a column out of range; similarity has {matrix.shape[1]} videos")
    return matrix, owners.tolist()
