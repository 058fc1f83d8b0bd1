"""Where the camera cuts: a difference of colour histograms that stands out against its neighbourhood."""

import numpy as np
import numpy.typing as npt

from reelseek.media.streams import FrameBatch, FrameStream

__all__ = ["SHOT_STREAM", "ShotDetector"]

SHOT_STREAM = FrameStream(fps=4, short_side=96)
_LOWEST_DIFFERENCE = 0.35  # of two histograms, half the L1 distance: 0 equal, 1 disjoint
_STANDS_OUT = 3.0  # times the median difference of the neighbourhood
_SHORTEST_SHOT_SECONDS = 1.0


class ShotDetector:
    """Feed it the frames of SHOT_STREAM in order, then ask for the cuts."""

    def __init__(self) -> None:
        self._last: npt.NDArray[np.float64] | None = None
        self._seconds: list[float] = []
        self._differences: list[float] = []

    def feed(self, batch: FrameBatch) -> None:
        for pixels, seconds in zip(batch.pixels, batch.seconds, strict=True):
            histogram = _histogram(pixels)
            if self._last is not None:
                self._seconds.append(float(seconds))
                self._differences.append(float(np.abs(histogram - self._last).sum() / 2 / 4))
            self._last = histogram

    def cuts(self) -> list[float]:
        """Return the times in seconds of the first frame of each shot but the first."""
        cuts: list[float] = []
        differences = np.array(self._differences)
        for index, difference in enumerate(differences):
            around = np.delete(differences[max(0, index - 5) : index + 6], min(index, 5))
            usual = float(np.median(around)) if len(around) else 0.0
            begin = cuts[-1] if cuts else 0.0
            if difference < max(_LOWEST_DIFFERENCE, _STANDS_OUT * usual):
                continue
            if self._seconds[index] - begin >= _SHORTEST_SHOT_SECONDS:
                cuts.append(self._seconds[index])
        return cuts


def _histogram(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Colour histogram of 4 x 4 x 4 bins in each of 4 quarters of the picture, each quarter summing to 1."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    code = (pixels >> 6).astype(np.int32)
    code = code[..., 0] * 16 + code[..., 1] * 4 + code[..., 2]
    quarters = [code[:height, :width], code[:height, width:], code[height:, :width], code[height:, width:]]
    return np.concatenate([np.bincount(q.ravel(), minlength=64) / max(1, q.size) for q in quarters])
