"""Which step every frame of a video shows, given the order of the steps or not.

Sources: Kuehne et al., "Mining YouTube", 2019, and Richard et al., "NeuralNetwork-Viterbi", CVPR 2018 (a transcript
and a Poisson model of lengths), whose protocol EAO (Shvetsova et al. 2022, section A.2 of the supplement) follows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, log_softmax

__all__ = [
    "Floats",
    "Labels",
    "Matrix",
    "Segmentation",
    "check_inputs",
    "class_log_probs",
    "decode",
    "decode_unordered",
    "poisson_log_probs",
]

Matrix = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Lengths = float | Sequence[float | None] | npt.NDArray[np.floating] | None
_LARGEST = 1e6


@dataclass(frozen=True)
class Segmentation:
    """A label for every frame.

    Attributes:
        labels: [frame].
        parts: (label, first frame, frame after the last), in order.
        score: log-probability of frames and lengths.
    """

    labels: Labels
    parts: tuple[tuple[int, int, int], ...]
    score: float


def class_log_probs(similarity: Matrix, temperature: float = 0.05) -> Floats:
    """Similarities [frame, label] as log-probabilities of the labels; EAO's temperature."""
    found: Floats = log_softmax(similarity.astype(np.float64) / temperature, axis=1)
    return found


def decode(
    log_probs: Matrix,
    transcript: Sequence[int],
    *,
    mean_lengths: Lengths = None,
    optional: Sequence[bool] | None = None,
) -> Segmentation:
    """The most probable segmentation whose parts are a transcript, in order; exact.

    Time is frames times the logarithm of frames for each part, memory is frames times parts: since the Poisson
    distribution's logarithm is concave, the best beginning of a part never moves back as its end moves on. Of equal
    segmentations each part, the last one first, begins as early as it may.

    Args:
        log_probs: [frame, label], none beyond a million.
        transcript: a label a part; a label may come again.
        mean_lengths: of a part in frames, for all labels or each; its Poisson probability counts, relative to that of
            the likeliest length. None, or None for a label: lengths say nothing.
        optional: parts that may be left out, at no cost.

    Raises:
        ValueError: nothing to decode, a label that does not exist, more parts than frames, or a value out of bounds.
    """
    gains, parts = check_inputs(log_probs, transcript, optional)
    frames = len(gains)
    summed = np.concatenate([np.zeros((1, gains.shape[1])), np.cumsum(gains, axis=0)])
    lengths = _length_scores(mean_lengths, gains.shape[1], frames)
    best = np.full(frames + 1, -np.inf)  # of the parts so far, by the frame at which the last one ended
    best[0] = 0.0
    begins = np.zeros((len(parts), frames + 1), np.int64)  # -1: left out
    for part, (label, may_miss) in enumerate(parts):
        ended, begins[part] = _best_begins(best - summed[:, label], lengths[label])
        ended += summed[:, label]
        if may_miss:
            skipped = best >= ended
            ended, begins[part][skipped] = np.where(skipped, best, ended), -1
        best = ended
    found, end = [], frames
    for part in range(len(parts) - 1, -1, -1):
        begin = int(begins[part, end])
        if begin >= 0:
            found.append((parts[part][0], begin, end))
            end = begin
    return _segmentation(found[::-1], float(best[-1]))


def _segmentation(parts: Sequence[tuple[int, int, int]], score: float) -> Segmentation:
    labels = np.repeat([label for label, _, _ in parts], [end - begin for _, begin, end in parts])
    return Segmentation(labels.astype(np.int64), tuple(parts), score)


def check_inputs(
    log_probs: Matrix, transcript: Sequence[int], optional: Sequence[bool] | None
) -> tuple[Floats, list[tuple[int, bool]]]:
    if log_probs.ndim != 2 or not log_probs.size or not len(transcript):
        raise ValueError(f"log-probabilities are {log_probs.shape} and the transcript has {len(transcript)} parts")
    if not (np.abs(log_probs) <= _LARGEST).all():  # sums over frames are taken as differences, which these would drown
        raise ValueError(f"log-probabilities hold NaN, or less than -{_LARGEST:g}; give what cannot be at most so much")
    outside = [label for label in transcript if not 0 <= label < log_probs.shape[1]]
    if outside:
        raise ValueError(f"the transcript names label {outside[0]}; there are {log_probs.shape[1]}, counted from 0")
    missing = [False] * len(transcript) if optional is None else [bool(each) for each in optional]
    if len(missing) != len(transcript):
        raise ValueError(f"`optional` is for {len(missing)} parts and the transcript has {len(transcript)}")
    needed = missing.count(False)
    if needed > len(log_probs):
        raise ValueError(f"{needed} parts of at least a frame each do not fit into {len(log_probs)} frames")
    return log_probs.astype(np.float64), list(zip(transcript, missing, strict=True))


def _length_scores(mean_lengths: Lengths, labels: int, frames: int) -> Floats:
    """Of lengths 0 to `frames` for each label [label, length]; 0 for the likeliest length, -inf for none."""
    scores = np.zeros((labels, frames + 1))
    several = isinstance(mean_lengths, Sequence | np.ndarray)
    given: list[float | None] = [*mean_lengths] if several else [mean_lengths] * labels  # type: ignore[misc,list-item]
    if len(given) != labels or not all(mean is None or 0 < mean < np.inf for mean in given):
        raise ValueError(f"mean lengths are {mean_lengths}; wanted positive numbers, one or one a label")
    for mean in {mean for mean in given if mean is not None}:
        alike = [label for label, each in enumerate(given) if each == mean]
        scores[alike] = poisson_log_probs(np.arange(frames + 1.0), mean) - poisson_log_probs(np.floor([mean]), mean)
    scores[:, 0] = -np.inf
    return scores


