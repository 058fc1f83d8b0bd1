"""One short window of a file, frames and sound of the same moments, as networks learn from them.

A window of a long file is not reached by decoding all that lies before it: its packets are copied from the last key
frame on, where the format lets them be, and only these are decoded.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reelseek.media.address import FilePath
from reelseek.media.container import Limits
from reelseek.media.decode import decode
from reelseek.media.excerpt import write_excerpt
from reelseek.media.local_copy import local_copy
from reelseek.media.streams import FrameBatch, FrameStream, SoundBatch, SoundStream

__all__ = ["Augmentation", "Window", "WindowContent", "read_window"]

_DECODE_FROM_THE_START = 4.0  # seconds before a window that cost less to decode than to copy around

# RGB -> luma and two axes of chroma (YIQ), in which a hue is an angle and a saturation a length
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a window's frames, the same for all of them.

    Args:
        seed: all of them are drawn from it.
        flip: mirror every other window, left to right.
        colour: 0 leaves colours as they are; 1 changes brightness by up to 1/8, contrast and saturation by up to 40 %
            and hue by up to a fifth of the circle.
    """

    seed: int
    flip: bool = True
    colour: float = 1.0


@dataclass(frozen=True)
class Window:
    """What to read of a file.

    Args:
        start_seconds: of the presentation.
        frames, fps: how many frames and how many of them a second; sound is of the same span.
        resize: shorter side before cropping, in pixels; augmented, any size from `crop` to this one (scale jittering).
        crop: side of the square that is cut out: of the centre, or augmented anywhere.
        rate: samples a second of the sound, mono; 0 reads none.
    """

    path: FilePath
    start_seconds: float
    frames: int
    fps: float
    resize: int
    crop: int
    rate: int = 0
    augmentation: Augmentation | None = None

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.frames / self.fps


class WindowContent(NamedTuple):
    """What a window holds.

    Attributes:
        frames: uint8 [frame, height, width, 3]; none where the file has no picture there. After the last frame of the
            file that one is repeated.
        samples: float32 [sample]; none where it has no sound there, zeros where a part of the window has none.
    """

    frames: npt.NDArray[np.uint8]
    samples: npt.NDArray[np.float32]


def read_window(window: Window, limits: Limits | None = None) -> WindowContent:
    """Decode a window and augment it; the same numbers for the same window.

    Raises:
        DecodeError, LimitError: see `decode`.
    """
    limits = limits or Limits()
    with local_copy(window.path) as path, TemporaryDirectory(prefix="reelseek-window-") as folder:
        if window.start_seconds > _DECODE_FROM_THE_START:
            excerpt = Path(folder) / "window.mkv"
            end = window.start_seconds + window.seconds + 1.0
            begin = write_excerpt(path, window.start_seconds, excerpt, limits, end_seconds=end)
            if begin is not None:
                # Frames are chosen by cells from the beginning of what is decoded, so the window begins with one:
                # picture and sound are moved together, by half a cell at most.
                start = round((window.start_seconds - begin) * window.fps) / window.fps
                return _decode_window(excerpt, replace(window, start_seconds=start), limits)
        return _decode_window(path, window, limits)


def _decode_window(path: Path, window: Window, limits: Limits) -> WindowContent:
    augmentation, rng = window.augmentation, None
    stream = FrameStream(window.fps, window.resize, crop=window.crop)
    if augmentation is not None:
        rng = np.random.default_rng(augmentation.seed)
        stream = FrameStream(window.fps, int(rng.integers(window.crop, window.resize + 1)))
    start, end = window.start_seconds, window.start_seconds + window.seconds
    pictures: list[FrameBatch] = []
    sounds: list[SoundBatch] = []

    def add_pictures(batch: FrameBatch) -> None:
        if batch.end_seconds < start:
            pictures.clear()  # the last frame before the window may be the one on screen when it begins
        pictures.append(batch)

    def add_sound(batch: SoundBatch) -> None:
        if batch.end_seconds > start:
            sounds.append(batch)

    decode(
        path,
        {stream: [add_pictures], **({SoundStream(window.rate): [add_sound]} if window.rate else {})},
        limits=limits,
        needed={stream: lambda seconds: seconds < end},
        until_seconds=end,
    )
    frames = _frames_at(pictures, start + np.arange(window.frames) / window.fps, window.crop)
    if augmentation is not None and rng is not None and len(frames):
        frames = _augment(frames, window.crop, augmentation, rng)
    return WindowContent(frames, _samples_between(sounds, start, round(window.seconds * window.rate), window.rate))


