"""What a transformer computes for a batch, decided on the host: which tokens, and which of them each may read.

A plan packs: nothing is computed for padding, so that its shapes are those of one batch. `pad_plan` gives up some of
that for few shapes: videos and places are rounded up to sizes that many batches have in common, so that code compiled
for a shape, or a CUDA graph recorded with it, serves all of them. What is added is masked, and its outputs are dropped.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reelseek.library.mask import upload

__all__ = ["PaddedRows", "Padding", "Pass", "Plan", "gather_unique", "pad_plan", "size_of_bucket"]

_LEAST = 8  # sizes are its multiples, as kernels of matrix products and of attention like them best


@dataclass(frozen=True)
class PaddedRows:
    """Indices that gather packed rows into a batch of `wide` places per video.

    Attributes:
        rows: the packed row at each place, video after video.
        source_rows: the same among the source rows, where these are others.
        present: which places hold a row; None if all do.
        mask: the same, but all true in a video without any, whose softmax would be over nothing.
        filled: flat indices of the places that hold a row; not read where `present` is None.
        start: the row at the first place, where all places hold rows that follow one another.
    """

    rows: Int[Tensor, " place"]
    source_rows: Int[Tensor, " place"]
    present: Bool[Tensor, "video wide"] | None
    mask: Bool[Tensor, "video wide"] | None
    filled: Int[Tensor, " row"]
    start: int | None = None


@dataclass(frozen=True)
class Pass:
    """Tokens that share their keys. The rows of all passes, concatenated in order of places, are all rows.

    Attributes:
        has_key: which videos have a key, if a query of a video without one is computed; such a query reads zeros.
    """

    queries: PaddedRows
    keys: PaddedRows
    has_key: Bool[Tensor, " video"] | None = None


@dataclass(frozen=True)
class Padding:
    """Where the rows of a plan stand among more of them, of which the others are computed and dropped.

    Attributes:
        videos, sources, rows: how many of each are computed.
        source_places: place of each source row.
        places: place of each row.
    """

    videos: int
    sources: int
    rows: int
    source_places: Int[Tensor, " source_row"]
    places: Int[Tensor, " row"]


@dataclass(frozen=True)
class Plan:
    """Which tokens are computed, as packed rows, and what each may read; built once for all layers.

    Rows are ordered by pass, then by video, so that the outputs of attention are in order already.

    Attributes:
        source_rows: index of each source row in `values`, flattened.
        rows: index of each computed row among the tokens, flattened.
        source_of_row: the source row that each computed row starts from; None where they are the same.
        positions: position of each source row, for rotary attention.
        padding: of a plan that was padded; `source_of_row`, `passes` and `positions` are then those of padded rows.
    """

    source_rows: Int[Tensor, " source_row"]
    rows: Int[Tensor, " row"]
    source_of_row: Int[Tensor, " computed_row"] | None
    passes: tuple[Pass, ...]
    videos: int
    tokens: int
    positions: Int[Tensor, " computed_source_row"] | None = None
    padding: Padding | None = None

    @property
    def sequences(self) -> int:
        """How many sequences attention reads: videos, and those that pad them."""
        return self.videos if self.padding is None else self.padding.videos

    @property
    def computed(self) -> int:
        """How many rows are computed, padding among them."""
        return len(self.rows) if self.padding is None else self.padding.rows

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of all that layers compute: plans of one shape are computed by the same code."""
        sources = len(self.source_rows) if self.padding is None else self.padding.sources
        places = [len(rows.rows) for part in self.passes for rows in (part.queries, part.keys)]
        return (self.sequences, sources, self.computed, *places)

    def pack(self, values: Float[Tensor, "video source dim"]) -> Float[Tensor, "source_row dim"]:
        """Gather the source rows that are computed."""
        rows = gather_unique(values.flatten(0, 1), self.source_rows)
        if self.padding is None:
            return rows
        return rows.new_zeros(self.padding.sources, rows.shape[1]).index_copy(0, self.padding.source_places, rows)

    def expand(self, rows: Float[Tensor, "source_row dim"]) -> Float[Tensor, "row dim"]:
        """Repeat source rows where several tokens start from one."""
        return rows if self.source_of_row is None else rows.index_select(0, self.source_of_row)

    def unpack(self, rows: Float[Tensor, "row dim"]) -> Float[Tensor, "video token dim"]:
        """Scatter rows to their tokens; zeros where nothing was computed."""
        rows = rows if self.padding is None else gather_unique(rows, self.padding.places)
        flat = rows.new_zeros(self.videos * self.tokens, rows.shape[1]).index_copy(0, self.rows, rows)
        return flat.unflatten(0, (self.videos, self.tokens))

    def to(self, device: torch.device) -> "Plan":
        """The plan on a device: one copy of all its indices, and one of all its masks."""
        if device.type == "cpu":
            return self
        padded = list({id(rows): rows for part in self.passes for rows in (part.queries, part.keys)}.values())
        whole_numbers = [self.source_rows, self.rows, self.source_of_row, self.positions]
        if self.padding is not None:
            whole_numbers += [self.padding.source_places, self.padding.places]
        for rows in padded:
            whole_numbers += [rows.rows, rows.source_rows, rows.filled]
        unique = list({id(index): index for index in whole_numbers if index is not None}.values())
        moved: dict[int, Tensor] = dict(zip(map(id, unique), upload(unique, device), strict=True))
        flags = [mask for rows in padded for mask in (rows.present, rows.mask) if mask is not None]
        flags += [part.has_key for part in self.passes if part.has_key is not None]
        moved |= dict(zip(map(id, flags), upload(flags, device), strict=True))

        def optional(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else moved[id(tensor)]

        padded_moved = {
            id(rows): PaddedRows(
                moved[id(rows.rows)], moved[id(rows.source_rows)], optional(rows.present), optional(rows.mask),
                moved[id(rows.filled)], rows.start,
            )
            for rows in padded
        }  # fmt: skip
        passes = tuple(
            Pass(padded_moved[id(part.queries)], padded_moved[id(part.keys)], optional(part.has_key))
            for part in self.passes
        )
        padding = self.padding and replace(
            self.padding,
            source_places=moved[id(self.padding.source_places)],
            places=moved[id(self.padding.places)],
        )
        return Plan(
            moved[id(self.source_rows)], moved[id(self.rows)], optional(self.source_of_row), passes, self.videos,
            self.tokens, optional(self.positions), padding,
        )  # fmt: skip


class _GatherUnique(torch.autograd.Function):
    """Rows by indices without repeats: the backward pass copies gradients instead of adding them up, which is slow."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.count = len(rows)  # type: ignore[attr-defined]
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors  # type: ignore[attr-defined]
        (gradient,) = gradients
        count = ctx.count  # type: ignore[attr-defined]
        return gradient.new_zeros(count, *gradient.shape[1:]).index_copy(0, index, gradient), None


def gather_unique(rows: Tensor, index: Tensor) -> Tensor:
    gathered: Tensor = _GatherUnique.apply(rows, index)  # type: ignore[no-untyped-call]
    return gathered


def size_of_bucket(count: int, buckets: int) -> int:
    """Round a number of videos or places up, to one of `buckets` sizes between a power of two and the next.

    >>> [size_of_bucket(count, 2) for count in (3, 30, 33, 60, 64, 65)]
    [8, 32, 48, 64, 64, 96]
    """
    if count <= _LEAST:
        return _LEAST
    power = 1 << ((count - 1).bit_length() - 1)  # the last one below it
    step = -(-power // (buckets * _LEAST)) * _LEAST
    return min(2 * power, power + -(-(count - power) // step) * step)


def pad_plan(plan: Plan, width: int, buckets: int) -> Plan:
    """Round the videos of a plan on the host, and the places of each, up to the sizes of `size_of_bucket`.

    Rows are then the places of all passes, one pass after the other, and source rows as many for each video.

    Args:
        width: columns of the values that the plan packs.
    """
    videos = size_of_bucket(plan.videos, buckets)
    wides = [size_of_bucket(len(part.queries.rows) // plan.videos, buckets) for part in plan.passes]
    *starts, total = (videos * sum(wides[:index]) for index in range(len(wides) + 1))
    places = torch.cat(
        [
            start + _padded_places(part.queries, plan.videos, wide)
            for part, start, wide in zip(plan.passes, starts, wides, strict=True)
        ]
    )
    sources, source_places, source_of_row = total, places, None
    if plan.source_of_row is not None:
        sources, source_places = _place_sources(plan, width, videos, buckets)
        source_of_row = torch.arange(total) % sources  # not all of padding reads one row: its gradients would queue
        source_of_row[places] = source_places[plan.source_of_row]
    positions = None
    if plan.positions is not None:
        positions = plan.positions.new_zeros(sources).index_copy(0, source_places, plan.positions)
    passes = []
    for part, start, wide in zip(plan.passes, starts, wides, strict=True):
        rows = torch.arange(start, start + videos * wide)
        present = _padded_mask(part.queries, plan.videos, videos, wide)
        queries = _padded_rows(rows, source_of_row, present, start)
        if part.keys is part.queries:
            passes.append(Pass(queries, queries))
            continue
        wide = size_of_bucket(len(part.keys.rows) // plan.videos, buckets)
        present = _padded_mask(part.keys, plan.videos, videos, wide)
        rows = torch.arange(videos * wide) % total
        rows[present.flatten()] = places[part.keys.rows[part.keys.filled]]
        passes.append(Pass(queries, _padded_rows(rows, source_of_row, present), present.any(1)))
    padding = Padding(videos, sources, total, source_places, places)
    return replace(plan, source_of_row=source_of_row, passes=tuple(passes), positions=positions, padding=padding)


def _padded_places(rows: PaddedRows, videos: int, wide: int) -> Int[Tensor, " row"]:
    """Where rows stand among `wide` places per video."""
    before = max(1, len(rows.rows) // videos)
    return rows.filled // before * wide + rows.filled % before


def _padded_mask(rows: PaddedRows, videos: int, padded: int, wide: int) -> Bool[Tensor, "video wide"]:
    """Which places of so many videos hold a row."""
    present = torch.zeros(padded * wide, dtype=torch.bool)
    present[_padded_places(rows, videos, wide)] = True
    return present.view(padded, wide)


def _padded_rows(
    rows: Int[Tensor, " place"], source_of_row: Tensor | None, present: Bool[Tensor, "video wide"],
    start: int | None = None,
) -> PaddedRows:  # fmt: skip
    source_rows = rows if source_of_row is None else source_of_row[rows]
    mask = present | ~present.any(1, keepdim=True)
    return PaddedRows(rows, source_rows, None, mask, rows, start)


def _place_sources(plan: Plan, width: int, videos: int, buckets: int) -> tuple[int, Int[Tensor, " source_row"]]:
    """How many source rows there are with padding, and where each row stands: as many places for each video."""
    video = plan.source_rows // width
    counts = torch.bincount(video, minlength=plan.videos)
    wide = size_of_bucket(int(counts.max()), buckets)
    place = torch.arange(len(video)) - (counts.cumsum(0) - counts)[video]
    return videos * wide, video * wide + place
