"""Scores against a loop over every pair of windows, and what is found where."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelseek.overlap.blocks import group_by_length, score_blocks
from reelseek.overlap.match import Match, best_matches, best_windows, unit_rows


def _oracle(query: np.ndarray, gallery: np.ndarray, window: int) -> tuple[float, int, int]:
    """The mean cosine of every pair of windows, one by one, in float64."""
    k = min(window, len(query), len(gallery))

    def cosine(one: np.ndarray, two: np.ndarray) -> float:
        norms = float(np.linalg.norm(one) * np.linalg.norm(two))
        return float(one @ two) / norms if norms else 0.0

    best = (-np.inf, 0, 0)
    for a in range(len(query) - k + 1):
        for b in range(len(gallery) - k + 1):
            mean = sum(cosine(query[a + i], gallery[b + i]) for i in range(k)) / k
            if mean > best[0] + 1e-12:
                best = (mean, a, b)
    return best


def _videos(rng: np.random.Generator, lengths: list[int], dim: int = 6) -> list[np.ndarray]:
    return [unit_rows(rng.normal(size=(length, dim))) for length in lengths]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 13), min_size=1, max_size=6),
    st.lists(st.integers(1, 13), min_size=1, max_size=6),
    st.integers(1, 7),
    st.integers(0, 99),
)
def test_every_score_is_the_naive_one(ones: list[int], others: list[int], window: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, gallery = _videos(rng, ones), _videos(rng, others)
    found = np.full((len(ones), len(others)), np.nan)
    for rows, columns, block in score_blocks(
        group_by_length(queries, window), group_by_length(gallery, window), window
    ):
        found[np.ix_(rows.numpy(), columns.numpy())] = block.numpy()
    for i, query in enumerate(queries):
        for j, other in enumerate(gallery):
            mean, a, b = _oracle(query, other, window)
            assert found[i, j] == pytest.approx(mean, abs=1e-5)
            match = best_windows(query, other, window)
            assert match.score == pytest.approx(mean, abs=1e-5)
            assert (match.query_start, match.gallery_start) == (a, b)
            assert match.window == min(window, len(query), len(other))


def test_shared_footage_is_found_at_its_place_even_at_the_very_end() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = _videos(rng, [20, 15, 9], 32), _videos(rng, [30, 12, 40, 6], 32)
    gallery[2][36:40] = queries[1][11:15]  # the last window of both, which the paper's range leaves out
    gallery[3][1:5] = unit_rows(queries[2][2:6] + 0.02 * rng.normal(size=(4, 32)))
    found = best_matches(queries, gallery, window=4, most=3)
    assert found[0] == Match(1, 2, pytest.approx(1.0, abs=1e-5), 11, 36, 4)
    assert (found[1].query, found[1].gallery, found[1].query_start, found[1].gallery_start) == (2, 3, 2, 1)
    assert found[1].score > 0.95 > 0.7 > found[2].score


def test_the_best_are_the_best_of_all_in_order() -> None:
    rng = np.random.default_rng(1)
    queries, gallery = _videos(rng, [5, 7, 9] * 8), _videos(rng, [4, 8] * 15)
    every = sorted((-_oracle(q, g, 3)[0], i, j) for i, q in enumerate(queries) for j, g in enumerate(gallery))
    found = best_matches(queries, gallery, window=3, most=25)
    assert [(m.query, m.gallery) for m in found] == [(i, j) for _, i, j in every[:25]]
    assert len(best_matches(queries, gallery, window=3, most=10**6)) == len(queries) * len(gallery)


def test_a_set_with_itself_names_each_pair_once() -> None:
    videos = _videos(np.random.default_rng(2), [6] * 5)
    videos[4] = videos[1].copy()
    found = best_matches(videos, videos, names=("abcde", "abcde"))
    assert len(found) == 10
    assert (found[0].query, found[0].gallery) == (1, 4)
    assert all(match.query < match.gallery for match in found)


def test_frames_of_zeros_are_like_nothing_and_empty_videos_are_refused() -> None:
    rng = np.random.default_rng(3)
    query = unit_rows(rng.normal(size=(8, 4)))
    dark = query.copy()
    dark[2:6] = 0
    assert best_windows(dark, dark.copy(), 4).score == pytest.approx(1 / 2)  # any window has two lit frames at most
    with pytest.raises(ValueError, match=r"video 1 is \(0, 4\)"):
        group_by_length([query, np.zeros((0, 4))], 4)
    with pytest.raises(ValueError, match=r"wanted \[frames, 4\]"):
        group_by_length([query, np.zeros((3, 5))], 4)


def test_blocks_stay_small_however_many_pairs_there_are() -> None:
    rng = np.random.default_rng(4)
    queries, gallery = _videos(rng, [10] * 40, 4), _videos(rng, [10] * 3000, 4)
    blocks = [block.shape for *_, block in score_blocks(group_by_length(queries, 4), group_by_length(gallery, 4), 4)]
    assert sum(rows * columns for rows, columns in blocks) == 40 * 3000
    assert max(rows for rows, _ in blocks) * 10 <= 512
    assert max(columns for _, columns in blocks) * 10 <= 1024
