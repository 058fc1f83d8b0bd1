"""Tokens read ahead by worker processes, in order, into memory that they share with this one.

A batch of seven experts is 100 MB. A new block of shared memory for each, as PyTorch's loader makes for what workers
return, costs five times what reading it costs, nearly all of it page faults. So the blocks are made here, written by
workers and used again once nobody has a tensor of theirs any more; through the loader's pipes go requests and shapes.
"""

import multiprocessing
import os
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reelseek.errors import LibraryError, ReelseekError
from reelseek.library.batch_memory import BatchLayout, Memory, StepArrays
from reelseek.library.tokens import Clip, Steps, TokenReader

__all__ = ["Read", "TokenLoader", "TokenRequest", "read_tokens"]

_AHEAD = 2  # batches per worker

Block = UInt8[Tensor, " byte"]


class TokenRequest(NamedTuple):
    """A batch to read: see `TokenReader.batch`.

    Attributes:
        remaining: [clip, expert], the experts that are not dropped; None drops none.
    """

    clips: Sequence[Clip]
    shifts: Mapping[str, Sequence[float]]
    remaining: npt.NDArray[np.bool_] | None = None


class Read(NamedTuple):
    """Tokens of a request, and what was made of them where they were read."""

    tokens: dict[str, Steps]
    prepared: bytes


def read_tokens(reader: TokenReader, request: TokenRequest, *, memory: Memory | None = None) -> dict[str, Steps]:
    """Read a batch, and drop the experts that its request drops.

    Raises:
        FeatureError: a track holds NaN.
    """
    tokens = reader.batch(request.clips, request.shifts, memory=memory)
    if request.remaining is not None:
        drop_experts(tokens, request.remaining)
    return tokens


def drop_experts(tokens: Mapping[str, Steps], remaining: npt.NDArray[np.bool_]) -> None:
    """Mark as absent, in place, the experts that are not among those [video, expert] that remain; a video that would
    lose every expert it has loses none."""
    if len(tokens) < 2:
        return
    present = torch.stack([steps.present.any(1) for steps in tokens.values()], dim=1)
    selected = torch.from_numpy(remaining) & present
    selected = torch.where(selected.any(1, keepdim=True), selected, present)
    for index, steps in enumerate(tokens.values()):
        steps.present.logical_and_(selected[:, index, None])


class TokenLoader:
    """Reads batches of a library by worker processes, which start with the first batch and stay until `close`.

    Args:
        reader: of a library on disk; workers get it as it is when they start, and open the library themselves.
        workers: how many processes, at least one.
        pin: put tokens into pinned memory, from which a copy to a GPU overlaps other work.
        prepare: picklable; called by the worker with the tokens of each request, returns bytes that come with them.
    """

    def __init__(
        self,
        reader: TokenReader,
        workers: int,
        *,
        pin: bool = False,
        prepare: Callable[[dict[str, Steps]], bytes] | None = None,
    ) -> None:
        self._reader, self._workers, self._pin, self._prepare = reader, workers, pin, prepare
        self._feed = _Feed(reader)
        self._loader: DataLoader[_Answer] | None = None

    def _open(self) -> "DataLoader[_Answer]":
        # Not by a fork, which would take the library's connection along, and locks that threads of this process hold.
        context = multiprocessing.get_context("forkserver")
        # Or each worker would take seconds to import PyTorch.
        modules = {__name__} if self._prepare is None else {__name__, type(self._prepare).__module__}
        context.set_forkserver_preload(sorted(modules))
        return DataLoader(
            _TokenDataset(self._reader, self._prepare),
            batch_size=None,
            sampler=self._feed,
            num_workers=self._workers,
            prefetch_factor=_AHEAD,
            collate_fn=_unchanged,
            pin_memory=self._pin,
            multiprocessing_context=context,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # of its own, or the loader would draw from the run's
            persistent_workers=True,
        )

    def load(self, requests: Iterable[TokenRequest]) -> Iterator[dict[str, Steps]]:
        """Yield the tokens of each request, in order; up to two requests per worker are taken ahead.

        Raises:
            LibraryError: see `read`.
        """
        return (read.tokens for read in self.read(requests))

    def read(self, requests: Iterable[TokenRequest]) -> Iterator[Read]:
        """Yield the tokens of each request with what was prepared of them.

        Raises:
            LibraryError: a worker died; names its batch and the reason.
        """
        self._feed.requests = requests
        answers: Any = None
        number = 0
        try:
            with _starting_workers():
                self._loader = self._open() if self._loader is None else self._loader
                answers = iter(self._loader)
            for number, answer in enumerate(answers, 1):  # noqa: B007 - the message names it
                yield Read(self._tokens(answer), answer.prepared)
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            codes = [worker.exitcode for worker in getattr(answers, "_workers", ()) if worker.exitcode]
            self.close()
            raise LibraryError(_describe_death(number + 1, codes, error)) from error

    def close(self) -> None:
        """End the workers. Tokens that were read stay valid."""
        self._loader = None

    def _tokens(self, answer: "_Answer") -> dict[str, Steps]:
        for expert, steps in answer.left_out.items():
            self._reader.count_left_out(expert, steps)
        if answer.error is not None:
            self._feed.blocks.release(answer.number)
            raise answer.error
        block = self._feed.blocks.lend(answer.number) if answer.pinned is None else answer.pinned
        # The workers looked for NaN; that steps are on the host twice says that nobody has to look again.
        return {
            name: Steps(*parts, host=parts.present, host_spans=parts.spans)
            for name, parts in answer.layout.in_block(block).items()
        }


