"""Searches side by side: a view of the searcher for each of some threads, in the order in which they are asked for.

A request that waits holds no thread. Texts of the requests that wait are encoded together, and what takes long (inside
a video, by an upload) has a thread of its own, so that no plain search waits for it.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from fastapi import Request

from reelseek.errors import ReelseekError
from reelseek.experts.sentence import sentence_encoder
from reelseek.search import Searcher
from reelseek.search.current import IndexPending
from reelseek.search.views import SharedIndexes
from reelseek.web.decoding import busy

__all__ = ["SideBySide"]

Result = TypeVar("Result")
_LOOK_SECONDS = 1.0  # between two looks at whether a client that waits is still there
_PENDING_SECONDS = 120.0  # that a request waits for an index that is being built
_MOST_THREADS = 4


class SideBySide:
    """Calls with a searcher, several at a time.

    Args:
        waiting: how many may wait.
        threads: how many searches run at a time; None is one for each core, up to four.

    Attributes:
        threads: that number.
        shared: the indexes that all threads search.
    """

    def __init__(self, searcher: Searcher, waiting: int, threads: int | None = None) -> None:
        threads = threads or min(_MOST_THREADS, os.cpu_count() or 1)
        self.threads = threads
        self.shared = SharedIndexes(searcher)
        self._most, self._callers = waiting + threads, 0
        self._local = threading.local()
        self._short = ThreadPoolExecutor(threads, "search", self._enter_thread)
        self._long = ThreadPoolExecutor(1, "look", self._enter_thread)
        self._encoder = _TextBatches() if searcher.model.embeds_sentences else None

    def _enter_thread(self) -> None:
        torch.set_num_threads(1)  # threads of one search would only take the cores from the others
        self._local.searcher = self.shared.view()

    @property
    def callers(self) -> int:
        """How many calls run or wait."""
        return self._callers

    async def result(
        self, request: Request, function: Callable[[Searcher], Result], *, text: str = "", long: bool = False
    ) -> Result:
        """What a function makes of a searcher when its turn has come; one whose client has gone is not called.

        Args:
            text: what the function will encode.
            long: it may take longer than a search does.

        Raises:
            Problem: as many as may are waiting, the client has gone, or an index is being built for longer than it can
                wait.
        """
        if self._callers >= self._most:
            raise busy("other searches are under way")
        self._callers += 1
        try:
            if text and self._encoder is not None:
                await _wrap(self._encoder.encode(text))
            while True:
                try:
                    return await self._turn(request, function, self._long if long else self._short)
                except IndexPending as pending:
                    if not (await asyncio.wait({_wrap(pending.future)}, timeout=_PENDING_SECONDS))[0]:
                        raise busy("an index is being built that this search takes", 5) from pending
        finally:
            self._callers -= 1

    async def _turn(
        self, request: Request, function: Callable[[Searcher], Result], threads: ThreadPoolExecutor
    ) -> Result:
        try:
            future = threads.submit(lambda: function(self._local.searcher))
        except RuntimeError as error:  # closed in the meantime
            raise busy("what searches by this model has just been closed") from error
        turn = _wrap(future)
        try:
            while not (await asyncio.wait({turn}, timeout=_LOOK_SECONDS))[0]:
                if await request.is_disconnected() and future.cancel():
                    raise busy("the client has gone")
            return turn.result()
        except CancelledError as error:
            raise busy("the server is ending") from error
        finally:
            future.cancel()

    def start(self) -> None:
        """Let every thread open what a search needs, so that no request waits for it."""
        for threads, count in ((self._short, self.threads), (self._long, 1)):
            barrier = threading.Barrier(count)
            for future in [threads.submit(self._search_first, barrier) for _ in range(count)]:
                future.result()

    def _search_first(self, barrier: threading.Barrier) -> None:
        barrier.wait(600)  # so that each thread does it once
        with contextlib.suppress(ReelseekError):  # a library that cannot be searched is said where it is asked
            self._local.searcher.search("a first search", k=1)

    def close(self) -> None:
        """End when what runs has ended; nothing else begins."""
        for threads in (self._short, self._long):
            threads.shutdown(cancel_futures=True)
        if self._encoder is not None:
            self._encoder.close()
        self.shared.close()


def _wrap(future: "Future[Result]") -> "asyncio.Future[Result]":
    """A future of this loop, whose error nobody has to look at."""
    wrapped = asyncio.wrap_future(future)
    wrapped.add_done_callback(lambda done: done.cancelled() or done.exception())
    return wrapped


class _TextBatches:
    """Encodes what requests ask for: all that came while the batch before was encoded make the next."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "texts", lambda: torch.set_num_threads(1))
        self._lock = threading.Lock()
        self._waiting: list[str] = []
        self._next: Future[None] | None = None

    def encode(self, text: str) -> "Future[None]":
        """Is done when the encoder remembers a text."""
        with self._lock:
            self._waiting.append(text)
            if self._next is None:
                self._next = self._thread.submit(self._encode)
            return self._next

    def _encode(self) -> None:
        with self._lock:
            texts, self._waiting, self._next = self._waiting, [], None
        sentence_encoder().encode_apart(texts)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
