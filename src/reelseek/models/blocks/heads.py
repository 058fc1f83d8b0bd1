"""Heads that turn pooled values into slots of an embedding."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GatedUnit", "MixtureWeights"]


class GatedUnit(nn.Module):
    """Gated embedding unit: linear, times the sigmoid of a (batch-normalised) linear of itself, then unit length.

    Source: Miech et al. 2018, section 3.2; with batch normalisation as MEE, CE and MMT release it.
    """

    def __init__(self, width_in: int, width_out: int, *, batch_norm: bool = True) -> None:
        super().__init__()
        self.fc = nn.Linear(width_in, width_out)
        self.gate = nn.Linear(width_out, width_out)
        self.norm = nn.BatchNorm1d(width_out) if batch_norm else nn.Identity()

    def forward(self, values: Float[Tensor, "item width"]) -> Float[Tensor, "item dim"]:
        values = self.fc(values)
        return functional.normalize(values * torch.sigmoid(self.norm(self.gate(values))), dim=-1)


class MixtureWeights(nn.Module):
    """How much each slot matters to a caption: a softmax over one linear score a slot (Miech et al. 2018)."""

    def __init__(self, width: int, slots: int) -> None:
        super().__init__()
        self.scores = nn.Linear(width, slots)

    def forward(self, values: Float[Tensor, "item width"]) -> Float[Tensor, "item slot"]:
        weights: Tensor = self.scores(values).softmax(-1)
        return weights
