"""How far the examination of new files has come: the bytes that workers have read of them, by a number they share."""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from reelseek.library.report import Progress
from reelseek.media.address import FilePath

__all__ = ["ExamineWatch", "count_bytes", "reading"]

_count: Any = None  # of a worker: bytes that it and its like have read


class ExamineWatch:
    """Reports the progress of an examination in bytes.

    Args:
        sizes: bytes of each file.
    """

    def __init__(self, sizes: Mapping[FilePath, int], progress: Progress) -> None:
        self.count = multiprocessing.get_context("spawn").Value("Q", 0)
        self._sizes, self._progress = sizes, progress
        self._total = max(1, sum(sizes.values()))
        self._bytes = self._files = 0
        self._latest = ""
        self._report()

    def look(self, _running: object = None) -> None:
        """Report how far the workers have come."""
        self._report()

    def finish(self, path: FilePath, name: str) -> None:
        """Report that a file is finished."""
        self._bytes += self._sizes[path]
        self._files += 1
        self._latest = f", {name}"
        self._report()

    def _report(self) -> None:
        is_finished = self._files == len(self._sizes)
        done = min(self._total - 1, max(self._bytes, int(self.count.value)))
        detail = f"{self._files} of {len(self._sizes)} files{self._latest}"
        self._progress("examining", self._total if is_finished else done, self._total, detail)


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
