"""A transformer whose only notion of structure is which token may attend to which.

Nothing is spent on padding: the tokens that are present are packed into rows, every linear layer sees those rows alone,
and attention gathers them once for each distinct set of keys. A mask of all pairs is never built. Within `bucketed`
rows are padded to few shapes instead.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import Mask
from reelseek.models.blocks.arrange import TokenSequence
from reelseek.models.blocks.plan import PaddedRows, Pass, Plan, gather_unique, pad_plan

__all__ = [
    "Attention",
    "FeedForward",
    "Layer",
    "Plan",
    "Transformer",
    "UnbiasedLayerNorm",
    "apply_layers",
    "bucketed",
    "plan_attention",
    "prepared_plans",
    "record_plans",
    "run_layers",
]

_prepared: ContextVar["Mapping[bytes, Plan] | None"] = ContextVar("prepared", default=None)
_recorded: ContextVar["dict[bytes, Plan] | None"] = ContextVar("recorded", default=None)
_buckets: ContextVar["_Buckets | None"] = ContextVar("buckets", default=None)

Layers = Sequence[nn.Module] | nn.ModuleList
Run = Callable[[Layers, Tensor, Plan], Tensor]


@dataclass(frozen=True)
class _Buckets:
    """Few shapes, see `bucketed`."""

    count: int
    run: Run


def run_layers(layers: Layers, rows: Tensor, plan: Plan) -> Tensor:
    """Compute layers one after the other, from source rows to rows; the host decides nothing here."""
    if not len(layers):
        return plan.expand(rows)
    for index, layer in enumerate(layers):
        rows = layer(rows, plan, first=index == 0)
    return rows


@contextmanager
def bucketed(count: int, run: Run = run_layers) -> Iterator[None]:
    """Pad what layers compute to few shapes, see `pad_plan`.

    Args:
        count: sizes between a power of two and the next; 0 computes what is present, as without this.
        run: computes layers, such as a compiled `run_layers`: what it is called with has one shape for a `Plan.shape`.
    """
    token = _buckets.set(_Buckets(count, run) if count else None)
    try:
        yield
    finally:
        _buckets.reset(token)


@contextmanager
def prepared_plans(plans: Mapping[bytes, Plan] | None) -> Iterator[None]:
    """Let `plan_attention` take plans that were made before, on the device; it makes those that are not among them."""
    token = _prepared.set(plans)
    try:
        yield
    finally:
        _prepared.reset(token)


@contextmanager
def record_plans() -> Iterator[dict[bytes, Plan]]:
    """Keep the plans that are asked for meanwhile, on the host; layers of a `Transformer` compute nothing."""
    plans: dict[bytes, Plan] = {}
    token = _recorded.set(plans)
    try:
        yield plans
    finally:
        _recorded.reset(token)


def plan_attention(
    sequence: TokenSequence,
    relation: Bool[Tensor, "group group"],
    also_compute: Bool[Tensor, "video token"] | None = None,
) -> Plan:
    """Plan what a transformer computes for a sequence: before the step or else now, on the host.

    Args:
        relation: which group reads which, see `arrange`.
        also_compute: absent tokens that are computed although no token may read them, on the host.
    """
    device = sequence.values.device
    if torch.compiler.is_compiling():
        return _make_plan(sequence, relation, also_compute).to(device)
    plans, recorded = _prepared.get(), _recorded.get()
    if plans is None and recorded is None:
        return _new_plan(sequence, relation, also_compute).to(device)
    key = _plan_key(sequence, relation, also_compute)
    if recorded is not None:
        if key not in recorded:
            recorded[key] = _new_plan(sequence, relation, also_compute)
        return recorded[key].to(device)
    plan = (plans or {}).get(key)
    return _new_plan(sequence, relation, also_compute).to(device) if plan is None else plan


def _new_plan(sequence: TokenSequence, relation: Tensor, also_compute: Tensor | None) -> Plan:
    plan, buckets = _make_plan(sequence, relation, also_compute), _buckets.get()
    return plan if buckets is None else pad_plan(plan, sequence.values.shape[1], buckets.count)


def _plan_key(sequence: TokenSequence, relation: Tensor, also_compute: Tensor | None) -> bytes:
    """Everything that a plan depends on, as a hash."""
    digest = blake2b(str(sequence.values.shape[1]).encode(), digest_size=16)
    parts = (sequence.mask.host, relation, sequence.group, sequence.source, sequence.position, also_compute)
    for part in parts:
        digest.update(b"none" if part is None else f"{tuple(part.shape)}".encode())
        if part is not None:
            digest.update(part.contiguous().numpy().tobytes())
    return digest.digest()


def _make_plan(sequence: TokenSequence, relation: Tensor, also_compute: Tensor | None) -> Plan:
    present = sequence.mask.host
    computed = present if also_compute is None else present | also_compute
    videos, tokens = computed.shape
    kinds = [(keys, (relation == keys).all(1)[sequence.group].nonzero()[:, 0]) for keys in relation.unique(dim=0)]
    kinds = [(keys, columns) for keys, columns in kinds if len(columns)]
    index = torch.arange(videos * tokens).view(videos, tokens)
    rows = torch.cat([index[:, columns][computed[:, columns]] for _, columns in kinds])
    row_of_token = torch.zeros(videos * tokens, dtype=torch.long)
    row_of_token[rows] = torch.arange(len(rows))
    row_of_token = row_of_token.view(videos, tokens)
    width = sequence.values.shape[1]
    source_rows, source_of_row = rows, None
    if sequence.source is not None:
        sources = (rows // tokens) * width + sequence.source[rows % tokens]
        source_rows, source_of_row = torch.unique(sources, return_inverse=True)
    passes = []
    for keys, query_columns in kinds:
        key_columns = keys[sequence.group].nonzero()[:, 0]
        queries = _pad_rows(row_of_token, computed, query_columns, source_of_row)
        if also_compute is None and torch.equal(query_columns, key_columns):
            passes.append(Pass(queries, queries))
            continue
        has_key = present[:, key_columns].any(1)
        keyless = bool((computed[:, query_columns].any(1) & ~has_key).any())
        padded_keys = _pad_rows(row_of_token, present, key_columns, source_of_row)
        passes.append(Pass(queries, padded_keys, has_key if keyless else None))
    positions = None if sequence.position is None else sequence.position[source_rows % width]
    return Plan(source_rows, rows, source_of_row, tuple(passes), videos, tokens, positions)


def _pad_rows(row_of_token: Tensor, selected: Tensor, columns: Tensor, source_of_row: Tensor | None) -> PaddedRows:
    """The selected tokens among some columns, packed to the left in order."""
    present = selected[:, columns]
    longest = max(1, int(present.sum(1).max()))
    order = present.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :longest]
    present = present.gather(1, order)
    rows = row_of_token[:, columns].gather(1, order).flatten()
    unpadded = bool(present.all())
    source_rows = rows if source_of_row is None or not len(source_of_row) else source_of_row[rows]
    mask = None if unpadded else present | ~present.any(1, keepdim=True)
    return PaddedRows(rows, source_rows, None if unpadded else present, mask, present.flatten().nonzero()[:, 0])


class _GatherPadded(torch.autograd.Function):
    """Rows gathered to places, one place per row in order; the other places hold padding, which has no gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor, places: Tensor, filled: Tensor) -> Tensor:
        ctx.save_for_backward(filled)
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (filled,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradients[0].index_select(0, filled), None, None


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

    def _attend_or_zero(self, queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None) -> Tensor:
        """[video, head, query, dim] -> [video, query, heads * dim]; zeros for a query that may read no key.

        Args:
            allowed: which keys may be read, [video, key] or [video, query, key]; None allows all.
        """
        if allowed is None:
            return self._attend(queries, keys, values, None)
        allowed = allowed[:, None] if allowed.dim() == 2 else allowed
        has_key = allowed.any(2, keepdim=True)
        return self._attend(queries, keys, values, allowed | ~has_key) * has_key

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """[video, head, query, dim] -> [video, query, heads * dim]; the mask is [video, 1 or query, key]."""
        rate = self.dropout if self.training else 0.0
        mask = None if mask is None else mask[:, None]
        read = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=rate)
        return read.transpose(1, 2).flatten(2)

    def forward(self, rows: Float[Tensor, "source_row dim"], plan: Plan, *, first: bool) -> Float[Tensor, "row dim"]:
        """Args:
        first: whether `rows` are the source rows, which views share.
        """
        mixed = self.qkv(rows)
        inner = self.heads * self.head_dim
        if plan.positions is not None:
            at_source = first or plan.source_of_row is None
            positions = plan.positions if at_source else plan.positions[plan.source_of_row]
            rotated = _rotate(mixed[:, : 2 * inner].unflatten(1, (-1, self.head_dim)), positions).flatten(1)
            mixed = torch.cat([rotated, mixed[:, 2 * inner :]], 1)
        outputs = [mixed.new_zeros(0, inner)]
        once = len(plan.passes) == 1 and (plan.source_of_row is None or not first)  # one place per row
        for part in plan.passes if len(rows) else ():
            if part.keys is part.queries:
                projected = self._pad(mixed, part.queries, plan, first, once=once).chunk(3, dim=2)
            else:
                padded_queries = self._pad(mixed[:, :inner], part.queries, plan, first)
                padded_keys = self._pad(mixed[:, inner:], part.keys, plan, first)
                projected = (padded_queries, *padded_keys.chunk(2, dim=2))
            queries, keys, values = (self._heads(padded) for padded in projected)
            mask = None if part.keys.mask is None else part.keys.mask[:, None]
            read = self._attend(queries, keys, values, mask)
            read = (read if part.has_key is None else read * part.has_key[:, None, None]).flatten(0, 1)
            outputs.append(read if part.queries.present is None else gather_unique(read, part.queries.filled))
        return self.out(torch.cat(outputs))

    @staticmethod
    def _pad(rows: Tensor, places: PaddedRows, plan: Plan, first: bool, *, once: bool = False) -> Tensor:
        """[row, dim] -> [video, place, dim]; `once` where every row has one place and they are in order."""
        videos = plan.sequences
        if places.start is not None and not (first and plan.source_of_row is not None):
            return rows.narrow(0, places.start, len(places.rows)).unflatten(0, (videos, -1))
        index = places.source_rows if first else places.rows
        if once:
            padded: Tensor = _GatherPadded.apply(rows, index, places.filled)  # type: ignore[no-untyped-call]
            return padded.unflatten(0, (videos, -1))
        return rows.index_select(0, index).unflatten(0, (videos, -1))

    def cross(
        self,
        queries: Float[Tensor, "video query dim"],
        keys: Float[Tensor, "video key dim"],
        present: Mask | Bool[Tensor, "video key"],
    ) -> Float[Tensor, "video query dim"]:
        """Cross-attention: queries of one sequence read the keys of another."""
        mask = Mask.of(present)
        return self._read(queries, keys, None if mask.all else mask.tensor)

    def read(
        self,
        queries: Float[Tensor, "video query dim"],
        keys: Float[Tensor, "video key dim"],
        allowed: Bool[Tensor, "video query key"],
    ) -> Float[Tensor, "video query dim"]:
        """Cross-attention with a mask per query; a query that may read no key reads zeros."""
        return self._read(queries, keys, allowed)

    def _read(self, queries: Tensor, keys: Tensor, allowed: Tensor | None) -> Tensor:
        weights = self.qkv.weight.chunk(3)
        biases = (None, None, None) if self.qkv.bias is None else self.qkv.bias.chunk(3)
        query_heads, key_heads, value_heads = (
            self._heads(functional.linear(rows, weight, bias))
            for rows, weight, bias in zip((queries, keys, keys), weights, biases, strict=True)
        )
        return self.out(self._attend_or_zero(query_heads, key_heads, value_heads, allowed))


