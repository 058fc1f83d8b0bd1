"""A slot in closed form: ridge regression from the mean features of all experts to the text encoder's space.

Experts add up, so an absent one adds nothing. The penalty is the one whose leave-one-out predictions rank the clips'
own captions best; nothing but the training clips is looked at.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LinearSlot", "ridge"]

Means = Mapping[str, tuple[Tensor, Tensor]]
PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(-2, 11))


class LinearSlot(nn.Module):
    """One linear map an expert, summed over the experts that are present.

    `share` is the slot's weight in the mixture, 0 to 1, chosen on validation clips.
    """

    def __init__(self, experts: Mapping[str, int], text_dim: int) -> None:
        super().__init__()
        self.experts = dict(experts)
        self.register_buffer("matrix", torch.zeros(sum(experts.values()), text_dim))
        self.register_buffer("centre", torch.zeros(text_dim))
        self.register_buffer("share", torch.zeros(()))
        self.matrix: Tensor
        self.centre: Tensor
        self.share: Tensor

    def _flat(self, means: Means) -> tuple[Tensor, Tensor]:
        some, _ = next(iter(means.values()))
        rows, present = [], torch.zeros(len(some), dtype=torch.bool, device=some.device)
        for name, dim in self.experts.items():
            row, there = means.get(name, (some.new_zeros(len(some), dim), torch.zeros_like(present)))
            rows.append(row)
            present = present | there
        return torch.cat(rows, dim=1), present

    def fit(self, means: Means, texts: Float[Tensor, "video text"]) -> None:
        """Fit to training clips and the mean of each one's caption features."""
        rows, present = self._flat(means)
        self.centre.copy_(texts.mean(0))
        self.matrix.copy_(ridge(rows[present], (texts - self.centre)[present]))

    def forward(self, means: Means) -> tuple[Float[Tensor, "video text"], Bool[Tensor, " video"]]:
        rows, present = self._flat(means)
        return functional.normalize(rows @ self.matrix, dim=-1), present

    def encode_text(self, features: Float[Tensor, "item text"]) -> Float[Tensor, "item text"]:
        return functional.normalize(features - self.centre, dim=-1)


def ridge(inputs: Float[Tensor, "row input"], targets: Float[Tensor, "row output"]) -> Float[Tensor, "input output"]:
    """`argmin_W |inputs W - targets|^2 + penalty |W|^2`, the penalty chosen by leave-one-out mean rank.

    A leave-one-out prediction is `y - (y - p) / (1 - h)`, with p the prediction and h the leverage of its row.
    """
    left, scales, right = torch.linalg.svd(inputs.double(), full_matrices=False)
    targets = targets.double()
    turned = left.T @ targets
    best, chosen = float("inf"), torch.zeros_like(scales)
    unit = functional.normalize(targets, dim=-1)
    for penalty in PENALTIES:
        shrink = scales**2 / (scales**2 + penalty * scales.square().mean())
        predicted = left @ (shrink[:, None] * turned)
        leverage = (left.square() @ shrink).clamp(max=1 - 1e-6)[:, None]
        alone = functional.normalize(targets - (targets - predicted) / (1 - leverage), dim=-1)
        scores = unit @ alone.T
        rank = float((scores > scores.diagonal()[:, None]).sum(1).double().mean())
        if rank < best:
            best, chosen = rank, shrink
    inverse = torch.where(scales > 1e-9, chosen / scales.clamp(min=1e-9), torch.zeros((), dtype=scales.dtype))
    return (right.T @ (inverse[:, None] * turned)).to(inputs.dtype)
