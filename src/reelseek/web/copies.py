"""Copies of videos that browsers play: made one at a time, checked, and kept within a limit.

Each process writes into a folder of its own inside the folder of copies and renames what is whole, so that several
servers may share a library. A folder whose process was killed is removed by the next one.
"""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from pathlib import Path

from reelseek.errors import DecodeError, MediaError
from reelseek.media.guard import Workers
from reelseek.media.picture import make_proxy
from reelseek.media.verify import check_copy
from reelseek.web.decoding import Failures
from reelseek.web.problems import Problem

__all__ = ["CopyJob", "CopyStore"]

_MOST_WAITING = 16
_FORGOTTEN_SECONDS = 30.0  # pages ask every two seconds for what they wait for
_FAILED_SECONDS = 600.0
_USED_SECONDS = 60.0  # how exactly it is known when a copy was last played
_NAME = re.compile(r"[0-9a-f]{16,128}\.mp4")
_SCRATCH, _UNLOCKED = ".making-", ".begun-"


@dataclass
class CopyJob:
    """A copy that is wanted: by whom it was last asked for is not known, but when (`clock` seconds)."""

    content: str
    source: Path
    seconds: float
    requested_at: float
    future: "Future[Path]"


class CopyStore:
    """The folder of copies, and the one thread that fills it.

    Args:
        folders: the first one that can be written is used.
        most_bytes: what all copies together may take; the longest unused ones make room. 0 keeps none.
        is_current: whether a content is still some video's.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        most_bytes: int,
        is_current: Callable[[str], bool] = lambda content: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folders, self._most_bytes, self._is_current, self._clock = folders, most_bytes, is_current, clock
        self._condition = threading.Condition()
        self._waiting: OrderedDict[str, CopyJob] = OrderedDict()
        self._running: CopyJob | None = None
        self._thread: threading.Thread | None = None
        self._workers: Workers[tuple[Path, Path | None, Path], bool] | None = None
        self._closed = False
        self._checked: dict[str, tuple[int, int]] = {}  # size and time of the copies that this process found whole
        self._failures = Failures(_FAILED_SECONDS, clock)
        self._folder: Path | None = None
        self._scratch: Path | None = None
        self._lock_file: int | None = None

    # For requests

    def ready(self, content: str) -> Path | None:
        """The copy of a content if it is there and was found whole."""
        path = self.folder / f"{content}.mp4" if self._checked.get(content) else None
        try:
            state = path.stat() if path is not None else None
        except OSError:
            state = None
        if path is None or state is None or self._checked[content] != (state.st_size, state.st_mtime_ns):
            return None
        if time.time() - state.st_atime > _USED_SECONDS:
            with contextlib.suppress(OSError):
                os.utime(path, ns=(time.time_ns(), state.st_mtime_ns))
        return path

    def request(self, content: str, source: Path, duration: float | None) -> CopyJob:
        """Ask for a copy, again and again while it is waited for; what nobody asks for any more is not begun.

        Raises:
            MediaError: it could not be made a while ago.
            Problem: there is no place for copies, or as many as may are waiting.
        """
        if self._most_bytes <= 0:
            raise Problem(422, "no copy", "browsers cannot play this file, and --copies-gb 0 allows no copy of it")
        error = self._failures.get(content)
        if error is not None:
            raise error
        with self._condition:
            job = self._running if self._running and self._running.content == content else self._waiting.get(content)
            if job is not None:
                job.requested_at = self._clock()
                return job
            self._drop_forgotten()
            if self._closed or len(self._waiting) >= _MOST_WAITING:
                raise Problem(
                    503, "too busy", f"{len(self._waiting)} other copies are waited for already", retry_seconds=10
                )
            seconds = 120 + 5 * (duration or 3600)
            job = self._waiting[content] = CopyJob(content, source, seconds, self._clock(), Future())
            self._start()
            return job

    def ahead(self, job: CopyJob) -> int:
        """How many copies are made before a job's begins or goes on."""
        with self._condition:
            before = list(self._waiting).index(job.content) if job.content in self._waiting else 0
            return before + (self._running is not None and self._running is not job)

    def _drop_forgotten(self) -> None:
        """Nobody waits for some: they leave the queue, and the one at work ends if another one is wanted."""
        now = self._clock()
        for job in [job for job in self._waiting.values() if now - job.requested_at > _FORGOTTEN_SECONDS]:
            del self._waiting[job.content]
            job.future.cancel()
        if self._running is not None and now - self._running.requested_at > _FORGOTTEN_SECONDS:
            self._stop_workers()

    def _stop_workers(self) -> None:
        workers, self._workers = self._workers, None
        if workers is not None:
            threading.Thread(target=workers.stop, daemon=True).start()

    def close(self) -> None:
        """End what is being made, and let nothing begin."""
        with self._condition:
            self._closed = True
            for job in self._waiting.values():
                job.future.cancel()
            self._waiting.clear()
            self._stop_workers()
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join(10)
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    # The thread

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="copies", daemon=True)
            self._thread.start()
        self._condition.notify_all()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            outcome: Path | Exception
            try:
                outcome = self._make(job)
            except (MediaError, Problem, CancelledError) as error:
                outcome = error
            except OSError as error:
                outcome = MediaError(f"a copy that browsers play cannot be written: {error.strerror or error}")
            except Exception as error:  # whatever it is, the next job is done
                outcome = MediaError(f"no copy could be made: {type(error).__name__}: {error}")
            if isinstance(outcome, MediaError):
                self._failures.add(job.content, outcome)
            with self._condition:
                self._running = None
            if isinstance(outcome, Exception):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)

    def _next(self) -> CopyJob | None:
        with self._condition:
            while not self._closed:
                self._drop_forgotten()
                if self._waiting:
                    _, self._running = self._waiting.popitem(last=False)
                    return self._running
                self._condition.wait()
        return None

    def _make(self, job: CopyJob) -> Path:
        copy, scratch = self.folder / f"{job.content}.mp4", self._scratch_folder() / f"{job.content}.mp4"
        try:
            if self._work(job, copy if copy.is_file() else None, scratch):
                self._admit(job.content, scratch, copy)
        finally:
            for leftover in scratch.parent.glob(f"{job.content}*"):
                leftover.unlink(missing_ok=True)
        state = copy.stat()
        self._checked[job.content] = (state.st_size, state.st_mtime_ns)
        return copy

    def _work(self, job: CopyJob, existing: Path | None, scratch: Path) -> bool:
        """Whether a copy was made; False if the one that is there is whole."""
        with self._condition:
            if self._closed:
                raise CancelledError("the server is ending")
            if self._workers is None:
                self._workers = Workers(_check_or_make, workers=1, memory_bytes=2 * 2**30)
            workers = self._workers
        _, outcome = next(workers.map([(job.source, existing, scratch)], lambda _: job.seconds))
        if isinstance(outcome, Exception):
            with self._condition:
                if self._workers is not workers:
                    raise CancelledError("nobody waited for the copy any more") from outcome
            raise outcome
        return outcome

    def _admit(self, content: str, scratch: Path, copy: Path) -> None:
        size = scratch.stat().st_size
        if size > self._most_bytes:
            raise MediaError(
                f"its copy for browsers takes {size / 1e9:.2f} GB, and all copies together may take "
                f"{self._most_bytes / 1e9:.2f}; allow more with --copies-gb"
            )
        if not self._is_current(content):
            raise MediaError("the video was removed from the library meanwhile")
        self._evict(size)
        os.replace(scratch, copy)

    def _evict(self, size: int) -> None:
        """Remove the copies that were not played for longest until another one of `size` bytes fits."""
        copies = sorted((state.st_atime, state.st_size, path) for path, state in _copies(self.folder))
        total = size + sum(bytes_ for _, bytes_, _ in copies)
        for _, bytes_, path in copies:
            if total <= self._most_bytes:
                return
            path.unlink(missing_ok=True)
            total -= bytes_

    # Folders

    @property
    def folder(self) -> Path:
        """Where copies are kept.

        Raises:
            Problem: no place for them can be written.
        """
        if self._folder is None:
            reasons: list[str] = []
            for folder in self._folders:
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    with tempfile.TemporaryFile(dir=folder):
                        self._folder = folder
                    return folder
                except OSError as error:
                    reasons.append(f"{'the library' if not reasons else 'the cache'}: {error.strerror}")
            raise Problem(
                422, "no copy", f"browsers cannot play this file, and no copy can be written ({'; '.join(reasons)})"
            )
        return self._folder

    def _scratch_folder(self) -> Path:
        """This process's own folder, locked for as long as it lives."""
        if self._scratch is None or not self._scratch.is_dir():
            _remove_abandoned(self.folder)
            unlocked = Path(tempfile.mkdtemp(prefix=_UNLOCKED, dir=self.folder))
            self._lock_file = os.open(unlocked, os.O_RDONLY)
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._scratch = unlocked.rename(self.folder / f"{_SCRATCH}{unlocked.name[len(_UNLOCKED) :]}")
        return self._scratch

    def tidy(self) -> None:
        """Remove what killed processes left, copies of videos that are gone, and what is beyond the limit."""
        with contextlib.suppress(OSError, Problem):
            if not any(folder.is_dir() for folder in self._folders):
                return
            _remove_abandoned(self.folder)
            for path, _ in _copies(self.folder):
                if not self._is_current(path.stem):
                    path.unlink(missing_ok=True)
            self._evict(0)


