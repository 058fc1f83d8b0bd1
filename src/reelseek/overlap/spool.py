"""Frames of many videos in a file, so that memory does not grow with them."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

__all__ = ["Spool", "lengths_of", "runs_of"]

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


def lengths_of(videos: Sequence[npt.NDArray[np.floating]]) -> list[int]:
    """Count the frames of each video, without reading those of a `Spool`."""
    return videos.lengths if isinstance(videos, Spool) else [len(rows) for rows in videos]


def runs_of(sizes: Sequence[int], most: int, part: range | None = None) -> Iterator[range]:
    """Divide places into runs whose sizes add up to `most` at most, or of one that is larger.

    >>> list(runs_of([2, 2, 5, 1], 4))
    [range(0, 2), range(2, 3), range(3, 4)]
    """
    part = range(len(sizes)) if part is None else part
    begin, total = part.start, 0
    for place in part:
        if total and total + sizes[place] > most:
            yield range(begin, place)
            begin, total = place, 0
        total += sizes[place]
    if total:
        yield range(begin, part.stop)
