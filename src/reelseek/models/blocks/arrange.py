"""Which tokens form one sequence, and which may attend to which."""

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
    "Subsampling",
    "TokenSequence",
    "align_experts",
    "concat_groups",
    "concat_parts",
    "everything",
    "exactly",
    "expand_views",
    "max_pool_steps",
    "may_attend",
    "own",
    "pack_left",
    "reads",
    "split_runs",
    "subsample",
]

Subsampling = Literal["even", "first", "nearest", "published"]


@dataclass(frozen=True)
class TokenSequence:
    """One sequence of tokens per video, each token belonging to a group (a modality, a view, a branch).

    `source` is the column of `values` that each token starts from; None if there is one column per token. `position` is
    each column's position for rotary attention. `group`, `source` and `position` are on the host, and `host` is the
    host's copy of `present`.
    """

    values: Float[Tensor, "video source dim"]
    present: Bool[Tensor, "video token"]
    group: Int[Tensor, " token"]
    source: Int[Tensor, " token"] | None = None
    position: Int[Tensor, " source"] | None = None
    host: Bool[Tensor, "video token"] | None = None

    @property
    def mask(self) -> Mask:
        """Which tokens are present."""
        if self.host is None or self.present.device.type == "cpu":
            return Mask.of(self.present)
        return Mask(self.present, self.host)

    @property
    def tokens(self) -> Float[Tensor, "video token dim"]:
        """Values of every token, repeated where several start from the same column."""
        if self.source is None:
            return self.values
        return self.values.index_select(1, upload([self.source], self.values.device)[0])


def concat_groups(parts: Sequence[tuple[Tensor, Mask | Tensor]]) -> TokenSequence:
    """Concatenate the tokens of several groups, one group after the other.

    Args:
        parts: for each group its values [video, token, dim] and which of them are present [video, token].
    """
    masks = [Mask.of(present) for _, present in parts]
    lengths = torch.tensor([mask.host.shape[1] for mask in masks])
    group = torch.arange(len(parts)).repeat_interleave(lengths)
    host = torch.cat([mask.host for mask in masks], 1)
    present = host if all(mask.local for mask in masks) else torch.cat([mask.tensor for mask in masks], 1)
    return TokenSequence(torch.cat([values for values, _ in parts], 1), present, group, host=host)


def expand_views(sequence: TokenSequence, subsets: Sequence[Sequence[int]]) -> TokenSequence:
    """Repeat the sequence once per view (a subset of its groups); each view is a group of the result.

    The six passes of Everything at Once are one sequence of six views (Shvetsova et al. 2022, section 3.2).
    """
    columns = [torch.isin(sequence.group, torch.tensor(groups)).nonzero()[:, 0] for groups in subsets]
    source = torch.cat(columns)
    lengths = torch.tensor([len(part) for part in columns])
    group = torch.arange(len(columns)).repeat_interleave(lengths)
    mask = sequence.mask
    host = mask.host[:, source]
    present = host if mask.local else mask.tensor.index_select(1, upload([source], sequence.values.device)[0])
    return replace(sequence, present=present, group=group, source=source, host=host)


def everything(groups: int) -> Bool[Tensor, "group group"]:
    """Every group attends to every group (MMT)."""
    return torch.ones(groups, groups, dtype=torch.bool)


def own(groups: int) -> Bool[Tensor, "group group"]:
    """Each group attends to itself alone (late fusion, EAO's views, UMI's branches)."""
    return torch.eye(groups, dtype=torch.bool)


def reads(groups: int, reader: int) -> Bool[Tensor, "group group"]:
    """Each group attends to itself, and the group `reader` to all (Zorro's fusion tokens)."""
    relation = own(groups)
    relation[reader] = True
    return relation


