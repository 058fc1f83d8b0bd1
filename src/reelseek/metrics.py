"""Retrieval metrics of a similarity matrix, numpy or torch, without the rest of Reelseek.

>>> import numpy as np
>>> retrieval_metrics(np.eye(4)).text_to_video.recall_at_1
1.0
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.evaluation.ranks import Direction, dual_softmax, metrics, text_to_video_ranks, video_to_text_ranks

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


@dataclass(frozen=True)
class RetrievalMetrics:
    """Both directions: texts that look for their video, and videos that look for a text of theirs."""

    text_to_video: Direction
    video_to_text: Direction


def retrieval_metrics(similarity: Any, video_of_text: Sequence[int] | None = None) -> RetrievalMetrics:
    """Recalls, median and mean rank of both directions; ties take the mean of their places.

    Args:
        similarity: array or tensor [text, video], higher is nearer, on any device.
        video_of_text: the column of each row's video; None pairs row i with column i of a square matrix.

    Raises:
        ValueError: it is no matrix, holds NaN, or is not square and `video_of_text` is not given.
    """
    matrix, owners = _paired(similarity, video_of_text)
    return RetrievalMetrics(metrics(text_to_video_ranks(matrix, owners)), metrics(video_to_text_ranks(matrix, owners)))


def recall_at_k(similarity: Any, k: int, video_of_text: Sequence[int] | None = None) -> float:
    """Share of texts whose own video is among the first `k`, a fraction; see `retrieval_metrics`.

    >>> recall_at_k(np.array([[.9, .8], [.7, .1]]), k=1)
    0.5
    """
    if k < 1:
        raise ValueError(f"k is {k}; wanted 1 or more")
    return float((text_to_video_ranks(*_paired(similarity, video_of_text)) <= k).mean())


def _paired(
    similarity: Any, video_of_text: Sequence[int] | None
) -> tuple[npt.NDArray[np.floating[Any]], Sequence[int]]:
    """The matrix in float64, and the column of each row's video."""
    if hasattr(similarity, "detach"):
        similarity = similarity.detach().float().cpu().numpy()
    matrix = np.asarray(similarity)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu" or not matrix.size:
        raise ValueError(f"similarity is {matrix.dtype} {matrix.shape}; wanted numbers [text, video]")
    if video_of_text is None:
        if matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"similarity is {matrix.shape}, not square; say with video_of_text whose text each row is")
        video_of_text = range(len(matrix))
    if len(video_of_text) != len(matrix) or not all(0 <= int(video) < matrix.shape[1] for video in video_of_text):
        raise ValueError(f"video_of_text has {len(video_of_text)} columns for {len(matrix)} texts, or one out of range")
    return matrix.astype(np.float64), video_of_text
