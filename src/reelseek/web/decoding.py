"""Decoding for pages: in guarded worker processes, a few at a time, and no more waiting than can be answered soon."""

import asyncio
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request

from reelseek.errors import MediaError
from reelseek.media.guard import Workers
from reelseek.web.problems import Problem

__all__ = ["DecodeQueue", "Failures", "busy", "finished"]

Result = TypeVar("Result")


def busy(what: str, seconds: float = 2) -> Problem:
    """The answer to a request that would have to wait too long."""
    return Problem(503, "too busy", f"{what}; ask again in {seconds:.0f} s", retry_seconds=seconds)


class Failures:
    """Why something could not be made, remembered for a while so that it is not tried again at each request."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._errors: OrderedDict[Hashable, tuple[float, Exception]] = OrderedDict()

    def add(self, key: Hashable, error: Exception) -> None:
        self._errors[key] = (self._clock() + self._seconds, error)
        if len(self._errors) > 1000:
            self._errors.popitem(last=False)

    def get(self, key: Hashable) -> Exception | None:
        until, error = self._errors.get(key, (0.0, None))
        if error is None or until > self._clock():
            return error
        self._errors.pop(key, None)
        return None


async def finished(future: "Future[Result]", request: Request, seconds: float) -> bool:
    """Wait for a future as long as the client does; whether it is done after at most so many seconds.

    Waiting here holds no thread, so that what waits cannot keep others from being answered.
    """
    end, pause = time.monotonic() + seconds, 0.01
    while not future.done() and time.monotonic() < end:
        await asyncio.sleep(pause)
        pause = min(0.2, 1.5 * pause)
        if pause > 0.1 and await request.is_disconnected():
            return future.done()
    return future.done()


def _work(task: tuple[Callable[[Any], Any], Any]) -> Any:
    function, item = task
    return function(item)


class DecodeQueue:
    """Short work on media files.

    Args:
        workers: how many processes.
        waiting: how many calls wait for one at most.
    """

    def __init__(self, *, workers: int = 2, waiting: int = 16) -> None:
        self._most = workers + waiting
        # Workers die with the thread that started them; threads of an executor stay, those that answer requests do not.
        self._threads = ThreadPoolExecutor(workers, "media")
        self._count = workers
        self._workers: Workers[Any, Any] | None = None
        self._lock = threading.RLock()
        self._calls: dict[Hashable, tuple[Future[Any], int]] = {}  # and how many requests wait for each
        self._failures = Failures(60)

    async def result(
        self, request: Request, key: Hashable, function: Callable[[Any], Any], item: Any, *, seconds: float
    ) -> Any:
        """What a function makes of an item; calls of one key at the same time are one call.

        Args:
            function, item: picklable.
            seconds: how long the call may run; waiting for its turn included, a request waits no longer than that.

        Raises:
            MediaError: the file is to blame; what failed is not tried again for a minute.
            Problem: too much waits already, or it takes longer.
        """
        error = self._failures.get(key)
        if error is not None:
            raise error
        future = self._join(key, function, item, seconds)
        try:
            if not await finished(future, request, seconds + 1):
                raise busy("the file takes long to read")
        finally:
            self._leave(key, future)
        try:
            outcome = future.result()
        except CancelledError as ended:
            raise busy("the server is ending") from ended
        if isinstance(outcome, MediaError):
            self._failures.add(key, outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def start(self, function: Callable[[Any], Any], item: Any) -> None:
        """Start the worker processes, and let one call a function for what it imports, whatever comes of it."""
        self._threads.submit(self._call, function, item, 60).result()

    def _join(self, key: Hashable, function: Callable[[Any], Any], item: Any, seconds: float) -> "Future[Any]":
        with self._lock:
            if key in self._calls:
                future, requests = self._calls[key]
                self._calls[key] = (future, requests + 1)
                return future
            if len(self._calls) >= self._most:
                raise busy("other videos are being read")
            future = self._threads.submit(self._call, function, item, seconds)
            self._calls[key] = (future, 1)
            future.add_done_callback(lambda _: self._calls.pop(key, None))
            return future

    def _leave(self, key: Hashable, future: "Future[Any]") -> None:
        with self._lock:
            waiting, requests = self._calls.get(key, (None, 0))
            if waiting is not future:
                return
            self._calls[key] = (future, requests - 1)
            if requests == 1:
                future.cancel()  # nobody waits for it; one that runs already goes on

    def _call(self, function: Callable[[Any], Any], item: Any, seconds: float) -> Any:
        with self._lock:
            if self._workers is None:
                self._workers = Workers(_work, workers=self._count, memory_bytes=2 * 2**30)
                weakref.finalize(self, self._workers.stop)
            workers = self._workers
        return next(workers.map([(function, item)], lambda _: seconds))[1]

    def close(self) -> None:
        """End what runs, and let nothing begin."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            if self._workers is not None:
                self._workers.stop()