def poisson_log_probs(lengths: Floats, mean: float) -> Floats:
    found: Floats = lengths * np.log(mean) - mean - gammaln(lengths + 1)
    return found


@lru_cache(maxsize=64)
def _tree(frames: int) -> list[tuple[Labels, Labels, Labels]]:
    """Levels of (ends, an end before each, an end behind it): first a few ends, then three between each two, and so on.

    Before the first end stands 0, behind the last one `frames` + 1.
    """
    stride = 1
    while stride * 8 < frames:
        stride *= 4
    first = np.arange(stride, frames + 1, stride)
    levels = [(first, np.zeros_like(first), np.full_like(first, frames + 1))]
    while stride > 1:
        outer, stride = stride, stride // 4
        ends = np.arange(stride, frames + 1, stride)
        ends = ends[ends % outer > 0]
        before = ends // outer * outer
        levels.append((ends, before, np.minimum(before + outer, frames + 1)))
    return levels


def _best_begins(before: Floats, length_scores: Floats) -> tuple[Floats, Labels]:
    """For every end the best `before[begin] + length_scores[end - begin]` and the first begin that has it.

    What was found for the ends around one bounds where its begin can be, so each level of the tree looks at few more
    begins than there are frames.
    """
    frames = len(before) - 1
    values, begins = np.full(frames + 1, -np.inf), np.zeros(frames + 2, np.int64)
    begins[-1] = frames - 1
    for ends, left, right in _tree(frames):
        low = begins.take(left)
        counts = np.minimum(begins.take(right), ends - 1) - low + 1
        stops = counts.cumsum()
        starts = stops - counts
        begin = np.arange(stops[-1])
        begin += (low - starts).repeat(counts)
        options = length_scores.take(ends.repeat(counts) - begin)
        options += before.take(begin)
        values[ends] = best = np.maximum.reduceat(options, starts)
        hits = (options == best.repeat(counts)).nonzero()[0]
        begins[ends] = begin.take(hits.take(hits.searchsorted(starts)))
    return values, begins[:-1]


def decode_unordered(
    log_probs: Matrix,
    steps: Sequence[int],
    *,
    background: int | None = None,
    mean_lengths: Lengths = None,
    sets: int = 252,
) -> Segmentation:
    """The best segmentation by steps of which neither the order is known nor whether each happens.

    Goes from sets of steps that happened so far to sets of one more. Of each size the best `sets` sets are followed,
    which is all of them, and so exact, up to ten steps; beyond it is a search.

    Args:
        steps: distinct labels; each happens once or not at all.
        background: a label that may stand before, between and after them; None lets steps alone fill the video.

    Raises:
        ValueError: as `decode`; or a step is given twice, background is a step, or no set is followed.
    """
    if sets < 1:
        raise ValueError("at least one set of steps has to be followed")
    if len(set(steps)) < len(steps) or background in steps:
        raise ValueError(f"steps {list(steps)} are to be distinct, and none of them background ({background})")
    asked = [*steps] if background is None else [*steps, background]
    gains, _ = check_inputs(log_probs, asked, [True] * len(asked))
    summed = np.concatenate([np.zeros((1, gains.shape[1])), np.cumsum(gains, axis=0)])
    lengths = _length_scores(mean_lengths, gains.shape[1], len(gains))

    def extended(before: Floats, label: int) -> tuple[Floats, Labels]:
        values, begins = _best_begins(before - summed[:, label], lengths[label])
        return values + summed[:, label], begins

    nothing = np.full(len(summed), -np.inf)
    nothing[0] = 0.0
    layer = {frozenset[int](): nothing}
    last: dict[tuple[frozenset[int], bool], tuple[Labels, Labels]] = {}  # of a set by end: the last label, its begin
    best, best_set = -np.inf, frozenset[int]()
    for _ in range(len(steps) + 1):
        settled: dict[frozenset[int], Floats] = {}
        for done, values in layer.items():
            settled[done] = values
            if background is not None:
                after, begins = extended(values, background)
                last[done, True] = np.where(after > values, background, -1), begins
                settled[done] = np.maximum(values, after)
            if settled[done][-1] > best:
                best, best_set = float(settled[done][-1]), done
        layer = {}
        for done in sorted(settled, key=lambda each: -settled[each][-1])[:sets]:
            for step in steps:
                if step in done:
                    continue
                values, begins = extended(settled[done], step)
                more = done | {step}
                old = layer.get(more, np.full_like(values, -np.inf))
                names, starts = last.get((more, False), (np.zeros_like(begins), begins))
                better = values > old
                last[more, False] = np.where(better, step, names), np.where(better, begins, starts)
                layer[more] = np.maximum(values, old)
    return _segmentation(_traced(last, best_set, len(gains)), best)


def _traced(
    last: dict[tuple[frozenset[int], bool], tuple[Labels, Labels]], done: frozenset[int], end: int
) -> list[tuple[int, int, int]]:
    parts = []
    while True:
        labels, begins = last.get((done, True), (None, None))
        if labels is not None and begins is not None and labels[end] >= 0:
            parts.append((int(labels[end]), int(begins[end]), end))
            end = int(begins[end])
        if not done:
            return parts[::-1]
        steps, begins = last[done, False]
        parts.append((int(steps[end]), int(begins[end]), end))
        done, end = done - {int(steps[end])}, int(begins[end])
