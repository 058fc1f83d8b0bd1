"""How many steps of tasks are placed where people saw them.

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
    """Shares of annotated steps that are placed within their span.

    Attributes:
        of_videos: by task and video.
        video_mean: by task, the mean over its videos (MCN); pooled: hits over annotated steps (CrossTask's own code).
        mean_of_video_means, mean_of_pooled: over tasks.
    """

    of_videos: dict[str, dict[str, float]]
    video_mean: dict[str, float]
    pooled: dict[str, float]

    @property
    def mean_of_video_means(self) -> float:
        return float(np.mean(list(self.video_mean.values())))

    @property
    def mean_of_pooled(self) -> float:
        return float(np.mean(list(self.pooled.values())))


def step_recall(
    placed: Mapping[str, Mapping[str, Placed]], annotated: Mapping[str, Mapping[str, npt.NDArray[Any]]]
) -> StepRecall:
    """Recall of placed steps, by task and video.

    Args:
        placed: [second, step] of each video of each task.
        annotated: where each step happens [second, step]; a step that never does is not counted, and a video without
            any is left out.

    Raises:
        ValueError: a placement is lacking or differs from its annotation in shape, or no task has an annotated step.
    """
    of_videos: dict[str, dict[str, float]] = {}
    pooled: dict[str, float] = {}
    for task, videos in annotated.items():
        hits, totals = 0, 0
        for video, where in videos.items():
            if video not in placed.get(task, {}):
                raise ValueError(f"{task}, {video} is annotated and was not placed")
            found = placed[task][video]
            if found.shape != where.shape:
                raise ValueError(f"{task}, {video}: placed {found.shape}, annotated {where.shape}")
            there = (where > 0).any(0)
            right = int(((where > 0) & found).any(0).sum())
            if there.any():
                of_videos.setdefault(task, {})[video] = right / int(there.sum())
                hits, totals = hits + right, totals + int(there.sum())
        if totals:
            pooled[task] = hits / totals
    if not pooled:
        raise ValueError("no video has an annotated step")
    means = {task: float(np.mean(list(videos.values()))) for task, videos in of_videos.items()}
    return StepRecall(of_videos, means, pooled)
