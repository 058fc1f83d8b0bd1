"""What a score is worth without the test videos that training shared footage with."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import UsageError
from reelseek.evaluation.protocols import PROTOCOLS
from reelseek.overlap.ids import matching
from reelseek.training.measure import Measured, ranks_under

__all__ = ["Difference", "WithoutOverlap", "without_overlap"]

Array = npt.NDArray[np.float64]
_RECALLS = {"recall_at_1": 1, "recall_at_5": 5, "recall_at_10": 10, "recall_at_50": 50}
METRICS = (*_RECALLS, "median_rank", "mean_rank")
_SAMPLES = 1000


@dataclass(frozen=True)
class Difference:
    """A metric on the whole test set, on its clean part, and clean less whole with a 95 % interval."""

    whole: float
    clean: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class WithoutOverlap:
    """By direction and metric.

    Attributes:
        shared: clips of the test set that share footage with training.
        same_gallery: the queries of clean clips among all clips.
        own_gallery: the same among clean clips and their captions alone, which is easier by itself.
    """

    clips: int
    shared: int
    unknown: int
    same_gallery: dict[str, dict[str, Difference]]
    own_gallery: dict[str, dict[str, Difference]]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def without_overlap(measured: Measured, listed: Collection[str], *, seed: int = 0) -> WithoutOverlap:
    """Compare the whole test set with its clean part.

    Intervals are bootstrap quantiles over videos, drawn with all their queries.

    Args:
        listed: test videos that share footage with training videos; if none do, the two are the same.

    Raises:
        UsageError: some are listed and not one of them is in the test set, or nothing else is.
    """
    data = measured.data
    assert data is not None
    rule = PROTOCOLS[measured.protocol]
    named, unknown = matching(listed, {clip.video for clip in data.clips})
    gone = {video for videos in named.values() for video in videos}
    clean = np.flatnonzero([clip.video not in gone for clip in data.clips])
    if (listed and not gone) or not len(clean):
        examples = ", ".join(list(listed)[:3])
        which = "all" if gone else "none"
        raise UsageError(f"of the {len(data.clips)} clips of {data.name!r} {which} are listed ({examples} ...)")
    part = data.subset(clean.tolist(), data.name)
    clean_queries = np.isin(data.clip_of_text, clean)
    inner = ranks_under(rule, measured.all_scores()[clean_queries][:, clean], part, measured.scorable[clean])
    outer = ranks_under(rule, measured.all_scores(), data, measured.scorable)
    same_gallery: dict[str, dict[str, Difference]] = {}
    clean_gallery: dict[str, dict[str, Difference]] = {}
    for name, among_all, among_clean, by_text in (
        ("text_to_video", outer[0], inner[0], True),
        ("video_to_text", outer[1], inner[1], rule.reverse == "each"),
    ):
        owners = np.array(data.clip_of_text) if by_text else np.unique(data.clip_of_text)
        videos = np.unique([data.clips[clip].video for clip in owners], return_inverse=True)[1]
        is_clean = np.isin(owners, clean)
        same_gallery[name] = _differences(among_all, among_all[is_clean], videos, is_clean, seed)
        clean_gallery[name] = _differences(among_all, among_clean, videos, is_clean, seed)
    return WithoutOverlap(len(data.clips), len(data.clips) - len(clean), len(unknown), same_gallery, clean_gallery)


def _differences(
    ranks: Array, clean: Array, videos: npt.NDArray[np.int64], is_clean: npt.NDArray[np.bool_], seed: int
) -> dict[str, Difference]:
    """Bootstrap every metric.

    Args:
        ranks: of all queries.
        clean: ranks of the queries where `is_clean`, in the same order.
        videos: the number of each query's video.
    """
    count = int(videos.max()) + 1
    samples = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=_SAMPLES)
    weights = samples[:, videos]
    usable = weights[:, is_clean].sum(1) > 0
    differences = {}
    for metric in METRICS:
        before, after = _value(ranks, metric), _value(clean, metric)
        gaps = _values(clean, weights[usable][:, is_clean], metric) - _values(ranks, weights[usable], metric)
        low, high = (float(q) for q in np.quantile(gaps, [0.025, 0.975]))
        differences[metric] = Difference(before, after, after - before, low, high)
    return differences


def _value(ranks: Array, metric: str) -> float:
    return float(_values(ranks, np.ones((1, len(ranks)), np.int64), metric)[0])


def _values(ranks: Array, weights: npt.NDArray[np.int64], metric: str) -> Array:
    """The metric of each sample [sample], where a query counts as often as `weights` [sample, query] says."""
    total = weights.sum(1)
    if metric == "median_rank":
        order = np.argsort(ranks, kind="stable")
        upto = np.cumsum(weights[:, order], axis=1)
        below = (upto < ((total + 1) // 2)[:, None]).sum(1)
        above = (upto < (total // 2 + 1)[:, None]).sum(1)
        middle: Array = (ranks[order][below] + ranks[order][above]) / 2
        return middle
    values = ranks if metric == "mean_rank" else (ranks <= _RECALLS[metric]).astype(np.float64)
    means: Array = weights @ values / total
    return means
