"""Which tokens stand in a row, and who may attend to whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from reelseek.library.mask import Mask, upload, zero_absent
from reelseek.library.tokens import Steps

__all__ = [
    "Arranged",
    "Thinning",
    "aligned",
    "everything",
    "exactly",
    "in_a_row",
    "left",
    "max_thin",
    "may_attend",
    "own",
    "reads",
    "thin",
    "views",
]

Thinning = Literal["even", "first", "nearest", "published"]


@dataclass(frozen=True)
class Arranged:
    """One row of tokens a video, each token belonging to a group (a modality, a view, a branch).

    `source` names the column of `values` that each token begins as; None where every token has a column of its own.
    `place` is each column's position for rotary attention. What stands where is the host's to know: `group`, `source`
    and `place` are its, and `host` is its copy of `present`.
    """

    values: Float[Tensor, "video source dim"]
    present: Bool[Tensor, "video token"]
    group: Int[Tensor, " token"]
    source: Int[Tensor, " token"] | None = None
    place: Int[Tensor, " source"] | None = None
    host: Bool[Tensor, "video token"] | None = None

    @property
    def mask(self) -> Mask:
        """Which tokens are present."""
        if self.host is None or self.present.device.type == "cpu":
            return Mask.of(self.present)
        return Mask(self.present, self.host)

    @property
    def tokens(self) -> Float[Tensor, "video token dim"]:
        """Values of every token, repeated where several begin as the same column."""
        if self.source is None:
            return self.values
        return self.values.index_select(1, upload([self.source], self.values.device)[0])


def in_a_row(parts: Sequence[tuple[Tensor, Mask | Tensor]]) -> Arranged:
    """Tokens of several groups one after the other.

    Args:
        parts: for each group its values [video, token, dim] and which are present [video, token].
    """
    masks = [Mask.of(there) for _, there in parts]
    lengths = torch.tensor([mask.host.shape[1] for mask in masks])
    group = torch.arange(len(parts)).repeat_interleave(lengths)
    host = torch.cat([mask.host for mask in masks], 1)
    present = host if all(mask.local for mask in masks) else torch.cat([mask.tensor for mask in masks], 1)
    return Arranged(torch.cat([values for values, _ in parts], 1), present, group, host=host)


def views(row: Arranged, chosen: Sequence[Sequence[int]]) -> Arranged:
    """The row once for each view, a subset of its groups; a view is a group of the result.

    The six passes of Everything at Once are one row of six views (Shvetsova et al. 2022, section 3.2).
    """
    columns = [torch.isin(row.group, torch.tensor(groups)).nonzero()[:, 0] for groups in chosen]
    source = torch.cat(columns)
    lengths = torch.tensor([len(part) for part in columns])
    group = torch.arange(len(columns)).repeat_interleave(lengths)
    mask = row.mask
    host = mask.host[:, source]
    present = host if mask.local else mask.tensor.index_select(1, upload([source], row.values.device)[0])
    return replace(row, present=present, group=group, source=source, host=host)


def everything(groups: int) -> Bool[Tensor, "group group"]:
    """Every group reads every group (MMT)."""
    return torch.ones(groups, groups, dtype=torch.bool)


def own(groups: int) -> Bool[Tensor, "group group"]:
    """A group reads itself alone (late fusion, EAO's views, UMI's branches)."""
    return torch.eye(groups, dtype=torch.bool)


def reads(groups: int, reader: int) -> Bool[Tensor, "group group"]:
    """Each group reads itself, and one of them reads all (Zorro's fusion tokens)."""
    relation = own(groups)
    relation[reader] = True
    return relation


def may_attend(row: Arranged, relation: Bool[Tensor, "group group"]) -> Bool[Tensor, "video token token"]:
    """Token q may attend to token k where their groups are related and k is there.

    This is what every mask here means; `blocks.mix` reaches the same without ever building it.
    """
    allowed = upload([relation[row.group][:, row.group]], row.present.device)[0]
    return allowed[None] & row.present[:, None, :]


def thin(steps: Steps, most: int, how: Thinning = "even") -> Steps:
    """At most `most` steps of each video.

    Args:
        how: `even` takes steps at equal distances; `first` the first ones (MDMMT); `nearest` as images are resized
            to the nearest pixel (EAO); `published` the sorted random subset that MMT's released reader
            draws in evaluation, from a generator seeded with 0 for every video.
    """
    counts = steps.mask.sum(1)
    if int(counts.max()) <= most and steps.mask.shape[1] <= most:
        return steps
    taken = torch.zeros(len(counts), most, dtype=torch.long)
    for count in torch.unique(counts).tolist():
        places = _thinned(count, most, how)
        taken[counts == count, : len(places)] = places
    first = steps.mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    present = torch.arange(most) < counts[:, None]
    return steps.gather(first.gather(1, taken), present)


def exactly(steps: Steps, places: int) -> Steps:
    """So many places for every video: present steps first in their order, thinned evenly where there are more."""
    steps = left(thin(steps, places))
    missing = places - steps.mask.shape[1]
    if missing < 1:
        return steps.columns(places)
    host = functional.pad(steps.mask, (0, missing))
    present = host if steps.present is steps.mask else functional.pad(steps.present, (0, missing))
    values, spans = (functional.pad(part, (0, 0, 0, missing)) for part in (steps.clean, steps.spans))
    return Steps(values, present, spans, host=host)


def _thinned(count: int, most: int, how: Thinning) -> Int[Tensor, " place"]:
    """Which of so many steps are taken."""
    if count > most and how == "published":
        return torch.from_numpy(np.sort(np.random.RandomState(0).choice(count, most, replace=False)))
    if count > most and how == "even":
        return torch.linspace(0, count - 1, most).round().long()
    if count > most and how == "nearest":
        return torch.arange(most) * count // most
    return torch.arange(min(count, most))


def aligned(steps: Mapping[str, Steps], names: Sequence[str]) -> Steps:
    """Several experts as one, their values side by side (COOT's and CrossCLR's "+").

    The steps are those of the expert that has most of them; each other expert gives the step whose middle is nearest
    in time. An expert that a video lacks gives zeros there.
    """
    if len(names) == 1:
        return steps[names[0]]
    counts = torch.stack([steps[name].mask.sum(1) for name in names], 1)
    lead = counts.argmax(1)
    longest = max(1, int(counts.max()))
    device = steps[names[0]].device
    host = torch.zeros(len(lead), longest, dtype=torch.bool)
    spans = torch.zeros(len(lead), longest, 2, device=device)
    for index, name in enumerate(names):
        videos = (lead == index).nonzero()[:, 0]
        first = left(steps[name])
        length = min(longest, first.mask.shape[1])
        host[videos, :length] = first.mask[videos, :length]
        rows = upload([videos], device)[0]
        padded = functional.pad(first.spans[:, :length], (0, 0, 0, longest - length))
        spans = spans.index_copy(0, rows, padded.index_select(0, rows))
    present = upload([host], device)[0]
    values = []
    for name in names:
        other = steps[name]
        far = (spans.mean(-1)[:, :, None] - other.spans.mean(-1)[:, None, :]).abs()
        nearest = far.masked_fill(~other.present[:, None, :], torch.inf).argmin(2)
        rows = other.clean.gather(1, nearest[..., None].expand(-1, -1, other.values.shape[2]))
        there = present & other.present.any(1, keepdim=True)
        values.append(zero_absent(there[..., None], rows))
    return Steps(torch.cat(values, -1), present, spans, host=host)


def max_thin(steps: Steps, most: int) -> Steps:
    """At most `most` steps: maxima over equal runs, then the nearest (EAO's `max_pool` for long videos)."""
    steps = left(steps)
    counts = steps.mask.sum(1)
    longest = int(counts.max())
    if longest <= most:
        return steps
    run = (counts // most).clamp(min=1)
    runs = counts // run
    kept = torch.minimum(runs, torch.tensor(most))
    place = torch.arange(most)
    begin = place * runs[:, None] // kept.clamp(min=1)[:, None] * run[:, None]
    present = place < kept[:, None]
    within = torch.arange(int(run.max()))
    inside = present[..., None] & (within < run[:, None, None])
    index = torch.where(inside, begin[..., None] + within, 0)
    shape, device = index.shape, steps.device
    last = torch.where(present, begin + run[:, None] - 1, 0)
    places, ends = upload([index.flatten(1), torch.stack([torch.where(present, begin, 0), last])], device)
    taken = steps.values.gather(1, places[..., None].expand(-1, -1, steps.values.shape[2])).unflatten(1, shape[1:])
    taken = taken.masked_fill(~upload([inside], device)[0][..., None], -torch.inf).amax(2)
    there = upload([present], device)[0]
    bounds = [steps.spans[..., side].gather(1, ends[side]) for side in (0, 1)]
    spans = zero_absent(there[..., None], torch.stack(bounds, -1))
    return Steps(zero_absent(there[..., None], taken), there, spans, host=present)


def left(steps: Steps) -> Steps:
    """Present steps first, their order kept."""
    order = steps.mask.int().argsort(dim=1, descending=True, stable=True)
    return steps.gather(order, steps.mask.gather(1, order))
