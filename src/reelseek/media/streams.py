"""What an expert may ask of a video (streams) and what it gets (batches), each with its own time."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "DECODE_VERSION",
    "FrameBatch",
    "FrameStream",
    "SoundBatch",
    "SoundStream",
    "Stream",
    "Subtitle",
    "SubtitleStream",
]

DECODE_VERSION = 1
"""Part of every expert's fingerprint: raise it whenever frames or samples could come out differently."""


@dataclass(frozen=True)
class FrameStream:
    """Frames at a steady pace: the first frame whose own timestamp falls into each cell of `1 / fps` seconds.

    Args:
        fps: cells a second.
        short_side: the shorter side after resizing, in pixels; a smaller picture is enlarged only if `crop` is given.
        crop: side of a square centre crop, or None to keep the whole picture.
        stretch: resize to a square of `short_side` without keeping the aspect ratio.
    """

    fps: float
    short_side: int
    crop: int | None = None
    stretch: bool = False

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after resizing, before cropping; never enlarged without a crop or a stretch."""
        if self.stretch:
            return self.short_side, self.short_side
        scale = self.short_side / min(width, height)
        if self.crop is None:
            scale = min(scale, 1.0)
        floor = self.crop or 2
        return max(floor, round(width * scale)), max(floor, round(height * scale))


@dataclass(frozen=True)
class SoundStream:
    """The default audio stream as mono at `rate` samples a second, silence where a hole is of up to a minute."""

    rate: int = 16_000


@dataclass(frozen=True)
class SubtitleStream:
    """Text lines of embedded and sidecar subtitles."""


Stream = FrameStream | SoundStream | SubtitleStream


@dataclass(frozen=True)
class FrameBatch:
    """Pictures with their times; refuses one without the other.

    Args:
        pixels: uint8 [frame, height, width, 3], RGB, upright.
        seconds: float64 [frame], rising, from the start of the presentation.
        cells: float64 [frame], start of the cell each frame was chosen for.
    """

    pixels: npt.NDArray[np.uint8]
    seconds: npt.NDArray[np.float64]
    cells: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.shape[3] != 3 or self.pixels.dtype != np.uint8:
            raise ValueError(
                f"pixels must be uint8 [frame, height, width, 3], got {self.pixels.dtype} {self.pixels.shape}"
            )
        if not len(self.pixels) == len(self.seconds) == len(self.cells):
            raise ValueError(
                f"{len(self.pixels)} frames need as many times; got {len(self.seconds)} and {len(self.cells)}"
            )

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def start_seconds(self) -> float:
        """The time of the first frame."""
        return float(self.seconds[0])

    @property
    def end_seconds(self) -> float:
        """The time of the last frame."""
        return float(self.seconds[-1])


@dataclass(frozen=True)
class SoundBatch:
    """float32 samples in [-1, 1], mono, and the time of the first one.

    A batch goes on where the one before ended, unless the file has a long hole between them.
    """

    samples: npt.NDArray[np.float32]
    start_seconds: float
    rate: int

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def end_seconds(self) -> float:
        """The time after the last sample."""
        return self.start_seconds + len(self.samples) / self.rate

    def goes_on_from(self, end_seconds: float) -> bool:
        """Whether it goes on where another batch ended, give or take what containers round."""
        return self.start_seconds - end_seconds < 1.0


@dataclass(frozen=True)
class Subtitle:
    """One line of a subtitle and the span it is shown."""

    text: str
    start_seconds: float
    end_seconds: float
    source: Literal["embedded", "sidecar"]