def _frames_at(batches: list[FrameBatch], seconds: npt.NDArray[np.float64], crop: int) -> npt.NDArray[np.uint8]:
    """The frame of the cell that each moment lies in, the first of the file where it begins later; none without one."""
    if not batches:
        return np.zeros((0, crop, crop, 3), np.uint8)
    shape = batches[-1].pixels.shape[1:]
    usable = [batch for batch in batches if batch.pixels.shape[1:] == shape]  # the size may change in mid-stream
    cells = np.concatenate([batch.cells for batch in usable])
    if cells[0] > seconds[-1]:
        return np.zeros((0, crop, crop, 3), np.uint8)
    places = np.searchsorted(cells, seconds + 1e-6, side="right") - 1
    owner = np.repeat(np.arange(len(usable)), [len(batch) for batch in usable])
    first = np.cumsum([0, *(len(batch) for batch in usable)])
    places = places.clip(min=0)
    return np.stack([usable[owner[place]].pixels[place - first[owner[place]]] for place in places])


def _samples_between(batches: list[SoundBatch], start: float, count: int, rate: int) -> npt.NDArray[np.float32]:
    """Samples from a moment on, zeros where none are; none at all where every one of them would be such a zero."""
    samples, any_sample = np.zeros(count, np.float32), False
    for batch in batches:
        place = round((batch.start_seconds - start) * rate)
        begin, stop = max(0, place), min(count, place + len(batch))
        if begin < stop:
            samples[begin:stop] = batch.samples[begin - place : stop - place]
            any_sample = True
    return samples if any_sample else samples[:0]


def _augment(
    frames: npt.NDArray[np.uint8], crop: int, augmentation: Augmentation, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Frames [frame, height, width, 3] of any size, cropped, mirrored and changed in colour."""
    high, wide = frames.shape[1:3]
    if min(high, wide) < crop:  # decoders enlarge centre crops alone; pixels of a tiny picture are repeated
        rows, columns = (np.arange(math.ceil(size * crop / min(high, wide))) for size in (high, wide))
        frames = frames[:, (rows * min(high, wide) // crop).clip(max=high - 1)]
        frames = frames[:, :, (columns * min(high, wide) // crop).clip(max=wide - 1)]
        high, wide = frames.shape[1:3]
    y, x = int(rng.integers(high - crop + 1)), int(rng.integers(wide - crop + 1))
    frames = frames[:, y : y + crop, x : x + crop]
    if augmentation.flip and rng.random() < 0.5:
        frames = frames[:, :, ::-1]
    if not augmentation.colour:
        return np.ascontiguousarray(frames)
    matrix, shift = _draw_colours(frames, augmentation.colour, rng)
    changed = frames.reshape(-1, 3).astype(np.float32) @ matrix.T + shift
    return changed.round().clip(0, 255).astype(np.uint8).reshape(frames.shape)


def _draw_colours(
    frames: npt.NDArray[np.uint8], strength: float, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """A matrix and a shift for colours: brightness, contrast about the mean, saturation and hue, in one."""
    brightness, contrast, saturation, hue = rng.uniform(-1, 1, 4) * strength * (32, 0.4, 0.4, 0.2)
    angle = 2 * math.pi * hue
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) * (1 + saturation)
    chroma = np.eye(3)
    chroma[1:, 1:] = turn
    matrix = (1 + contrast) * np.linalg.inv(_YIQ) @ chroma @ _YIQ
    mean = frames.mean((0, 1, 2))
    shift = brightness + mean - (1 + contrast) * mean
    return matrix.astype(np.float32), shift.astype(np.float32)
