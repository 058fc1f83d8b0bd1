"""How much of a segmentation of a video is right: accuracy of frames, intersection over union and over detection.

Source: EAO (Shvetsova et al. 2022), section A.2 of the supplement.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["SegmentScores", "pooled", "score"]

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SegmentScores:
    """Scores of a segmentation, all of them fractions.

    Attributes:
        frame_accuracy: of frames with the right label.
        iou: intersection over union, by label of the truth.
        iod: intersection over detection, by detected label.
    """

    frame_accuracy: float
    iou: dict[int, float]
    iod: dict[int, float]

    @property
    def mean_iou(self) -> float:
        """Mean of `iou` over labels of the truth."""
        return float(np.mean(list(self.iou.values()))) if self.iou else 0.0

    @property
    def recall(self) -> float:
        """Fraction of the truth's labels that overlap with a detection of theirs."""
        return float(np.mean([value > 0 for value in self.iou.values()])) if self.iou else 0.0

    @property
    def mean_iod(self) -> float:
        """Mean of `iod` over detected labels."""
        return float(np.mean(list(self.iod.values()))) if self.iod else 0.0


def pooled(pairs: Sequence[tuple[Labels, Labels]], *, background: int | None = None) -> SegmentScores:
    """Score several videos as one: by label, over the frames of all of them.

    Args:
        pairs: labels and true labels [frame] of each video.

    Raises:
        ValueError: see `score`.
    """
    labels, truth = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return score(labels, truth, background=background)


def score(labels: Labels, truth: Labels, *, background: int | None = None) -> SegmentScores:
    """Score labels [frame] against the true ones; background counts for the accuracy only.

    Source: EAO's supplement, A.2: |G and D| / |G or D| and |G and D| / |D|, here by label and then averaged.

    Raises:
        ValueError: the two differ in shape, or there are no frames.
    """
    if labels.shape != truth.shape or not labels.size:
        raise ValueError(f"{labels.shape} labels cannot be compared with {truth.shape} true ones")
    real = sorted(set(truth.tolist()) - {background})
    detected = sorted(set(labels.tolist()) - {background})
    both = {label: int(((labels == label) & (truth == label)).sum()) for label in {*real, *detected}}
    iou = {label: both[label] / int(((labels == label) | (truth == label)).sum()) for label in real}
    iod = {label: both[label] / int((labels == label).sum()) for label in detected}
    return SegmentScores(float((labels == truth).mean()), iou, iod)
