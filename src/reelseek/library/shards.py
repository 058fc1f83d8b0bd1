"""Append-only files of rows, memory-mapped by whoever reads: the values and spans of all tracks of one fingerprint."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelseek.errors import LibraryError

__all__ = ["Place", "Shards"]

_ROWS_A_SHARD = 4_000_000
Place = tuple[int, int]  # shard number, first row


class Shards:
    """Rows of `dim` values and their spans under one folder, in numbered pairs of files.

    Bytes are on disk when `sync` returns; what no database row names after a crash is cut off by the next `append`.
    """

    def __init__(self, folder: Path, dim: int, dtype: npt.DTypeLike) -> None:
        self.folder, self.dim, self.dtype = folder, dim, np.dtype(dtype)
        self._maps: dict[int, tuple[npt.NDArray[np.generic], npt.NDArray[np.float64]]] = {}
        self._unsynced: set[Path] = set()

    def _files(self, shard: int) -> tuple[Path, Path]:
        return self.folder / f"{shard:04d}.values", self.folder / f"{shard:04d}.spans"

    def append(self, values: npt.NDArray[np.generic], spans: npt.NDArray[np.float64], end: Place) -> Place:
        """Write rows after `end` (the last shard in use and the rows of it that are named), and say where they are."""
        shard, row = end
        if row and row + len(values) > _ROWS_A_SHARD:
            shard, row = shard + 1, 0
        self.folder.mkdir(parents=True, exist_ok=True)
        arrays = (values.astype(self.dtype, copy=False), spans.astype(np.float64, copy=False))
        for path, array, width in zip(self._files(shard), arrays, (self.dim, 2), strict=True):
            with path.open("r+b" if path.exists() else "w+b") as file:
                file.truncate(row * width * array.dtype.itemsize)
                file.seek(0, os.SEEK_END)
                file.write(np.ascontiguousarray(array).tobytes())
            self._unsynced.add(path)
        self._maps.pop(shard, None)
        return shard, row

    def sync(self) -> None:
        """Put what was appended on disk."""
        while self._unsynced:
            with self._unsynced.pop().open("r+b") as file:
                os.fsync(file.fileno())

    def read(self, place: Place, steps: int) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.float64]]:
        """Views of values [step, dim] and spans [step, 2]; nothing is copied.

        Raises:
            LibraryError: the files hold fewer rows than named.
        """
        shard, row = place
        if steps == 0:
            return np.zeros((0, self.dim), self.dtype), np.zeros((0, 2))
        values, spans = self._map(shard, row + steps)
        return values[row : row + steps], spans[row : row + steps]

    def forget_maps(self) -> None:
        """Map the files anew when they are next read; who has rows of them keeps those."""
        self._maps.clear()

    def _map(self, shard: int, rows: int) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.float64]]:
        known = self._maps.get(shard)
        if known is None or len(known[0]) < rows:
            values_file, spans_file = self._files(shard)
            try:
                values = np.memmap(values_file, self.dtype, "r").reshape(-1, self.dim)
                spans = np.memmap(spans_file, np.float64, "r").reshape(-1, 2)
            except (OSError, ValueError) as error:
                raise LibraryError(f"{values_file} is damaged or gone: {error}") from error
            if min(len(values), len(spans)) < rows:
                raise LibraryError(f"{values_file} holds {min(len(values), len(spans))} rows where {rows} are named")
            known = self._maps[shard] = values, spans
        return known

    def compact(self, keep: Iterable[tuple[Place, int]]) -> list[Place]:
        """Rewrite the rows worth keeping into new shards, so that dropped bytes are gone; old files stay for `drop`."""
        existing = sorted(int(path.stem) for path in self.folder.glob("*.values"))
        end = (existing[-1] + 1 if existing else 0, 0)
        places: list[Place] = []
        for place, steps in keep:
            values, spans = self.read(place, steps)
            at = self.append(values, spans, end)
            places.append(at)
            end = (at[0], at[1] + steps)
        self.sync()
        return places

    def drop(self, shards: Iterable[int]) -> None:
        """Delete whole shards."""
        for shard in shards:
            self._maps.pop(shard, None)
            for path in self._files(shard):
                path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
