"""How far the examination of new files has come: the bytes that workers have read of them, by a number they share."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from reelseek.library.report import Progress
from reelseek.media.address import FilePath

__all__ = ["ExamineWatch", "count_bytes", "reading"]

_LONG_SECONDS = 1.0
_count: Any = None  # of a worker: bytes that it and its like have read


class ExamineWatch:
    """Reports the progress of an examination: in files, and in bytes while one file takes long.

    Args:
        sizes: bytes of each file.
    """

    def __init__(self, sizes: Mapping[FilePath, int], progress: Progress) -> None:
        self.count = multiprocessing.get_context("spawn").Value("Q", 0)
        self._sizes, self._progress = sizes, progress
        self._total = max(1, sum(sizes.values()))
        self._bytes = self._files = 0
        self._finished_at = time.monotonic()
        self._is_shown = False
        progress("examining", 0, len(sizes), "")

    def look(self, _running: object = None) -> None:
        """Report how far the workers have read, once no file was finished for a while."""
        if time.monotonic() - self._finished_at >= _LONG_SECONDS and self.count.value:
            self._is_shown = True
            read = max(self._bytes, int(self.count.value))
            self._progress("reading", min(self._total - 1, read), self._total, "")

    def finish(self, path: FilePath, name: str) -> None:
        """Report that a file is finished."""
        self._bytes += self._sizes[path]
        self._files += 1
        self._finished_at = time.monotonic()
        if self._is_shown and self._files == len(self._sizes):
            self._progress("reading", self._total, self._total, "")
        self._progress("examining", self._files, len(self._sizes), name)


def count_bytes(count: Any) -> None:
    """Let this worker add what it reads to a number that others add to as well."""
    global _count
    _count = count


@contextmanager
def reading(size: int) -> Iterator[Callable[[float], None]]:
    """Count a file's bytes while it is read: call the result with the share of the work on it that is done."""
    counted = 0

    def report(share: float) -> None:
        nonlocal counted
        further = int(size * min(1.0, share)) - counted
        if _count is not None and further > 0:
            counted += further
            with _count.get_lock():
                _count.value += further

    try:
        yield report
    finally:
        report(1.0)  # also where the file could not be read to its end
