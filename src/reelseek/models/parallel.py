"""Several processes that train one model: embeddings gathered as negatives, batch statistics and gradients shared.

Every process computes the loss of the whole batch from everybody's embeddings, of which its own alone carry gradients,
times the number of processes; averaged over processes the gradients are those of one process with the whole batch.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from reelseek.errors import ReelseekError, UsageError
from reelseek.library.files import write_whole_bytes

__all__ = [
    "active",
    "all_gather",
    "all_gather_objects",
    "all_gather_stacked",
    "all_max",
    "all_min",
    "all_reduce_in_place",
    "all_reduce_sum",
    "all_true",
    "average_gradients",
    "barrier",
    "broadcast_bytes",
    "counted",
    "is_local_main_process",
    "is_main_process",
    "join",
    "lost_processes",
    "rank",
    "replicated",
    "same_errors",
    "share_file",
    "total_count",
    "uncounted",
    "world_size",
]

Value = TypeVar("Value")


def join(device: torch.device) -> torch.device:
    """Under `torchrun`, become one of several processes that train one model; each on a GPU of its own, if on GPUs.

    What the host has (counts, decisions) goes by gloo, what a GPU has by NCCL.

    Returns:
        this process's device.

    Raises:
        UsageError: there are more processes here than GPUs, or another process computes on another kind of device.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return device
    if device.type == "cuda":
        number = int(os.environ.get("LOCAL_RANK", "0"))
        if number >= torch.cuda.device_count():
            raise UsageError(
                f"process {number} of this machine has no GPU of its own, for there are {torch.cuda.device_count()}; "
                "start fewer processes, or train with --device cpu"
            )
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    _refuse_mixed(device)
    return device


def _refuse_mixed(device: torch.device) -> None:
    """Refuse processes on devices of different kinds: they would wait for each other for ever, unable to share rows."""
    kinds = [""] * world_size()
    dist.all_gather_object(kinds, device.type)
    if len(set(kinds)) > 1:
        places = ", ".join(f"process {number} on {kind}" for number, kind in enumerate(kinds))
        raise UsageError(
            f"processes train together on one kind of device, and here are {places}; name it with --device"
        )


_replicated: ContextVar[bool] = ContextVar("replicated", default=False)


def active() -> bool:
    """Whether several processes train together, and this is no part that all of them compute alike."""
    return world_size() > 1 and not _replicated.get()


@contextmanager
def replicated() -> Iterator[None]:
    """Compute what every process computes alike, from gathered rows: its batch statistics are of all clips already."""
    token = _replicated.set(True)
    try:
        yield
    finally:
        _replicated.reset(token)


_counted: ContextVar[bool] = ContextVar("counted", default=True)


def counted() -> bool:
    """Whether what this process normalises counts in batch statistics."""
    return _counted.get()


@contextmanager
def uncounted(nothing: bool) -> Iterator[None]:
    """Compute what other processes do at the same time, with rows that stand for nothing, if these are `nothing`."""
    token = _counted.set(not nothing)
    try:
        yield
    finally:
        _counted.reset(token)


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


def is_main_process() -> bool:
    """Whether this process writes files and reports: the one of rank 0."""
    return rank() == 0


def is_local_main_process() -> bool:
    """Whether this process is the first of its machine: the one that writes what each machine has of its own."""
    return world_size() == 1 or int(os.environ.get("LOCAL_RANK", "0")) == 0


def broadcast_bytes(data: bytes) -> bytes:
    """Return the bytes that the main process has, in every process."""
    if not active():
        return data
    count = torch.tensor(len(data))
    dist.broadcast(count, 0)
    buffer = torch.zeros(int(count), dtype=torch.uint8)
    if is_main_process() and data:
        buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    dist.broadcast(buffer, 0)
    return buffer.numpy().tobytes()


def share_file(path: Path) -> None:
    """Give every process the file that the main process has at a path, or none; machines need share no folder."""
    if not active():
        return
    barrier()  # the main process may still be writing it
    data = path.read_bytes() if path.is_file() else b""
    hashed = hashlib.sha256(data).digest()
    if all_true(broadcast_bytes(hashed) == hashed):
        return
    received = broadcast_bytes(data)
    if received != data and is_local_main_process():
        if received:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole_bytes(path, received)
        else:
            path.unlink()
    barrier()


