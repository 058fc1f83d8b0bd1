"""Append-only files of rows, memory-mapped by whoever reads: the values and spans of all tracks of one fingerprint.

A file only ever grows. It is never cut, since a reader that has mapped it would be killed (SIGBUS) for reading what was
cut off; bytes that no database row names (a writer was killed) are stepped over and reclaimed by `compact`, which
writes new files. The number of a file that rows named is never used again, so a map stays true for as long as it lives.

What a removed video had in a large file is overwritten with NaN where it lies: the cost of a removal is that of the
video. Who still has its rows is refused, rather than handed something else.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reelseek.errors import LibraryError
from reelseek.library.files import delete_files, make_folder, sync_file, sync_folder
from reelseek.library.records import Place

__all__ = ["Move", "Shards", "folder_name", "track_hash"]

_BYTES_A_SHARD = 2**27  # a removal rewrites a shard, and the rows that name what is in it
_ROWS_A_SHARD = 2**17
_ERASED = b"\xff"  # of which every number is NaN, in any precision
_BYTES_AT_ONCE = 2**20
_MOST_MAPS = 64  # each keeps two files open


class Move(NamedTuple):
    """Adjacent rows that were copied: from where, how many, and to where."""

    old: Place
    rows: int
    new: Place


class Shards:
    """Rows of `dim` values and their spans under one folder, in numbered pairs of files.

    Bytes, and the names of new files, are on disk when `sync` returns.
    """

    def __init__(self, folder: Path, dim: int, dtype: npt.DTypeLike) -> None:
        self.folder, self.dim, self.dtype = folder, dim, np.dtype(dtype)
        self._maps: dict[int, tuple[npt.NDArray[np.generic], npt.NDArray[np.float64]]] = {}
        self._unsynced: dict[Path, bool] = {}  # whether the file is new

    def _files(self, shard: int) -> tuple[Path, Path]:
        return self.folder / f"{shard:04d}.values", self.folder / f"{shard:04d}.spans"

    def _row_bytes(self) -> tuple[int, int]:
        return self.dim * self.dtype.itemsize, 2 * np.dtype(np.float64).itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in both files."""
        return sum(self._row_bytes())

    def numbers(self) -> list[int]:
        """The shards that have a file, in order."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return sorted({int(name.partition(".")[0]) for name in names if name.endswith((".values", ".spans"))})

    def rows(self, shard: int) -> int:
        """Whole rows that both files of a shard hold; 0 where one is missing."""
        sizes = (_size(path) for path in self._files(shard))
        return min(size // width for size, width in zip(sizes, self._row_bytes(), strict=True))

    def append(
        self, values: npt.NDArray[np.generic], spans: npt.NDArray[np.float64], end: Place, first: int = 0
    ) -> Place:
        """Write rows behind everything in the newest shard, and say where they are.

        Args:
            end: the last shard that rows name, and how many of its rows.
            first: every shard that was ever deleted has a lower number.

        Raises:
            OSError: they could not be written; whatever was is stepped over from now on.
        """
        shard, row = self._free_place(len(values), end, first)
        make_folder(self.folder)
        arrays = (values.astype(self.dtype, copy=False), spans.astype(np.float64, copy=False))
        for path, array, width in zip(self._files(shard), arrays, self._row_bytes(), strict=True):
            new = not path.exists()
            self._unsynced[path] = new or self._unsynced.get(path, False)
            with path.open("xb" if new else "r+b") as file:
                file.seek(row * width)
                file.write(np.ascontiguousarray(array).tobytes())
        return shard, row

    def _free_place(self, count: int, end: Place, first: int) -> Place:
        newest = max(self.numbers(), default=-1)
        sizes = (_size(path) for path in self._files(newest))
        row = max(-(-size // width) for size, width in zip(sizes, self._row_bytes(), strict=True))
        damaged = newest < end[0] or (newest == end[0] and self.rows(newest) < end[1])
        if newest < 0 or damaged or (row and row + count > self._most_rows()):
            return max(newest + 1, end[0] + 1 if end[1] else end[0], first), 0
        return newest, row

    def sync(self) -> None:
        """Put what was appended on disk.

        Raises:
            OSError: it could not be; the rows must not be named.
        """
        unsynced, self._unsynced = self._unsynced, {}
        for path in unsynced:
            sync_file(path)
        if any(unsynced.values()):
            sync_folder(self.folder)

    def read(self, place: Place, steps: int) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.float64]]:
        """Views of values [step, dim] and spans [step, 2]; nothing is copied.

        Raises:
            LibraryError: the files hold fewer rows than named, or they were erased.
        """
        shard, row = place
        if steps == 0:
            return np.zeros((0, self.dim), self.dtype), np.zeros((0, 2))
        values, spans = self._map(shard, row + steps)
        values, spans = values[row : row + steps], spans[row : row + steps]
        start = spans.item(0)
        if start != start:  # NaN
            raise LibraryError(f"{self._files(shard)[0]} holds nothing any more at row {row}: it was erased")
        return values, spans

    def _map(self, shard: int, rows: int) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.float64]]:
        maps = self._maps.get(shard)
        if maps is None or len(maps[0]) < rows:
            count = self.rows(shard)
            values_file, spans_file = self._files(shard)
            if count < rows:
                raise LibraryError(f"{values_file} and its spans hold {count} rows where {rows} are named")
            try:
                # As plain arrays over the maps, which are cut in a third of the time.
                values = np.asarray(np.memmap(values_file, self.dtype, "r", shape=(count, self.dim)))
                spans = np.asarray(np.memmap(spans_file, np.float64, "r", shape=(count, 2)))
            except (OSError, ValueError) as error:
                raise LibraryError(f"{values_file} cannot be read: {error}") from error
            if len(self._maps) < _MOST_MAPS:
                for number in [number for number in self._maps if not self._files(number)[0].exists()]:
                    del self._maps[number]  # compacted away; its pages are freed with the last view of them
            else:
                del self._maps[next(iter(self._maps))]
            maps = self._maps[shard] = values, spans
        return maps

    def holey(self, named: Iterable[tuple[Place, int]], numbers: Iterable[int]) -> list[int]:
        """Those of some shards that hold anything beside the rows named."""
        counts: dict[int, int] = {}
        for (shard, _), steps in named:
            counts[shard] = counts.get(shard, 0) + steps
        widths = self._row_bytes()
        return [
            shard
            for shard in sorted(set(numbers).intersection(self.numbers()))
            if [_size(path) for path in self._files(shard)] != [counts.get(shard, 0) * width for width in widths]
        ]

    def has_more(self, end: Place) -> bool:
        """Whether the shard of a place holds anything behind it, or there is a later one."""
        sizes = [_size(path) for path in self._files(end[0])]
        return sizes != [end[1] * width for width in self._row_bytes()] or self.numbers()[-1:] > [end[0]]

    def move(self, named: Sequence[tuple[Place, int]], first: int) -> list[Move]:
        """Copy rows into new shards and put them on disk, adjacent ones together; the old shards stay for `drop`.

        Args:
            named: place and steps of each track, in order of place.
            first: every shard that was ever deleted has a lower number.

        Returns:
            What lies where now; tracks whose bytes are lost are in none of it.
        """
        first = max((first, *(number + 1 for number in self.numbers())))
        end = (first, 0)
        moves: list[Move] = []
        for place, steps in self._runs(named):
            values, spans = self.read(place, steps)
            new = self.append(values, spans, end, first)
            moves.append(Move(place, steps, new))
            end = (new[0], new[1] + steps)
        self.sync()
        return moves

    def _runs(self, named: Sequence[tuple[Place, int]]) -> list[tuple[Place, int]]:
        """Tracks that lie behind each other as one, as far as they fit into a shard; without those that are lost."""
        available = {shard: self.rows(shard) for shard in {place[0] for place, _ in named}}
        most = self._most_rows()
        runs: list[tuple[Place, int]] = []
        for (shard, row), steps in named:
            if row + steps > available[shard]:
                continue
            (before, start), count = runs[-1] if runs else ((-1, 0), 0)
            if (before, start + count) == (shard, row) and count + steps <= most:
                runs[-1] = (shard, start), count + steps
            else:
                runs.append(((shard, row), steps))
        return runs

    def size(self, shard: int) -> int:
        """Bytes of both files of a shard."""
        return sum(_size(path) for path in self._files(shard))

    def erase(self, shard: int, gaps: Sequence[tuple[int, int]], end: int | None) -> None:
        """Overwrite rows of a shard where they lie; that is on disk when this returns.

        Args:
            gaps: first rows, and the ones behind the last.
            end: all from this row on are overwritten, too, if it is not None.
        """
        for path, width in zip(self._files(shard), self._row_bytes(), strict=True):
            if path.exists():
                size = _size(path)
                spans = [(first * width, min(last * width, size)) for first, last in gaps]
                _overwrite(path, [*spans, *([(end * width, size)] if end is not None else [])])

    def _most_rows(self) -> int:
        return min(_ROWS_A_SHARD, _BYTES_A_SHARD // sum(self._row_bytes()))

    def drop(self, shards: Iterable[int]) -> None:
        """Delete whole shards, whose rows nothing on disk names any more."""
        gone = list(shards)
        for shard in gone:
            self._maps.pop(shard, None)
        delete_files(self.folder, [path.name for shard in gone for path in self._files(shard)])


def _overwrite(path: Path, spans: Iterable[tuple[int, int]]) -> None:
    """Erase spans of bytes of a file, of which some may be erased already."""
    changed = False
    with path.open("r+b") as file:
        for start, stop in spans:
            for offset in range(start, stop, _BYTES_AT_ONCE):
                file.seek(offset)
                content = file.read(min(stop - offset, _BYTES_AT_ONCE))
                erased = _ERASED * len(content)
                if content != erased:
                    file.seek(offset)
                    file.write(erased)
                    changed = True
    if changed:
        sync_file(path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def folder_name(fingerprint: str) -> str:
    """The name of the folder of a fingerprint's shards."""
    return fingerprint.replace(":", "-").replace("/", "_")


def track_hash(values: npt.NDArray[Any], spans: npt.NDArray[np.float64]) -> str:
    """SHA-256 of a track's dtype, shape and bytes."""
    digest = hashlib.sha256(f"{values.dtype.name}{values.shape}".encode())
    digest.update(np.ascontiguousarray(values).tobytes())
    digest.update(np.ascontiguousarray(spans).tobytes())
    return digest.hexdigest()
