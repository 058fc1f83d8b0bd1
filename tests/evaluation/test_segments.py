"""Scores of a segmentation, worked out by hand."""

import numpy as np
import pytest

from reelseek.evaluation.segments import score


def test_scores_by_hand() -> None:
    found = score(np.array([0, 0, 1, 1, 3]), np.array([0, 1, 1, 2, 2]), background=3)
    assert found.frame_accuracy == 0.4
    assert found.iou == {0: 1 / 2, 1: 1 / 3, 2: 0.0}
    assert found.iod == {0: 1 / 2, 1: 1 / 2}
    assert (found.mean_iou, found.mean_iod) == (pytest.approx(5 / 18), 0.5)
    assert found.recall == pytest.approx(2 / 3)


def test_labels_and_truth_of_different_lengths_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        score(np.zeros(3, np.int64), np.zeros(4, np.int64))
