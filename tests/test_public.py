"""The public names: what a notebook or another package may rely on."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import reelseek
from reelseek.metrics import metrics, recall_at_k, retrieval_metrics


def test_every_public_name_is_there_and_listed() -> None:
    assert sorted(set(dir(reelseek))) == sorted(reelseek.__all__)
    for name in reelseek.__all__:
        assert getattr(reelseek, name) is not None, name
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = reelseek.nonsense


def test_importing_does_no_work() -> None:
    command = "import reelseek, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


def test_metrics_of_a_square_matrix_need_no_further_words() -> None:
    similarity = np.array([[0.9, 0.1, 0.9], [0.2, 0.8, 0.1], [0.3, 0.4, 0.1]])
    measured = retrieval_metrics(similarity)
    assert measured.text_to_video.recall_at_1 == pytest.approx(1 / 3)  # the first is tied, and takes rank 1.5
    assert measured.text_to_video.mean_rank == pytest.approx((1.5 + 1 + 3) / 3)
    assert measured == retrieval_metrics(torch.tensor(similarity, requires_grad=True))
    assert recall_at_k(similarity, 5) == 1.0
    assert recall_at_k(torch.tensor(similarity)[:, :2], 1, [0, 1, 1]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("similarity", "message"),
    [
        (np.zeros((2, 3)), "not square"),
        (np.zeros(3), "wanted numbers"),
        (np.array([["a"]]), "wanted numbers"),
        (np.full((2, 2), np.nan), "holds NaN"),
    ],
)
def test_what_is_no_similarity_is_refused(similarity: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(similarity)


def test_metrics_of_ranks_refuse_a_matrix() -> None:
    with pytest.raises(ValueError, match="one rank per query"):
        metrics(np.random.default_rng(0).random((5, 5)))
    with pytest.raises(ValueError, match="ranks count from 1"):
        metrics(np.array([0.3, 1.0]))
