"""A transformer whose only notion of structure is which token may attend to which.

Nothing is spent on padding: the tokens that are there are packed into rows, every linear layer sees those rows alone,
and attention gathers them once for each distinct set of keys. A mask is never built.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import Mask, upload
from reelseek.models.blocks.arrange import Arranged

__all__ = ["Attention", "FeedForward", "Layer", "Plan", "Transformer", "UnbiasedLayerNorm", "plan"]


@dataclass(frozen=True)
class _Seats:
    """Rows of one kind, padded to the same number for every video.

    Attributes:
        rows: number of each row, video after video.
        first: the same among the entering rows, where those are others.
        there: which seats are taken; None if all are.
        mask: the same, but all true in a video that takes none, whose softmax would be of nothing.
        taken: flat places of the seats that are taken.
    """

    rows: Int[Tensor, " seat"]
    first: Int[Tensor, " seat"]
    there: Bool[Tensor, "video wide"] | None
    mask: Bool[Tensor, "video wide"] | None
    taken: Int[Tensor, " row"]


@dataclass(frozen=True)
class _Pass:
    """Tokens that share their keys. Rows of all passes, one after the other in order of seats, are all rows.

    Attributes:
        read: which videos have a key, if a query of one that has none is computed; such a query reads zeros.
    """

    queries: _Seats
    keys: _Seats
    read: Bool[Tensor, " video"] | None = None


@dataclass(frozen=True)
class Plan:
    """Which tokens are computed, as packed rows, and what each may read; built once for all layers.

    Rows stand pass after pass, and video after video in each, so that what attention gives is in order already.

    Attributes:
        entering: place of each entering row in `values`, flattened.
        rows: place of each computed row among the tokens, flattened.
        begins: the entering row that each computed row begins as; None where they are the same.
        places: position of each entering row, for rotary attention.
    """

    entering: Int[Tensor, " source_row"]
    rows: Int[Tensor, " row"]
    begins: Int[Tensor, " row"] | None
    passes: tuple[_Pass, ...]
    videos: int
    tokens: int
    places: Int[Tensor, " source_row"] | None = None

    def enter(self, values: Float[Tensor, "video source dim"]) -> Float[Tensor, "source_row dim"]:
        return _take(values.flatten(0, 1), self.entering)

    def expand(self, rows: Float[Tensor, "source_row dim"]) -> Float[Tensor, "row dim"]:
        return rows if self.begins is None else rows.index_select(0, self.begins)

    def leave(self, rows: Float[Tensor, "row dim"]) -> Float[Tensor, "video token dim"]:
        """Zeros where nothing was computed."""
        flat = rows.new_zeros(self.videos * self.tokens, rows.shape[1]).index_copy(0, self.rows, rows)
        return flat.unflatten(0, (self.videos, self.tokens))


def plan(row: Arranged, relation: Bool[Tensor, "group group"], also: Bool[Tensor, "video token"] | None = None) -> Plan:
    """What a transformer will do with a row; found out on the host, and sent to the device in one copy.

    Args:
        relation: which group reads which, see `arrange`.
        also: tokens that are computed although they are absent and nobody may read them, on the host.
    """
    present = row.mask.host
    computed = present if also is None else present | also
    videos, tokens = computed.shape
    kinds = [(keys, (relation == keys).all(1)[row.group].nonzero()[:, 0]) for keys in torch.unique(relation, dim=0)]
    kinds = [(keys, columns) for keys, columns in kinds if len(columns)]
    place = torch.arange(videos * tokens).view(videos, tokens)
    rows = torch.cat([place[:, columns][computed[:, columns]] for _, columns in kinds])
    number = torch.zeros(videos * tokens, dtype=torch.long)
    number[rows] = torch.arange(len(rows))
    number = number.view(videos, tokens)
    width = row.values.shape[1]
    entering, begins = rows, None
    if row.source is not None:
        entering, begins = torch.unique((rows // tokens) * width + row.source[rows % tokens], return_inverse=True)
    passes = []
    for keys, asking in kinds:
        giving = keys[row.group].nonzero()[:, 0]
        queries = _seats(number, computed, asking, begins)
        if also is None and torch.equal(asking, giving):
            passes.append(_Pass(queries, queries))
            continue
        some = present[:, giving].any(1)
        without = bool((computed[:, asking].any(1) & ~some).any())
        passes.append(_Pass(queries, _seats(number, present, giving, begins), some if without else None))
    places = None if row.place is None else row.place[entering % width]
    return _sent(Plan(entering, rows, begins, tuple(passes), videos, tokens, places), row.values.device)


def _seats(number: Tensor, chosen: Tensor, columns: Tensor, begins: Tensor | None) -> _Seats:
    """The chosen tokens among some columns, left in order."""
    there = chosen[:, columns]
    longest = max(1, int(there.sum(1).max()))
    order = there.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :longest]
    there = there.gather(1, order)
    rows = number[:, columns].gather(1, order).flatten()
    full = bool(there.all())
    first = rows if begins is None or not len(begins) else begins[rows]
    mask = None if full else there | ~there.any(1, keepdim=True)
    return _Seats(rows, first, None if full else there, mask, there.flatten().nonzero()[:, 0])


class _Take(torch.autograd.Function):
    """Rows by numbers of which none comes twice, so that gradients are put back and not added up, which is slow."""

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


class _Seat(torch.autograd.Function):
    """Rows put on seats where each row has one, and what stands on the others has no gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor, seats: Tensor, taken: Tensor) -> Tensor:
        ctx.save_for_backward(taken)
        return rows.index_select(0, seats)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (taken,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradients[0].index_select(0, taken), None, None


def _take(rows: Tensor, index: Tensor) -> Tensor:
    taken: Tensor = _Take.apply(rows, index)  # type: ignore[no-untyped-call]
    return taken


def _sent(plan: Plan, device: torch.device) -> Plan:
    """The plan on a device: one copy of all its numbers, and one of all its masks."""
    if device.type == "cpu":
        return plan
    seats = list({id(each): each for part in plan.passes for each in (part.queries, part.keys)}.values())
    numbers = [plan.entering, plan.rows, plan.begins, plan.places]
    for each in seats:
        numbers += [each.rows, each.first, each.taken]
    unique = list({id(each): each for each in numbers if each is not None}.values())
    moved = dict(zip(map(id, unique), upload(unique, device), strict=True))
    masks = [mask for each in seats for mask in (each.there, each.mask) if mask is not None]
    masks += [part.read for part in plan.passes if part.read is not None]
    moved |= dict(zip(map(id, masks), upload(masks, device), strict=True))

    def there(each: Tensor | None) -> Tensor | None:
        return None if each is None else moved[id(each)]

    sent = {
        id(each): _Seats(
            moved[id(each.rows)], moved[id(each.first)], there(each.there), there(each.mask), moved[id(each.taken)]
        )
        for each in seats
    }
    passes = tuple(_Pass(sent[id(part.queries)], sent[id(part.keys)], there(part.read)) for part in plan.passes)
    return Plan(
        moved[id(plan.entering)], moved[id(plan.rows)], there(plan.begins), passes, plan.videos, plan.tokens,
        there(plan.places),
    )  # fmt: skip


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2) over packed rows.

    Args:
        head_dim: width of a head; None divides the width among the heads.
        bias: whether queries, keys and values have biases.
    """

    def __init__(
        self, width: int, heads: int, *, head_dim: int | None = None, bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if head_dim is None and width % heads:
            raise ValueError(f"a width of {width} cannot be divided among {heads} heads")
        self.heads, self.head_dim, self.dropout = heads, head_dim or width // heads, dropout
        self.qkv = nn.Linear(width, 3 * heads * self.head_dim, bias=bias)
        self.out = nn.Linear(heads * self.head_dim, width)

    def _heads(self, rows: Tensor) -> Tensor:
        """[video, token, heads * dim] -> [video, head, token, dim]."""
        return rows.unflatten(2, (self.heads, self.head_dim)).transpose(1, 2)

    def _scaled(self, queries: Tensor, keys: Tensor, values: Tensor, there: Tensor | None) -> Tensor:
        """[video, head, query, dim] -> [video, query, heads * dim]; zeros where there is nothing to read.

        Args:
            there: which keys may be read, [video, key] or [video, query, key].
        """
        if there is None:
            return self._attended(queries, keys, values, None)
        there = there[:, None] if there.dim() == 2 else there
        something = there.any(2, keepdim=True)
        return self._attended(queries, keys, values, there | ~something) * something

    def _attended(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """[video, head, query, dim] -> [video, query, heads * dim]; the mask is [video, 1 or query, key]."""
        rate = self.dropout if self.training else 0.0
        mask = None if mask is None else mask[:, None]
        read = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=rate)
        return read.transpose(1, 2).flatten(2)

    def forward(self, rows: Float[Tensor, "source_row dim"], how: Plan, *, first: bool) -> Float[Tensor, "row dim"]:
        """Args:
        first: whether `rows` are the entering ones, which views share.
        """
        mixed = self.qkv(rows)
        inner = self.heads * self.head_dim
        if how.places is not None:
            places = how.places if first or how.begins is None else how.places[how.begins]
            turned = _rotated(mixed[:, : 2 * inner].unflatten(1, (-1, self.head_dim)), places).flatten(1)
            mixed = torch.cat([turned, mixed[:, 2 * inner :]], 1)
        found = [mixed.new_zeros(0, inner)]
        alone = len(how.passes) == 1 and (how.begins is None or not first)  # each row has one seat
        for each in how.passes if len(rows) else ():
            if each.keys is each.queries:
                parts = self._seated(mixed, each.queries, how.videos, first, once=alone).chunk(3, dim=2)
            else:
                asked = self._seated(mixed[:, :inner], each.queries, how.videos, first)
                parts = (asked, *self._seated(mixed[:, inner:], each.keys, how.videos, first).chunk(2, dim=2))
            queries, keys, values = (self._heads(part) for part in parts)
            mask = None if each.keys.mask is None else each.keys.mask[:, None]
            read = self._attended(queries, keys, values, mask)
            read = (read if each.read is None else read * each.read[:, None, None]).flatten(0, 1)
            found.append(read if each.queries.there is None else _take(read, each.queries.taken))
        return self.out(torch.cat(found))

    @staticmethod
    def _seated(rows: Tensor, seats: _Seats, videos: int, first: bool, *, once: bool = False) -> Tensor:
        """[row, dim] -> [video, seat, dim]; `once` where every row has one seat and they stand in order."""
        index = seats.first if first else seats.rows
        if once:
            seated: Tensor = _Seat.apply(rows, index, seats.taken)  # type: ignore[no-untyped-call]
            return seated.unflatten(0, (videos, -1))
        return rows.index_select(0, index).unflatten(0, (videos, -1))

    def cross(
        self,
        queries: Float[Tensor, "video query dim"],
        keys: Float[Tensor, "video key dim"],
        there: Mask | Bool[Tensor, "video key"],
    ) -> Float[Tensor, "video query dim"]:
        """Queries of one sequence read another."""
        mask = Mask.of(there)
        return self._read(queries, keys, None if mask.all else mask.tensor)

    def read(
        self,
        queries: Float[Tensor, "video query dim"],
        keys: Float[Tensor, "video key dim"],
        allowed: Bool[Tensor, "video query key"],
    ) -> Float[Tensor, "video query dim"]:
        """The same where each query has keys of its own; one that may read nothing reads zeros."""
        return self._read(queries, keys, allowed)

    def _read(self, queries: Tensor, keys: Tensor, there: Tensor | None) -> Tensor:
        asked, keyed, valued = self.qkv.weight.chunk(3)
        biases = (None, None, None) if self.qkv.bias is None else self.qkv.bias.chunk(3)
        one, two, three = (
            self._heads(functional.linear(rows, weight, bias))
            for rows, weight, bias in zip((queries, keys, keys), (asked, keyed, valued), biases, strict=True)
        )
        return self.out(self._scaled(one, two, three, there))


def _rotated(rows: Float[Tensor, "row head dim"], places: Int[Tensor, " row"]) -> Float[Tensor, "row head dim"]:
    """Rotary position embedding (Su et al. 2021): each pair of features turned by an angle that grows with position."""
    half = rows.shape[-1] // 2
    rates = 10000.0 ** (-torch.arange(half, device=rows.device, dtype=rows.dtype) / half)
    angles = (places[:, None].to(rows.dtype) * rates)[:, None]
    one, two, rest = rows[..., :half], rows[..., half : 2 * half], rows[..., 2 * half :]
    return torch.cat([one * angles.cos() - two * angles.sin(), one * angles.sin() + two * angles.cos(), rest], -1)


class FeedForward(nn.Module):
    """Two linear layers with a GELU between; `gated` multiplies by the GELU of a second half (GEGLU, Shazeer 2020)."""

    def __init__(self, width: int, inner: int, *, gated: bool = False) -> None:
        super().__init__()
        self.gated = gated
        self.fc1, self.fc2 = nn.Linear(width, 2 * inner if gated else inner), nn.Linear(inner, width)

    def forward(self, rows: Float[Tensor, "*row dim"]) -> Float[Tensor, "*row dim"]:
        inner = self.fc1(rows)
        if self.gated:
            value, gate = inner.chunk(2, dim=-1)
            return self.fc2(value * functional.gelu(gate))
        return self.fc2(functional.gelu(inner))


class UnbiasedLayerNorm(nn.Module):
    """`gain (x - mean) / (std + eps) + bias` with the unbiased standard deviation and eps outside, as COOT releases."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width)), eps

    def forward(self, rows: Float[Tensor, "*row dim"]) -> Float[Tensor, "*row dim"]:
        centred = rows - rows.mean(-1, keepdim=True)
        variance = centred.square().sum(-1, keepdim=True) / (rows.shape[-1] - 1)
        # The gradient of a root at zero is infinite; clamped it is not.
        deviation = variance.clamp(min=1e-24).sqrt()
        return self.weight * centred / (deviation + self.eps) + self.bias


