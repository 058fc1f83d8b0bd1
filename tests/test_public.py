"""The public names: what a notebook or another package may rely on."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import reelseek
from reelseek import losses as reelseek_losses
from reelseek.metrics import metrics, recall_at_k, retrieval_metrics
from reelseek.models.losses import info_nce, max_margin, mil_nce, mms, nce


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


def test_losses_are_modules_over_embeddings_with_published_defaults() -> None:
    generator = torch.Generator().manual_seed(0)
    video, text = (torch.randn(6, 8, generator=generator).requires_grad_() for _ in range(2))
    cosines = torch.nn.functional.normalize(text, dim=-1) @ torch.nn.functional.normalize(video, dim=-1).T
    expected = {
        reelseek_losses.MaxMargin(): max_margin(cosines, margin=0.05),
        reelseek_losses.InfoNCE(): info_nce(cosines, temperature=0.05),
        reelseek_losses.NCE(): nce(cosines, temperature=0.05),
        reelseek_losses.MMS(): mms(cosines, margin=0.001),
        reelseek_losses.MILNCE(): mil_nce(text @ video.T),
    }
    for loss, value in expected.items():
        assert torch.allclose(loss(video, text), value), loss
    for loss in (*expected, reelseek_losses.CrossCLR()):
        (gradient,) = torch.autograd.grad(loss(video, text), video)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0, loss


def test_crossclr_takes_inputs_and_keeps_a_queue() -> None:
    config = reelseek_losses.CrossCLRConfig(queue=8)
    loss = reelseek_losses.CrossCLR(config, dim=4, input_dims=(5, 3))
    generator = torch.Generator().manual_seed(1)
    rows = [torch.rand(6, width, generator=generator) for width in (4, 4, 5, 3)]
    assert torch.isfinite(loss(*rows))
    assert loss.loss.queue_x.abs().sum() > 0
    with pytest.raises(ValueError, match="say their width with dim"):
        reelseek_losses.CrossCLR(config)


def test_losses_refuse_what_is_not_paired() -> None:
    with pytest.raises(ValueError, match="wanted \\[item, dim\\] of both"):
        reelseek_losses.MaxMargin()(torch.zeros(3, 4), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="as many texts for each video"):
        reelseek_losses.MILNCE()(torch.zeros(3, 4), torch.zeros(4, 4))
    with pytest.raises(ValueError, match="more than 0"):
        reelseek_losses.InfoNCE(temperature=0)
