"""Ways to compute a transformer over batches with padding: which is the fastest on a device. See device.py.

Layers are those of `blocks.mix`, over sequences of MDMMT's size: seven experts of 30 places, half of them filled. Each
way takes the same batch forward and backward under bfloat16, and its outputs are held against those of packed rows. At
the tiny size of a CPU, FlexAttention goes forward alone, and what is compiled elsewhere is traced.

    packed      as training does by default: linear layers see present tokens alone, attention pads them per video
    buckets     as `train.buckets = 4`, and the same compiled as `train.compile` would
    dense       every place is computed; PyTorch's attention under a mask
    flex        the same by FlexAttention with a block mask, made in the step
    flex rows   packed rows of all videos as one sequence, whose block mask lets a video read itself
    nested      packed rows as a nested tensor (jagged), which PyTorch's attention reads by their offsets
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from reelseek.models.blocks.arrange import concat_groups, everything
from reelseek.models.blocks.mix import Layer, Transformer, apply_layers, bucketed, plan_attention, run_layers
from reelseek.models.blocks.plan import pad_plan

GROUPS, BUCKETS = 7, 4
SIZES = {"depth": 9, "width": 512, "heads": 8, "inner": 3072}  # MDMMT's
TINY = {"depth": 2, "width": 32, "heads": 2, "inner": 48}  # where there is no accelerator: that all of this works
_BLOCK = 128  # rows, of FlexAttention's masks
_TOLERANCE = 0.03  # on average, of outputs in bfloat16, which are of unit size

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Way = Callable[[Tensor], Tensor]


def presence(batch: int, places: int, generator: torch.Generator) -> Tensor:
    """Which tokens are present [video, token]: one for all, an aggregate and a uniform count of steps for each expert,
    nothing of an expert in one video of ten."""
    counts = torch.randint(2, places + 5, (batch, GROUPS), generator=generator).clamp(max=places + 1)
    counts[torch.rand(batch, GROUPS, generator=generator) < 0.1] = 0
    steps = (torch.arange(places + 1) < counts[..., None]).flatten(1)
    return torch.cat([torch.ones(batch, 1, dtype=torch.bool), steps], 1)


def attending(layers: nn.ModuleList, rows: Tensor, attend: Attend) -> Tensor:
    """Compute layers of `blocks.mix` over rows [..., row, dim] by another attention, of [..., head, row, dim]."""
    for layer in layers:
        assert isinstance(layer, Layer)
        parts = layer.attention.qkv(rows).chunk(3, dim=-1)
        heads = (part.unflatten(-1, (layer.attention.heads, -1)).transpose(-3, -2) for part in parts)
        rows = layer.add(rows, layer.attention.out(attend(*heads).transpose(-3, -2).flatten(-2)))
    return rows


class Ways:
    """The ways, each from values [video, token, dim] to outputs of the same shape.

    Args:
        present: which tokens are present, on the host.
        compiler: options of torch.compile.
    """

    def __init__(self, layers: nn.ModuleList, present: Tensor, device: torch.device, compiler: dict[str, Any]) -> None:
        self.layers, self.present, self.device = layers, present.to(device), device
        sequence = concat_groups([(torch.zeros(*present.shape, 0), present)])
        plan = plan_attention(sequence, everything(1))
        self.plan, self.padded = plan.to(device), pad_plan(plan, present.shape[1], BUCKETS).to(device)
        self.compiled_layers = torch.compile(run_layers, fullgraph=True, dynamic=False, **compiler)
        self.flex: Any = torch.compile(flex_attention) if device.type == "cuda" else flex_attention
        counts = present.sum(1)
        self.offsets, self.longest = functional.pad(counts.cumsum(0), (1, 0)).to(device), int(counts.max())
        self.extra = -int(counts.sum()) % _BLOCK  # rows of padding are a video of their own
        owners = torch.cat([counts, torch.tensor([self.extra])])
        self.video_of_row = torch.arange(len(owners)).repeat_interleave(owners).to(device)

    def packed(self, values: Tensor) -> Tensor:
        return apply_layers(self.layers, values, self.plan)

    def buckets(self, values: Tensor) -> Tensor:
        return apply_layers(self.layers, values, self.padded)

    def buckets_compiled(self, values: Tensor) -> Tensor:
        with bucketed(BUCKETS, self.compiled_layers):
            return apply_layers(self.layers, values, self.padded)

    def dense(self, values: Tensor) -> Tensor:
        mask = self.present[:, None, None]

        def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)

        return attending(self.layers, values, attend)

    def flex_dense(self, values: Tensor) -> Tensor:
        present = self.present

        def may_read(video: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return present[video, key]

        tokens = present.shape[1]
        mask = create_block_mask(may_read, len(present), None, tokens, tokens, device=self.device)
        return attending(self.layers, values, lambda q, k, v: self.flex(q, k, v, block_mask=mask))

    def flex_rows(self, values: Tensor) -> Tensor:
        video, count = self.video_of_row, len(self.video_of_row)

        def may_read(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return video[query] == video[key]

        mask = create_block_mask(may_read, None, None, count, count, device=self.device)
        rows = functional.pad(self.plan.pack(values), (0, 0, 0, self.extra))[None]
        rows = attending(self.layers, rows, lambda q, k, v: self.flex(q, k, v, block_mask=mask))
        return self.plan.unpack(rows[0, : count - self.extra])

    def nested(self, values: Tensor) -> Tensor:
        def jagged(rows: Tensor) -> Tensor:  # [head, row, dim] -> [video, head, tokens of the video, dim]
            packed = torch.nested.nested_tensor_from_jagged(
                rows.transpose(0, 1).contiguous(), self.offsets, min_seqlen=1, max_seqlen=self.longest
            )
            return packed.transpose(1, 2)

        def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            read = functional.scaled_dot_product_attention(jagged(queries), jagged(keys), jagged(values))
            return read.transpose(1, 2).values().transpose(0, 1)

        return self.plan.unpack(attending(self.layers, self.plan.pack(values), attend))

    def all(self) -> dict[str, Way]:
        return {
            "packed": self.packed, "buckets": self.buckets, "buckets, compiled": self.buckets_compiled,
            "dense": self.dense, "flex": self.flex_dense, "flex rows": self.flex_rows, "nested": self.nested,
        }  # fmt: skip


def compare(batch: int, device: torch.device, timed: Callable[..., float]) -> Iterator[dict[str, Any]]:
    """Time every way, forward and backward, on one batch; the last row says which was the fastest.

    Args:
        timed: of device.py.
    """
    gpu = device.type == "cuda"
    sizes = SIZES if gpu else TINY
    torch.manual_seed(0)
    transformer = Transformer(**sizes, order="post").to(device)  # type: ignore[arg-type]
    present = presence(batch, 30 if gpu else 6, torch.Generator().manual_seed(batch))
    compiler: dict[str, Any] = {"mode": "reduce-overhead"} if gpu else {"backend": "aot_eager"}
    ways = Ways(transformer.layers, present, device, compiler)
    values = torch.randn(*present.shape, sizes["width"], device=device, requires_grad=True)
    expected, seconds = None, {}
    for name, way in ways.all().items():
        backward = gpu or "flex" not in name  # FlexAttention has no backward pass on a CPU

        def step(way: Way = way, backward: bool = backward) -> Tensor:
            transformer.zero_grad()
            values.grad = None
            if gpu:
                torch.compiler.cudagraph_mark_step_begin()
            with torch.set_grad_enabled(backward), torch.autocast(device.type, torch.bfloat16):
                output = way(values)
            output = torch.where(ways.present[..., None], output.float(), 0)
            if backward:
                output.square().sum().backward()
            return output.detach()

        row = {"system": f"attention, {name}", "batch": batch}
        try:
            output = step()
            expected = output if expected is None else expected
            distance = float((output - expected)[ways.present].abs().mean())
            if not distance < _TOLERANCE:
                raise ValueError(f"its outputs are {distance:.2g} away from those of packed rows")
            if gpu:
                torch.cuda.reset_peak_memory_stats(device)
            took = timed(step, device, 12)
        except Exception as error:  # a kernel that is not made for this device, as PyTorch says in many ways
            yield row | {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
            continue
        if backward:
            seconds[name] = took
        peak = torch.cuda.max_memory_allocated(device) / 2**30 if gpu else None
        yield row | {
            "ms": 1e3 * took, "examples_per_second": batch / took, "forward_alone": not backward,
            "distance": distance, "peak_gib": peak,
        }  # fmt: skip
    if "packed" not in seconds:
        return
    fastest = min(seconds, key=seconds.__getitem__)
    ratio = seconds["packed"] / seconds[fastest]
    computed = {"present": int(present.sum()), "buckets": ways.padded.computed, "dense": present.numel()}
    yield {
        "system": "attention, fastest", "batch": batch, "fastest": fastest, "times_as_fast_as_packed": ratio,
        "tokens": computed,
    }  # fmt: skip
