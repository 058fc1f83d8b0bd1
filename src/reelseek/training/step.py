"""The gradients of one batch: their precision, a compiled forward, and why a batch cannot be taken."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn

from reelseek.errors import RecipeError
from reelseek.models.batch import Batch
from reelseek.models.blocks.mix import Attention, bucketed, prepared_plans, run_layers
from reelseek.models.device import describe
from reelseek.models.model import RetrievalModel
from reelseek.training.buckets import BucketedLayers
from reelseek.training.caching import cached_gradients
from reelseek.training.recipe import TrainRecipe

__all__ = ["BatchStep", "broken_layers"]

_BACKEND = "inductor"  # of torch.compile
_ROOM = 0.9  # of the memory that is free, for an estimate: the allocator rounds up and leaves gaps


class BatchStep:
    """Adds the gradients of a batch to a model's parameters.

    Args:
        model: on its device.

    Raises:
        RecipeError: the device cannot compute in the recipe's precision, the way of compiling has no effect on it, or
            `buckets` are set for a system without a transformer.
    """

    def __init__(self, model: RetrievalModel, config: TrainRecipe, device: torch.device) -> None:
        self.model, self.config, self.device = model, config, device
        if config.precision == "bfloat16":
            _check_bfloat16(device)
        if config.buckets and not any(isinstance(module, Attention) for module in model.modules()):
            raise RecipeError(f"train.buckets pads what transformers compute, which {model.system} lacks; leave it out")
        self._forward: Any = model.loss
        self.layers = BucketedLayers()
        if config.compile and config.buckets:  # layers alone: what is around them is decided on the host
            shapes = {"fullgraph": True, "dynamic": False}
            self.layers = BucketedLayers(_compiled(run_layers, config.compile, device, **shapes))
        elif config.compile:
            self._forward = _compiled(model, config.compile, device)

    def backward(self, batch: Batch, share: int) -> Tensor:
        """Add the gradients of a batch, divided by `share`, to the parameters'; its loss, on the device.

        Raises:
            RecipeError: the batch does not fit into the device's memory, or the model cannot be compiled; says what
                to change.
        """
        batch = batch.to(self.device)
        with suppress(torch.OutOfMemoryError):  # outside it, what the failed step held is free again
            return self._backward(batch, share)
        raise RecipeError(self._too_little_memory(batch))

    def _backward(self, batch: Batch, share: int = 1, chunk: int | None = None) -> Tensor:
        chunk = chunk or self.config.chunk
        bfloat16 = self.config.precision == "bfloat16"
        if self._replays_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        with self._compile_errors(), prepared_plans(batch.plans), bucketed(self.config.buckets, self.layers):
            with torch.autocast(self.device.type, torch.bfloat16) if bfloat16 else nullcontext():
                if chunk is not None:
                    return torch.tensor(cached_gradients(self.model, batch, chunk, share))
                loss = torch.stack([term.float() for term in self._forward(batch).values()]).sum()
            (loss / share).backward()
        if self._replays_graphs and share > 1:
            self._copy_gradients()
        return loss.detach()

    @property
    def _replays_graphs(self) -> bool:
        return self.device.type == "cuda" and self.config.compile in ("reduce-overhead", "max-autotune")

    def _copy_gradients(self) -> None:
        """Move gradients out of the memory of a CUDA graph, which its next replay writes to: PyTorch adds to them
        there."""
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad = parameter.grad.clone()

    @contextmanager
    def _compile_errors(self) -> Iterator[None]:
        if not self.config.compile:
            yield
            return
        from torch._dynamo.exc import TorchDynamoException

        try:
            yield
        except TorchDynamoException as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            reason = " ".join(lines[: 2 if lines[0].endswith(":") else 1])
            raise RecipeError(
                f"train.compile: {self.model.system} cannot be compiled on {self.device} ({reason}); leave it off"
            ) from error

    def _too_little_memory(self, batch: Batch) -> str:
        """Say how large a batch fits: half of it, half of that, and so on are tried, and what they need is measured."""
        chunk, count = self.config.chunk, len(batch.texts)
        name, size = ("train.batch", count) if chunk is None else ("train.chunk", chunk)
        message = f"{name} is {size}, which does not fit into the memory of {describe(self.device)}"
        smaller = size // 2
        while smaller >= (2 if chunk is None else 1):
            self.model.zero_grad()
            gc.collect()
            with suppress(torch.OutOfMemoryError), _peak(self.device) as used:
                self._backward(batch if chunk else batch.rows(torch.arange(smaller)), chunk=chunk and smaller)
            if used.bytes is None:
                smaller //= 2
                continue
            fits = max(smaller, min(size - 1, int(smaller * _ROOM * used.free / used.bytes))) if used.bytes else smaller
            pieces = "" if chunk else ", or compare the whole batch in pieces with train.chunk"
            needs = f", whose step takes {used.bytes / 2**30:.2g} GiB" if used.bytes else ""
            return f"{message}; {smaller} does{needs}: set {name} to {fits} at most{pieces}"
        return f"{message}, and no smaller one does; take a smaller model, or another device"


class _Peak:
    """What a step needed: bytes beyond those at its start (None: it did not fit), and bytes that were free then."""

    bytes: int | None = None
    free: int = 0


@contextmanager
def _peak(device: torch.device) -> Iterator[_Peak]:
    """Measure a step; devices that cannot be asked for their peak say 0."""
    used = _Peak()
    if device.type != "cuda":
        yield used
        used.bytes = 0
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before, used.free = torch.cuda.memory_allocated(device), torch.cuda.mem_get_info(device)[0]
    yield used
    used.bytes = torch.cuda.max_memory_allocated(device) - before


def _compiled(function: Callable[..., Any], mode: bool | str, device: torch.device, **options: Any) -> Any:
    """Wrap a model or a function by torch.compile; its first call compiles."""
    if mode == "reduce-overhead" and device.type != "cuda":
        raise RecipeError(
            f'train.compile: "reduce-overhead" replays CUDA graphs, which {describe(device)} has not; set it to true'
        )
    options |= {} if mode is True else {"mode": mode}
    return torch.compile(function, backend=_BACKEND, **options)


def _check_bfloat16(device: torch.device) -> None:
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        supported = True
        try:
            with torch.autocast(device.type, torch.bfloat16):
                pass
        except RuntimeError:
            supported = False
    if not supported:
        raise RecipeError(f'train.precision: {describe(device)} cannot compute in bfloat16; set it to "float32"')


@contextmanager
def broken_layers(model: nn.Module) -> Iterator[list[str]]:
    """Collect the layers whose outputs hold NaN or infinity, in the order in which they are computed: name and kind."""
    names: list[str] = []

    def watch(name: str) -> Any:
        def look(module: nn.Module, _: Any, output: Any) -> None:
            tensors = output if isinstance(output, tuple | list) else [output]
            if any(isinstance(part, Tensor) and not bool(part.isfinite().all()) for part in tensors):
                weights = all(bool(value.isfinite().all()) for value in module.parameters(recurse=False))
                names.append(f"{name} ({type(module).__name__}{'' if weights else ', its weights are broken already'})")

        return look

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        yield names
    finally:
        for handle in handles:
            handle.remove()