def may_attend(sequence: TokenSequence, relation: Bool[Tensor, "group group"]) -> Bool[Tensor, "video token token"]:
    """The attention mask: token q may attend to token k where their groups are related and k is present.

    It defines what `blocks.mix` computes; `blocks.mix` never builds it.
    """
    allowed = upload([relation[sequence.group][:, sequence.group]], sequence.present.device)[0]
    return allowed[None] & sequence.present[:, None, :]


def subsample(steps: Steps, most: int, method: Subsampling = "even") -> Steps:
    """Select at most `most` steps of each video.

    Args:
        method: `even` takes steps at equal distances; `first` the first ones (MDMMT); `nearest` as images are resized
            to the nearest pixel (EAO); `published` the sorted random subset that MMT's released reader
            draws in evaluation, from a generator seeded with 0 for every video.
    """
    counts = steps.mask.sum(1)
    if int(counts.max()) <= most and steps.mask.shape[1] <= most:
        return steps
    selected = torch.zeros(len(counts), most, dtype=torch.long)
    for count in torch.unique(counts).tolist():
        indices = _subsample_indices(count, most, method)
        selected[counts == count, : len(indices)] = indices
    first = steps.mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    present = torch.arange(most) < counts[:, None]
    return steps.gather(first.gather(1, selected), present)


def exactly(steps: Steps, places: int) -> Steps:
    """So many places for every video: present steps first in their order, subsampled evenly where there are more."""
    steps = pack_left(subsample(steps, places))
    missing = places - steps.mask.shape[1]
    if missing < 1:
        return steps.columns(places)
    host = functional.pad(steps.mask, (0, missing))
    present = host if steps.present is steps.mask else functional.pad(steps.present, (0, missing))
    values, spans = (functional.pad(part, (0, 0, 0, missing)) for part in (steps.clean, steps.spans))
    return Steps(values, present, spans, host=host)


def _subsample_indices(count: int, most: int, method: Subsampling) -> Int[Tensor, " place"]:
    """Indices of the selected steps among `count`."""
    if count > most and method == "published":
        return torch.from_numpy(np.sort(np.random.RandomState(0).choice(count, most, replace=False)))
    if count > most and method == "even":
        return torch.linspace(0, count - 1, most).round().long()
    if count > most and method == "nearest":
        return torch.arange(most) * count // most
    return torch.arange(min(count, most))


def align_experts(steps: Mapping[str, Steps], names: Sequence[str]) -> Steps:
    """Concatenate the features of several experts step by step (COOT's and CrossCLR's "+").

    The steps are those of the expert with the most steps; every other expert contributes the step whose middle is
    nearest in time, and zeros in videos that lack it.
    """
    if len(names) == 1:
        return steps[names[0]]
    counts = torch.stack([steps[name].mask.sum(1) for name in names], 1)
    lead = counts.argmax(1)
    longest = max(1, int(counts.max()))
    device = steps[names[0]].device
    host = torch.zeros(len(lead), longest, dtype=torch.bool)
    spans = torch.zeros(len(lead), longest, 2, device=device)
    for column, name in enumerate(names):
        videos = (lead == column).nonzero()[:, 0]
        first = pack_left(steps[name])
        length = min(longest, first.mask.shape[1])
        host[videos, :length] = first.mask[videos, :length]
        index = upload([videos], device)[0]
        padded = functional.pad(first.spans[:, :length], (0, 0, 0, longest - length))
        spans = spans.index_copy(0, index, padded.index_select(0, index))
    present = upload([host], device)[0]
    values = []
    for name in names:
        other = steps[name]
        distances = (spans.mean(-1)[:, :, None] - other.spans.mean(-1)[:, None, :]).abs()
        nearest = distances.masked_fill(~other.present[:, None, :], torch.inf).argmin(2)
        aligned_values = other.clean.gather(1, nearest[..., None].expand(-1, -1, other.values.shape[2]))
        expert_present = present & other.present.any(1, keepdim=True)
        values.append(zero_absent(expert_present[..., None], aligned_values))
    return Steps(torch.cat(values, -1), present, spans, host=host)


