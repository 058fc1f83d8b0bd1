"""Chance against the mean over all orders, ranked as systems are."""

import doctest
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelseek.evaluation import chance, metrics, text_to_video_ranks, video_to_text_ranks
from reelseek.evaluation.chance import Chance, chance_text_to_video, chance_video_to_text

NAMES = ("recall_at_1", "recall_at_5", "recall_at_10", "median_rank", "mean_rank")


def _assert_expected(expected: Chance, ranks: list[np.ndarray]) -> None:
    measured = metrics(np.concatenate(ranks))
    for name in NAMES:
        assert getattr(expected, name) == pytest.approx(getattr(measured, name)), name


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=2, max_size=5),
    st.integers(4, 5),
    st.booleans(),
    st.booleans(),
)
def test_chance_is_the_mean_over_all_orders(texts: list[tuple[int, int]], videos: int, named: bool, each: bool) -> None:
    owners = [owner for owner, _ in texts]
    words = [word for _, word in texts] if named else None
    numbers = np.array(words if named else range(len(texts)))
    orders = list(permutations(range(videos)))
    ranks = [
        text_to_video_ranks(np.tile(np.array(order, float), (len(texts), 1)), owners, same_words=words)
        for order in orders
    ]
    _assert_expected(chance_text_to_video(owners, videos, same_words=words), ranks)
    distinct = np.unique(numbers, return_inverse=True)[1]
    ranks = [
        video_to_text_ranks(
            np.tile(np.array(order, float)[distinct][:, None], (1, videos)), owners, same_words=words, each=each
        )
        for order in permutations(range(int(distinct.max()) + 1))
    ]
    _assert_expected(chance_video_to_text(owners, same_words=words, each=each), ranks)


def test_chance_of_a_large_gallery_is_the_plain_fraction() -> None:
    owners = np.repeat(np.arange(1000), 20).tolist()
    forward, reverse = chance_text_to_video(owners, 1000), chance_video_to_text(owners, each=True)
    assert (forward.recall_at_10, forward.median_rank, forward.mean_rank) == (pytest.approx(0.01), 500.5, 500.5)
    assert (reverse.recall_at_10, reverse.mean_rank) == (pytest.approx(10 / 19981), 9991.0)
    best = chance_video_to_text(owners)
    assert best.recall_at_1 == pytest.approx(20 / 20000)
    assert best.mean_rank == pytest.approx(20001 / 21)


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(chance).failed == 0
