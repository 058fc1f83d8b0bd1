"""Ranks from blocks of scores are those of the whole matrix, to the last digit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelseek.evaluation.block_ranks import ScoreBlocks, _dual_softmax, ranks_in_blocks
from reelseek.evaluation.ranks import DUAL_TEMPERATURE, dual_softmax, text_to_video_ranks, video_to_text_ranks


def _blocks(scores: np.ndarray, rows: int) -> ScoreBlocks:
    return lambda: ((top, scores[top : top + rows]) for top in range(0, len(scores), rows))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    texts=st.integers(1, 40),
    videos=st.integers(1, 12),
    rows=st.integers(1, 17),
    ties=st.sampled_from(["mean", "optimistic", "pessimistic"]),
    words=st.booleans(),
    each=st.booleans(),
    dual=st.booleans(),
    holes=st.booleans(),
)
def test_blocks_give_the_ranks_of_the_whole(seed, texts, videos, rows, ties, words, each, dual, holes) -> None:
    rng = np.random.default_rng(seed)
    scores = (rng.integers(-3, 4, (texts, videos)) / 7).astype(np.float32)  # with ties
    owners = rng.integers(0, videos, texts).tolist()
    options = {"ties": ties, "same_words": rng.integers(0, 6, texts).tolist() if words else None}
    scorable = rng.random(videos) < 0.7 if holes else None
    ranks = ranks_in_blocks(
        _blocks(scores, rows), owners, videos, scorable, each=each, temperature=DUAL_TEMPERATURE if dual else None,
        **options,
    )  # fmt: skip
    whole = dual_softmax(scores) if dual else scores
    expected = text_to_video_ranks(whole, owners, scorable, **options)
    assert ranks.text_to_video.tolist() == expected.tolist()
    expected = video_to_text_ranks(whole, owners, scorable, each=each, **options)
    assert ranks.video_to_text.tolist() == expected.tolist()


@pytest.mark.parametrize("rows", [7, 64, 1000])
def test_normalised_scores_are_the_same_numbers(rows: int) -> None:
    """Of numbers without ties a last digit would show: sums are added in the order of the whole."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(300, 90)).astype(np.float32)
    owners = rng.integers(0, 90, 300).tolist()
    ranks = ranks_in_blocks(_blocks(scores, rows), owners, 90, temperature=DUAL_TEMPERATURE)
    assert ranks.text_to_video.tolist() == text_to_video_ranks(dual_softmax(scores), owners).tolist()
    parts = [part for _, part in _dual_softmax(_blocks(scores, rows), 90, DUAL_TEMPERATURE)()]
    np.testing.assert_array_equal(np.concatenate(parts), dual_softmax(scores))


def test_a_nan_is_no_rank() -> None:
    scores = np.zeros((5, 3), np.float32)
    scores[3, 1] = np.nan
    with pytest.raises(ValueError, match="first in row 3"):
        ranks_in_blocks(_blocks(scores, 2), [0] * 5, 3)