def max_pool_steps(steps: Steps, most: int) -> Steps:
    """Reduce to at most `most` steps: maxima over equal runs, then the nearest (EAO's `max_pool` for long videos)."""
    steps = pack_left(steps)
    counts = steps.mask.sum(1)
    longest = int(counts.max())
    if longest <= most:
        return steps
    run_length = (counts // most).clamp(min=1)
    runs = counts // run_length
    windows = torch.minimum(runs, torch.tensor(most))
    window = torch.arange(most)
    begin = window * runs[:, None] // windows.clamp(min=1)[:, None] * run_length[:, None]
    host = window < windows[:, None]
    offset = torch.arange(int(run_length.max()))
    inside = host[..., None] & (offset < run_length[:, None, None])
    index = torch.where(inside, begin[..., None] + offset, 0)
    shape, device = index.shape, steps.device
    last = torch.where(host, begin + run_length[:, None] - 1, 0)
    places, ends = upload([index.flatten(1), torch.stack([torch.where(host, begin, 0), last])], device)
    values = steps.values.gather(1, places[..., None].expand(-1, -1, steps.values.shape[2])).unflatten(1, shape[1:])
    values = values.masked_fill(~upload([inside], device)[0][..., None], -torch.inf).amax(2)
    present = upload([host], device)[0]
    bounds = [steps.spans[..., side].gather(1, ends[side]) for side in (0, 1)]
    spans = zero_absent(present[..., None], torch.stack(bounds, -1))
    return Steps(zero_absent(present[..., None], values), present, spans, host=host)


def pack_left(steps: Steps) -> Steps:
    """Move the present steps to the left, in their order."""
    order = steps.mask.int().argsort(dim=1, descending=True, stable=True)
    return steps.gather(order, steps.mask.gather(1, order))


def split_runs(steps: Steps, length: int) -> tuple[Steps, Tensor]:
    """Split each video's steps into runs, each a clip; also the video of each clip."""
    steps = pack_left(steps)
    videos, places = steps.mask.shape
    runs = -(-places // length)
    present = functional.pad(steps.mask, (0, -places % length)).unflatten(1, (runs, length)).flatten(0, 1)
    owner = torch.arange(videos).repeat_interleave(runs)
    # Keep each video's first run even if it is empty, so that every video has a row.
    selected = (present.any(1) | (torch.arange(len(present)) % runs == 0)).nonzero()[:, 0]
    place = torch.arange(runs * length).clamp(max=places - 1).view(runs, length)
    index = (torch.arange(videos) * places).repeat_interleave(runs)[:, None] + place.repeat(videos, 1)
    return _gather_steps(steps, index[selected], present[selected]), owner[selected]


def concat_parts(parts: Steps, owner: Tensor) -> Steps:
    """Concatenate the parts of each whole, without gaps."""
    places = parts.mask.shape[1]
    whole_of_step = owner[:, None].expand(-1, places)[parts.mask]  # of every present step, in order
    counts = torch.bincount(whole_of_step, minlength=int(owner.max()) + 1)
    longest = max(1, int(counts.max()))
    present = torch.arange(longest)[None, :] < counts[:, None]
    index = torch.zeros(present.shape, dtype=torch.long)
    index[present] = parts.mask.flatten().nonzero()[:, 0]
    return _gather_steps(parts, index, present)


def _gather_steps(steps: Steps, index: Tensor, present: Tensor) -> Steps:
    """Gather steps by flat index; `index` and `present` are on the host."""
    flat = upload([index.flatten()], steps.device)[0]
    values = steps.clean.flatten(0, 1).index_select(0, flat).unflatten(0, index.shape)
    spans = steps.spans.flatten(0, 1).index_select(0, flat).unflatten(0, index.shape)
    mask = Mask.on(steps.device, present)
    return Steps(values, mask.tensor, zero_absent(mask.tensor[..., None], spans), host=present)
