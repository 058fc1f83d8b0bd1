"""CrossTask's protocol on those of its videos that a library has."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from reelseek.errors import UsageError
from reelseek.evaluation.steps import StepRecall, step_recall
from reelseek.library.names import name_some
from reelseek.library.readers.steps import CrossTask
from reelseek.library.store import Library
from reelseek.library.video_lookup import VideoLookup
from reelseek.models.joint import load_for
from reelseek.models.model import RetrievalModel
from reelseek.moments.curves import RADIUS
from reelseek.moments.localization import localize
from reelseek.moments.placement import evenly

__all__ = ["MeasuredSteps", "identify", "measure_steps"]


@dataclass(frozen=True)
class MeasuredSteps:
    """Recall of placed steps over the videos of tasks, and of steps that are spread evenly.

    Attributes:
        videos: number of measured videos by task.
        skipped: videos that were left out, each with the reason.
    """

    recall: StepRecall
    even: StepRecall
    videos: dict[str, int]
    skipped: tuple[tuple[str, str], ...]


def measure_steps(
    library: Library,
    crosstask: CrossTask,
    *,
    model: RetrievalModel | str | Path = "concepts",
    radius: float = RADIUS,
    device: str | torch.device | None = None,
    progress: Callable[[str, int, int, str], None] = lambda *_: None,
) -> MeasuredSteps:
    """Measure the recall of placed steps on those of CrossTask's videos that a library has.

    Args:
        device: where the model computes, see `load_on_device`.

    Raises:
        UsageError: no annotated video could be measured.
    """
    loaded = load_for(library, model, device).model
    names = library.names()
    placed: dict[str, dict[str, npt.NDArray[np.bool_]]] = {}
    truth: dict[str, dict[str, npt.NDArray[np.bool_]]] = {}
    even: dict[str, dict[str, npt.NDArray[np.bool_]]] = {}
    skipped = []
    for done, (task, video) in enumerate(crosstask.videos, 1):
        progress("placing steps", done, len(crosstask.videos), video)
        try:
            identifier = identify(names, video)
            localized = localize(library, identifier, crosstask.tasks[task].steps, model=loaded, radius=radius)
        except UsageError as error:
            skipped.append((video, str(error)))
            continue
        annotated = crosstask.truth(task, video, localized.seconds)
        if annotated is None or not annotated.any():
            skipped.append((video, "no annotation"))
            continue
        placed.setdefault(task, {})[video] = localized.placed
        truth.setdefault(task, {})[video] = annotated
        even.setdefault(task, {})[video] = evenly(*annotated.shape)
    if not truth:
        reasons = "; ".join(f"{video}: {reason}" for video, reason in skipped[:3])
        raise UsageError(f"not one of the {len(crosstask.videos)} videos could be measured: {reasons}")
    counts = {task: len(videos) for task, videos in truth.items()}
    return MeasuredSteps(step_recall(placed, truth), step_recall(even, truth), counts, tuple(skipped))


def identify(names: VideoLookup, name: str) -> str:
    """The id of the one video that a name means.

    Raises:
        UsageError: it means none, or several.
    """
    matches = [video.id for video in names.matches(name)]
    if not matches:
        raise UsageError("the library has no such video")
    if len(matches) > 1:
        raise UsageError(f"several videos of the library have this name: {name_some(matches)}; name one by its id")
    return matches[0]
