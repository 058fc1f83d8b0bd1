"""The embeddings of a segment's clips: slots that are present, side by side, as rows of one memory-mapped file."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from reelseek.search.generation import StoredFile

__all__ = ["PLACES", "Floats", "Matrix", "PatternVectors", "Slots", "Vectors", "expand", "pattern_name",
           "unpack"]  # fmt: skip

PLACES = np.dtype([("pattern", np.uint32), ("start", np.uint64)])
"""For each clip the number of its presence pattern, and where its slots begin."""
_SMALL = 2**26  # bytes of vectors that are read through a map
_BLOCK = 2**14  # clips that are read at once
Floats = npt.NDArray[np.float32] | npt.NDArray[np.float16]
Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def pattern_name(pattern: Sequence[bool] | npt.NDArray[np.bool_]) -> str:
    """A presence pattern as digits: `101` has the first and the last of three slots."""
    return "".join("01"[bool(present)] for present in pattern)


class Slots:
    """Embeddings by the clip's row in its segment.

    Args:
        patterns: every presence pattern that a clip has [pattern, slot].
        places: pattern and start of each clip, see `PLACES`.
        file: holds an array [slot of a clip that is present, dim].
    """

    def __init__(self, patterns: npt.NDArray[np.bool_], places: npt.NDArray[np.void], file: StoredFile) -> None:
        self.patterns, self.places = patterns, places
        self._file, self._values = file, file.array()

    def __len__(self) -> int:
        return len(self.places)

    @property
    def dim(self) -> int:
        return int(self._values.shape[1])

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """Single or half precision."""
        return self._values.dtype

    def present(self, rows: Rows | slice) -> npt.NDArray[np.bool_]:
        """Which slots some clips have [clip, slot]."""
        return self.patterns[self.places["pattern"][rows]]

    def packed(self, rows: Rows) -> Floats:
        """The slots that some clips have, one clip's after the other's [slot, dim]."""
        counts = self.patterns.sum(1)[self.places["pattern"][rows]]
        return self._take(expand(self.places["start"][rows].astype(np.int64), counts))

    def _take(self, places: Rows) -> Floats:
        """Rows of the file; out of a large one they are copied, so that the pages around them stay with nobody."""
        return self._values[places] if self._values.nbytes <= _SMALL else self._file.take(places)

    def packed_block(self, start: int, stop: int) -> Floats:
        """`packed` of neighbouring clips, read past the map."""
        if stop <= start:
            return self._values[:0]
        first = int(self.places["start"][start])
        last = int(self.places["start"][stop - 1]) + int(self.patterns[self.places["pattern"][stop - 1]].sum())
        return self._file.rows(first, last)

    def values(self, rows: Rows) -> Matrix:
        """Single precision [clip, slot, dim]; zeros where a slot is not present."""
        return unpack(self.packed(rows), self.present(rows))

    def block(self, start: int, stop: int) -> tuple[Matrix, npt.NDArray[np.bool_]]:
        """`values` and `present` of neighbouring clips, read past the map."""
        present = self.present(slice(start, stop))
        return unpack(self.packed_block(start, min(stop, len(self))), present), present

    def matrix(self, rows: Rows, slots: int) -> Matrix:
        """The slots of clips that have so many, side by side [clip, slot * dim]."""
        starts = self.places["start"][rows].astype(np.int64)
        places = (starts[:, None] + np.arange(slots)).reshape(-1)
        return _single(self._take(places)).reshape(len(rows), slots * self.dim)

    def whole(self, slots: int) -> Matrix:
        """`matrix` of every clip, where all have the same slots; not copied where it is in single precision."""
        return _single(self._values.reshape(len(self), slots * self.dim))


def expand(starts: Rows, counts: Rows) -> Rows:
    """The numbers from each start on, so many as its count says."""
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)


def unpack(packed: Floats, present: npt.NDArray[np.bool_]) -> Matrix:
    """Single precision [clip, slot, dim] of slots that are present, zeros where one is not."""
    if present.all():
        return _single(packed).reshape(*present.shape, packed.shape[1])
    values = np.zeros((*present.shape, packed.shape[1]), np.float32)
    values[present] = packed
    return values


def _single(values: Floats) -> Matrix:
    """Single precision; torch is several times faster at it than NumPy."""
    if values.dtype == np.float32:
        return np.ascontiguousarray(values)
    converted: Matrix = torch.from_numpy(np.array(values)).float().numpy()
    return converted


class Vectors(Protocol):
    """The vectors of one presence pattern [place, dim], in single precision."""

    def __len__(self) -> int: ...

    def take(self, places: Rows) -> Matrix:
        """Some of them."""

    def blocks(self, size: int) -> Iterator[Matrix]:
        """All of them in order."""

    def whole(self) -> Matrix:
        """All of them at once."""


class PatternVectors:
    """The slots of those clips of a segment that have one pattern, side by side.

    Args:
        rows: of these clips, ascending.
        pattern: number of theirs.
    """

    def __init__(self, slots: Slots, rows: Rows, pattern: int) -> None:
        self._slots, self._rows = slots, rows
        self._present = int(slots.patterns[pattern].sum())

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, places: Rows) -> Matrix:
        return self._slots.matrix(self._rows[places], self._present)

    def blocks(self, size: int) -> Iterator[Matrix]:
        """Read past the map: so many clips at a time, of which those with the pattern are taken."""
        starts = self._slots.places["start"]
        for first in range(0, len(self._slots), size):
            rows = self._rows[slice(*np.searchsorted(self._rows, [first, first + size]))]
            if len(rows):
                packed = self._slots.packed_block(int(rows[0]), int(rows[-1]) + 1)
                places = starts[rows].astype(np.int64) - int(starts[rows[0]])
                yield _single(packed[places[:, None] + np.arange(self._present)].reshape(len(rows), -1))

    def whole(self) -> Matrix:
        if len(self._rows) == len(self._slots):
            return self._slots.whole(self._present)
        return np.concatenate(list(self.blocks(_BLOCK)))
