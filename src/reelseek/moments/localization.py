"""Localisation: at which second of a video each step of a task happens."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reelseek.errors import UsageError
from reelseek.library.store import Library
from reelseek.models.joint import load_for
from reelseek.models.model import RetrievalModel
from reelseek.moments.curves import RADIUS, Curves, checked_texts, curves_of
from reelseek.moments.placement import place_steps, place_unordered
from reelseek.moments.timeline import Timeline

__all__ = ["Localized", "Step", "localize"]

_BACKGROUND_QUANTILE = 0.5  # a step happens if it outscores this share of the unrelated texts' maxima over the video


@dataclass(frozen=True)
class Step:
    """One step of a task and the second at which it happens; every number is None where it does not happen."""

    step: int
    text: str
    start: float | None
    end: float | None
    similarity: float | None
    confidence: float | None


@dataclass(frozen=True)
class Localized:
    """The steps of a task, localised in one video."""

    video: str
    model: str
    seconds: int
    steps: tuple[Step, ...]
    curves: Curves = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return plain values in the documented order."""
        return {
            "video": self.video, "model": self.model, "seconds": self.seconds,
            "steps": [asdict(step) for step in self.steps],
        }  # fmt: skip

    @property
    def placed(self) -> npt.NDArray[np.bool_]:
        """Which second shows which step [second, step]."""
        placed = np.zeros((self.seconds, len(self.steps)), bool)
        for column, step in enumerate(self.steps):
            if step.start is not None:
                placed[int(step.start), column] = True
        return placed

    def timeline(self, truth: npt.NDArray[np.bool_] | None = None) -> Timeline:
        """Return a picture of the placed steps, with the annotated ones `truth` [second, step]."""
        placed = [(p, s.start, s.end) for p, s in enumerate(self.steps) if s.start is not None and s.end is not None]
        spans = {"prediction": placed}
        if truth is not None:
            spans["ground truth"] = [(row, a, b) for row in range(truth.shape[1]) for a, b in _runs(truth[:, row])]
        title = f"{self.video}: steps by {self.model}"
        return Timeline(title, self.curves.texts, self.curves.similarity, spans)


def _runs(present: npt.NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Start and end of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], present, [False]]).astype(int)))
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
    device: str | torch.device | None = None,
) -> Localized:
    """Assign one second of a video to each step of a task, so that the sum of their similarities is maximal.

    Source: Zhukov et al. 2019, and EAO's section 4.3.

    Args:
        steps: texts, in the order in which they happen.
        ordered: False ignores that order and finds the best assignment of steps to seconds.
        missing: a step may happen nowhere: it is placed only where it scores higher than half of the unrelated texts
            do anywhere in the video.
        radius: seconds of context on either side of each second.
        device: where the model computes, see `load_on_device`.

    Raises:
        UsageError: no steps, more steps than seconds, or a video without evidence.

    >>> localize(library, "cake.mp4", ["sift the flour", "bake"]).steps[1].start  # doctest: +SKIP
    412.0
    """
    loaded = load_for(library, model, device).model
    curves = curves_of(library, loaded, video, checked_texts(steps, "steps"), radius=radius)
    background = float(np.quantile(curves.unrelated.max(0), _BACKGROUND_QUANTILE)) if missing else 0.0
    place = place_steps if ordered else place_unordered
    try:
        placed = place(curves.similarity, background=background, optional=missing)
    except ValueError as error:
        raise UsageError(f"{curves.video}: {error}; leave steps out, or let them be missing") from error
    return Localized(
        curves.video,
        loaded.system,
        len(curves.spans),
        tuple(_step(curves, column, placed[:, column]) for column in range(len(steps))),
        curves,
    )


def _step(curves: Curves, column: int, placed: npt.NDArray[np.bool_]) -> Step:
    if not placed.any():
        return Step(column + 1, curves.texts[column], None, None, None, None)
    second = int(placed.argmax())
    start, end = curves.spans[second]
    score = float(curves.similarity[second, column])
    return Step(
        column + 1, curves.texts[column], round(float(start), 3), round(float(end), 3), round(score, 6),
        curves.confidence(score),
    )  # fmt: skip
