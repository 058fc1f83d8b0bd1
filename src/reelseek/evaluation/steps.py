"""Recall of placed steps: how many lie within their annotated span.

Source: Zhukov et al., "Cross-task weakly supervised learning from instructional videos", CVPR 2019, whose protocol
EAO (Shvetsova et al. 2022, section 4.3) and MCN follow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Placed", "StepRecall", "step_recall"]

Placed = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class StepRecall:
    """Fraction of annotated steps that are placed within their span.

    Attributes:
        of_videos: by task and video.
        video_mean: by task, the mean over its videos (MCN).
        pooled: by task, hits over annotated steps of all its videos (CrossTask's released code).
    """

    of_videos: dict[str, dict[str, float]]
    video_mean: dict[str, float]
    pooled: dict[str, float]

    @property
    def mean_of_video_means(self) -> float:
        """Mean of `video_mean` over tasks."""
        return float(np.mean(list(self.video_mean.values())))

    @property
    def mean_of_pooled(self) -> float:
        """Mean of `pooled` over tasks."""
        return float(np.mean(list(self.pooled.values())))


def step_recall(
    placed: Mapping[str, Mapping[str, Placed]], annotated: Mapping[str, Mapping[str, npt.NDArray[Any]]]
) -> StepRecall:
    """Compute the recall of placed steps, by task and video.

    Args:
        placed: [second, step] of each video of each task.
        annotated: which second shows which step [second, step]; steps that never happen are not counted, and videos
            without any step are left out.

    Raises:
        ValueError: an annotated video has no placement or one of another shape, or no video has an annotated step.
    """
    of_videos: dict[str, dict[str, float]] = {}
    pooled: dict[str, float] = {}
    for task, videos in annotated.items():
        hits, totals = 0, 0
        for video, truth in videos.items():
            if video not in placed.get(task, {}):
                raise ValueError(f"{task}, {video} is annotated and was not placed")
            prediction = placed[task][video]
            if prediction.shape != truth.shape:
                raise ValueError(f"{task}, {video}: placed {prediction.shape}, annotated {truth.shape}")
            steps = int((truth > 0).any(0).sum())
            right = int(((truth > 0) & prediction).any(0).sum())
            if steps:
                of_videos.setdefault(task, {})[video] = right / steps
                hits, totals = hits + right, totals + steps
        if totals:
            pooled[task] = hits / totals
    if not pooled:
        raise ValueError("no video has an annotated step")
    means = {task: float(np.mean(list(videos.values()))) for task, videos in of_videos.items()}
    return StepRecall(of_videos, means, pooled)
