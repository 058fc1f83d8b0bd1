"""A slot in closed form: ridge regression from the mean features of all experts to the text encoder's space.

Experts add up, so an absent one adds nothing. The penalty is the one whose leave-one-out predictions rank the clips'
own captions best. What features cannot tell of a caption is not spread evenly over the text space: directions in which
predictions err much are weighed less, by a power of the covariance of leave-one-out errors. With normal errors and a
power of one this is ranking by likelihood. Nothing but the training clips is looked at.
"""

from collections.abc import Mapping
from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import zero_absent

__all__ = ["LinearSlot", "ridge", "trust"]

Means = Mapping[str, tuple[Tensor, Tensor]]
POWERS, SHRINKAGES = (0.25, 0.5, 0.75, 1.0), (0.1, 0.3, 0.6)
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
        self.register_buffer("trust", torch.eye(text_dim))
        self.matrix: Tensor
        self.centre: Tensor
        self.share: Tensor
        self.trust: Tensor

    def _flat(self, means: Means) -> tuple[Tensor, Tensor]:
        some, _ = next(iter(means.values()))
        rows, present = [], torch.zeros(len(some), dtype=torch.bool, device=some.device)
        for name, dim in self.experts.items():
            row, there = means.get(name, (some.new_zeros(len(some), dim), torch.zeros_like(present)))
            rows.append(row)
            present = present | there
        return torch.cat(rows, dim=1), present

    def fit(self, means: Means, captions: Float[Tensor, "caption text"], owner: Int[Tensor, " caption"]) -> None:
        """Fit to training clips.

        Args:
            captions: features of every caption, and the clip that each is of.
        """
        rows, present = self._flat(means)
        counts = torch.bincount(owner, minlength=len(rows)).clamp(min=1)[:, None]
        texts = captions.new_zeros(len(rows), captions.shape[1]).index_add(0, owner, captions) / counts
        self.centre.copy_(texts[present].mean(0))
        matrix, alone = ridge(rows[present], (texts - self.centre)[present])
        self.matrix.copy_(matrix)
        place = torch.full((len(rows),), -1, device=rows.device)
        place[present] = torch.arange(int(present.sum()), device=rows.device)
        told = place[owner] >= 0
        self.trust.copy_(trust((captions - self.centre)[told], alone, place[owner][told]))

    def forward(self, means: Means) -> tuple[Float[Tensor, "video text"], Bool[Tensor, " video"]]:
        rows, present = self._flat(means)
        return functional.normalize(rows @ self.matrix @ self.trust, dim=-1), present

    def encode_text(self, features: Float[Tensor, "item text"]) -> Float[Tensor, "item text"]:
        return functional.normalize((features - self.centre) @ self.trust, dim=-1)


def ridge(
    inputs: Float[Tensor, "row input"], targets: Float[Tensor, "row output"]
) -> tuple[Float[Tensor, "input output"], Float[Tensor, "row output"]]:
    """`argmin_W |inputs W - targets|^2 + penalty |W|^2`, the penalty chosen by leave-one-out mean rank.

    A leave-one-out prediction is `y - (y - p) / (1 - h)`, with p the prediction and h the leverage of its row.

    Returns:
        the matrix, and the leave-one-out prediction of each row.
    """
    left, scales, right = torch.linalg.svd(inputs.double(), full_matrices=False)
    targets = targets.double()
    turned = left.T @ targets
    best, chosen, kept = float("inf"), torch.zeros_like(scales), torch.zeros_like(targets)
    unit = functional.normalize(targets, dim=-1)
    for penalty in PENALTIES:
        shrink = scales**2 / (scales**2 + penalty * scales.square().mean())
        predicted = left @ (shrink[:, None] * turned)
        leverage = (left.square() @ shrink).clamp(max=1 - 1e-6)[:, None]
        alone = targets - (targets - predicted) / (1 - leverage)
        scores = unit @ functional.normalize(alone, dim=-1).T
        rank = float((scores > scores.diagonal()[:, None]).sum(1).double().mean())
        if rank < best:
            best, chosen, kept = rank, shrink, alone
    inverse = zero_absent(scales > 1e-9, chosen / scales.clamp(min=1e-9))
    return (right.T @ (inverse[:, None] * turned)).to(inputs.dtype), kept.to(inputs.dtype)


def trust(
    captions: Float[Tensor, "caption text"], alone: Float[Tensor, "row text"], owner: Int[Tensor, " caption"]
) -> Float[Tensor, "text text"]:
    """`C^(-power / 2)` of the covariance C of errors, drawn towards its mean variance.

    Power and shrinkage are those with the best mean rank over four folds of the rows, C from the other three; a power
    of zero, which is plain ridge, is among them. The matrix is scaled to a mean eigenvalue of one.

    Args:
        alone: leave-one-out predictions; owner: the row of each caption.
    """
    captions, alone = captions.double(), alone.double()
    errors = captions - alone[owner]
    fold_of_row = torch.arange(len(alone), device=alone.device) % 4
    found: dict[tuple[float, float], float] = dict.fromkeys([(0.0, 1.0), *product(POWERS, SHRINKAGES)], 0.0)
    for fold in range(4):
        mine = fold_of_row[owner] == fold
        rows = (fold_of_row == fold).nonzero()[:, 0]
        if len(rows) < 2 or int((~mine).sum()) < 2:
            return torch.eye(alone.shape[1], dtype=torch.float32, device=alone.device)
        own = torch.searchsorted(rows, owner[mine])
        spectrum = torch.linalg.eigh(errors[~mine].T @ errors[~mine] / int((~mine).sum()))
        for power, shrinkage in found:
            way = _power(spectrum, power, shrinkage)
            scores = (
                functional.normalize(captions[mine] @ way, dim=-1) @ functional.normalize(alone[rows] @ way, dim=-1).T
            )
            right = scores.gather(1, own[:, None])
            found[power, shrinkage] += float((scores > right).sum(1).double().mean())
    power, shrinkage = min(found, key=lambda pair: found[pair])
    whole = torch.linalg.eigh(errors.T @ errors / len(errors))
    return _power(whole, power, shrinkage).float()


def _power(spectrum: tuple[Tensor, Tensor], power: float, shrinkage: float) -> Tensor:
    values, vectors = spectrum
    values = (1 - shrinkage) * values.clamp(min=0) + shrinkage * values.mean()
    weights = values.clamp(min=1e-12) ** (-power / 2)
    return (vectors * (weights / weights.mean())) @ vectors.T
