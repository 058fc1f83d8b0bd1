"""Cut files that shared links play: made once at the very frames, and kept within a limit."""

import contextlib
import hashlib
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from reelseek.errors import UsageError
from reelseek.media.cut import CutTask, cut
from reelseek.media.guard import guarded
from reelseek.web.decoding import busy

__all__ = ["CutStore"]

_MOST_BYTES = 2 * 10**9
_LONGEST_SECONDS = 600.0
_MOST_WAITING = 32


class CutStore:
    """A folder of cuts.

    Args:
        folder: where they lie; the ones that were not played for longest make room.
    """

    def __init__(self, folder: Path, *, most_bytes: int = _MOST_BYTES) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._threads = ThreadPoolExecutor(2, "cut")
        self._futures: dict[str, Future[Path]] = {}
        self._lock = threading.Lock()

    def request(self, content: str, source: Path, start: float, end: float) -> "Future[Path]":
        """The cut of a moment, once it is made; asked for again while it is being made, it is the same one.

        Raises:
            UsageError: it is too long.
            Problem: too many are waited for.
        """
        if end - start > _LONGEST_SECONDS:
            raise UsageError(
                f"a link plays at most {_LONGEST_SECONDS:.0f} s of a video, and this lasts {end - start:.0f} s"
            )
        key = hashlib.sha256(f"{content} {start:.3f} {end:.3f}".encode()).hexdigest()[:32]
        path = self._folder / f"{key}.mp4"
        with self._lock:
            future = self._futures.get(key)
            if future is None and path.is_file():  # it waits for none that is being made
                os.utime(path)
                future = Future()
                future.set_result(path)
            elif future is None:
                if len(self._futures) >= _MOST_WAITING:
                    raise busy("too many moments are being cut", 60)
                future = self._threads.submit(self._make, path, source, start, end)
                self._futures[key] = future
                future.add_done_callback(lambda _: self._futures.pop(key, None))
        return future

    def _make(self, path: Path, source: Path, start: float, end: float) -> Path:
        partial = self._folder / f".{path.stem}-{os.getpid()}"
        try:
            finished = guarded(
                cut,
                CutTask(source, partial, start, end, True),
                seconds=120 + 60 * (end - start),
                memory_bytes=2 * 2**30,
            )
            os.replace(finished.path, path)
        finally:
            partial.with_name(f"{partial.name}.mp4").unlink(missing_ok=True)
        self._make_room(path)
        return path

    def _make_room(self, newest: Path) -> None:
        rows = []
        for path in self._folder.glob("*.mp4"):
            with contextlib.suppress(OSError):
                status = path.stat()
                rows.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in rows)
        for _, size, path in sorted(rows):
            if total <= self._most_bytes:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                total -= size

    def close(self) -> None:
        """Make no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
