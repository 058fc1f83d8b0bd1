"""Worker processes that a hostile file can end without ending anything else."""

import contextlib
import ctypes
import json
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from pebble import ProcessExpired, ProcessPool

from reelseek.errors import LimitError, MediaError, UsageError
from reelseek.media.memory import available_memory

__all__ = [
    "MODEL_SERVER_DIED",
    "WORKER_DIED",
    "Workers",
    "die_with_parent",
    "guarded",
    "is_death",
    "portable",
    "results_until_stopped",
    "serve",
    "stopped_at",
    "stream",
]

WORKER_DIED = "its worker process died"
"""How the message begins that an item gets whose worker ended, by the item's doing or somebody else's."""
MODEL_SERVER_DIED = "its model server died"
"""The same of the process that computed for the item's worker."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def is_death(reason: str) -> bool:
    """Whether an item failed because a process ended, which says little of the item until it happens again."""
    return WORKER_DIED in reason or MODEL_SERVER_DIED in reason


def die_with_parent() -> None:
    """On Linux a worker is killed when the process (the thread) that started it dies, however it dies."""
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
    die_with_parent()
    if prepare is not None:
        prepare(*arguments)
    _limit_memory(memory_bytes)


_NO_WORKERS = (
    "worker processes could not start; a script that uses them is a file whose own work stands under "
    '`if __name__ == "__main__":`'
)


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
        if error is None and not self._stopped.is_set():
            self._pool.close()
        else:
            self._pool.stop()
        self._pool.join()

    def start(self) -> None:
        """Start the processes now. They end with the thread that starts them: the first that maps, without this.

        Raises:
            UsageError: no process comes up.
        """
        if not self._pool.active:  # to ask is to start
            raise UsageError(_NO_WORKERS)

    def stop(self) -> None:
        """End what runs and what waits; may be called from another thread than the one that waits for it."""
        self._stopped.set()
        self._pool.stop()
        self._pool.join()

    def map(
        self,
        items: Iterable[Item],
        seconds: Callable[[Item], float],
        waiting_for: Callable[[Iterable[Item]], None] = lambda items: None,
    ) -> Iterator[tuple[Item, Result | Exception]]:
        """Each item with its result, or with the error it ended in, in the order in which they finish.

        Args:
            seconds: how long an item may take.
            waiting_for: called twice a second with the items that are not done.
        """
        waiting = iter(items)
        running: dict[Any, Item] = {}
        while True:
            for item in waiting:
                running[self._scheduled(item, seconds(item))] = item
                if len(running) >= 2 * self._workers:
                    break
            if not running:
                return
            done = self._first_done(running, lambda: waiting_for(running.values()))
            item = running.pop(done)
            yield item, self._outcome(done, seconds(item))

    def _scheduled(self, item: Item, seconds: float) -> Any:
        try:
            return self._pool.schedule(self._function, args=(item,), timeout=seconds)
        except RuntimeError as error:  # the pool noticed that no worker comes up
            raise UsageError(_NO_WORKERS) from error

    def _first_done(self, futures: Iterable[Any], wait_longer: Callable[[], None]) -> Any:
        """A future that is done; any, once the pool was stopped, which leaves some of them as they are."""
        while True:
            for future in futures:
                if future.done() or self._stopped.is_set():
                    return future
            wait(futures, timeout=0.5, return_when=FIRST_COMPLETED)
            wait_longer()

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


@contextlib.contextmanager
def stopped_at(pool: Workers[Any, Any], deadline: float) -> Iterator[Callable[[], bool]]:
    """Stop a pool at a moment of the monotonic clock, whatever it is doing then.

    Yields:
        whether that was done.
    """
    passed = threading.Event()

    def stop() -> None:
        passed.set()
        pool.stop()

    seconds = min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield passed.is_set
    finally:
        timer.cancel()
        timer.join()


def results_until_stopped(
    pool: Workers[Item, Result], items: Iterable[Item], seconds: float, is_stopped: Callable[[], bool]
) -> Iterator[tuple[Item, Result | Exception]]:
    """Yield what a pool makes of items, until it is stopped.

    Args:
        seconds: how long an item may take.
        is_stopped: what `stopped_at` yields.
    """
    try:
        for item, result in pool.map(items, lambda _: seconds):
            if is_stopped():
                return
            yield item, result
    except UsageError:  # the pool was stopped while an item was handed to it
        if not is_stopped():
            raise


def stream(
    function: Callable[[Item], Iterable[Result]],
    items: Iterable[Item],
    *,
    seconds: Callable[[Item], float],
    memory_bytes: int | None = None,
) -> Generator[tuple[Item, Result | Exception], None, None]:
    """Run a generator function over items in a process beside this one, and hand on what it yields, one by one.

    Results come through a pipe while the process goes on reading, so that neither all of an item nor all items are ever
    held. The process serves many items; one that ends it, or is silent for too long, ends with a MediaError, and those
    after it get a new process. It is no `multiprocessing` worker, which would run a script's main file once more.

    Args:
        function: picklable by its name.
        seconds: how long an item may be silent.
        memory_bytes: what the process may map beyond what it maps at its start; by default most of what is free.
    """
    memory = max(2**31, available_memory() * 3 // 4) if memory_bytes is None else memory_bytes
    waiting, sent = iter(items), deque[Item]()
    reader: _Reader | None = None
    try:
        while True:
            for item in islice(waiting, _AHEAD - len(sent)):
                sent.append(item)
                if reader is not None:
                    reader.send(item)
            if not sent:
                return
            if reader is None:
                reader = _Reader(function, memory)
                for item in sent:
                    reader.send(item)
            for result in reader.results(seconds(sent[0])):
                yield sent[0], result
            sent.popleft()
            if reader.ended:
                reader = None
    finally:
        if reader is not None:
            reader.stop()


_AHEAD = 8  # items that a process is told of before it comes to them, so that it never waits for the next
_BATCH_BYTES = 2**18  # results that go through the pipe at once
_SERVE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from reelseek.media.guard import serve; serve()"


class _Reader:
    """One process that runs a generator function; `ended` once it died or was stopped."""

    def __init__(self, function: Callable[[Any], Iterable[Any]], memory_bytes: int) -> None:
        self.ended = False
        self._memory_bytes = memory_bytes
        self._pipe, theirs = multiprocessing.Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, json.dumps(sys.path), str(theirs.fileno()), str(memory_bytes)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._pipe.send(function)

    def send(self, item: Any) -> None:
        with contextlib.suppress(OSError):  # it died; `results` will say so
            self._pipe.send(item)

    def results(self, seconds: float) -> Iterator[Any]:
        """Everything of the next item."""
        last = False
        while not last:
            try:
                if not self._pipe.poll(seconds):
                    self.stop()
                    yield LimitError(f"took more than {seconds:.0f} s; its worker was stopped")
                    return
                batch, last = self._pipe.recv()
            except (EOFError, OSError):
                code = self._process.wait()
                self.stop()
                yield MediaError(f"{WORKER_DIED} (exit code {code}); the run went on without it")
                return
            yield from batch

    def stop(self) -> None:
        self.ended = True
        self._process.kill()
        self._process.wait()
        self._pipe.close()


def serve() -> None:
    """The other end of `stream`: take a function and items from a pipe, and send what comes of them."""
    pipe = Connection(int(sys.argv[2]))
    function = pipe.recv()  # its module is imported before memory is limited
    _start(int(sys.argv[3]), None, ())
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            _send_results(pipe, function, pipe.recv())


def _send_results(pipe: Connection, function: Callable[[Any], Iterable[Any]], item: Any) -> None:
    batch: list[Any] = []
    size = 0
    try:
        for result in function(item):
            batch.append(result)
            size += sum(getattr(part, "nbytes", 64) for part in result) if isinstance(result, tuple) else _BATCH_BYTES
            if size >= _BATCH_BYTES:
                pipe.send((batch, False))
                batch, size = [], 0
    except MemoryError:
        batch.append(LimitError("needed more memory than this machine has free"))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # every error of one item is that item's own
        batch.append(portable(error))
    pipe.send((batch, True))


def portable(error: Exception) -> Exception:
    """Return the error if it survives the way to another process, else a MediaError with its text."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # what was dumped on the same line
    except Exception:
        return MediaError(f"{type(error).__name__}: {error}")
    return error


def _only(function: Callable[[Item], Result], item: Item) -> Iterator[Result]:
    yield function(item)


def guarded(
    function: Callable[[Item], Result], item: Item, *, seconds: float, memory_bytes: int | None = None
) -> Result:
    """Run one call in a process of its own.

    Args:
        function: picklable by its name.
        seconds, memory_bytes: see `stream`.

    Raises:
        MediaError: the process died or overran its limits; or whatever the function raises.
    """
    call = partial(_only, function)
    with contextlib.closing(stream(call, [item], seconds=lambda _: seconds, memory_bytes=memory_bytes)) as results:
        _, outcome = next(results)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
