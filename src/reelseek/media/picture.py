"""Small JPEG pictures of frames."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt
from PIL import Image

from reelseek.errors import DecodeError
from reelseek.media.clock import Clock, StreamTime, clock_of, read_packets
from reelseek.media.container import Limits, best_stream, has_no_times, open_media
from reelseek.media.proxy import browser_plays, make_proxy, played_start
from reelseek.media.streams import FrameBatch, FrameStream
from reelseek.media.upright import Upright

__all__ = ["THUMBNAIL_STREAM", "Thumbnails", "browser_plays", "jpeg", "make_proxy", "played_start", "strip"]

THUMBNAIL_STREAM = FrameStream(fps=0.25, short_side=180)


def jpeg(pixels: npt.NDArray[np.uint8], quality: int = 80) -> bytes:
    """RGB pixels [height, width, 3] as a JPEG file's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


class Thumbnails:
    """Keeps a JPEG of every frame of THUMBNAIL_STREAM."""

    def __init__(self) -> None:
        self.pictures: list[tuple[float, bytes]] = []

    def feed(self, batch: FrameBatch) -> None:
        for pixels, seconds in zip(batch.pixels, batch.seconds, strict=True):
            self.pictures.append((float(seconds), jpeg(pixels)))


def strip(task: tuple[Path, list[float], int]) -> bytes:
    """A JPEG of the frames shown at some times (seconds, rising), side by side; past the end the last frame.

    Args:
        task: the file, the times, and the height in pixels.

    Raises:
        DecodeError: there is no picture.
    """
    path, times, height = task
    frames = _frames_at(path, times, height, seek=True) or _frames_at(path, times, height, seek=False)
    if not frames:
        raise DecodeError(f"{str(path)!r}: there is no picture at {times[0]:.1f} s")
    frames += frames[-1:] * (len(times) - len(frames))
    return jpeg(np.concatenate(frames, axis=1))


def _frames_at(path: Path, times: list[float], height: int, *, seek: bool) -> list[npt.NDArray[np.uint8]]:
    """Frames of one height for the times, as far as they are reached."""
    shown: list[npt.NDArray[np.uint8]] = []
    last: av.VideoFrame | None = None
    with open_media(path, Limits()) as media:
        stream, clock = best_stream(media, "video"), clock_of(path, media)
        if stream is None or (seek and not _seek(media, clock, times[0])):
            return []
        upright, time = Upright(stream, short_side=height), StreamTime(clock, stream)
        for frame in _decoded(media, [stream], clock):
            begin, length = time.span(frame)
            if seek and last is None and (begin is None or begin > times[0] + 0.5):
                return []  # it landed behind the place, or where is unknown
            begin = time.end if begin is None else begin
            time.end = begin + length
            while last is not None and len(shown) < len(times) and begin > times[len(shown)]:
                shown.append(_small(last, upright, height))
            if len(shown) == len(times):
                return shown
            last = frame
    return shown if last is None else [*shown, _small(last, upright, height)]


def _seek(media: av.container.InputContainer, clock: Clock, seconds: float) -> bool:
    """Go to a place, if that can be done: not where times start again, nor where there are none."""
    if clock.joined or has_no_times(media):
        return False
    try:
        media.seek(int(clock.container_seconds(seconds) * av.time_base), backward=True)
    except av.error.FFmpegError:
        return False
    return True


def _decoded(media: av.container.InputContainer, streams: list[Any], clock: Clock) -> Iterator[Any]:
    """Frames of some streams; what is damaged is stepped over."""
    for packet in read_packets(media, streams, clock, lambda _: None):
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            continue


def _small(frame: av.VideoFrame, upright: Upright, height: int) -> npt.NDArray[np.uint8]:
    """The picture as it is seen, of that height."""
    picture = Image.fromarray(upright.pixels(frame))
    return np.asarray(picture.resize((max(2, round(picture.width * height / picture.height)), height)))
