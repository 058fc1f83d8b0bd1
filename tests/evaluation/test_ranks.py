"""Metrics a person can check."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reelseek.evaluation import metrics, ranks, text_to_video_ranks, video_to_text_ranks
from reelseek.evaluation.report import Examples, Picture, ReportTable, html_report


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(ranks).failed == 0


@given(
    arrays(np.float64, (6, 4), elements=st.integers(0, 3).map(float)),
    st.lists(st.integers(0, 3), min_size=6, max_size=6),
)
def test_ranks_equal_the_mean_over_all_orders_of_ties(scores: np.ndarray, owners: list[int]) -> None:
    found = text_to_video_ranks(scores, owners)
    for row, owner in enumerate(owners):
        better = sum(scores[row, v] > scores[row, owner] for v in range(4))
        equal = sum(scores[row, v] == scores[row, owner] for v in range(4))
        assert found[row] == better + (1 + equal) / 2
    for rank, video in zip(video_to_text_ranks(scores, owners), sorted(set(owners)), strict=True):
        mine = [scores[i, video] for i in range(6) if owners[i] == video]
        other = [scores[i, video] for i in range(6) if owners[i] != video]
        assert rank == 1 + sum(s > max(mine) for s in other) + sum(s == max(mine) for s in other) / 2


def test_hard_cases() -> None:
    with pytest.raises(ValueError, match="NaN in 1 rows"):
        text_to_video_ranks(np.array([[1.0, np.nan], [0, 0]]), [0, 1])
    with pytest.raises(ValueError, match="must be"):
        text_to_video_ranks(np.zeros((2, 2)), [0])
    with pytest.raises(ValueError, match="no query"):
        metrics(np.zeros(0))
    missing = text_to_video_ranks(np.array([[5.0, 1.0, 2.0]]), [0], np.array([False, True, True]))
    assert missing.tolist() == [3.0]
    one = metrics(text_to_video_ranks(np.zeros((1, 1)), [0]))
    assert (one.recall_at_1, one.median_rank, one.geometric_mean) == (1.0, 1.0, 1.0)


def test_a_report_escapes_what_videos_say() -> None:
    page = html_report(
        "T", [ReportTable("<t>", ["a"], [["<script>"]]), Examples("e", [("<q>", [Picture(None, "<img onerror>")])])]
    )
    for raw in ("<script>", "<q>\n", "<img onerror>", "<t>"):
        assert raw not in page
