"""Decoding of segmentations: the most probable label of every frame, with or without the order of the steps.

Sources: Kuehne et al., "Mining YouTube", 2019, and Richard et al., "NeuralNetwork-Viterbi", CVPR 2018 (a transcript
and a Poisson model of lengths), whose protocol EAO (Shvetsova et al. 2022, section A.2 of the supplement) follows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

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
_Steps = frozenset[int]
_Backpointers = dict[tuple[_Steps, bool], tuple[Labels, Labels]]


@dataclass(frozen=True)
class Segmentation:
    """A label for every frame.

    Attributes:
        labels: [frame].
        parts: (label, first frame, frame after the last), in order.
        score: log-probability of the labels of all frames and of the lengths of the parts.
    """

    labels: Labels
    parts: tuple[tuple[int, int, int], ...]
    score: float


def class_log_probs(similarity: Matrix, temperature: float = 0.05) -> Floats:
    """Turn similarities [frame, label] into log-probabilities of the labels; the default temperature is EAO's."""
    from scipy.special import log_softmax  # a third of a second that only those pay who decode

    log_probs: Floats = log_softmax(similarity.astype(np.float64) / temperature, axis=1)
    return log_probs


def decode(
    log_probs: Matrix,
    transcript: Sequence[int],
    *,
    mean_lengths: Lengths = None,
    optional: Sequence[bool] | None = None,
) -> Segmentation:
    """Find the most probable segmentation whose parts are a transcript, in order; exact.

    Time is O(parts * frames * log frames), memory O(parts * frames): since the Poisson distribution's logarithm is
    concave, the best beginning of a part never moves back as its end moves on. Of equally probable segmentations the
    one is returned in which each part, the last one first, begins as early as possible.

    Args:
        log_probs: [frame, label], at most a million in magnitude.
        transcript: the label of each part; a label may occur several times.
        mean_lengths: mean of the Poisson model of a part's length in frames, one for all labels or one per label; its
            log-probability counts relative to that of the mode. None, for all or for a label: no model of lengths.
        optional: parts that may be left out, at no cost.

    Raises:
        ValueError: nothing to decode, a label that does not exist, more parts than frames, or a value out of bounds.

    >>> decode(np.log([[.9, .1], [.8, .2], [.3, .7]]), [0, 1]).parts
    ((0, 0, 2), (1, 2, 3))
    """
    gains, parts = check_inputs(log_probs, transcript, optional)
    frames = len(gains)
    summed = np.concatenate([np.zeros((1, gains.shape[1])), np.cumsum(gains, axis=0)])
    lengths = _length_scores(mean_lengths, gains.shape[1], frames)
    best = _start(frames)  # score of the parts so far, by the frame at which the last one ended
    begins = np.zeros((len(parts), frames + 1), np.int64)  # -1: left out
    for part, (label, may_miss) in enumerate(parts):
        ended, begins[part] = _best_begins(best - summed[:, label], lengths[label])
        ended += summed[:, label]
        if may_miss:
            skipped = best >= ended
            ended, begins[part][skipped] = np.where(skipped, best, ended), -1
        best = ended
    decoded, end = [], frames
    for part in range(len(parts) - 1, -1, -1):
        begin = int(begins[part, end])
        if begin >= 0:
            decoded.append((parts[part][0], begin, end))
            end = begin
    return _segmentation(decoded[::-1], float(best[-1]))


def _start(frames: int) -> Floats:
    """Score by end [frame + 1] before the first part: only frame 0 is reached."""
    scores = np.full(frames + 1, -np.inf)
    scores[0] = 0.0
    return scores


def _segmentation(parts: Sequence[tuple[int, int, int]], score: float) -> Segmentation:
    labels = np.repeat([label for label, _, _ in parts], [end - begin for _, begin, end in parts])
    return Segmentation(labels.astype(np.int64), tuple(parts), score)


def check_inputs(
    log_probs: Matrix, transcript: Sequence[int], optional: Sequence[bool] | None
) -> tuple[Floats, list[tuple[int, bool]]]:
    """Return log-probabilities in double precision, and for each part its label and whether it is optional.

    Raises:
        ValueError: see `decode`.
    """
    if log_probs.ndim != 2 or not log_probs.size or not len(transcript):
        raise ValueError(f"log-probabilities are {log_probs.shape} and the transcript has {len(transcript)} parts")
    if not (np.abs(log_probs) <= _LARGEST).all():  # sums over frames are taken as differences, which these would drown
        raise ValueError(f"log-probabilities hold NaN, or less than -{_LARGEST:g}; give what cannot be at most so much")
    outside = [label for label in transcript if not 0 <= label < log_probs.shape[1]]
    if outside:
        raise ValueError(f"the transcript names label {outside[0]}; there are {log_probs.shape[1]}, counted from 0")
    missing = [False] * len(transcript) if optional is None else [bool(flag) for flag in optional]
    if len(missing) != len(transcript):
        raise ValueError(f"`optional` is for {len(missing)} parts and the transcript has {len(transcript)}")
    needed = missing.count(False)
    if needed > len(log_probs):
        raise ValueError(f"{needed} parts of at least a frame each do not fit into {len(log_probs)} frames")
    return log_probs.astype(np.float64), list(zip(transcript, missing, strict=True))


