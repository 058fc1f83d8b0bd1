"""The volume that an anchor and any subset of other vectors span."""

from contextlib import nullcontext

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reelseek.library.mask import zero_absent

__all__ = ["gramian_volume"]

_RIDGE = 1e-6  # of the Gram matrix of modalities, which may be the same vector twice
_LEAST = 1e-6  # squared sine, under which the gradient of its root is held at zero


def gramian_volume(
    anchors: Float[Tensor, "text dim"],
    vectors: Float[Tensor, "video modality dim"],
    present: Bool[Tensor, "video modality"],
) -> Float[Tensor, "text video"]:
    """`sqrt(det G)` of the Gram matrix G of an anchor and of a video's modalities, all of unit length; 0 to 1.

    With `n` modalities of which a video has `k`, the volume is taken to the power n/k: a volume is a product of k
    sines, and shrinks with every modality, so that without it videos with more of them would be nearer to every text. A
    video with all of them has the published volume, one without any has 1.

    No matrix is made for a pair: `det G = det M (1 - c' M^-1 c)`, where M is the Gram matrix of the video's modalities
    and c their cosines with the anchor.

    Source: Cicchetti et al. 2025 (GRAM), whose released code has the determinant of the matrix of each pair; the power
    and this way to compute it are ours.
    """
    device = vectors.device.type
    autocast = torch.amp.is_autocast_available(device)
    # It would round cosines near 1 to 1.
    with torch.autocast(device, enabled=False) if autocast else nullcontext():
        anchors, vectors = anchors.float(), zero_absent(present[..., None], vectors.float())
        count = present.shape[1]
        unit = torch.eye(count, device=vectors.device)
        gram = vectors @ vectors.transpose(1, 2)
        gram = torch.where(present[:, :, None] & present[:, None, :], gram, unit)  # an absent one is orthogonal to all
        factor = torch.linalg.cholesky((gram + _RIDGE * unit) / (1 + _RIDGE))
        cosines = torch.einsum("vmd,td->vmt", vectors, anchors)
        explained = torch.linalg.solve_triangular(factor, cosines, upper=False).square().sum(1).T
        log_sines = (1 - explained).clamp(min=_LEAST).log() + 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
        power = count / present.sum(1).clamp(min=1)
        return torch.where(present.any(1), (0.5 * power * log_sines).exp(), torch.ones_like(log_sines))
