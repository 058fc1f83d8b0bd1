"""Worker processes that a hostile file can end without ending anything else."""

import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from pebble import ProcessExpired, ProcessPool

from reelseek.errors import LimitError, MediaError, UsageError

__all__ = ["WORKER_DIED", "Workers", "guarded"]

WORKER_DIED = "its worker process died"
"""How the message begins that an item gets whose worker ended, by the item's doing or somebody else's."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def _die_with_parent() -> None:
    """On Linux a worker is killed when the process that started it dies, however it dies."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _limit_memory(memory_bytes: int) -> None:
    """Let this process map at most `memory_bytes` more than it has mapped now."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        now = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = now + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))


def _start(memory_bytes: int, prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _die_with_parent()
    if prepare is not None:
        prepare(*arguments)
    _limit_memory(memory_bytes)


class Workers(Generic[Item, Result]):
    """A pool that runs one function over many items, each under its own time limit.

    An item whose worker dies or overruns comes back as a MediaError that says so; the pool goes on with a new worker.

    Args:
        function: picklable; called in a worker with one item.
        workers: how many processes.
        memory_bytes: what an item may map beyond what a worker holds after `prepare`.
        prepare, arguments: called once in each new worker.
    """

    def __init__(
        self,
        function: Callable[[Item], Result],
        *,
        workers: int,
        memory_bytes: int,
        prepare: Callable[..., None] | None = None,
        arguments: tuple[Any, ...] = (),
    ) -> None:
        self._function = function
        self._workers = workers
        self._memory_bytes = memory_bytes
        self._stopped = threading.Event()
        self._pool = ProcessPool(
            max_workers=workers,
            initializer=_start,
            initargs=(memory_bytes, prepare, arguments),
            context=multiprocessing.get_context("spawn"),
        )

    def __enter__(self) -> "Workers[Item, Result]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._pool.close()
        else:
            self._pool.stop()
        self._pool.join()

    def stop(self) -> None:
        """End what runs and what waits; may be called from another thread than the one that waits for it."""
        self._stopped.set()
        self._pool.stop()
        self._pool.join()

    def map(self, items: Iterable[Item], seconds: Callable[[Item], float]) -> Iterator[tuple[Item, Result | Exception]]:
        """Each item with its result, or with the error it ended in, in the order in which they finish."""
        waiting = iter(items)
        running: dict[Any, Item] = {}
        while True:
            for item in waiting:
                running[self._scheduled(item, seconds(item))] = item
                if len(running) >= 2 * self._workers:
                    break
            if not running:
                return
            done = self._first_done(running)
            item = running.pop(done)
            yield item, self._outcome(done, seconds(item))

    def _scheduled(self, item: Item, seconds: float) -> Any:
        try:
            return self._pool.schedule(self._function, args=(item,), timeout=seconds)
        except RuntimeError as error:  # the pool noticed that no worker comes up
            raise UsageError(
                "worker processes could not start; a script that uses them is a file whose own work stands under "
                '`if __name__ == "__main__":`'
            ) from error

    def _first_done(self, futures: Iterable[Any]) -> Any:
        """A future that is done; any, once the pool was stopped, which leaves some of them as they are."""
        while True:
            for future in futures:
                if future.done() or self._stopped.is_set():
                    return future
            wait(futures, timeout=0.5, return_when=FIRST_COMPLETED)

    def _outcome(self, future: Any, seconds: float) -> Result | Exception:
        if self._stopped.is_set() and not future.done():
            return CancelledError("its worker was stopped")
        try:
            result: Result = future.result()
            return result
        except FutureTimeout:
            return LimitError(f"took more than {seconds:.0f} s; its worker was stopped")
        except ProcessExpired as error:
            return MediaError(f"{WORKER_DIED} (exit code {error.exitcode}); the run went on without it")
        except MemoryError:
            return LimitError(f"needed more than {self._memory_bytes / 2**30:.0f} GiB of memory")
        except Exception as error:  # every error of one item is that item's own
            return error


def guarded(function: Callable[[Item], Result], item: Item, *, seconds: float, memory_bytes: int = 2 * 2**30) -> Result:
    """Run one call in a process of its own.

    Raises:
        MediaError: the process died or overran its limits; or whatever the function raises.
    """
    with Workers(function, workers=1, memory_bytes=memory_bytes) as workers:
        _, outcome = next(workers.map([item], lambda _: seconds))
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
