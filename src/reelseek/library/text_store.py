"""What a frozen encoder makes of texts, each encoded once and kept on disk, memory-mapped.

Two files that only grow: rows of vectors, and a record for every text that names its rows. A record is written when
its rows are on disk, so that a stop at any instant loses at most the texts in hand; what is damaged is encoded again.
"""

import contextlib
import fcntl
import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from reelseek.library.files import make_folder, sync_folder

__all__ = ["TextStore"]

_RECORD = struct.Struct("<16sQIII")  # hash of the text, its first row, number of rows, CRC-32 of rows and of the record
Rows = npt.NDArray[np.float32]


class TextStore:
    """Vectors of texts, [row, width] each.

    Args:
        folder: where they are kept, created when the first texts are added; None keeps them in memory.
        width: of the vectors.
    """

    def __init__(self, folder: Path | None, width: int) -> None:
        self.folder, self.width = folder, width
        self._records: dict[bytes, tuple[int, int, int]] = {}
        self._checked: set[bytes] = set()
        self._memory: dict[bytes, Rows] = {}
        self.problem = ""  # why the folder cannot be written
        self._rows: npt.NDArray[np.float32] = np.zeros((0, width), np.float32)
        self._read_bytes, self._inode = 0, 0  # how much was read of the records, and of which file
        if folder is not None and (folder / "records").is_file():
            self._read_on(folder)

    def _read_on(self, folder: Path) -> None:
        """Read the records that were not read before, as far as they are whole and their rows are on disk."""
        with (folder / "records").open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            if inode != self._inode:  # the first time, or somebody deleted the folder meanwhile
                self._records.clear()
                self._checked.clear()
                self._read_bytes, self._inode = 0, inode
            file.seek(self._read_bytes)
            content = file.read()
        self._read_bytes += len(content) // _RECORD.size * _RECORD.size
        available = (folder / "rows").stat().st_size // (4 * self.width) if (folder / "rows").is_file() else 0
        for key, first, count, checksum in _read_records(content):
            if first + count <= available:
                self._records[key] = first, count, checksum
                self._checked.discard(key)
        if available:
            self._rows = np.memmap(folder / "rows", np.float32, "r", shape=(available, self.width))

    def __len__(self) -> int:
        """How many texts have rows."""
        return len(self._records) + len(self._memory)

    def __contains__(self, text: str) -> bool:
        return self._find(_key(text)) is not None

    def read(self, texts: Sequence[str]) -> list[Rows] | None:
        """The rows of each text; None if one of them has none."""
        rows = [row for text in texts if (row := self._find(_key(text))) is not None]
        return rows if len(rows) == len(texts) else None

    def _find(self, key: bytes) -> Rows | None:
        if key in self._memory:
            return self._memory[key]
        record = self._records.get(key)
        if record is None:
            return None
        first, count, checksum = record
        rows = self._rows[first : first + count]
        if key not in self._checked:
            if zlib.crc32(rows.tobytes()) != checksum:
                del self._records[key]  # as if it had never been encoded
                return None
            self._checked.add(key)
        return rows

    def add(self, vectors: Mapping[str, Rows]) -> None:
        """Keep the vectors [row, width] of some texts; in memory where the folder cannot be written."""
        fresh = {_key(text): np.ascontiguousarray(rows, np.float32) for text, rows in vectors.items()}
        if self.folder is not None and not self.problem:
            try:
                self._append(self.folder, fresh)
            except OSError as error:
                self.problem = f"{self.folder} cannot be written: {error.strerror}"
            else:
                return
        self._memory.update(fresh)

    def _append(self, folder: Path, fresh: Mapping[bytes, Rows]) -> None:
        make_folder(folder)
        with _locked(folder / "records") as records:
            with (folder / "rows").open("ab") as rows:
                first = rows.tell() // (4 * self.width)
                rows.truncate(first * 4 * self.width)  # a stop may have left a part of a row
                entries = []
                for key, values in fresh.items():
                    content = values.tobytes()
                    rows.write(content)
                    entries.append(_pack(key, first, len(values), zlib.crc32(content)))
                    first += len(values)
                rows.flush()
                os.fsync(rows.fileno())
            size = os.fstat(records.fileno()).st_size
            if size % _RECORD.size:
                records.truncate(size - size % _RECORD.size)
            records.write(b"".join(entries))
            records.flush()
            os.fsync(records.fileno())
        sync_folder(folder)
        self._read_on(folder)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """A file to append to, one process at a time."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _pack(key: bytes, first: int, count: int, checksum: int) -> bytes:
    unsigned = _RECORD.pack(key, first, count, checksum, 0)
    return _RECORD.pack(key, first, count, checksum, zlib.crc32(unsigned))


def _read_records(content: bytes) -> Iterable[tuple[bytes, int, int, int]]:
    """Every whole record: of a damaged one nothing is known, and its text is encoded again."""
    complete = content[: len(content) // _RECORD.size * _RECORD.size]
    for key, first, count, checksum, record_checksum in _RECORD.iter_unpack(complete):
        if record_checksum == zlib.crc32(_RECORD.pack(key, first, count, checksum, 0)):
            yield key, first, count, checksum
