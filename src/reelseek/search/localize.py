"""Where the steps of a task happen in a video, and how many are found where people saw them."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import UsageError
from reelseek.evaluation.steps import StepRecall, evenly, place_steps, place_unordered, step_recall
from reelseek.evaluation.timeline import Timeline
from reelseek.library.names import name_some
from reelseek.library.readers.steps import CrossTask
from reelseek.library.store import Library
from reelseek.models.model import RetrievalModel, load_model
from reelseek.search.within import RADIUS, Curves, checked_texts, curves_of

__all__ = ["Localized", "MeasuredSteps", "Step", "localize", "measure_steps"]

_SURE = 0.5  # a step happens if it scores higher than this share of unrelated texts does anywhere in the video


@dataclass(frozen=True)
class Step:
    """Where one step happens; without times where it does not."""

    step: int
    text: str
    start: float | None
    end: float | None
    similarity: float | None
    confidence: float | None


@dataclass(frozen=True)
class Localized:
    """Where the steps of a task happen in one video."""

    video: str
    model: str
    seconds: int
    steps: tuple[Step, ...]
    curves: Curves = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Plain values in the documented order."""
        told = {"video": self.video, "model": self.model, "seconds": self.seconds}
        return {**told, "steps": [asdict(step) for step in self.steps]}

    @property
    def placed(self) -> npt.NDArray[np.bool_]:
        """[second, step]"""
        found = np.zeros((self.seconds, len(self.steps)), bool)
        for place, step in enumerate(self.steps):
            if step.start is not None:
                found[int(step.start), place] = True
        return found

    def timeline(self, truth: npt.NDArray[np.bool_] | None = None) -> Timeline:
        """To be drawn; `truth` [second, step] is drawn with it."""
        placed = [(p, s.start, s.end) for p, s in enumerate(self.steps) if s.start is not None and s.end is not None]
        spans = {"prediction": placed}
        if truth is not None:
            spans["ground truth"] = [(row, a, b) for row in range(truth.shape[1]) for a, b in _runs(truth[:, row])]
        title = f"{self.video}: steps by {self.model}"
        return Timeline(title, self.curves.texts, self.curves.similarity, spans)


def _runs(there: npt.NDArray[np.bool_]) -> list[tuple[float, float]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(int)))
    return [(float(a), float(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def localize(
    library: Library,
    video: str,
    steps: Sequence[str],
    *,
    model: RetrievalModel | str | Path = "concepts",
    ordered: bool = True,
    missing: bool = False,
    radius: float = RADIUS,
) -> Localized:
    """Give each step of a task one second of a video, in order, so that they are nearest in sum.

    Source: Zhukov et al. 2019, and EAO's section 4.3.

    Args:
        ordered: False places each step where it is nearest, whatever stands before it.
        missing: a step may happen nowhere: it is placed only where it scores higher than half of some unrelated texts
            do anywhere in the video.

    Raises:
        UsageError: no steps, more steps than seconds, or a video without evidence.
    """
    loaded = load_model(model)
    curves = curves_of(library, loaded, video, checked_texts(steps, "steps"), radius=radius)
    background = float(np.quantile(curves.unrelated.max(0), _SURE)) if missing else 0.0
    place = place_steps if ordered else place_unordered
    try:
        placed = place(curves.similarity, background=background, optional=missing)
    except ValueError as error:
        raise UsageError(f"{curves.video}: {error}; leave steps out, or let them be missing") from error
    return Localized(
        curves.video,
        loaded.system,
        len(curves.spans),
        tuple(_step(curves, number, placed[:, number]) for number in range(len(steps))),
        curves,
    )


def _step(curves: Curves, number: int, where: npt.NDArray[np.bool_]) -> Step:
    if not where.any():
        return Step(number + 1, curves.texts[number], None, None, None, None)
    second = int(where.argmax())
    start, end = curves.spans[second]
    score = float(curves.similarity[second, number])
    return Step(
        number + 1, curves.texts[number], round(float(start), 3), round(float(end), 3), round(score, 6),
        curves.confidence(score),
    )  # fmt: skip


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
    names = library.names()
    placed: dict[str, dict[str, npt.NDArray[np.bool_]]] = {}
    truth: dict[str, dict[str, npt.NDArray[np.bool_]]] = {}
    even: dict[str, dict[str, npt.NDArray[np.bool_]]] = {}
    skipped = []
    for done, (task, video) in enumerate(crosstask.videos, 1):
        progress("placing steps", done, len(crosstask.videos), video)
        matches = names.matches(video)
        if len(matches) != 1:
            several = f"it could be {name_some([match.id for match in matches])}; name one by its id"
            skipped.append((video, several if matches else "the library has no such video"))
            continue
        try:
            found = localize(library, matches[0].id, crosstask.tasks[task].steps, model=loaded, radius=radius)
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