class _Blocks:
    """Blocks of shared memory: free, being written by a worker, or lent to tensors."""

    def __init__(self) -> None:
        self._blocks: dict[int, Block] = {}
        self._free: list[int] = []
        self._written: set[int] = set()
        _POOLS[id(self)] = self

    def take(self, size: int) -> tuple[int, Block]:
        """Return a block of at least so many bytes for a worker to write to, and its number."""
        number = next((number for number in self._free if len(self._blocks[number]) >= size), None)
        if number is None:
            number = self._free[0] if self._free else len(self._blocks)
            self._blocks[number] = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(size))
        if number in self._free:
            self._free.remove(number)
        self._written.add(number)
        return number, self._blocks[number]

    def pinned_copy(self, number: int, size: int) -> Block:
        """Return what a worker wrote in pinned memory; the block is free again."""
        copy = torch.empty(size, dtype=torch.uint8, pin_memory=True).copy_(self._blocks[number][:size])
        self.release(number)
        return copy

    def lend(self, number: int) -> Block:
        """Return a written block; it is free again when no tensor uses this memory any more."""
        array = self._blocks[number].numpy()[:]
        self._written.discard(number)
        weakref.finalize(array, self._free.append, number).atexit = False
        return torch.from_numpy(array)

    def release(self, number: int) -> None:
        """Take back a block that nobody reads."""
        if number in self._written:
            self._written.discard(number)
            self._free.append(number)

    def release_all(self) -> None:
        """Take back all blocks that workers wrote to and nobody asked for."""
        for number in list(self._written):
            self.release(number)


_POOLS: "weakref.WeakValueDictionary[int, _Blocks]" = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class _Task:
    """What goes to a worker."""

    request: TokenRequest
    pool: int
    number: int
    block: Block


@dataclass
class _Answer:
    """What comes back: the layout of what is in the block, or an error.

    PyTorch's loader calls `pin_memory` of whatever it hands on, in a thread of its own.
    """

    pool: int
    number: int
    layout: BatchLayout
    left_out: dict[str, int]
    error: ReelseekError | None = None
    prepared: bytes = b""
    pinned: Block | None = None

    def pin_memory(self) -> "_Answer":
        if self.error is None:
            self.pinned = _POOLS[self.pool].pinned_copy(self.number, self.layout.size)
        return self


class _Feed:
    """The tasks of one pass over some requests, each with a block."""

    def __init__(self, reader: TokenReader) -> None:
        self._reader = reader
        self.blocks = _Blocks()
        self.requests: Iterable[TokenRequest] = ()

    def __iter__(self) -> Iterator[_Task]:
        # The loader begins a pass when workers have answered all that an earlier one, left in its middle, asked for.
        self.blocks.release_all()
        for request in self.requests:
            number, block = self.blocks.take(self._reader.most_bytes(len(request.clips)))
            yield _Task(request, id(self.blocks), number, block)


class _TokenDataset(Dataset[_Answer]):
    """The side of a worker."""

    def __init__(self, reader: TokenReader, prepare: Callable[[dict[str, Steps]], bytes] | None) -> None:
        self._reader, self._prepare = reader, prepare
        self._blocks: dict[int, Block] = {}  # so that memory which comes again is not mapped again

    def __getitem__(self, task: _Task) -> _Answer:
        self._blocks[task.number] = task.block
        reader = self._reader
        reader.quiet, reader.left_out = True, {}
        layouts: list[BatchLayout] = []

        def memory(layout: BatchLayout) -> dict[str, StepArrays]:
            layouts.append(layout)
            return layout.in_block(task.block)

        try:
            tokens = read_tokens(reader, task.request, memory=memory)
        except ReelseekError as error:
            return _Answer(task.pool, task.number, BatchLayout({}), reader.left_out, error)
        prepared = b"" if self._prepare is None else self._prepare(tokens)
        return _Answer(task.pool, task.number, layouts[0], reader.left_out, prepared=prepared)


@contextmanager
def _starting_workers() -> Iterator[None]:
    """Start workers that do not import the script of this process, which would run it once more."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # more workers than cores
            yield
    finally:
        sys.modules["__main__"] = script


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the process that reads batches is gone: PyTorch looks at the parent alone, which is the
    server that workers come from, and that server lives as long as any of them."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _unchanged(answer: Any) -> Any:
    return answer


def _describe_death(number: int, codes: Sequence[int], error: RuntimeError) -> str:
    reasons = "; ".join(map(_describe_exit, codes)) or str(error)
    return (
        f"a process that reads batches ahead ended while batch {number} was due ({reasons}); start again, with fewer "
        "workers, or none, if memory is short"
    )


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}; what it said stands above"
    hints = {signal.SIGBUS: ", for shared memory (/dev/shm) is full", signal.SIGKILL: ", perhaps for want of memory"}
    name = signal.Signals(-code)
    return f"it was ended by {name.name}{hints.get(name, '')}"