def _length_scores(mean_lengths: Lengths, labels: int, frames: int) -> Floats:
    """Scores of the lengths 0 to `frames` of each label [label, length]: 0 for the mode, -inf for length 0."""
    scores = np.zeros((labels, frames + 1))
    several = isinstance(mean_lengths, Sequence | np.ndarray)
    means: list[float | None] = [*mean_lengths] if several else [mean_lengths] * labels  # type: ignore[misc,list-item]
    if len(means) != labels or not all(mean is None or 0 < mean < np.inf for mean in means):
        raise ValueError(f"mean lengths are {mean_lengths}; wanted positive numbers, one or one a label")
    for mean in {mean for mean in means if mean is not None}:
        alike = [label for label, mean_of_label in enumerate(means) if mean_of_label == mean]
        scores[alike] = poisson_log_probs(np.arange(frames + 1.0), mean) - poisson_log_probs(np.floor([mean]), mean)
    scores[:, 0] = -np.inf
    return scores


def poisson_log_probs(lengths: Floats, mean: float) -> Floats:
    """Log-probabilities of lengths under a Poisson distribution."""
    from scipy.special import gammaln

    log_probs: Floats = lengths * np.log(mean) - mean - gammaln(lengths + 1)
    return log_probs


@lru_cache(maxsize=64)
def _tree(frames: int) -> list[tuple[Labels, Labels, Labels]]:
    """Levels of (ends, the nearest coarser end before each, the nearest after it): few ends first, then three between
    each two, and so on.

    Before the first end stands 0, after the last one `frames` + 1.
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
    """For every end the highest `before[begin] + length_scores[end - begin]`, and the first begin that attains it.

    The begins of the neighbouring ends on the coarser level bound that of an end, so each level of the tree looks at
    few more begins than there are frames.
    """
    frames = len(before) - 1
    values, begins = np.full(frames + 1, -np.inf), np.zeros(frames + 2, np.int64)
    begins[-1] = frames - 1
    for ends, previous, following in _tree(frames):
        low = begins.take(previous)
        counts = np.minimum(begins.take(following), ends - 1) - low + 1
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
    """Find the most probable segmentation by a set of steps, in any order, each at most once.

    Dynamic programming over sets of steps that have happened, from sets of n to sets of n + 1. Of each size the `sets`
    best sets are extended; the default is all of them, and so exact, up to ten steps. With more steps it is a beam
    search.

    Args:
        steps: distinct labels; each happens once or not at all.
        background: a label that may stand before, between and after them; None lets steps alone fill the video.
        mean_lengths: see `decode`.
        sets: beam width.

    Raises:
        ValueError: see `decode`; or a step occurs twice, background is a step, or `sets` is below 1.
    """
    if sets < 1:
        raise ValueError("at least one set of steps has to be followed")
    if len(set(steps)) < len(steps) or background in steps:
        raise ValueError(f"steps {list(steps)} are to be distinct, and none of them background ({background})")
    labels = [*steps] if background is None else [*steps, background]
    gains, _ = check_inputs(log_probs, labels, [True] * len(labels))
    lattice = _Lattice(gains, mean_lengths)
    layer = {_Steps(): _start(len(gains))}
    best, best_set = -np.inf, _Steps()
    for _ in range(len(steps) + 1):
        if background is not None:
            layer = {done: lattice.add_background(done, scores, background) for done, scores in layer.items()}
        for done, scores in layer.items():
            if scores[-1] > best:
                best, best_set = float(scores[-1]), done
        beam = sorted(layer, key=lambda done: -layer[done][-1])[:sets]
        layer = lattice.add_step({done: layer[done] for done in beam}, steps)
    return _segmentation(lattice.trace(best_set), best)


class _Lattice:
    """Scores of sets of steps by the frame at which they end, and the backpointers that lead to them.

    Attributes:
        backpointers: for a set of steps, and whether background may follow it, the last label (-1: none) and its
            begin, by end.
    """

    def __init__(self, gains: Floats, mean_lengths: Lengths) -> None:
        self.frames = len(gains)
        self.backpointers: _Backpointers = {}
        self._summed = np.concatenate([np.zeros((1, gains.shape[1])), np.cumsum(gains, axis=0)])
        self._lengths = _length_scores(mean_lengths, gains.shape[1], len(gains))

    def add_background(self, done: _Steps, scores: Floats, background: int) -> Floats:
        """Let background follow a set of steps, at the ends where that scores higher."""
        extended, begins = self._extend(scores, background)
        self.backpointers[done, True] = np.where(extended > scores, background, -1), begins
        return np.maximum(scores, extended)

    def add_step(self, layer: Mapping[_Steps, Floats], steps: Sequence[int]) -> dict[_Steps, Floats]:
        """Extend each set of a layer by each step that it lacks; of several ways to a set the best one counts."""
        larger: dict[_Steps, Floats] = {}
        for done, scores in layer.items():
            for step in steps:
                if step in done:
                    continue
                extended, begins = self._extend(scores, step)
                after = done | {step}
                previous = larger.get(after, np.full_like(extended, -np.inf))
                labels, starts = self.backpointers.get((after, False), (np.zeros_like(begins), begins))
                better = extended > previous
                self.backpointers[after, False] = np.where(better, step, labels), np.where(better, begins, starts)
                larger[after] = np.maximum(extended, previous)
        return larger

    def _extend(self, before: Floats, label: int) -> tuple[Floats, Labels]:
        scores, begins = _best_begins(before - self._summed[:, label], self._lengths[label])
        return scores + self._summed[:, label], begins

    def trace(self, done: _Steps) -> list[tuple[int, int, int]]:
        """Follow the backpointers of a set from the last frame: (label, begin, end) of each part, in order."""
        parts, end = [], self.frames
        while True:
            labels, begins = self.backpointers.get((done, True), (None, None))
            if labels is not None and begins is not None and labels[end] >= 0:
                parts.append((int(labels[end]), int(begins[end]), end))
                end = int(begins[end])
            if not done:
                return parts[::-1]
            steps, begins = self.backpointers[done, False]
            step = int(steps[end])
            parts.append((step, int(begins[end]), end))
            done, end = done - {step}, int(begins[end])
