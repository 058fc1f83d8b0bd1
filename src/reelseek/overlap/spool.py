"""Frames of many videos in a file, so that memory does not grow with them."""

import os
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

__all__ = ["Spool"]

Rows = npt.NDArray[np.float32]


class Spool(Sequence[Rows]):
    """Rows [frame, dim] of each video, written to a temporary file and read again on access. Close it, or use a `with`.

    Attributes:
        lengths: frames of each video.

    Raises:
        ValueError: a video has no frame, or is of another width than the first.
    """

    def __init__(self, videos: Iterable[npt.NDArray[np.floating]]) -> None:
        self._file = tempfile.TemporaryFile(prefix="reelseek-")  # noqa: SIM115 (it lives as long as its readers)
        self.lengths: list[int] = []
        self._starts: list[int] = []
        self._width = 0
        try:
            for video in videos:
                self._append(np.ascontiguousarray(video, np.float32))
            self._file.flush()
        except BaseException:
            self.close()
            raise

    def _append(self, rows: Rows) -> None:
        self._width = self._width or rows.shape[1]
        if not len(rows) or rows.shape[1] != self._width:
            raise ValueError(f"video {len(self)} is {rows.shape}; wanted [frames, {self._width}] with a frame")
        self._starts.append(self._file.tell())
        self._file.write(rows.tobytes())
        self.lengths.append(len(rows))

    def close(self) -> None:
        """Delete the file, also that of its subsets."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def subset(self, places: Sequence[int]) -> "Spool":
        """Return some of the videos, in that order, out of the same file."""
        part = object.__new__(Spool)
        part._file, part._width = self._file, self._width
        part._starts, part.lengths = [self._starts[i] for i in places], [self.lengths[i] for i in places]
        return part

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, place: int) -> Rows: ...
    @overload
    def __getitem__(self, place: slice) -> "Spool": ...
    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return self.subset(range(len(self))[place])
        size = 4 * self.lengths[place] * self._width
        stored = os.pread(self._file.fileno(), size, self._starts[place])
        return np.frombuffer(stored, np.float32).reshape(-1, self._width)
