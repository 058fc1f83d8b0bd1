"""Losses beside the ranking of pairs: cycle consistency, alignment to prototypes, pseudo-labels, regression."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from reelseek.library.mask import zero_absent

__all__ = ["cycle_consistency", "half_cycle", "prototype_alignment", "pseudo_supervision", "regression", "soft_nearest"]

_FILL = -32752.0


def soft_nearest(
    items: Float[Tensor, "video item dim"],
    present: Bool[Tensor, "video item"],
    others: Float[Tensor, "video other dim"],
    others_present: Bool[Tensor, "video other"],
) -> Float[Tensor, "video item other"]:
    """Weights of the others for each item: a softmax of negative mean squared differences (COOT, equation 6)."""
    distances = (items[:, :, None] - others[:, None]).square().mean(-1)
    pairs = present[:, :, None] & others_present[:, None, :]
    return (-distances).masked_fill(~pairs, _FILL).softmax(2)


def cycle_consistency(
    clips: Float[Tensor, "video clip dim"],
    clips_present: Bool[Tensor, "video clip"],
    sentences: Float[Tensor, "video sentence dim"],
    sentences_present: Bool[Tensor, "video sentence"],
) -> Float[Tensor, ""]:
    """Penalise a cycle from a clip to its soft nearest sentence and back that does not end at the clip.

    The squared difference of indexes, averaged over a video's clips and then over videos.

    Source: Ging et al. 2020 (COOT), section 3.3; without its sampling of one clip per video.
    """
    nearest = soft_nearest(clips, clips_present, sentences, sentences_present) @ sentences
    back = soft_nearest(nearest, clips_present, clips, clips_present)
    return _index_error(back, clips_present)


def half_cycle(
    clips: Float[Tensor, "video clip dim"],
    clips_present: Bool[Tensor, "video clip"],
    sentences: Float[Tensor, "video sentence dim"],
    sentences_present: Bool[Tensor, "video sentence"],
) -> Float[Tensor, ""]:
    """`cycle_consistency` without the way back: a clip's soft nearest sentence should have the index of the clip.

    Source: Ging et al. 2020 (COOT), section 3.3.
    """
    return _index_error(soft_nearest(clips, clips_present, sentences, sentences_present), clips_present)


def _index_error(shares: Float[Tensor, "video clip other"], present: Bool[Tensor, "video clip"]) -> Float[Tensor, ""]:
    """Squared error of the expected index of each clip, averaged over a video's clips and then over videos."""
    target, index = (torch.arange(size, dtype=shares.dtype, device=shares.device) for size in shares.shape[1:])
    errors = zero_absent(present, (shares @ index - target).square())
    return (errors.sum(1) / present.sum(1).clamp(min=1)).mean()


def prototype_alignment(
    means: Float[Tensor, "item dim"],
    prototypes: Float[Tensor, "prototype dim"],
    *,
    labels: Int[Tensor, " item"] | None = None,
) -> Float[Tensor, ""]:
    """Mean squared distance of features to a learned token: the one of their label, or the nearest.

    Args:
        means: one row for each modality of each sample that has it.
        labels: the token of each row; None takes the nearest, as in the retrieval task.

    Source: Zhang et al. 2023 (UMI), equation 2: a squared norm, summed over dimensions.
    """
    distances = (means[:, None] - prototypes[None]).square().sum(-1)
    selected = distances.amin(1) if labels is None else distances.gather(1, labels[:, None])[:, 0]
    return selected.sum() / max(1, len(means))


def pseudo_supervision(logits: Float[Tensor, "item label"], pseudo: Float[Tensor, "item label"]) -> Float[Tensor, ""]:
    """Mean of `KL(pseudo || softmax(logits))` over samples (UMI, section 3.3; classification)."""
    return functional.kl_div(logits.log_softmax(1), pseudo, reduction="sum") / max(1, len(logits))


def regression(predicted: Float[Tensor, "item dim"], target: Float[Tensor, "item dim"]) -> Float[Tensor, ""]:
    """Mean squared error of predicted features (Word2VisualVec, Dong et al. 2018, equation 4)."""
    return functional.mse_loss(predicted, target)