def barrier() -> None:
    """Wait until every process has come here."""
    if active():
        dist.barrier()


def all_true(condition: bool) -> bool:
    """Whether a condition of the host is true in every process."""
    if not active():
        return condition
    flag = torch.tensor(int(condition))
    dist.all_reduce(flag, dist.ReduceOp.MIN)
    return bool(flag)


def total_count(count: int) -> int:
    """Return the sum over processes of a number of the host."""
    if not active():
        return count
    summed = torch.tensor(count)
    dist.all_reduce(summed)
    return int(summed)


def all_max(count: int) -> int:
    """Return the largest that a number of the host is in any process."""
    if not active():
        return count
    largest = torch.tensor(count)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def all_min(count: int) -> int:
    """Return the smallest that a number of the host is in any process."""
    return -all_max(-count)


def all_gather_objects(value: Value) -> list[Value]:
    """Return what all processes have, in order of rank; it is pickled."""
    if not active():
        return [value]
    gathered: list[Value] = [value] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


@contextmanager
def same_errors() -> Iterator[None]:
    """Raise in every process the error that what is done here raises in one, so that none waits for one that ended.

    Raises:
        UsageError: another process had an error; says which, and what it was.
    """
    error: ReelseekError | None = None
    try:
        yield
    except ReelseekError as raised:
        error = raised
    messages = all_gather_objects(None if error is None else str(error))
    if error is not None:
        raise error
    for number, message in enumerate(messages):
        if message is not None:
            raise UsageError(f"process {number}: {message}")


@contextmanager
def lost_processes() -> Iterator[None]:
    """Say in plain words that another process ended, where this one waited for it.

    Raises:
        UsageError: a collective operation failed, because another process is gone.
    """
    try:
        yield
    except RuntimeError as error:  # PyTorch's gloo raises no class of its own
        if world_size() > 1 and (isinstance(error, dist.DistError) or "gloo/transport" in str(error)):
            raise UsageError(
                f"process {rank()} waited for another process, which has ended: what that one reported says why. Start "
                "all of them again, and training goes on from its last finished epoch"
            ) from error
        raise


def all_gather_stacked(values: Tensor) -> Tensor:
    """Return the values of all processes in order of rank, a row for each; shapes are the same in all of them."""
    parts = [torch.empty_like(values) for _ in range(world_size())]
    dist.all_gather(parts, values.contiguous())
    return torch.stack(parts)


def all_reduce_in_place(values: Tensor) -> None:
    """Replace values by their sum over processes, outside of any graph."""
    dist.all_reduce(values)


def all_gather(rows: Tensor) -> Tensor:
    """Return the rows of all processes in order of rank; the local ones carry gradients (see `average_gradients`).

    Processes may have different numbers of rows.
    """
    counts = [torch.zeros(1, dtype=torch.long) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)]))
    most = int(max(counts))
    padded = rows.detach().new_zeros(most, *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    sent = padded.to(torch.uint8) if padded.dtype == torch.bool else padded
    buffers = [torch.zeros_like(sent) for _ in range(world_size())]
    dist.all_gather(buffers, sent.contiguous())
    parts = [buffer[: int(count)].to(rows.dtype) for buffer, count in zip(buffers, counts, strict=True)]
    parts[rank()] = _Scaled.apply(rows, world_size()) if rows.requires_grad else rows  # type: ignore[no-untyped-call]
    return torch.cat(parts)


class _Scaled(torch.autograd.Function):
    """The identity, whose backward pass multiplies gradients by a factor."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: Tensor, factor: int) -> Tensor:
        ctx.factor = factor  # type: ignore[attr-defined]
        return values.view_as(values)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None  # type: ignore[attr-defined]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(_: torch.autograd.function.FunctionCtx, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def all_reduce_sum(values: Tensor) -> Tensor:
    """Return the sum over processes; its gradients flow back to all of them."""
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


def average_gradients(model: nn.Module) -> None:
    """Make every parameter's gradient the mean over processes; one that a process lacks counts as zeros.

    What no process has a gradient of gets none, as in one process, so that the optimizer leaves it as it is.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    present = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.uint8)
    dist.all_reduce(present, dist.ReduceOp.MAX)
    for parameter, learns in zip(parameters, present.tolist(), strict=True):
        if learns:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= world_size()
