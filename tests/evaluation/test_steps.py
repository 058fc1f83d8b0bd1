"""Recall of placed steps, worked out by hand."""

import numpy as np
import pytest

from reelseek.evaluation.steps import step_recall


def test_recall_names_both_averages() -> None:
    once = np.eye(4, dtype=bool)
    truth = {"tea": {"a": np.eye(4), "b": np.eye(4)[:, ::-1] * [1, 0, 0, 0], "never": np.zeros((4, 4))}}
    recall = step_recall({"tea": dict.fromkeys(truth["tea"], once)}, truth)
    assert recall.of_videos == {"tea": {"a": 1.0, "b": 0.0}}
    assert recall.video_mean["tea"] == recall.mean_of_video_means == 0.5
    assert recall.pooled["tea"] == recall.mean_of_pooled == 0.8
    with pytest.raises(ValueError, match=r"placed \(4, 4\), annotated \(3, 4\)"):
        step_recall({"tea": {"a": once}}, {"tea": {"a": np.eye(4)[:3]}})
    with pytest.raises(ValueError, match="annotated and was not placed"):
        step_recall({"tea": {}}, {"tea": {"a": np.eye(4)}})
    with pytest.raises(ValueError, match="no video has an annotated step"):
        step_recall({"tea": {"a": once}}, {"tea": {"a": np.zeros((4, 4))}})
