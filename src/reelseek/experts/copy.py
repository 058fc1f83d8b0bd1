"""Features that tell copies of footage from other footage, one step per second: the picture, and what sets it apart.

EfficientNet-Lite0 on pictures whose black bars are trimmed. Its last feature map is pooled by a generalised mean of
power 3 (Radenović, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", 2018). From this vector
what all pictures have in common is taken away (benchmarks/copy_mean.py), and beside it stands its difference from the
mean of the seconds around it, which another moment of the same place does not share. Both are unit vectors, so that a
cosine of two steps is the mean of the two cosines.
"""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reelseek.experts.efficientnet import feature_maps, load_network, prepare_pictures, weights_file
from reelseek.experts.encoder import Deferred, Encoder
from reelseek.experts.expert import Session, Track, fingerprint, hash_files, spans_of_cells
from reelseek.media.streams import FrameBatch, FrameStream, Stream

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["copy", "embed_pictures", "without_bars"]

_STREAM = FrameStream(fps=1, short_side=320)
_SHORT_SIDE, _CROP = 256, 224
_AROUND = 2  # seconds on either side that a second is set apart from
_POWER = 3.0
_FEATURES = 1280
_MEAN = Path(__file__).with_name("copy_mean.npy")
_BAR_MEAN, _BAR_SPREAD, _LEAST = 36.0, 9.0, 0.3


def without_bars(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Trim dark, even rows and columns at the edges of a picture [height, width, 3].

    A side of which less than 30 % would remain is not trimmed.
    """
    luma = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    top, bottom = _inner(luma)
    first_column, end_column = _inner(luma[top:bottom].T)
    return pixels[top:bottom, first_column:end_column]


def _inner(rows: npt.NDArray[np.float32]) -> tuple[int, int]:
    """First and one past the last row that is not a bar."""
    inner = np.flatnonzero((rows.mean(1) >= _BAR_MEAN) | (rows.std(1) >= _BAR_SPREAD))
    if not len(inner) or inner[-1] + 1 - inner[0] < _LEAST * len(rows):
        return 0, len(rows)
    return int(inner[0]), int(inner[-1]) + 1


def _squared(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Short side 256, centre crop of 224."""
    import cv2

    height, width = pixels.shape[:2]
    scale = _SHORT_SIDE / min(height, width)
    size = max(_CROP, round(width * scale)), max(_CROP, round(height * scale))
    resized = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    row, column = (resized.shape[0] - _CROP) // 2, (resized.shape[1] - _CROP) // 2
    cropped: npt.NDArray[np.uint8] = resized[row : row + _CROP, column : column + _CROP]
    return cropped


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, where=norms > 0, out=np.zeros_like(rows))


@cache
def _mean() -> npt.NDArray[np.float32]:
    """The mean vector of pictures [1280]."""
    mean: npt.NDArray[np.float32] = np.load(_MEAN, allow_pickle=False).astype(np.float32)
    return mean


def _prepare(batch: FrameBatch) -> "dict[str, Tensor]":
    return _squares(batch.pixels)


def _squares(pixels: npt.NDArray[np.uint8]) -> "dict[str, Tensor]":
    return prepare_pictures(np.stack([_squared(without_bars(picture)) for picture in pixels]))


def _forward(network: Any, inputs: "dict[str, Tensor]") -> "Tensor":
    """Feature maps by a generalised mean [frame, 1280]; on the CPU by NumPy, by which tables are recorded."""
    import torch

    maps = feature_maps(network, inputs["pixels"]).clamp(min=0)
    if maps.device.type == "cpu":
        pooled = (maps.numpy().astype(np.float64) ** _POWER).mean((2, 3)) ** (1 / _POWER)
        return torch.from_numpy(pooled.astype(np.float32))
    return maps.pow(_POWER).mean((2, 3)).pow(1 / _POWER)


_ENCODER = Encoder("copy", _FEATURES, load=load_network, prepare=_prepare, forward=_forward)


def embed_pictures(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Embed pictures [frame, height, width, 3] as unit vectors [frame, 1280], before the mean is taken away."""
    return _unit(_ENCODER.compute(_squares(pixels)))


class _Copies:
    follows_pictures = False

    def __init__(self) -> None:
        self._rows: list[Deferred] = []
        self._cells: list[npt.NDArray[np.float64]] = []
        self._saved = 0  # batches of rows

    def save_part(self) -> dict[str, npt.NDArray[Any]]:
        """See `reelseek.experts.parts.Resumable`."""
        new, self._saved = slice(self._saved, None), len(self._rows)
        rows = [np.zeros((0, _FEATURES), np.float32), *(rows() for rows in self._rows[new])]
        return {"rows": np.concatenate(rows), "cells": np.concatenate([np.zeros(0), *self._cells[new]])}

    def restore_parts(self, states: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        """See `reelseek.experts.parts.Resumable`."""
        self._rows = [partial(np.asarray, state["rows"]) for state in states]
        self._cells = [state["cells"] for state in states]
        self._saved = len(self._rows)

    def follow(self, batch: FrameBatch) -> None:
        """See `reelseek.experts.parts.Divisible`; a row is set apart from those around it in closing."""

    def feed(self, batch: FrameBatch) -> None:
        self._rows.append(_ENCODER.submit(batch))
        self._cells.append(batch.cells)

    def close(self, end_seconds: float) -> Track:
        rows = np.concatenate([np.zeros((0, _FEATURES), np.float32), *(_unit(rows()) for rows in self._rows)])
        if not len(rows):
            return Track(np.zeros((0, _Copy.dim), np.float16), np.zeros((0, 2)), note="no pictures")
        sums = np.cumsum(np.concatenate([np.zeros((1, rows.shape[1]), np.float32), rows]), axis=0)
        first = np.maximum(np.arange(len(rows)) - _AROUND, 0)
        last = np.minimum(np.arange(len(rows)) + _AROUND + 1, len(rows))
        apart = _unit(rows - (sums[last] - sums[first]) / (last - first)[:, None])
        values = _unit(np.concatenate([_unit(rows - _mean()), apart], axis=1)).astype(np.float16)
        return Track(values, spans_of_cells(np.concatenate(self._cells), end_seconds))


class _Copy:
    name = "copy"
    modality = "appearance"
    divisible = True
    dim = 2560
    streams: Sequence[Stream] = (_STREAM,)
    encoder = _ENCODER

    def __init__(self) -> None:
        settings: dict[str, Any] = {"short_side": _SHORT_SIDE, "crop": _CROP, "around": _AROUND, "power": _POWER}
        settings |= {"bars": (_BAR_MEAN, _BAR_SPREAD, _LEAST), "dtype": "float16"}
        self.fingerprint = fingerprint("copy", weights=hash_files([weights_file(), _MEAN]), stream=_STREAM, **settings)

    def open(self) -> Session:
        return _Copies()


def copy(model: str | None = None) -> _Copy:
    """Finds copied footage: 2,560 numbers a second, for `overlap scan`."""
    return _Copy()
