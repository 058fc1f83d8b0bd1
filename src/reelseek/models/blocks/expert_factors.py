"""How much each expert of a mixture counts, by clips that it has not learnt from (ours).

A mixture learns the weights of its experts together with their slots. Where clips are few, slots learn training clips
by heart, weak experts' no less than strong ones', and the weights stay as even as they began: what does not tell other
clips apart then counts as much as what does. Factors of the weights are selected on validation clips instead.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from reelseek.library.mask import zero_absent
from reelseek.models.embedding import Embedding

__all__ = ["select_factors"]

FACTORS = (0.02, 0.1, 0.25, 0.5, 1.0)  # none is zero: a clip that has one expert alone is compared by it
TEMPERATURE = 0.05
_MOST_CAPTIONS = 1000
_LEAST_GAIN = 1e-3  # of the loss; of factors that do as well the larger are taken


@torch.no_grad()
def select_factors(texts: Embedding, videos: Embedding, owner: Int[Tensor, " text"]) -> Float[Tensor, " slot"]:
    """Select a factor of each slot's weight, under which captions tell their clips from all others best.

    The cross entropy of clips given a caption is lowered by one slot's factor at a time, until none lowers it. Unlike a
    recall, it also counts by how much a clip is ahead, so that a few dozen captions suffice.

    Args:
        owner: the clip of each caption.
    """
    rows = torch.linspace(0, len(owner) - 1, min(len(owner), _MOST_CAPTIONS)).long()
    owner, weights, present = owner[rows], texts.weights[rows].float(), videos.present.float()
    cosines = [texts.values[rows, slot].float() @ videos.values[:, slot].float().T for slot in range(present.shape[1])]

    def loss(factors: Tensor) -> float:
        factored = weights * factors
        total = factored @ present.T
        parts = zip(cosines, factored.unbind(1), present.unbind(1), strict=True)
        scores = sum(weight[:, None] * is_present * cosine for cosine, weight, is_present in parts)
        scores = zero_absent(total > 0, scores / total.clamp(min=1e-12))
        return float(functional.cross_entropy(scores / TEMPERATURE, owner))

    factors = torch.ones(len(cosines))
    best = loss(factors)
    while True:
        trials: Mapping[tuple[int, float], float] = {
            (slot, factor): loss(_with(factors, slot, factor))
            for slot in range(len(factors))
            for factor in FACTORS
            if factor != float(factors[slot])
        }
        (slot, factor), value = min(trials.items(), key=lambda trial: (trial[1], -trial[0][1]))
        if value > best - _LEAST_GAIN:
            return factors / factors.max()
        factors, best = _with(factors, slot, factor), value


def _with(factors: Tensor, slot: int, factor: float) -> Tensor:
    changed = factors.clone()
    changed[slot] = factor
    return changed
