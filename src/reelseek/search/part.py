"""Some videos of a library with their tracks, for reading their features without all the others."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.library.records import Caption, TrackRow, Video
from reelseek.library.store import Library

__all__ = ["Part"]


class Part:
    """A source of the features of some videos.

    Args:
        experts: what `Library.experts` says.
    """

    def __init__(self, library: Library, videos: Sequence[Video], experts: Mapping[str, dict[str, Any]]) -> None:
        self._library, self._videos, self._experts = library, videos, dict(experts)
        rows = library.catalog.tracks.some([owner for video in videos for owner in video.owners])
        self._rows = [row for row, _ in rows]
        self.hashes = {(row.owner, row.expert): sha256 for row, sha256 in rows}

    @property
    def path(self) -> str:
        return str(self._library.path)

    def videos(self) -> Sequence[Video]:
        return self._videos

    def experts(self) -> dict[str, dict[str, Any]]:
        return self._experts

    def track_rows(self, expert: str | None = None) -> Sequence[TrackRow]:
        return [row for row in self._rows if expert in (None, row.expert)]

    def read(self, row: TrackRow) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
        return self._library.read(row)

    def video(self, name: str) -> Video:
        return self._library.video(name)

    def captions(self) -> list[Caption]:
        return self._library.captions()

    def splits(self) -> dict[str, int]:
        return self._library.splits()

    def memberships(self) -> dict[str, list[str]]:
        return self._library.memberships()

    def thumbnail(self, owner: str, seconds: float) -> bytes | None:
        return self._library.thumbnail(owner, seconds)