class Layer(nn.Module):
    """Attention and a feed-forward net, each added to what came in.

    Args:
        order: `post` normalises after each sum (Vaswani et al. 2017, BERT), `pre` before each part (ViT).
        norm: makes a normalisation of a width.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        inner: int,
        *,
        order: Literal["pre", "post"],
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        gated: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.order, self.dropout = order, dropout
        self.attention = Attention(width, heads, head_dim=head_dim, bias=qkv_bias, dropout=dropout)
        self.feed = FeedForward(width, inner, gated=gated)
        self.norm1, self.norm2 = norm(width), norm(width)

    def add(self, rows: Tensor, read: Tensor) -> Tensor:
        """Rows after what they have read, and then the feed-forward net."""
        if self.order == "pre":
            rows = rows + self._drop(read)
            return rows + self._drop(self.feed(self.norm2(rows)))
        rows = self.norm1(rows + self._drop(read))
        return self.norm2(rows + self._drop(self.feed(rows)))

    def _drop(self, rows: Tensor) -> Tensor:
        return functional.dropout(rows, self.dropout, self.training)

    def forward(self, rows: Float[Tensor, "source_row dim"], how: Plan, *, first: bool) -> Float[Tensor, "row dim"]:
        read = self.attention(self.norm1(rows) if self.order == "pre" else rows, how, first=first)
        return self.add(how.expand(rows) if first else rows, read)

    def cross(self, queries: Tensor, keys: Tensor, there: Mask | Tensor) -> Tensor:
        """Queries [video, query, dim] read another sequence [video, key, dim] (post-norm)."""
        return self.add(queries, self.attention.cross(queries, keys, there))


class Transformer(nn.Module):
    """Layers over one row of tokens; a token that is absent comes out as zeros unless it is in `also`."""

    def __init__(self, depth: int, width: int, heads: int, inner: int, **layer: object) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, heads, inner, **layer) for _ in range(depth))  # type: ignore[arg-type]

    def forward(
        self,
        row: Arranged,
        relation: Bool[Tensor, "group group"],
        also: Bool[Tensor, "video token"] | None = None,
    ) -> Float[Tensor, "video token dim"]:
        how = plan(row, relation, also)
        rows = how.enter(row.values)
        if not len(self.layers):
            rows = how.expand(rows)
        for index, layer in enumerate(self.layers):
            rows = layer(rows, how, first=index == 0)
        return how.leave(rows)
