"""Which tokens stand in a row, and who may attend to whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from reelseek.library.tokens import Steps

__all__ = [
    "Arranged",
    "Thinning",
    "aligned",
    "everything",
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
    `place` is each column's position for rotary attention.
    """

    values: Float[Tensor, "video source dim"]
    present: Bool[Tensor, "video token"]
    group: Int[Tensor, " token"]
    source: Int[Tensor, " token"] | None = None
    place: Int[Tensor, " source"] | None = None

    @property
    def tokens(self) -> Float[Tensor, "video token dim"]:
        """Values of every token, repeated where several begin as the same column."""
        return self.values if self.source is None else self.values[:, self.source]


def in_a_row(parts: Sequence[tuple[Tensor, Tensor]]) -> Arranged:
    """Tokens of several groups one after the other.

    Args:
        parts: for each group its values [video, token, dim] and which are present [video, token].
    """
    device = parts[0][0].device
    lengths = torch.tensor([present.shape[1] for _, present in parts])
    group = torch.arange(len(parts)).repeat_interleave(lengths).to(device)
    return Arranged(torch.cat([values for values, _ in parts], 1), torch.cat([there for _, there in parts], 1), group)


def views(row: Arranged, chosen: Sequence[Sequence[int]]) -> Arranged:
    """The row once for each view, a subset of its groups; a view is a group of the result.

    The six passes of Everything at Once are one row of six views (Shvetsova et al. 2022, section 3.2).
    """
    columns = [
        torch.isin(row.group, torch.tensor(groups, device=row.group.device)).nonzero()[:, 0] for groups in chosen
    ]
    source = torch.cat(columns)
    lengths = torch.tensor([len(part) for part in columns])
    group = torch.arange(len(columns)).repeat_interleave(lengths).to(source.device)
    return replace(row, present=row.present[:, source], group=group, source=source)


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
    allowed = relation.to(row.group.device)[row.group][:, row.group]
    return allowed[None] & row.present[:, None, :]


def thin(steps: Steps, most: int, how: Thinning = "even") -> Steps:
    """At most `most` steps of each video.

    Args:
        how: `even` takes steps at equal distances; `first` the first ones (MDMMT); `nearest` as images are resized
            to the nearest pixel (EAO); `published` the sorted random subset that MMT's released reader
            draws in evaluation, from a generator seeded with 0 for every video.
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
        elif len(places) > most and how == "even":
            places = places[torch.linspace(0, len(places) - 1, most).round().long()]
        elif len(places) > most and how == "nearest":
            places = places[torch.arange(most) * len(places) // most]
        places = places[:most]
        index[row, : len(places)], present[row, : len(places)] = places, True
    index = index.to(steps.values.device)
    values = steps.values.gather(1, index[..., None].expand(-1, -1, steps.values.shape[2]))
    return Steps(values, present.to(steps.values.device), steps.spans.gather(1, index[..., None].expand(-1, -1, 2)))


def aligned(steps: Mapping[str, Steps], names: Sequence[str]) -> Steps:
    """Several experts as one, their values side by side (COOT's and CrossCLR's "+").

    The steps are those of the expert that has most of them; each other expert gives the step whose middle is nearest
    in time. An expert that a video lacks gives zeros there.
    """
    if len(names) == 1:
        return steps[names[0]]
    counts = torch.stack([steps[name].present.sum(1) for name in names], 1)
    lead = counts.argmax(1)
    longest = max(1, int(counts.max()))
    videos, device = len(lead), lead.device
    present = torch.zeros(videos, longest, dtype=torch.bool, device=device)
    spans = torch.zeros(videos, longest, 2, device=device)
    for index, name in enumerate(names):
        rows = (lead == index).nonzero()[:, 0]
        first = left(steps[name])
        length = min(longest, first.present.shape[1])
        present[rows, :length], spans[rows, :length] = first.present[rows, :length], first.spans[rows, :length]
    values = []
    for name in names:
        other = steps[name]
        far = (spans.mean(-1)[:, :, None] - other.spans.mean(-1)[:, None, :]).abs()
        nearest = far.masked_fill(~other.present[:, None, :], torch.inf).argmin(2)
        rows = other.clean.gather(1, nearest[..., None].expand(-1, -1, other.values.shape[2]))
        there = present & other.present.any(1, keepdim=True)
        values.append(torch.where(there[..., None], rows, torch.zeros((), dtype=rows.dtype)))
    return Steps(torch.cat(values, -1), present, spans)


def max_thin(steps: Steps, most: int) -> Steps:
    """At most `most` steps: maxima over equal runs, then the nearest (EAO's `max_pool` for long videos)."""
    steps = left(steps)
    longest = int(steps.present.sum(1).max())
    if longest <= most:
        return steps
    values, present, spans = [], [], []
    for row, there, times in zip(steps.values, steps.present, steps.spans, strict=True):
        count = int(there.sum())
        run = max(1, count // most)
        runs = count // run if count else 0
        blocks = row[: runs * run].unflatten(0, (runs, run)).amax(1) if runs else row[:0]
        bounds = times[: runs * run].unflatten(0, (runs, run)) if runs else times[:0, None]
        times = torch.stack([bounds[:, 0, 0], bounds[:, -1, 1]], 1) if runs else times[:0]
        kept = torch.arange(min(most, runs)) * runs // max(1, min(most, runs))
        values.append(functional.pad(blocks[kept], (0, 0, 0, most - len(kept))))
        spans.append(functional.pad(times[kept], (0, 0, 0, most - len(kept))))
        present.append(torch.arange(most, device=row.device) < len(kept))
    return Steps(torch.stack(values), torch.stack(present), torch.stack(spans))


def left(steps: Steps) -> Steps:
    """Present steps first, their order kept."""
    order = steps.present.int().argsort(dim=1, descending=True, stable=True)
    index = order[..., None]
    return Steps(
        steps.values.gather(1, index.expand(-1, -1, steps.values.shape[2])),
        steps.present.gather(1, order),
        steps.spans.gather(1, index.expand(-1, -1, 2)),
    )
