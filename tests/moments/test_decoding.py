"""Decoding of segments against every segmentation there is, and against the formula as plain loops."""

import time
import tracemalloc
from itertools import combinations, pairwise, permutations, product
from math import floor, lgamma, log

import numpy as np
import pytest

from reelseek.evaluation.segments import score
from reelseek.moments.beam import decode_by_beam
from reelseek.moments.decoding import class_log_probs, decode, decode_unordered


def _length(frames: int, mean: float | None) -> float:
    if mean is None:
        return 0.0
    return frames * log(mean) - lgamma(frames + 1) - floor(mean) * log(mean) + lgamma(floor(mean) + 1)


def _worth(probs: np.ndarray, labels: tuple[int, ...], edges: tuple[int, ...], mean: float | None) -> float:
    spans = list(pairwise(edges))
    return sum(probs[a:b, k].sum() + _length(b - a, mean) for k, (a, b) in zip(labels, spans, strict=True))


def _best(probs: np.ndarray, orders: set[tuple[int, ...]], mean: float | None) -> float:
    frames = len(probs)
    return max(
        _worth(probs, labels, (0, *cuts, frames), mean)
        for labels in orders
        if 0 < len(labels) <= frames
        for cuts in combinations(range(1, frames), len(labels) - 1)
    )


def _probs(rng: np.random.Generator, frames: int, labels: int) -> np.ndarray:
    return class_log_probs(rng.normal(size=(frames, labels)), 1.0)


@pytest.mark.parametrize("mean", [None, 0.4, 1.5, 3.0])
def test_decoding_is_the_best_of_all_segmentations(mean: float | None) -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        labels = int(rng.integers(1, 4))
        transcript = rng.integers(0, labels, int(rng.integers(1, 5))).tolist()
        optional = (rng.random(len(transcript)) < 0.4).tolist()
        probs = _probs(rng, int(rng.integers(max(1, optional.count(False)), 9)), labels)
        got = decode(probs, transcript, mean_lengths=mean, optional=optional)
        kept = product(*[(True, False) if each else (True,) for each in optional])
        orders = {tuple(k for k, keep in zip(transcript, keeps, strict=True) if keep) for keeps in kept}
        assert got.score == pytest.approx(_best(probs, orders, mean))
        edges = (0, *(end for _, _, end in got.parts))
        assert _worth(probs, tuple(k for k, _, _ in got.parts), edges, mean) == pytest.approx(got.score)
        assert got.labels.tolist() == [k for k, begin, end in got.parts for _ in range(begin, end)]


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("mean", [None, 2.0])
def test_steps_without_an_order_find_the_best_one(background: bool, mean: float | None) -> None:
    rng = np.random.default_rng(4)
    for _ in range(15):
        probs = _probs(rng, 7, 3 + background)
        got = decode_unordered(probs, range(3), background=3 if background else None, mean_lengths=mean)
        orders: set[tuple[int, ...]] = set()
        for order in (order for count in range(4) for order in permutations(range(3), count)):
            for gaps in product((False, True), repeat=len(order) + 1) if background else [(False,) * (len(order) + 1)]:
                steps = [*order, None]
                orders.add(
                    tuple(
                        k for gap, step in zip(gaps, steps, strict=True) for k in [3] * gap + [step][: step is not None]
                    )
                )
        assert got.score == pytest.approx(_best(probs, orders, mean))
        edges = (0, *(end for _, _, end in got.parts))
        assert _worth(probs, tuple(k for k, _, _ in got.parts), edges, mean) == pytest.approx(got.score)


def test_shuffled_steps_of_which_one_never_happens_are_found() -> None:
    truth = np.repeat([4, 2, 4, 0, 1, 4], [5, 8, 4, 9, 7, 3])
    probs = class_log_probs(np.eye(5)[truth] + np.random.default_rng(5).normal(0, 0.3, (36, 5)), 0.5)
    got = decode_unordered(probs, [0, 1, 2, 3], background=4, mean_lengths=8.0)
    assert [label for label, _, _ in got.parts] == [4, 2, 4, 0, 1, 4]
    assert score(got.labels, truth, background=4).mean_iou > 0.9


def _plainly(probs: np.ndarray, transcript: list[int], mean: float) -> float:
    frames = len(probs)
    rows = probs.tolist()
    lengths = [0.0, *(_length(frames_, mean) for frames_ in range(1, frames + 1))]
    before = [0.0] + [float("-inf")] * frames
    for label in transcript:
        summed = [0.0]
        for row in rows:
            summed.append(summed[-1] + row[label])
        after = [float("-inf")] * (frames + 1)
        for end in range(1, frames + 1):
            for begin in range(end):
                value = before[begin] + summed[end] - summed[begin] + lengths[end - begin]
                if value > after[end]:
                    after[end] = value
        before = after
    return before[-1]


