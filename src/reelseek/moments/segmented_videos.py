"""Segmentation of the videos of a data set that a library has: intersection over union and over detection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from reelseek.errors import UsageError
from reelseek.evaluation.segments import SegmentScores, pooled, score
from reelseek.library.readers.steps import SegmentedVideo
from reelseek.library.store import Library
from reelseek.models.joint import load_for
from reelseek.models.model import RetrievalModel
from reelseek.moments.crosstask import identify
from reelseek.moments.curves import RADIUS
from reelseek.moments.segmentation import segment

__all__ = ["MeasuredSegments", "measure_segments"]

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MeasuredSegments:
    """Scores of the segmentations of a data set.

    Attributes:
        videos: of each video.
        pooled: by label over the seconds of all videos.
        labels: how many labels a second is told apart from.
        skipped: videos that were left out, each with the reason.
    """

    videos: dict[str, SegmentScores]
    pooled: SegmentScores
    labels: int
    skipped: tuple[tuple[str, str], ...]

    def mean(self, metric: str) -> float:
        """The mean over videos of `mean_iou`, `mean_iod`, `frame_accuracy` or `recall`."""
        return float(np.mean([getattr(scores, metric) for scores in self.videos.values()]))


def measure_segments(
    library: Library,
    videos: Sequence[SegmentedVideo],
    *,
    model: RetrievalModel | str | Path = "concepts",
    background: bool = False,
    mean_seconds: float | None = None,
    temperature: float = 0.05,
    public_decoder: bool = False,
    radius: float = RADIUS,
    device: str | torch.device | None = None,
    progress: Callable[[str, int, int, str], None] = lambda *_: None,
) -> MeasuredSegments:
    """Segment each video along its transcript, against the labels of all videos, and score it (EAO's supplement, A.2).

    Args:
        background, mean_seconds, temperature, public_decoder, radius, device: see `segment`.

    Raises:
        UsageError: not one video could be measured.
    """
    loaded = load_for(library, model, device).model
    names = library.names()
    labels = list(dict.fromkeys(label for video in videos for label in (*video.transcript, *video.truth) if label))
    numbers = {label: number for number, label in enumerate(labels)}
    scores: dict[str, SegmentScores] = {}
    pairs: list[tuple[Labels, Labels]] = []
    skipped = []
    for done, video in enumerate(videos, 1):
        progress("segmenting", done, len(videos), video.name)
        try:
            segmented = segment(
                library, identify(names, video.name), video.transcript, labels=labels, model=loaded,
                background=background, mean_seconds=mean_seconds, temperature=temperature,
                public_decoder=public_decoder, radius=radius,
            )  # fmt: skip
        except UsageError as error:
            skipped.append((video.name, str(error)))
            continue
        sides = (segmented.labels, video.at_seconds(segmented.seconds))
        predicted, truth = (np.array([numbers.get(label or "", len(labels)) for label in side]) for side in sides)
        scores[video.name] = score(predicted, truth, background=len(labels))
        pairs.append((predicted, truth))
    if not pairs:
        reasons = "; ".join(f"{video}: {reason}" for video, reason in skipped[:3])
        raise UsageError(f"not one of the {len(videos)} videos could be measured: {reasons}")
    return MeasuredSegments(scores, pooled(pairs, background=len(labels)), len(labels), tuple(skipped))
