"""How plain a picture is: the share of it that its most common colour covers, one number a second.

Black frames between shots, title cards and single-coloured screens have a high share; two of them look alike to every
network, whatever the videos. Source: Dzabraev et al. 2021, appendix C.1.4, which does not say when two colours are the
same; here, when each channel is within 8 of 255 of the mean colour of the fullest cell of a 16 x 16 x 16 histogram:
about what encoders do to one colour (within 16, clips of a road, a park and a wall counted as plain). Black bars are no
part of the picture.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reelseek.experts.copy import without_bars
from reelseek.experts.expert import PerFrame, Session, fingerprint
from reelseek.media.streams import FrameBatch, FrameStream, Stream

__all__ = ["colour_share", "plain"]

_STREAM = FrameStream(fps=1, short_side=96)
_CELLS, _NEAR = 16, 8


def colour_share(pixels: npt.NDArray[np.uint8]) -> float:
    """Measure the share in (0, 1] of a picture [height, width, 3] that its most common colour covers.

    >>> colour_share(np.zeros((4, 4, 3), np.uint8))
    1.0
    """
    colours = pixels.reshape(-1, 3).astype(np.int32)
    cells = colours // (256 // _CELLS)
    cell = cells @ np.array([_CELLS * _CELLS, _CELLS, 1])
    fullest = np.bincount(cell, minlength=_CELLS**3).argmax()
    mean = colours[cell == fullest].mean(0)
    return float((np.abs(colours - mean) <= _NEAR).all(1).mean())


class _Plain:
    name = "plain"
    modality = "appearance"
    divisible = True
    dim = 1
    streams: Sequence[Stream] = (_STREAM,)

    def __init__(self) -> None:
        self.fingerprint = fingerprint(
            "plain", bars="trimmed", stream=_STREAM, cells=_CELLS, near=_NEAR, dtype="float16"
        )

    def open(self) -> Session:
        return PerFrame(_shares, self.dim)


def _shares(batch: FrameBatch) -> npt.NDArray[np.float32]:
    return np.array([[colour_share(without_bars(pixels))] for pixels in batch.pixels], np.float32)


def plain(model: str | None = None) -> _Plain:
    """Share of the most common colour, one number a second; `overlap scan` weighs frames by it."""
    return _Plain()