def test_ten_minutes_with_twenty_steps_decode_fast_and_in_linear_memory() -> None:
    rng = np.random.default_rng(6)
    probs, transcript = _probs(rng, 600, 20), list(range(20))

    def took() -> float:
        begin = time.perf_counter()
        decode(probs, transcript, mean_lengths=30.0)
        return time.perf_counter() - begin

    fast = min(took() for _ in range(5))
    begin = time.perf_counter()
    plain = _plainly(probs, transcript, 30.0)
    slow = time.perf_counter() - begin
    assert decode(probs, transcript, mean_lengths=30.0).score == pytest.approx(plain)
    assert slow > 20 * fast  # over 100 on an idle machine
    peaks = []
    for frames in (2000, 20_000):
        long = _probs(rng, frames, 5)
        tracemalloc.start()
        decode(long, list(range(5)), mean_lengths=frames / 5)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 15 * peaks[0]


def _by_dictionary(
    probs: np.ndarray, transcript: list[int], mean: float, chunk: int, most: int
) -> tuple[float, np.ndarray]:
    """The public decoder's rules in plain loops: hypotheses by key, later ones replace equal ones, the highest stay."""
    summed, frames = np.cumsum(probs, axis=0), len(probs)
    mode = float(np.round(mean))
    scale = mode * log(mode) - mode - lgamma(floor(mean) + 1)

    def length(lasted: int) -> float:
        return lasted * log(mean) - mean - lgamma(lasted + 1) - scale

    hypotheses = {(-1, transcript[0], chunk): (summed[min(chunk, frames) - 1, transcript[0]], [transcript[0]])}
    for frame in range(0, frames, chunk):
        successors: dict[tuple[int, ...], tuple[float, list[int]]] = {}
        for key, (value, trace) in hypotheses.items():
            label, part = key[-2], len(key) - 3
            value += summed[frame, label] - (summed[frame - chunk, label] if frame >= chunk else 0.0)
            options = [((*key[:-1], key[-1] + chunk), value, label)]
            if part + 1 < len(transcript):
                following = transcript[part + 1]
                options.append(((*key[:-1], following, chunk), value + length(key[-1]), following))
            for successor, worth, entered in options:
                if successor not in successors or successors[successor][0] <= worth:
                    successors[successor] = worth, [*trace, entered]
        ranked = sorted(successors, key=lambda key: (successors[key][0], key))
        for key in ranked[:-most]:
            del successors[key]
        hypotheses = successors
    best, labels = -np.inf, np.zeros(0)
    for key, (value, trace) in hypotheses.items():
        if len(key) - 2 == len(transcript) and value + length(key[-1]) >= best:
            best, labels = value + length(key[-1]), np.repeat(trace, chunk)[chunk : chunk + frames]
    return best, labels


def test_the_beam_keeps_what_the_public_decoder_keeps() -> None:
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(150):  # staying and leaving are equal at the likeliest length, so that keys decide
        frames, chunk, labels = int(rng.integers(10, 60)), int(rng.integers(1, 4)), int(rng.integers(2, 6))
        transcript = rng.integers(0, labels, int(rng.integers(1, 5))).tolist()
        mean, most = float(rng.integers(2, 20)), int(rng.integers(3, 30))
        probs = class_log_probs(rng.normal(size=(frames, labels)), 1.0)
        best, traced = _by_dictionary(probs, transcript, mean, chunk, most)
        if np.isfinite(best):
            decoded = decode_by_beam(probs, transcript, mean, chunk=chunk, hypotheses=most)
            assert decoded.score == pytest.approx(best)
            assert decoded.labels.tolist() == traced.tolist()
            compared += 1
    assert compared > 100


def test_a_small_beam_loses_what_a_large_one_finds() -> None:
    probs = _probs(np.random.default_rng(8), 60, 4)
    wide, narrow = (decode_by_beam(probs, [0, 1, 2, 3], 15, chunk=1, hypotheses=most) for most in (10_000, 2))
    assert narrow.score < wide.score
    assert wide.parts[-1][2] == 60
    with pytest.raises(ValueError, match="no hypothesis reached the end"):
        decode_by_beam(probs[:10], [0, 1, 2, 3], 15, chunk=20)


@pytest.mark.parametrize(
    ("shape", "transcript", "said"),
    [
        ((0, 3), [0], "transcript has 1 parts"),
        ((4, 3), [], "transcript has 0 parts"),
        ((4, 3), [0, 3], "names label 3; there are 3"),
        ((2, 3), [0, 1, 2], "3 parts of at least a frame each do not fit into 2 frames"),
    ],
)
def test_what_cannot_be_decoded_says_why(shape: tuple[int, int], transcript: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        decode(np.zeros(shape), transcript)


def test_odd_arguments_say_why() -> None:
    probs = np.zeros((4, 2))
    for much in (-np.inf, -1e20, np.nan):
        with pytest.raises(ValueError, match="hold NaN, or less than"):
            decode(np.full((4, 2), much), [0])
    with pytest.raises(ValueError, match="is to be at least 1"):
        decode_by_beam(probs, [0], 0.3)
    with pytest.raises(ValueError, match="at least one set"):
        decode_unordered(probs, [0], sets=0)
    assert decode(probs, [0, 1], mean_lengths=np.array([2.0, 2.0])).parts == ((0, 0, 2), (1, 2, 4))
    with pytest.raises(ValueError, match="wanted positive numbers"):
        decode(probs, [0], mean_lengths=0.0)
    with pytest.raises(ValueError, match="for 2 parts and the transcript has 1"):
        decode(probs, [0], optional=[True, False])
    with pytest.raises(ValueError, match="distinct"):
        decode_unordered(probs, [0, 0])
