"""Contrastive losses over a similarity matrix: softmax over the row and over the column of each positive pair."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from reelseek.library.mask import zero_absent
from reelseek.models.losses.margin import other_pairs

__all__ = ["info_nce", "mil_nce", "mms", "nce", "soft_nce"]


def nce(
    similarity: Float[Tensor, "text video"],
    *,
    temperature: float,
    negatives: Bool[Tensor, "text video"] | None = None,
) -> Float[Tensor, ""]:
    """Cross entropy of rows plus cross entropy of columns: a sum, as Everything at Once releases it.

    Args:
        similarity: cosines; row i is a text, column i its video.
        temperature: > 0; .05 in Shvetsova et al. 2022.
        negatives: pairs that count; None takes all off the diagonal.

    Raises:
        ValueError: similarity is not square.

    Source: Shvetsova et al., "Everything at Once", CVPR 2022, equation 3.
    """
    counted = other_pairs(similarity, negatives)
    counted = counted | torch.eye(len(counted), dtype=torch.bool, device=counted.device)
    logits = (similarity / temperature).masked_fill(~counted, -torch.inf)
    labels = torch.arange(len(logits), device=logits.device)
    return functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)


def info_nce(
    similarity: Float[Tensor, "text video"],
    *,
    temperature: float,
    negatives: Bool[Tensor, "text video"] | None = None,
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE: the mean of both directions, half of `nce`, whose arguments and errors it has.

    Source: van den Oord et al. 2018; in both directions as CLIP (Radford et al. 2021) and CLIP4Clip have it.
    """
    return nce(similarity, temperature=temperature, negatives=negatives) / 2


def mms(
    similarity: Float[Tensor, "text video"],
    *,
    margin: float = 0.001,
    negatives: Bool[Tensor, "text video"] | None = None,
) -> Float[Tensor, ""]:
    """Masked margin softmax: `nce` without a temperature, the margin subtracted from the scores of positive pairs.

    Raises:
        ValueError: similarity is not square.

    Source: Ilharco et al. 2019; .001 in AVLnet (Rouditchenko et al. 2021), section 3.3.
    """
    margins = margin * torch.eye(len(similarity), dtype=similarity.dtype, device=similarity.device)
    return nce(similarity - margins, temperature=1.0, negatives=negatives)


def soft_nce(
    similarity: Float[Tensor, "text video"],
    captions: Float[Tensor, "text dim"],
    *,
    temperature: float,
    sharpness: float = 0.05,
    negatives: Bool[Tensor, "text video"] | None = None,
) -> Float[Tensor, ""]:
    """`nce` whose targets know near-equal captions: a softmax over their cosines instead of the own pair alone.

    Args:
        captions: features of the texts of unit length, in a space that is not learnt.
        sharpness: > 0; the temperature of the targets. A caption as good as equal to another shares its target with it.

    Raises:
        ValueError: similarity is not square.

    Source: Andonian et al. 2022 (Robust cross-modal representation learning with progressive self-distillation) align
        such pairs softly; targets from a frozen text encoder are ours.
    """
    counted = other_pairs(similarity, negatives)
    counted = counted | torch.eye(len(counted), dtype=torch.bool, device=counted.device)
    logits = (similarity / temperature).masked_fill(~counted, -torch.inf)
    targets = (captions @ captions.T / sharpness).masked_fill(~counted, -torch.inf).softmax(1)
    losses = [-(targets * zero_absent(counted, side.log_softmax(1))).sum(1) for side in (logits, logits.T)]
    return torch.stack(losses).mean(1).sum()


def mil_nce(
    similarity: Float[Tensor, "text video"],
    *,
    video_of_text: Int[Tensor, " text"] | None = None,
    temperature: float = 1.0,
    negatives: Bool[Tensor, "text video"] | None = None,
) -> Float[Tensor, ""]:
    """Multiple-instance NCE: the sum over all candidate captions of a video is contrasted with all other pairs.

    `mean_v logsumexp(all texts with v, all videos with v's texts) - logsumexp(v's texts with v)`; positives occur twice
    in the first sum, as released, where scores are neither normalised nor divided by a temperature.

    Args:
        similarity: several texts per video.
        video_of_text: the column of each row's video; None pairs row i with column i.
        negatives: pairs that count besides the positives; None takes all.

    Raises:
        ValueError: similarity is not square, and `video_of_text` does not say how texts and videos belong together.

    Source: Miech et al. 2020 (MIL-NCE), equation 1.
    """
    if video_of_text is None:
        other_pairs(similarity, None)
        video_of_text = torch.arange(len(similarity), device=similarity.device)
    videos = similarity.shape[1]
    positive_pairs = video_of_text[:, None] == torch.arange(videos, device=similarity.device)[None, :]
    lowest = -torch.inf
    similarity = similarity / temperature
    if negatives is not None:
        similarity = similarity.masked_fill(~(negatives | positive_pairs), lowest)
    positives = similarity.masked_fill(~positive_pairs, lowest).logsumexp(0)
    row = similarity.logsumexp(0)
    # For each video, all scores of its texts with any video.
    of_texts = similarity.logsumexp(1)[:, None].expand_as(similarity).masked_fill(~positive_pairs, lowest).logsumexp(0)
    has_text = positive_pairs.any(0)  # a video without any text has no term
    losses = (torch.logaddexp(row, of_texts) - positives).masked_fill(~has_text, 0)
    return losses.sum() / has_text.sum().clamp(min=1)
