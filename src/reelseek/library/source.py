"""What training and evaluation read from: a library on disk, or a data set in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from reelseek.library.records import Caption, TrackRow, Video

__all__ = ["FeatureSource"]


@runtime_checkable
class FeatureSource(Protocol):
    """Videos, their feature tracks, captions and splits; `Library` describes each method."""

    @property
    def path(self) -> Path | str:
        """What messages call it."""

    def videos(self) -> "Sequence[Video]": ...

    def video(self, name: str) -> "Video": ...

    def captions(self) -> "Sequence[Caption]": ...

    def splits(self) -> dict[str, int]: ...

    def memberships(self) -> dict[str, list[str]]: ...

    def experts(self) -> dict[str, dict[str, Any]]: ...

    def track_rows(self, expert: str | None = None) -> "Sequence[TrackRow]": ...

    def read(self, row: "TrackRow") -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]: ...

    def thumbnail(self, owner: str, seconds: float) -> bytes | None: ...
