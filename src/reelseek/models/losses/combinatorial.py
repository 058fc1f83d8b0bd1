"""Everything at Once's loss (Shvetsova et al. 2022): every pair of modalities and of fused pairs, weighted."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import combinations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from reelseek.library.mask import Mask

__all__ = ["View", "pairs_of_views", "term_name", "weighted_losses"]

View = tuple[str, ...]


def pairs_of_views(names: Sequence[str], *, fused: bool = True) -> list[tuple[View, View]]:
    """List the pairs of views that equation 4 compares: of two modalities, of one and two, and the first with all.

    Args:
        names: of the modalities, text first.
        fused: whether views of several modalities take part.

    >>> [term_name(*pair) for pair in pairs_of_views(("text", "video", "audio"))][3:]
    ['audio|text+video', 'video|text+audio', 'text|video+audio']
    """
    singles: list[tuple[View, View]] = [((one,), (two,)) for one, two in combinations(names, 2)]
    if not fused:
        return singles
    pairs: list[tuple[View, View]] = [
        ((one,), pair) for pair in combinations(names, 2) for one in names if one not in pair
    ]
    return [*singles, *pairs, *([((names[0],), tuple(names[1:]))] if len(names) > 3 else [])]


def term_name(one: View, two: View) -> str:
    """The name of a term of the loss: `text|video+audio`."""
    return f"{'+'.join(one)}|{'+'.join(two)}"


def weighted_losses(
    embedded: Mapping[View, Tensor],
    masks: Mapping[str, Mask],
    terms: Sequence[tuple[View, View]],
    weights: Mapping[str, float],
    loss: Callable[..., Tensor],
    alike: Int[Tensor, " item"],
) -> dict[str, Float[Tensor, ""]]:
    """Compute each term over the rows that have its modalities, times its weight over the sum of weights (equation 4).

    Args:
        alike: items with the same number are not negatives of each other.
    """
    losses, total = {}, 0.0
    masks_by_names: dict[frozenset[str], Mask] = {}
    for one, two in terms:
        name = term_name(one, two)
        weight = weights.get(name, 1.0)
        names = frozenset((*one, *two))
        if names not in masks_by_names:
            masks_by_names[names] = reduce(Mask.__and__, [masks[modality] for modality in sorted(names)])
        mask = masks_by_names[names]
        if not mask.count or not weight:
            continue
        pair = (embedded[view].index_select(0, mask.rows) for view in (one, two))
        x, y = (functional.normalize(rows, dim=-1, eps=1e-8) for rows in pair)
        numbers = alike.index_select(0, mask.rows)
        losses[name] = weight * loss(x @ y.T, negatives=numbers[:, None] != numbers[None, :])
        total += weight
    return {name: value / total for name, value in losses.items()}
