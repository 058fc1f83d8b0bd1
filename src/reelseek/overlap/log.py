"""A file of JSON lines that only grows: what was acknowledged is on disk, and a line that a crash cut in half is
stepped over, not lost with what follows it."""

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
    """Lines appended by any number of processes, read in their order.

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
        """Every whole line so far; what was read before is not read again.

        Raises:
            CollectionError: the file cannot be read, or became shorter, which nothing here ever makes it.
        """
        with self._lock:
            return self._lines_so_far()

    def _lines_so_far(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return self._lines
        try:
            size = self.path.stat().st_size
            if size == self._read:
                return self._lines
            if size < self._read:
                raise CollectionError(f"{self.path} became shorter than it was; restore it, nothing here cuts it")
            with self.path.open("rb") as file:
                file.seek(self._read)
                fresh = file.read()
        except OSError as error:
            raise CollectionError(f"{self.path} cannot be read: {error.strerror}") from error
        whole = fresh.rfind(b"\n") + 1
        for line in fresh[:whole].split(b"\n")[:-1]:
            self._count += 1
            self._take(line)
        self._read += whole
        return self._lines

    def _take(self, line: bytes) -> None:
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
        """Write one line; when this returns it is on the disk.

        Raises:
            CollectionError: it could not be written.
        """
        with self.appending() as write:
            write(row)

    @contextmanager
    def appending(self) -> Iterator[Any]:
        """Be the one that writes, for as long as it takes to look (`lines`) and write what follows from it."""
        try:
            make_folder(self.path.parent)
            with self._lock, self.path.open("ab+", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                sync_folder(self.path.parent)  # a file that is new, perhaps
                self._end_cut_line(file)

                def write(row: dict[str, Any]) -> None:
                    _append_line(file, json_line(row).encode())

                yield write
        except OSError as error:
            raise CollectionError(f"{self.path} cannot be written: {error.strerror}") from error

    @staticmethod
    def _end_cut_line(file: Any) -> None:
        """A crash may have left half a line; what is written next must not become part of it."""
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                file.write(b"\n")


def _append_line(file: io.FileIO, line: bytes) -> None:
    """Put a line on disk, whole or not at all.

    Half a line that a full disk took is taken back; no reader has it, since readers take whole lines only.
    """
    start = file.seek(0, os.SEEK_END)
    try:
        rest = line
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(start)
        raise
    os.fsync(file.fileno())
