"""A slot in closed form: ridge regression from the mean features of all experts to the text encoder's space.

Experts add up, so an absent one adds nothing. The penalty is the one whose leave-one-out predictions rank each clip's
own captions best. Prediction errors are not spread evenly over the text space: directions with large errors are given
less weight, by a power of the covariance of leave-one-out errors. With normal errors and a power of one this is ranking
by likelihood. Only training clips are used.
"""

from collections.abc import Mapping
from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import zero_absent

__all__ = ["LinearSlot", "Means", "error_whitening", "ridge"]

Means = Mapping[str, tuple[Tensor, Tensor]]
POWERS, SHRINKAGES = (0.25, 0.5, 0.75, 1.0), (0.1, 0.3, 0.6)
PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(-2, 11))


class LinearSlot(nn.Module):
    """One linear map per expert, summed over the experts that are present.

    `share` is the slot's weight in the mixture, 0 to 1, chosen on validation clips; `trust` whitens errors.
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
        first, _ = next(iter(means.values()))
        rows, present = [], torch.zeros(len(first), dtype=torch.bool, device=first.device)
        for name, dim in self.experts.items():
            row, row_present = means.get(name, (first.new_zeros(len(first), dim), torch.zeros_like(present)))
            rows.append(row)
            present = present | row_present
        return torch.cat(rows, dim=1), present

    def fit(self, means: Means, captions: Float[Tensor, "caption text"], owner: Int[Tensor, " caption"]) -> float:
        """Fit to training clips.

        Args:
            captions: features of every caption.
            owner: the clip of each caption.

        Returns:
            the mean logarithm of the rank of each clip for the mean of its captions, by leave-one-out predictions.
        """
        rows, present = self._flat(means)
        counts = torch.bincount(owner, minlength=len(rows)).clamp(min=1)[:, None]
        texts = captions.new_zeros(len(rows), captions.shape[1]).index_add(0, owner, captions) / counts
        self.centre.copy_(texts[present].mean(0))
        matrix, loo = ridge(rows[present], (texts - self.centre)[present])
        self.matrix.copy_(matrix)
        row_of_clip = torch.full((len(rows),), -1, device=rows.device)
        row_of_clip[present] = torch.arange(int(present.sum()), device=rows.device)
        has_row = row_of_clip[owner] >= 0
        self.trust.copy_(error_whitening((captions - self.centre)[has_row], loo, row_of_clip[owner][has_row]))
        scores = functional.normalize((texts - self.centre)[present], dim=-1) @ functional.normalize(loo, dim=-1).T
        return float((1 + (scores > scores.diagonal()[:, None]).sum(1)).double().log().mean())

    def forward(self, means: Means) -> tuple[Float[Tensor, "video text"], Bool[Tensor, " video"]]:
        rows, present = self._flat(means)
        return functional.normalize(rows @ self.matrix @ self.trust, dim=-1), present

    def encode_text(self, features: Float[Tensor, "item text"]) -> Float[Tensor, "item text"]:
        return functional.normalize((features - self.centre) @ self.trust, dim=-1)


def ridge(
    inputs: Float[Tensor, "row input"], targets: Float[Tensor, "row output"]
) -> tuple[Float[Tensor, "input output"], Float[Tensor, "row output"]]:
    """Solve `argmin_W |inputs W - targets|^2 + penalty |W|^2`, the penalty chosen by leave-one-out mean rank.

    A leave-one-out prediction is `y - (y - p) / (1 - h)`, with p the prediction and h the leverage of its row.

    Returns:
        the matrix, and the leave-one-out prediction of each row.
    """
    u, scales, vh = torch.linalg.svd(inputs.double(), full_matrices=False)
    targets = targets.double()
    projected = u.T @ targets
    best_rank, best_shrink, best_loo = float("inf"), torch.zeros_like(scales), torch.zeros_like(targets)
    unit = functional.normalize(targets, dim=-1)
    for penalty in PENALTIES:
        shrink = scales**2 / (scales**2 + penalty * scales.square().mean())
        predicted = u @ (shrink[:, None] * projected)
        leverage = (u.square() @ shrink).clamp(max=1 - 1e-6)[:, None]
        loo = targets - (targets - predicted) / (1 - leverage)
        scores = unit @ functional.normalize(loo, dim=-1).T
        rank = float((scores > scores.diagonal()[:, None]).sum(1).double().mean())
        if rank < best_rank:
            best_rank, best_shrink, best_loo = rank, shrink, loo
    inverse = zero_absent(scales > 1e-9, best_shrink / scales.clamp(min=1e-9))
    return (vh.T @ (inverse[:, None] * projected)).to(inputs.dtype), best_loo.to(inputs.dtype)


def error_whitening(
    captions: Float[Tensor, "caption text"], loo: Float[Tensor, "row text"], owner: Int[Tensor, " caption"]
) -> Float[Tensor, "text text"]:
    """Return `C^(-power / 2)` of the covariance C of errors, shrunk towards its mean variance.

    Power and shrinkage are those with the best mean rank over four folds of the rows, C from the other three; a power
    of zero, which is plain ridge, is among the candidates. The matrix is scaled to a mean eigenvalue of one.

    Args:
        loo: leave-one-out predictions.
        owner: the row of each caption.
    """
    captions, loo = captions.double(), loo.double()
    errors = captions - loo[owner]
    fold_of_row = torch.arange(len(loo), device=loo.device) % 4
    ranks: dict[tuple[float, float], float] = dict.fromkeys([(0.0, 1.0), *product(POWERS, SHRINKAGES)], 0.0)
    for fold in range(4):
        held_out = fold_of_row[owner] == fold
        rows = (fold_of_row == fold).nonzero()[:, 0]
        if len(rows) < 2 or int((~held_out).sum()) < 2:
            return torch.eye(loo.shape[1], dtype=torch.float32, device=loo.device)
        positive = torch.searchsorted(rows, owner[held_out])
        spectrum = torch.linalg.eigh(errors[~held_out].T @ errors[~held_out] / int((~held_out).sum()))
        for power, shrinkage in ranks:
            whitening = _power(spectrum, power, shrinkage)
            queries = functional.normalize(captions[held_out] @ whitening, dim=-1)
            scores = queries @ functional.normalize(loo[rows] @ whitening, dim=-1).T
            positive_scores = scores.gather(1, positive[:, None])
            ranks[power, shrinkage] += float((scores > positive_scores).sum(1).double().mean())
    power, shrinkage = min(ranks, key=lambda pair: ranks[pair])
    full_spectrum = torch.linalg.eigh(errors.T @ errors / len(errors))
    return _power(full_spectrum, power, shrinkage).float()


def _power(spectrum: tuple[Tensor, Tensor], power: float, shrinkage: float) -> Tensor:
    values, vectors = spectrum
    values = (1 - shrinkage) * values.clamp(min=0) + shrinkage * values.mean()
    weights = values.clamp(min=1e-12) ** (-power / 2)
    return (vectors * (weights / weights.mean())) @ vectors.T
