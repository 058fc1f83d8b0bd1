"""Videos that lie in stores or shards, as files that a server can send: fetched beside requests, held while in use."""

import contextlib
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import ExitStack
from pathlib import Path

from reelseek.errors import MediaError
from reelseek.media.address import Address
from reelseek.media.local_copy import local_copy
from reelseek.web.problems import Problem

__all__ = ["FetchedFiles"]

_PATIENCE_SECONDS = 2.0
_RETRY_SECONDS = 2
_HELD = 8  # copies that were asked for last stay, so that none goes between two parts of one film
_AT_ONCE = 2


class FetchedFiles:
    """Local copies of videos by address, for requests."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_AT_ONCE, "fetch")
        self._lock = threading.Lock()
        self._files: OrderedDict[Address, Future[tuple[ExitStack, Path]]] = OrderedDict()

    def path(self, address: Address) -> Path:
        """The local copy of a video.

        Raises:
            Problem: it is being fetched still, or cannot be.
        """
        with self._lock:
            future = self._files.get(address)
            if future is None:
                future = self._files[address] = self._pool.submit(_hold, address)
            self._files.move_to_end(address)
            while len(self._files) > _HELD and next(iter(self._files.values())).done():
                _release(self._files.popitem(last=False)[1])
        try:
            return future.result(_PATIENCE_SECONDS)[1]
        except FutureTimeout as error:
            message = "the video is being fetched from where it lies"
            raise Problem(503, "a copy is being prepared", message, retry_seconds=_RETRY_SECONDS) from error
        except MediaError as error:
            with self._lock:
                if self._files.get(address) is future:
                    del self._files[address]
            message = "the video's file cannot be fetched from its store; it was moved or deleted, or the store is away"
            raise Problem(410, "gone", message) from error

    def close(self) -> None:
        """Let go of all copies; what is being fetched is waited for."""
        self._pool.shutdown(cancel_futures=True)
        for future in self._files.values():
            _release(future)


def _hold(address: Address) -> tuple[ExitStack, Path]:
    with ExitStack() as stack:
        path = stack.enter_context(local_copy(address))
        return stack.pop_all(), path


def _release(future: "Future[tuple[ExitStack, Path]]") -> None:
    if future.done() and not future.cancelled():
        with contextlib.suppress(Exception):
            future.result()[0].close()
