"""The bidirectional max-margin ranking loss."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["max_margin"]


def max_margin(
    similarity: Float[Tensor, "text video"], *, margin: float, valid: Bool[Tensor, "text video"] | None = None
) -> Float[Tensor, ""]:
    """Mean of `max(0, margin - s_ii + s_ij)` and `max(0, margin - s_ii + s_ji)` over all j != i.

    Args:
        similarity: row i is a text, column i its video.
        margin: .05 in MMT, .2 in MEE and COOT.
        valid: pairs that count as negatives; None takes all off the diagonal. A video with two captions in the batch
            is not its own negative.

    Raises:
        ValueError: similarity is not square.

    Source: Karpathy et al. 2014; over 2B(B-1) terms as CE and MMT release it.
    """
    if similarity.shape[0] != similarity.shape[1]:
        raise ValueError(f"similarity must be square, texts and videos paired; got {tuple(similarity.shape)}")
    negatives = ~torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    if valid is not None:
        negatives = negatives & valid
    own = similarity.diagonal()
    violations = (margin - own[:, None] + similarity).relu() + (margin - own[None, :] + similarity).relu()
    return torch.where(negatives, violations, torch.zeros(())).sum() / (2 * negatives.sum()).clamp(min=1)
