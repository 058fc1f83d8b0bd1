"""CrossTask's protocol on the videos of it that a library has."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelseek.errors import UsageError
from reelseek.evaluation.steps import StepRecall, step_recall
from reelseek.library.readers.steps import CrossTask
from reelseek.library.store import Library
from reelseek.models.model import RetrievalModel, load_model
from reelseek.moments.curves import RADIUS
from reelseek.moments.localization import localize
from reelseek.moments.placement import evenly

__all__ = ["MeasuredSteps", "measure_steps"]


@dataclass(frozen=True)
class MeasuredSteps:
    """Recall of placed steps over the videos of tasks, beside steps that are spread evenly.

    Attributes:
        skipped: videos that were left out, and why.
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
    progress: Callable[[str, int, int, str], None] = lambda *_: None,
) -> MeasuredSteps:
    """CrossTask's protocol on the videos of it that a library has.

    Raises:
        UsageError: it has not one that is annotated.
    """
    loaded = load_model(model)
    known = {name: video.id for video in library.videos() for name in (video.id, Path(video.id).stem)}
    placed: dict[str, dict[str, npt.NDArray[np.bool_]]] = {}
    truth: dict[str, dict[str, npt.NDArray[np.bool_]]] = {}
    even: dict[str, dict[str, npt.NDArray[np.bool_]]] = {}
    skipped = []
    for done, (task, video) in enumerate(crosstask.videos, 1):
        progress("placing steps", done, len(crosstask.videos), video)
        if video not in known:
            skipped.append((video, "the library has no such video"))
            continue
        try:
            found = localize(library, known[video], crosstask.tasks[task].steps, model=loaded, radius=radius)
        except UsageError as error:
            skipped.append((video, str(error)))
            continue
        annotated = crosstask.truth(task, video, found.seconds)
        if annotated is None or not annotated.any():
            skipped.append((video, "no annotation"))
            continue
        placed.setdefault(task, {})[video] = found.placed
        truth.setdefault(task, {})[video] = annotated
        even.setdefault(task, {})[video] = evenly(*annotated.shape)
    if not truth:
        some = "; ".join(f"{video}: {why}" for video, why in skipped[:3])
        raise UsageError(f"not one of the {len(crosstask.videos)} videos could be measured: {some}")
    videos = {task: len(each) for task, each in truth.items()}
    return MeasuredSteps(step_recall(placed, truth), step_recall(even, truth), videos, tuple(skipped))