def _copies(folder: Path) -> list[tuple[Path, os.stat_result]]:
    copies = []
    for path in folder.iterdir():
        if _NAME.fullmatch(path.name):
            with contextlib.suppress(OSError):
                copies.append((path, path.stat()))
    return copies


def _remove_abandoned(folder: Path) -> None:
    """Folders whose process is gone: a lock lives no longer than who holds it."""
    for scratch in folder.glob(f"{_SCRATCH}*"):
        try:
            lock = os.open(scratch, os.O_RDONLY)
        except OSError:
            continue
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)
    # Of processes killed before they held a lock, and of earlier versions; whoever is still at it wrote just now.
    for leftover in (*folder.glob(f"{_UNLOCKED}*"), *folder.glob("*.partial.mp4")):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > 3600:
                leftover.rmdir() if leftover.is_dir() else leftover.unlink()


def _check_or_make(task: tuple[Path, Path | None, Path]) -> bool:
    """In a worker: make a copy at `task[2]`, unless `task[1]` is a whole one; whether one was made.

    Raises:
        DecodeError: none can be made that is whole.
    """
    source, existing, target = task
    if existing is not None:
        with contextlib.suppress(MediaError):
            check_copy((source, existing))
            return False
    target.unlink(missing_ok=True)
    make_proxy((source, target))
    try:
        check_copy((source, target))
    except DecodeError as error:
        raise DecodeError(f"{str(source)!r}: {error}") from error
    return True
