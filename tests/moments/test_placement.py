"""Placing steps: against enumeration and against the programme written out state by state."""

import time
from itertools import combinations

import numpy as np
import pytest

from reelseek.moments.placement import evenly, fill_steps, place_as_published, place_steps


def _by_states(scores: np.ndarray) -> np.ndarray:
    """Second by second over background, step 1, background, ..., each step held for exactly one second."""
    seconds, steps = scores.shape
    states = 2 * steps + 1
    infinite = float("inf")
    costs = [[-float(scores[t, s // 2]) if s % 2 else 0.0 for s in range(states)] for t in range(seconds)]
    best = [[infinite] * states for _ in range(seconds)]
    came = [[0] * states for _ in range(seconds)]
    best[0][0], best[0][1] = costs[0][0], costs[0][1]
    for t in range(1, seconds):
        for s in range(states):
            options = [best[t - 1][s] if s % 2 == 0 else infinite, best[t - 1][s - 1] if s else infinite]
            options.append(best[t - 1][s - 2] if s % 2 and s >= 3 else infinite)
            least = min(options)
            came[t][s] = options.index(least)
            best[t][s] = least + costs[t][s]
    state = states - 2 if best[-1][-2] <= best[-1][-1] else states - 1
    placed = np.zeros(scores.shape, bool)
    for t in range(seconds - 1, -1, -1):
        if state % 2:
            placed[t, state // 2] = True
        state -= came[t][state]
    return placed


def test_every_step_once_in_order_with_the_best_sum() -> None:
    rng = np.random.default_rng(0)
    for trial in range(200):
        steps = int(rng.integers(1, 5))
        seconds = int(rng.integers(steps, 9))
        ties = trial % 2
        scores = rng.integers(-2, 3, (seconds, steps)).astype(float) if ties else rng.normal(size=(seconds, steps))
        placed = place_steps(scores)
        assert (placed.sum(0) == 1).all()
        assert (np.diff(placed.argmax(0)) > 0).all()
        best = max(scores[list(times), range(steps)].sum() for times in combinations(range(seconds), steps))
        assert scores[placed].sum() == pytest.approx(best)
        assert (placed == _by_states(scores)).all()  # ties too


def test_missing_steps_are_left_out_where_background_is_better() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        seconds, steps = int(rng.integers(1, 7)), int(rng.integers(1, 5))
        scores = rng.normal(size=(seconds, steps))
        placed = place_steps(scores, background=0.3, optional=True)
        best = max(
            sum(scores[t, s] - 0.3 for t, s in zip(times, kept, strict=True))
            for count in range(min(seconds, steps) + 1)
            for kept in combinations(range(steps), count)
            for times in combinations(range(seconds), count)
        )
        assert (scores[placed] - 0.3).sum() == pytest.approx(best)
    assert not place_steps(np.full((4, 2), -1.0), optional=True).any()


def test_steps_that_last_cover_what_scores_above_background() -> None:
    scores = np.full((9, 2), -1.0)
    scores[1:4, 0] = scores[5:9, 1] = 1.0
    assert fill_steps(scores).astype(int).tolist() == [[int(1 <= t < 4), int(t >= 5)] for t in range(9)]


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (np.zeros((3, 0)), "at least one second and one step"),
        (np.zeros((0, 3)), "at least one second and one step"),
        (np.zeros((2, 3)), "3 steps of at least a second each do not fit into 2 s"),
        (np.array([[np.nan]]), "NaN or infinity"),
        (np.array([[np.inf]]), "NaN or infinity"),
    ],
)
def test_what_cannot_be_placed_says_why(scores: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        place_steps(scores)


@pytest.mark.parametrize("repeats", [False, True])
def test_the_public_decoder_places_nothing_where_hardly_a_second_is_left(repeats: bool) -> None:
    scores = np.random.default_rng(4).normal(size=(5, 5))
    scores[-1, -1] = 0.5
    assert place_as_published(scores, repeats=repeats).tolist() == np.eye(5, dtype=bool).tolist()
    scores[-1, -1] = -0.5  # background costs nothing, and the path that ends in it is taken although none leads there
    assert not place_as_published(scores, repeats=repeats).any()
    assert place_as_published(scores, background=-1.0, repeats=repeats).any()
    assert not place_as_published(scores[:4], repeats=repeats).any()
    longer = np.random.default_rng(5).normal(size=(9, 4))
    expected = fill_steps(longer) if repeats else place_steps(longer)
    assert place_as_published(longer, repeats=repeats).tolist() == expected.tolist()


def test_even_steps_lie_in_the_middles_of_equal_parts() -> None:
    assert evenly(20, 4).argmax(0).tolist() == [2, 7, 12, 17]
    assert evenly(3, 3).argmax(0).tolist() == [0, 1, 2]


def test_ten_minutes_and_twenty_steps_are_placed_fast() -> None:
    scores = np.random.default_rng(2).normal(size=(600, 20))
    place_steps(scores)

    def took(way) -> float:
        begin = time.perf_counter()
        way(scores)
        return time.perf_counter() - begin

    slow, fast = took(_by_states), min(took(place_steps) for _ in range(10))
    assert slow > 20 * fast  # over 100 on an idle machine
