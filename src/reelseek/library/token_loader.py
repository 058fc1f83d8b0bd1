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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reelseek.errors import LibraryError, ReelseekError
from reelseek.library.batch_memory import BatchLayout, StepArrays
from reelseek.library.tokens import Clip, Steps, TokenReader

__all__ = ["TokenLoader", "TokenRequest"]

_AHEAD = 2  # batches per worker

Block = UInt8[Tensor, " byte"]


class TokenRequest(NamedTuple):
    """A batch to read: see `TokenReader.batch`."""

    clips: Sequence[Clip]
    shifts: Mapping[str, Sequence[float]]


class TokenLoader:
    """Reads batches of a library by worker processes, which start with the first batch and stay until `close`.

    Args:
        reader: of a library on disk; workers get it as it is when they start, and open the library themselves.
        workers: how many processes, at least one.
        pin: put tokens into pinned memory, from which a copy to a GPU overlaps other work.
    """

    def __init__(self, reader: TokenReader, workers: int, *, pin: bool = False) -> None:
        self._reader, self._workers, self._pin = reader, workers, pin
        self._feed = _Feed(reader)
        self._loader: DataLoader[_Answer] | None = None

    def _open(self) -> "DataLoader[_Answer]":
        # Not by a fork, which would take the library's connection along, and locks that threads of this process hold.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])  # or each worker would take seconds to import PyTorch
        return DataLoader(
            _TokenDataset(self._reader),
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
                yield self._tokens(answer)
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

    def __init__(self, reader: TokenReader) -> None:
        self._reader = reader
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
            reader.batch(task.request.clips, task.request.shifts, memory=memory)
        except ReelseekError as error:
            return _Answer(task.pool, task.number, BatchLayout({}), reader.left_out, error)
        return _Answer(task.pool, task.number, layouts[0], reader.left_out)


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
