"""What runs on a node: one process of Ray that calls a function, for files in a guarded process below it."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelseek.media.guard import Workers, portable

__all__ = ["FileSizes", "Job", "TaskActor", "Unreadable", "file_sizes"]

FileSizes = Sequence[tuple[Path, int]]


@dataclass(frozen=True)
class Job:
    """What every actor of a pool does.

    Attributes:
        function: picklable by its name; called with one item.
        memory_bytes: calls run in a process of their own, which a file may end and which may map so much more than
            it holds after `prepare`; None calls the function in the actor itself.
        prepare: called once in each process that calls the function.
        environment: variables of the driver that computations read.
    """

    function: Callable[[Any], Any]
    memory_bytes: int | None = None
    prepare: Callable[[], None] | None = None
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Unreadable:
    """A node's answer where it does not see a file as the driver does."""

    reason: str


class TaskActor:
    """Calls the function of a job with one item at a time."""

    def __init__(self, job: Job) -> None:
        os.environ.update(job.environment or {})
        self._function = job.function
        self._pool: Workers[Any, Any] | None = None
        if job.memory_bytes is not None:
            self._pool = Workers(job.function, workers=1, memory_bytes=job.memory_bytes, prepare=job.prepare)
        elif job.prepare is not None:
            job.prepare()

    def start(self) -> None:
        """Answer once the actor is up."""

    def run(self, item: Any, seconds: float, files: FileSizes) -> Any:
        """Return the outcome of one item: its result, its error, or `Unreadable`."""
        for path, size in files:
            if reason := _unreadable(path, size):
                return Unreadable(reason)
        if self._pool is not None:
            return next(outcome for _, outcome in self._pool.map([item], lambda _: seconds))
        try:
            return self._function(item)
        except Exception as error:  # every error of one item is that item's own
            return portable(error)


def _unreadable(path: Path, size: int) -> str:
    try:
        with path.open("rb") as file:
            local_size = os.fstat(file.fileno()).st_size
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return "" if local_size == size else f"{path} has {local_size} bytes where the driver sees {size}"


def file_sizes(paths: Sequence[Path]) -> FileSizes:
    """List files with their sizes as this machine sees them, without those that it cannot look at."""
    sizes = []
    for path in paths:
        try:
            sizes.append((path, path.stat().st_size))
        except OSError:
            continue
    return sizes
