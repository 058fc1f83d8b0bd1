"""Small real video files."""

from pathlib import Path

import av
import numpy as np

__all__ = ["write_film"]

_FPS, _RATE = 10, 16_000


def write_film(
    path: Path, seconds: float = 2.0, *, pictures: bool = True, sound: bool = True, size: tuple[int, int] = (64, 48)
) -> Path:
    """Encode a film: a bright square that moves over a dark picture, and a tone that rises.

    Args:
        path: where to; its ending says which container, such as `.mp4` or `.m4a`.
        pictures, sound: False leaves that stream out.
        size: width and height in pixels.
    """
    with av.open(str(path), "w") as out:
        film = out.add_stream("libx264", rate=_FPS) if pictures else None
        track = out.add_stream("aac", rate=_RATE, layout="mono") if sound else None
        if film is not None:
            film.width, film.height, film.pix_fmt = *size, "yuv420p"
            for index in range(max(1, round(seconds * _FPS))):
                out.mux(film.encode(av.VideoFrame.from_ndarray(_picture(index, size), format="rgb24")))
            out.mux(film.encode(None))
        if track is not None:
            times = np.arange(int(seconds * _RATE)) / _RATE
            samples = 0.5 * np.sin(2 * np.pi * (220 + 110 * times) * times)
            frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="fltp", layout="mono")
            frame.rate, frame.pts = _RATE, 0
            out.mux(track.encode(frame))
            out.mux(track.encode(None))
    return path


def _picture(index: int, size: tuple[int, int]) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    width, height = size
    picture = np.full((height, width, 3), 40, np.uint8)
    side = max(1, height // 3)
    column = (2 * index) % max(1, width - side)
    picture[:side, column : column + side] = (230, 200, 60)
    return picture
