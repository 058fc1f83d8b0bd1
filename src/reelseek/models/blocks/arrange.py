"""Which tokens stand in a row, and who may attend to whom."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reelseek.library.tokens import Steps

__all__ = ["Arranged", "everything", "masked_max", "may_attend", "own", "thin"]


@dataclass(frozen=True)
class Arranged:
    """One row of tokens a video, each column belonging to a group (a modality, a view, a branch)."""

    values: Float[Tensor, "video token dim"]
    present: Bool[Tensor, "video token"]
    group: Int[Tensor, " token"]


def everything(groups: int) -> Bool[Tensor, "group group"]:
    """Every group reads every group (MMT)."""
    return torch.ones(groups, groups, dtype=torch.bool)


def own(groups: int) -> Bool[Tensor, "group group"]:
    """A group reads itself alone (late fusion)."""
    return torch.eye(groups, dtype=torch.bool)


def may_attend(arranged: Arranged, relation: Bool[Tensor, "group group"]) -> Bool[Tensor, "video token token"]:
    """Token q may attend to token k where their groups are related and k is there."""
    allowed = relation.to(arranged.group.device)[arranged.group][:, arranged.group]
    return allowed[None] & arranged.present[:, None, :]


def thin(steps: Steps, most: int, how: str = "even") -> Steps:
    """At most `most` steps of each video.

    Args:
        how: `even` takes steps at equal distances; `published` takes the sorted random subset that MMT's released
            reader draws in evaluation, from a generator seeded with 0 for every video.
    """
    counts = steps.present.sum(1)
    if int(counts.max()) <= most and steps.present.shape[1] <= most:
        return steps
    index = torch.zeros(len(counts), most, dtype=torch.long)
    present = torch.zeros(len(counts), most, dtype=torch.bool)
    for row, there in enumerate(steps.present):
        places = there.nonzero()[:, 0]
        if len(places) > most and how == "published":
            places = places[np.sort(np.random.RandomState(0).choice(len(places), most, replace=False))]
        elif len(places) > most:
            places = places[torch.linspace(0, len(places) - 1, most).round().long()]
        index[row, : len(places)], present[row, : len(places)] = places, True
    index = index.to(steps.values.device)
    values = steps.values.gather(1, index[..., None].expand(-1, -1, steps.values.shape[2]))
    return Steps(values, present.to(steps.values.device), steps.spans.gather(1, index[..., None].expand(-1, -1, 2)))


def masked_max(steps: Steps) -> Float[Tensor, "video dim"]:
    """Maximum over present steps, zeros where there are none."""
    lowest = torch.finfo(steps.values.dtype).min
    best = torch.where(steps.present[..., None], steps.values, lowest).amax(1)
    return torch.where(steps.present.any(1, keepdim=True), best, torch.zeros((), dtype=best.dtype))