def _rotate(rows: Float[Tensor, "row head dim"], positions: Int[Tensor, " row"]) -> Float[Tensor, "row head dim"]:
    """Rotary position embedding (Su et al. 2021): rotate each pair of features by an angle that grows with position."""
    half = rows.shape[-1] // 2
    rates = 10000.0 ** (-torch.arange(half, device=rows.device, dtype=rows.dtype) / half)
    angles = (positions[:, None].to(rows.dtype) * rates)[:, None]
    one, two, rest = rows[..., :half], rows[..., half : 2 * half], rows[..., 2 * half :]
    return torch.cat([one * angles.cos() - two * angles.sin(), one * angles.sin() + two * angles.cos(), rest], -1)


class FeedForward(nn.Module):
    """Two linear layers with a GELU between.

    Args:
        gated: multiply by the GELU of a second half (GEGLU, Shazeer 2020).
        quick: `x sigmoid(1.702 x)` instead, as OpenAI's CLIP has it.
    """

    def __init__(self, width: int, inner: int, *, gated: bool = False, quick: bool = False) -> None:
        super().__init__()
        self.gated, self.quick = gated, quick
        self.fc1, self.fc2 = nn.Linear(width, 2 * inner if gated else inner), nn.Linear(inner, width)

    def forward(self, rows: Float[Tensor, "*row dim"]) -> Float[Tensor, "*row dim"]:
        inner = self.fc1(rows)
        if self.gated:
            value, gate = inner.chunk(2, dim=-1)
            return self.fc2(value * self._activate(gate))
        return self.fc2(self._activate(inner))

    def _activate(self, rows: Tensor) -> Tensor:
        return rows * (1.702 * rows).sigmoid() if self.quick else functional.gelu(rows)


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
    """Attention and a feed-forward net, each with a residual connection.

    Args:
        order: `post` normalises after each sum (Vaswani et al. 2017, BERT), `pre` before each part (ViT).
        norm: makes a normalisation of a width.
        gated, quick: of the feed-forward net.
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
        quick: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.order, self.dropout = order, dropout
        self.attention = Attention(width, heads, head_dim=head_dim, bias=qkv_bias, dropout=dropout)
        self.feed = FeedForward(width, inner, gated=gated, quick=quick)
        self.norm1, self.norm2 = norm(width), norm(width)

    def add(self, rows: Tensor, read: Tensor) -> Tensor:
        """Add what the rows have read, then the feed-forward net."""
        if self.order == "pre":
            rows = rows + self._drop(read)
            return rows + self._drop(self.feed(self.norm2(rows)))
        rows = self.norm1(rows + self._drop(read))
        return self.norm2(rows + self._drop(self.feed(rows)))

    def _drop(self, rows: Tensor) -> Tensor:
        return functional.dropout(rows, self.dropout, self.training)

    def forward(self, rows: Float[Tensor, "source_row dim"], plan: Plan, *, first: bool) -> Float[Tensor, "row dim"]:
        read = self.attention(self.norm1(rows) if self.order == "pre" else rows, plan, first=first)
        return self.add(plan.expand(rows) if first else rows, read)

    def cross(self, queries: Tensor, keys: Tensor, present: Mask | Tensor) -> Tensor:
        """Cross-attention: queries [video, query, dim] read another sequence [video, key, dim] (post-norm)."""
        return self.add(queries, self.attention.cross(queries, keys, present))


class Transformer(nn.Module):
    """Layers over one token sequence; an absent token's output is zeros unless it is in `also_compute`."""

    def __init__(self, depth: int, width: int, heads: int, inner: int, **layer: object) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, heads, inner, **layer) for _ in range(depth))  # type: ignore[arg-type]

    def forward(
        self,
        sequence: TokenSequence,
        relation: Bool[Tensor, "group group"],
        also_compute: Bool[Tensor, "video token"] | None = None,
    ) -> Float[Tensor, "video token dim"]:
        return apply_layers(self.layers, sequence.values, plan_attention(sequence, relation, also_compute))


def apply_layers(
    layers: Layers, values: Float[Tensor, "video source dim"], plan: Plan
) -> Float[Tensor, "video token dim"]:
    """Compute layers over the tokens of a plan, called with rows, the plan and whether they are the `first`."""
    buckets, recorded = (None, None) if torch.compiler.is_compiling() else (_buckets.get(), _recorded.get())
    if recorded is not None:
        return values.new_zeros(plan.videos, plan.tokens, values.shape[2])
    run = run_layers if buckets is None else buckets.run
    return plan.unpack(run(layers, plan.pack(values), plan))
