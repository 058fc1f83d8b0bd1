"""Which step every frame of a video shows, given the order of the steps or not, and how much of that is right.

Sources: Kuehne et al., "Mining YouTube", 2019, and Richard et al., "NeuralNetwork-Viterbi", CVPR 2018 (a transcript
and a Poisson model of lengths), whose protocol EAO (Shvetsova et al. 2022, section A.2 of the supplement) follows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, log_softmax

__all__ = ["SegmentScores", "Segmentation", "class_log_probs", "decode", "decode_by_beam", "decode_unordered", "score"]

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
    gains, parts = _checked(log_probs, transcript, optional)
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


def _checked(
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
        scores[alike] = _poisson(np.arange(frames + 1.0), mean) - _poisson(np.floor([mean]), mean)
    scores[:, 0] = -np.inf
    return scores


def _poisson(lengths: Floats, mean: float) -> Floats:
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
    gains, _ = _checked(log_probs, asked, [True] * len(asked))
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


def decode_by_beam(
    log_probs: Matrix,
    transcript: Sequence[int],
    mean_length: float = 150.0,
    *,
    chunk: int = 20,
    hypotheses: int = 50_000,
) -> Segmentation:
    """The public decoder of Mining YouTube, as it is, to compare with figures that were published with it.

    It advances by chunks of frames, keeps so many hypotheses (a part and how long it has lasted), enters the first
    chunk twice, counts the chunk at which a part ends for the part that is left, and shortens the last of `parts`
    to fit, so that `parts` lie one chunk later than `labels`.

    Raises:
        ValueError: as `decode`.
    """
    gains, named = _checked(log_probs, transcript, None)
    if not (mean_length >= 1 and chunk >= 1 and hypotheses >= 1):
        raise ValueError(
            f"mean length {mean_length:g}, chunk {chunk}, hypotheses {hypotheses}: each is to be at least 1"
        )
    labels = np.array([label for label, _ in named])
    summed, frames = np.cumsum(gains, axis=0), len(gains)
    times = range(0, frames, chunk)
    mode = float(np.round(mean_length))
    scale = mode * np.log(mode) - mode - gammaln(np.floor(mean_length) + 1)
    lengths = _poisson(np.arange(1.0, len(times) + 2) * chunk, mean_length) - scale
    alive = np.full((len(labels), len(times) + 1), -np.inf)  # [part, chunks it has lasted, from 1]
    alive[0, 0] = summed[min(chunk, frames) - 1, labels[0]]
    key_order = _key_order(labels, np.arange(1, len(times) + 2) * chunk)
    left_after = np.zeros((len(times), len(labels)), np.int64)  # chunks that the part before had lasted
    for place, time in enumerate(times):
        here = summed[time, labels] - (summed[time - chunk, labels] if time >= chunk else 0.0)
        leaving = alive + here[:, None] + lengths
        after = np.full_like(alive, -np.inf)
        after[:, 1:] = (alive + here[:, None])[:, :-1]
        left_after[place] = leaving.shape[1] - 1 - leaving[:, ::-1].argmax(1)
        after[1:, 0] = leaving.max(1)[:-1]
        alive = _pruned(after, hypotheses, key_order)
    last = len(labels) - 1
    ends = alive[last] + lengths
    lasted = len(ends) - 1 - int(ends[::-1].argmax())
    if not np.isfinite(ends[lasted]):
        raise ValueError(
            f"no hypothesis reached the end of the transcript: {frames} frames in chunks of {chunk} are too few for "
            f"{len(labels)} parts, or {hypotheses} hypotheses are"
        )
    total, place, chunks = float(ends[lasted]), len(times), []
    for part in range(last, -1, -1):
        chunks.append(lasted + 1)
        place -= lasted + 1
        if part:
            lasted = int(left_after[place, part - 1])
    counts = np.array(chunks[::-1]) * chunk
    sequence = np.repeat(labels, counts)[chunk : chunk + frames]
    edges = np.minimum(np.concatenate([[0], np.cumsum(counts)]), frames)
    parts = tuple((int(label), int(a), int(b)) for label, a, b in zip(labels, edges[:-1], edges[1:], strict=True))
    return Segmentation(sequence.astype(np.int64), parts, total)


def _key_order(labels: Labels, lengths: Labels) -> Labels:
    """Rank of each hypothesis [part, length] among the public decoder's keys: labels so far, then frames it has lasted.

    Tuples are compared place by place, so a length stands against the next label of hypotheses of later parts.
    """
    parts = np.arange(len(labels))[:, None]
    following = np.append(labels[1:], lengths.max())[:, None]
    group = np.where(lengths <= following, parts, 2 * len(labels) - parts)
    order = np.lexsort((np.broadcast_to(lengths, group.shape).ravel(), group.ravel()))
    return order.argsort().reshape(group.shape)


def _pruned(alive: Floats, most: int, key_order: Labels) -> Floats:
    """The best hypotheses; of equal ones those with the higher key."""
    if np.isfinite(alive).sum() <= most:
        return alive
    selected = np.lexsort((key_order.ravel(), alive.ravel()))[-most:]
    pruned = np.full(alive.size, -np.inf)
    pruned[selected] = alive.ravel()[selected]
    return pruned.reshape(alive.shape)


@dataclass(frozen=True)
class SegmentScores:
    """How much of a segmentation is right.

    Attributes:
        frame_accuracy: share of frames with their label; recall: share of the truth's labels that are found anywhere.
        iou: intersection over union, by label of the truth; iod: intersection over what was detected, by label that
            was detected.
    """

    frame_accuracy: float
    iou: dict[int, float]
    iod: dict[int, float]

    @property
    def mean_iou(self) -> float:
        return float(np.mean(list(self.iou.values()))) if self.iou else 0.0

    @property
    def recall(self) -> float:
        return float(np.mean([value > 0 for value in self.iou.values()])) if self.iou else 0.0

    @property
    def mean_iod(self) -> float:
        return float(np.mean(list(self.iod.values()))) if self.iod else 0.0


def score(labels: Labels, truth: Labels, *, background: int | None = None) -> SegmentScores:
    """Compare labels of frames with the true ones; background counts for accuracy alone.

    Source: EAO's supplement, A.2: |G and D| / |G or D| and |G and D| / |D|, here by label and then averaged.

    Raises:
        ValueError: not as many labels as frames, or no frames.
    """
    if labels.shape != truth.shape or not labels.size:
        raise ValueError(f"{labels.shape} labels cannot be compared with {truth.shape} true ones")
    real = sorted(set(truth.tolist()) - {background})
    detected = sorted(set(labels.tolist()) - {background})
    both = {label: int(((labels == label) & (truth == label)).sum()) for label in {*real, *detected}}
    iou = {label: both[label] / int(((labels == label) | (truth == label)).sum()) for label in real}
    iod = {label: both[label] / int((labels == label).sum()) for label in detected}
    return SegmentScores(float((labels == truth).mean()), iou, iod)
