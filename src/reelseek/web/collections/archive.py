"""Moments as a ZIP of cut files, sent while it is made: one cut is on the disk at a time."""

import contextlib
import io
import queue
import tempfile
import threading
import zipfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from starlette.concurrency import run_in_threadpool

from reelseek.errors import UsageError
from reelseek.media.cut import Cut, CutTask, cut
from reelseek.media.guard import stream
from reelseek.web.collections.rows import ExportRow, one_line, safe_file_name
from reelseek.web.collections.tables import to_csv
from reelseek.web.media import without_path

__all__ = ["Archive", "check_archive"]

_CHUNK = 1 << 20
_MOST_SECONDS = {False: 6 * 3600.0, True: 1800.0}
_MOST_CUTS = 1000
_MEMORY_BYTES = 2 * 2**30


def check_archive(rows: Sequence[ExportRow], *, exact: bool) -> None:
    """Refuse what would take too long.

    Raises:
        UsageError: there are too many or too long moments, or none that can be cut.
    """
    seconds = sum(row.moment.end - row.moment.start for row in rows)
    most = _MOST_SECONDS[exact]
    if len(rows) > _MOST_CUTS or seconds > most:
        raise UsageError(
            f"{len(rows)} moments of {seconds / 60:.0f} min are too many for one file: at most {_MOST_CUTS} of "
            f"{most / 60:.0f} min in all; make collections of fewer moments"
        )
    if not any(row.path for row in rows):
        raise UsageError("none of these moments has a file at hand to be cut")


class _Pipe(io.RawIOBase):
    """What a ZIP is written to: chunks in a queue of bounded length; it ends the writer when nobody reads."""

    def __init__(self, chunks: "queue.Queue[bytes | None]", closed: threading.Event) -> None:
        super().__init__()
        self._chunks, self._unread, self._buffer = chunks, closed, bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Take bytes; those of a whole chunk go out."""
        self._buffer += data
        if len(self._buffer) >= _CHUNK:
            self.flush_chunk()
        return len(data)

    def flush_chunk(self) -> None:
        """Hand on what is there."""
        while self._buffer:
            if self._unread.is_set():
                raise BrokenPipeError("nobody reads the archive any more")
            with contextlib.suppress(queue.Full):
                self._chunks.put(bytes(self._buffer), timeout=0.5)
                self._buffer.clear()


class Archive:
    """A ZIP that is made in a thread while it is read.

    It holds a file for each moment, `moments.csv`, and `LEFT OUT.txt` where a moment could not be cut.

    Args:
        exact: cut at the very frames; else at key frames, without loss.
        scratch: folder for one cut at a time.
    """

    def __init__(self, rows: Sequence[ExportRow], *, exact: bool, scratch: Path) -> None:
        self._rows, self._exact, self._scratch = rows, exact, scratch
        self._chunks: queue.Queue[bytes | None] = queue.Queue(maxsize=4)
        self._closed = threading.Event()
        self._error: Exception | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes of the archive."""
        threading.Thread(target=self._write, name="archive", daemon=True).start()
        try:
            while (chunk := await run_in_threadpool(self._chunks.get)) is not None:
                yield chunk
            if self._error is not None:  # the connection breaks, so that nobody takes the part for the whole
                raise self._error
        finally:
            self._closed.set()

    def _write(self) -> None:
        try:
            with tempfile.TemporaryDirectory(dir=self._scratch, prefix="cut-", ignore_cleanup_errors=True) as folder:
                self._write_archive(Path(folder))
        except BrokenPipeError:
            pass
        except Exception as error:
            self._error = error
        finally:
            while not self._closed.is_set():
                with contextlib.suppress(queue.Full):
                    self._chunks.put(None, timeout=0.5)
                    break

    def _write_archive(self, folder: Path) -> None:
        pipe = _Pipe(self._chunks, self._closed)
        with zipfile.ZipFile(cast(IO[bytes], pipe), "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            notes = list(self._add_cuts(archive, folder))
            archive.writestr("moments.csv", to_csv(self._rows))
            if notes:
                archive.writestr("LEFT OUT.txt", "".join(f"{note}\n" for note in notes))
        pipe.flush_chunk()

    def _add_cuts(self, archive: zipfile.ZipFile, folder: Path) -> Iterator[str]:
        """Put every cut in, and yield a line on each that is missing or is not what was asked for."""
        tasks: list[CutTask] = []
        for number, row in enumerate(self._rows, 1):
            if row.path is None:
                yield f"{number:03} {one_line(row.name)}: its file is not at hand"
                continue
            target = folder / file_name(number, row)
            tasks.append(CutTask(row.path, target, row.moment.start, row.moment.end, self._exact))
        results = stream(_cuts, tasks, seconds=_seconds, memory_bytes=_MEMORY_BYTES)
        with contextlib.closing(results):
            for task, outcome in results:
                if not isinstance(outcome, Cut):
                    yield f"{task.target.name}: {one_line(without_path(str(outcome), task.source, 'its file'))}"
                    continue
                archive.write(outcome.path, outcome.path.name)
                outcome.path.unlink()
                if outcome.reason:
                    yield f"{outcome.path.name} was encoded again: {one_line(outcome.reason)}"


def file_name(number: int, row: ExportRow) -> str:
    """The name of a cut in an archive, without its ending."""
    stem = safe_file_name(Path(safe_file_name(row.name)).stem)
    return f"{number:03} {stem} {row.moment.start:.2f}-{row.moment.end:.2f}"


def _cuts(task: CutTask) -> Iterator[Cut]:
    yield cut(task)


def _seconds(task: CutTask) -> float:
    return 120 + 60 * (task.end - task.start)
