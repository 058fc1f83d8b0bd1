"""Ranking losses over a similarity matrix: the positive pair must beat every other by a margin."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reelseek.library.mask import zero_absent

__all__ = [
    "max_margin",
    "other_pairs",
    "rank_weights",
    "ranked_max_margin",
    "triplet",
    "video_max_margin",
    "within_video_max_margin",
]


def other_pairs(similarity: Float[Tensor, "text video"], negatives: Tensor | None) -> Bool[Tensor, "text video"]:
    """Every pair off the diagonal, restricted to `negatives` unless that is None.

    Raises:
        ValueError: similarity is not square.
    """
    if similarity.shape[0] != similarity.shape[1]:
        raise ValueError(f"similarity must be square, texts and videos paired; got {tuple(similarity.shape)}")
    others = ~torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    return others if negatives is None else others & negatives


def max_margin(
    similarity: Float[Tensor, "text video"],
    *,
    margin: float,
    negatives: Bool[Tensor, "text video"] | None = None,
    hardest: bool = False,
    diagonal: bool = False,
    weights: Float[Tensor, "text video"] | None = None,
) -> Float[Tensor, ""]:
    """Mean of `max(0, margin - s_ii + s_ij)` and `max(0, margin - s_ii + s_ji)` over all j != i.

    Args:
        similarity: row i is a text, column i its video.
        margin: .05 in MMT, .2 in MEE, COOT and VSE++.
        negatives: pairs that count; None takes all off the diagonal. A video with two captions in the batch is not its
            own negative.
        hardest: only the largest violation of each row and each column (VSE++), their mean over rows and columns.
        diagonal: count positive pairs too, whose violation is the margin itself, as MEE releases it; it changes the
            value, and the gradient only in scale.
        weights: multiplies each pair's violations (HT's intra-video negatives).

    Raises:
        ValueError: similarity is not square.

    Source: Karpathy et al. 2014; over 2B(B-1) terms as CE and MMT release it; hardest from Faghri et al. 2018.
    """
    counted = other_pairs(similarity, negatives)
    if diagonal:
        counted = counted | torch.eye(len(counted), dtype=torch.bool, device=counted.device)
    positive = similarity.diagonal()
    zero = torch.zeros((), dtype=similarity.dtype, device=similarity.device)
    by_row = torch.where(counted, (margin - positive[:, None] + similarity).relu(), zero)
    by_column = torch.where(counted, (margin - positive[None, :] + similarity).relu(), zero)
    if weights is not None:
        by_row, by_column = by_row * weights, by_column * weights
    if hardest:
        return (by_row.amax(1).sum() + by_column.amax(0).sum()) / (2 * len(similarity))
    return (by_row + by_column).sum() / (2 * counted.sum()).clamp(min=1)


def rank_weights(similarity: Float[Tensor, "text video"]) -> Float[Tensor, " text"]:
    """`1 + 1 / (N - rank + 1)` for the rank of each text's video: worse ranks weigh more.

    Source: Mithun et al. 2018 (Learning joint embedding with multimodal cues), section 3.3.
    """
    ranks = 1 + (similarity > similarity.diagonal()[:, None]).sum(1)
    return (1 + 1 / (len(similarity) - ranks + 1).to(similarity.dtype)).detach()


def ranked_max_margin(
    similarity: Float[Tensor, "text video"], *, margin: float, negatives: Bool[Tensor, "text video"] | None = None
) -> Float[Tensor, ""]:
    """The hardest violations, each direction weighted by the rank of the positive, averaged.

    Args:
        similarity: row i is a text, column i its video.
        margin: .2 in the released code.
        negatives: pairs that count; None takes all off the diagonal.

    Raises:
        ValueError: similarity is not square.

    Source: Mithun et al. 2018 (Multi Cues), section 3.3.
    """
    counted = other_pairs(similarity, negatives)
    total = torch.zeros((), dtype=similarity.dtype, device=similarity.device)
    for scores, pairs in ((similarity, counted), (similarity.T, counted.T)):
        violations = (margin - scores.diagonal()[:, None] + scores).relu()
        hardest = zero_absent(pairs, violations).amax(1)
        total = total + (rank_weights(scores) * hardest).sum()
    return total / (2 * len(similarity))


def video_max_margin(
    similarity: Float[Tensor, "text video"],
    *,
    margin: float = 10.0,
    negatives: Bool[Tensor, "text video"] | None = None,
) -> Float[Tensor, ""]:
    """Mean of `max(0, margin - s_ii + s_ji)`: a video must prefer its own text to others; texts choose nothing.

    Args:
        margin: 10 in JSFusion, whose scores are not bounded.
        negatives: pairs that count; None takes all off the diagonal.

    Raises:
        ValueError: similarity is not square.

    Source: Yu et al. 2018 (JSFusion), as released, where the own pairs are counted too, which changes no direction.
    """
    counted = other_pairs(similarity, negatives)
    violations = (margin - similarity.diagonal()[None, :] + similarity).relu()
    return zero_absent(counted, violations).sum() / counted.sum().clamp(min=1)


def within_video_max_margin(
    similarity: Float[Tensor, "text video"],
    *,
    margin: float,
    weight: float = 1.0,
    negatives: Bool[Tensor, "text video"] | None = None,
) -> Float[Tensor, ""]:
    """`max_margin` in which other moments of the same video are negatives as well, times `weight`.

    Args:
        negatives: pairs of different videos; all others off the diagonal are within a video.

    Raises:
        ValueError: similarity is not square.

    Source: Miech et al. 2019 (HowTo100M), section 4.1.
    """
    weights = torch.ones_like(similarity)
    if negatives is not None:
        weights = torch.where(negatives, weights, torch.full_like(weights, weight))
    return max_margin(similarity, margin=margin, weights=weights)


def triplet(
    anchors: Float[Tensor, "item dim"],
    others: Float[Tensor, "item dim"],
    *,
    margin: float,
    negatives: Bool[Tensor, "item item"] | None = None,
) -> Float[Tensor, ""]:
    """Mean of `max(0, margin + |a_i - p_i|^2 - |a_i - n|^2)`, row i of the others its positive.

    Args:
        negatives: pairs that count; None takes all but the positives.

    Raises:
        ValueError: there are not as many others as anchors.

    Source: Wray et al. 2019 (JPose), equation 2, over all triplets of a batch instead of a sample of them.
    """
    distances = torch.cdist(anchors, others).square()
    violations = (margin + distances.diagonal()[:, None] - distances).relu()
    counted = other_pairs(distances, negatives)
    return zero_absent(counted, violations).sum() / counted.sum().clamp(min=1)
