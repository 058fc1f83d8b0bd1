"""Premises count what CrossCLR's loss does, and what one modality says of another."""

import numpy as np
import pytest
import torch

from reelseek.experiments.premises import CheckedPremise, effective_share, explained, share_pruned
from reelseek.models.losses.crossclr import CrossCLR, CrossCLRConfig


def _rows(count: int, common: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(count, 24)) + common
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("common", [0.2, 1.0])
@pytest.mark.parametrize("kappa", [0.001, 0.01])
def test_shares_are_those_of_the_loss(common: float, kappa: float) -> None:
    """A batch of all rows: what the loss prunes and how it weighs, and what the premise says of it."""
    rows = _rows(32, common)
    loss = CrossCLR(CrossCLRConfig(prune=0.9, sharpness=kappa), (4, 24, 24))
    gram = torch.from_numpy(rows @ rows.T)
    connectivity = gram.fill_diagonal_(0).sum(0) / 31
    assert share_pruned(rows, 0.9, batch=32) == pytest.approx(loss._influential(connectivity).double().mean().item())
    weights = loss._weights(connectivity)
    expected = float(weights.sum() ** 2 / (weights**2).sum() / 32)
    assert effective_share(rows, kappa, batch=32) == pytest.approx(expected, rel=1e-6)
    assert share_pruned(rows, None) == 0.0


def test_equal_weights_are_the_whole_batch_and_one_weight_is_one_row() -> None:
    assert effective_share(_rows(32, 1.0), 1e6, batch=32) == pytest.approx(1.0)
    assert effective_share(_rows(32, 0.2), 1e-6, batch=32) == pytest.approx(1 / 32)


def test_what_is_explained_is_the_share_of_variance_of_unseen_rows() -> None:
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=(4000, 6)), rng.normal(size=(4000, 3))
    y = x[:, :3] + noise
    assert explained((x[:3000], x[3000:]), (y[:3000], y[3000:])) == pytest.approx(0.5, abs=0.03)
    assert explained((x[:3000], x[3000:]), (noise[:3000], noise[3000:])) == pytest.approx(0.0, abs=0.02)


def test_bounds_are_inclusive_and_said() -> None:
    assert CheckedPremise("", 0.5, 0.0, 0.5).holds
    assert not CheckedPremise("", 0.51, 0.0, 0.5).holds
    assert not CheckedPremise("", -0.01, 0.0, 0.5).holds
    assert not CheckedPremise("", float("nan"), 0.0, 0.5).holds
    said = [CheckedPremise("", 0, low, high).bounds for low, high in ((0.1, np.inf), (-np.inf, 2), (-np.inf, np.inf))]
    assert said == ["at least 0.1", "at most 2", "any"]
