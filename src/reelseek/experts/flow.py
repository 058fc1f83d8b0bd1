"""Motion as statistics of dense optical flow (OpenCV's DIS), without a learned network.

For every second: mean flow, mean speed and its spread in a 3 x 3 grid, a histogram of directions weighted by speed,
an affine fit that tells camera moves (pan, zoom, turn) from what moves on its own, and how still the picture is.
Frames: four a second, 96 on the short side. Speeds are in picture heights a second.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.experts.expert import Session, Track, fingerprint, spans_of_cells
from reelseek.experts.opencv import import_opencv
from reelseek.media.shots import SHOT_STREAM
from reelseek.media.streams import FrameBatch, Stream

__all__ = ["motion"]

_GRID = 3
_DIRECTIONS = 8
_SMALLEST = 16  # pixels a side; the flow has nothing to match in less
_DIM = _GRID * _GRID * 4 + _DIRECTIONS + 6 + 6


class _Motion:
    name = "motion"
    modality = "motion"
    divisible = True
    dim = _DIM
    streams: Sequence[Stream] = (SHOT_STREAM,)

    def __init__(self) -> None:
        cv2 = import_opencv("motion")
        self.fingerprint = fingerprint(
            "motion", flow="DIS ultrafast", opencv=cv2.__version__, stream=SHOT_STREAM, statistics=2, dtype="float16"
        )

    def open(self) -> Session:
        return _FlowSession()


class _FlowSession:
    follows_pictures = True  # flow is between two of them

    def __init__(self) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._gray: Any = partial(cv2.cvtColor, code=cv2.COLOR_RGB2GRAY)
        self._last: npt.NDArray[np.uint8] | None = None
        self._last_seconds = 0.0
        self._rows: list[tuple[float, npt.NDArray[np.float64]]] = []
        self._saved = 0

    def save_part(self) -> dict[str, npt.NDArray[Any]]:
        """See `reelseek.experts.parts.Resumable`."""
        new, self._saved = self._rows[self._saved :], len(self._rows)
        return {
            "seconds": np.array([seconds for seconds, _ in new]),
            "rows": np.concatenate([np.zeros((0, _DIM)), *(row[None] for _, row in new)]),
            "last": np.zeros((0, 0), np.uint8) if self._last is None else self._last,
            "last_seconds": np.array(self._last_seconds),
        }

    def restore_parts(self, states: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        """See `reelseek.experts.parts.Resumable`."""
        self._rows = [
            (float(seconds), row)
            for state in states
            for seconds, row in zip(state["seconds"], state["rows"], strict=True)
        ]
        self._saved = len(self._rows)
        self._last = states[-1]["last"] if states[-1]["last"].size else None
        self._last_seconds = float(states[-1]["last_seconds"])

    def follow(self, batch: FrameBatch) -> None:
        """See `reelseek.experts.parts.Divisible`."""
        if min(batch.pixels.shape[1:3]) >= _SMALLEST:
            self._last, self._last_seconds = self._gray(batch.pixels[-1]), float(batch.seconds[-1])

    def feed(self, batch: FrameBatch) -> None:
        for pixels, seconds in zip(batch.pixels, batch.seconds, strict=True):
            gray = self._gray(pixels)
            if min(gray.shape) < _SMALLEST:
                continue
            if self._last is not None and self._last.shape == gray.shape and seconds > self._last_seconds:
                flow = self._flow.calc(self._last, gray, None).astype(np.float64)
                flow /= gray.shape[0] * (seconds - self._last_seconds)
                changed = float(np.abs(gray.astype(np.int16) - self._last).mean() / 255)
                self._rows.append((self._last_seconds, _statistics(np.clip(flow, -20, 20), changed)))
            self._last, self._last_seconds = gray, float(seconds)

    def close(self, end_seconds: float) -> Track:
        if not self._rows:
            return Track(
                np.zeros((0, _DIM), np.float16),
                np.zeros((0, 2)),
                note="fewer than two pictures of at least 16 pixels a side",
            )
        cells = np.floor(np.array([seconds for seconds, _ in self._rows]))
        rows = np.stack([row for _, row in self._rows])
        starts = np.unique(cells)
        values = np.stack([rows[cells == start].mean(axis=0) for start in starts])
        return Track(values.astype(np.float16), spans_of_cells(starts, end_seconds))


def _statistics(flow: npt.NDArray[np.float64], changed: float) -> npt.NDArray[np.float64]:
    """One row of `_DIM` numbers for a field [height, width, 2] in picture heights a second."""
    speed = np.hypot(flow[..., 0], flow[..., 1])
    grid: list[Any] = []
    for rows in np.array_split(np.arange(flow.shape[0]), _GRID):
        for columns in np.array_split(np.arange(flow.shape[1]), _GRID):
            cell, cell_speed = flow[np.ix_(rows, columns)], speed[np.ix_(rows, columns)]
            grid += [cell[..., 0].mean(), cell[..., 1].mean(), cell_speed.mean(), cell_speed.std()]
    angles = np.arctan2(flow[..., 1], flow[..., 0])
    bins = ((angles + np.pi) / (2 * np.pi) * _DIRECTIONS).astype(int) % _DIRECTIONS
    directions = np.bincount(bins.ravel(), weights=speed.ravel(), minlength=_DIRECTIONS) / speed.size
    affine, rest = _camera(flow)
    quantiles = np.quantile(rest, [0.5, 0.9, 0.99])
    still = float((speed < 0.01).mean())
    return np.concatenate([grid, directions, affine, quantiles, [still, changed, speed.mean()]])


def _camera(flow: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The affine motion that fits the field best (six numbers), and the speed it leaves unexplained."""
    height, width = flow.shape[:2]
    y, x = np.mgrid[0:height:4, 0:width:4]
    places = np.stack([np.ones(x.size), x.ravel() / height - width / height / 2, y.ravel() / height - 0.5], axis=1)
    sampled = flow[::4, ::4].reshape(-1, 2)
    fit, *_ = np.linalg.lstsq(places, sampled, rcond=None)
    return fit.ravel(), np.hypot(*(sampled - places @ fit).T)


def motion(model: str | None = None) -> _Motion:
    """56 statistics of optical flow a second."""
    return _Motion()
