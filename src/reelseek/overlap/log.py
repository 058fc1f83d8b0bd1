"""An append-only file of JSON lines: what was acknowledged is on disk, and a line that a crash cut in half is skipped
without losing what follows it."""

import contextlib
import fcntl
import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reelseek.errors import CollectionError
from reelseek.library.files import make_folder, sync_folder
from reelseek.overlap.pairs import json_line

__all__ = ["Log"]

_log = logging.getLogger("reelseek")


class Log:
    """Lines appended by any number of processes, read in order.

    Args:
        path: need not exist; its folder is made when the first line is written.

    Attributes:
        broken: numbers of lines that could not be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.broken: list[int] = []
        self._lines: list[dict[str, Any]] = []
        self._read = 0
        self._count = 0
        self._lock = threading.RLock()

    def lines(self) -> list[dict[str, Any]]:
        """Return every complete line so far; what was read before is not read again.

        Raises:
            CollectionError: the file cannot be read, or became shorter, which no program of this project does.
        """
        with self._lock:
            return self._read_new_lines()

    def _read_new_lines(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return self._lines
        try:
            size = self.path.stat().st_size
            if size == self._read:
                return self._lines
            if size < self._read:
                raise CollectionError(f"{self.path} became shorter than it was; restore it, Reelseek never shortens it")
            with self.path.open("rb") as file:
                file.seek(self._read)
                fresh = file.read()
        except OSError as error:
            raise CollectionError(f"{self.path} cannot be read: {error.strerror}") from error
        length = fresh.rfind(b"\n") + 1  # up to the last complete line
        for line in fresh[:length].split(b"\n")[:-1]:
            self._count += 1
            self._parse(line)
        self._read += length
        return self._lines

    def _parse(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError):
            self.broken.append(self._count)
            _log.warning("%s: line %d cannot be read and is left out", self.path, self._count)
            return
        self._lines.append(row)

    def append(self, row: dict[str, Any]) -> None:
        """Append one line; when this returns it is on the disk.

        Raises:
            CollectionError: it could not be written.
        """
        with self.appending() as write:
            write(row)

    @contextmanager
    def appending(self) -> Iterator[Any]:
        """Lock the file for one writer, which may read `lines` and append what follows; yields the appender."""
        try:
            make_folder(self.path.parent)
            with self._lock, self.path.open("ab+", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                sync_folder(self.path.parent)  # the file may be new
                self._end_cut_line(file)

                def write(*rows: dict[str, Any]) -> None:
                    _append_lines(file, "".join(map(json_line, rows)).encode())

                yield write
        except OSError as error:
            raise CollectionError(f"{self.path} cannot be written: {error.strerror}") from error

    @staticmethod
    def _end_cut_line(file: Any) -> None:
        """End a line that a crash left without its end, so that the next one does not become part of it."""
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                file.write(b"\n")


def _append_lines(file: io.FileIO, lines: bytes) -> None:
    """Put lines on disk, all complete or none at all.

    The part that a full disk accepted is cut off again; no reader has it, since readers take complete lines only.
    """
    start = file.seek(0, os.SEEK_END)
    try:
        rest = lines
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(start)
        raise
    os.fsync(file.fileno())
