"""Power is that of the paired t test: published figures, simulation, and its own inverse."""

import math

import numpy as np
import pytest
from scipy import stats

from reelseek.experiments.power import deviation_of, power_of, seeds_needed, smallest_effect


@pytest.mark.parametrize(
    ("effect", "seeds", "power"),
    [(0.5, 34, 0.808), (0.8, 15, 0.821), (0.2, 199, 0.803), (0.5, 10, 0.293)],  # G*Power 3.1, paired t, two-sided 5 %
)
def test_power_is_that_of_the_tables(effect: float, seeds: int, power: float) -> None:
    assert power_of(effect, 1.0, seeds) == pytest.approx(power, abs=0.002)
    assert power_of(-3 * effect, 3.0, seeds) == pytest.approx(power, abs=0.002)


def test_power_is_what_simulated_trials_have() -> None:
    rng = np.random.default_rng(5)
    gains = rng.normal(0.03, 0.04, size=(20_000, 8))
    for significance in (0.05, 0.01):
        rejected = stats.ttest_1samp(gains, 0, axis=1).pvalue < significance
        expected = power_of(0.03, 0.04, 8, significance=significance)
        assert rejected.mean() == pytest.approx(expected, abs=0.015)


def test_the_smallest_effect_is_the_inverse() -> None:
    for seeds in (3, 5, 20):
        told = smallest_effect(0.07, seeds)
        assert power_of(told, 0.07, seeds) == pytest.approx(0.8, abs=1e-6)
    assert smallest_effect(0.07, 20) < smallest_effect(0.07, 5) < smallest_effect(0.07, 5, significance=0.01)
    assert smallest_effect(0.07, 1) == math.inf
    assert smallest_effect(0.0, 5) == 0.0
    assert power_of(100.0, 0.01, 5) == 1.0


def test_as_many_seeds_as_are_needed_and_none_where_no_number_is_enough() -> None:
    choices = (5, 8, 12, 15, 20)
    assert seeds_needed(1.0, 0.1, choices) == 5
    needed = seeds_needed(0.06, 0.07, choices)
    assert needed is not None
    assert smallest_effect(0.07, needed) <= 0.06
    smaller = [n for n in choices if n < needed]
    assert smaller
    assert smallest_effect(0.07, smaller[-1]) > 0.06
    assert seeds_needed(0.001, 0.07, choices) is None


def test_the_deviation_is_that_of_a_sample() -> None:
    assert deviation_of([1.0, 2.0, 4.0]) == pytest.approx(np.std([1, 2, 4], ddof=1))
    assert deviation_of([1.0]) == math.inf
