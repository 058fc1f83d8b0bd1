"""Small JPEG pictures of frames, and a copy of a video that any browser plays."""

import io
import os
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
import numpy.typing as npt
from PIL import Image

from reelseek.errors import DecodeError
from reelseek.media.container import Limits, best_stream, open_media, probe
from reelseek.media.streams import FrameBatch, FrameStream

__all__ = ["THUMBNAIL_STREAM", "Thumbnails", "browser_plays", "jpeg", "make_proxy", "strip"]

THUMBNAIL_STREAM = FrameStream(fps=0.25, short_side=180)
_BROWSER_VIDEO = {"h264", "vp8", "vp9", "av1", "libdav1d", "libvpx-vp9"}
_BROWSER_AUDIO = {None, "aac", "mp3", "mp3float", "opus", "vorbis", "flac"}


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


def browser_plays(path: Path) -> bool:
    """Whether a common browser plays the file as it is: MP4 or WebM with codecs that all of them have."""
    info = probe(path)
    container = "mp4" in info.format or ("webm" in info.format and path.suffix.lower() == ".webm")
    if info.video_codec is None:
        return info.audio_codec in _BROWSER_AUDIO
    return container and info.video_codec in _BROWSER_VIDEO and info.audio_codec in _BROWSER_AUDIO and _eight_bit(path)


def _eight_bit(path: Path) -> bool:
    with open_media(path) as container:
        pixel_format = container.streams.video[0].codec_context.pix_fmt or ""
    return pixel_format in ("yuv420p", "yuvj420p")


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
    found: list[npt.NDArray[np.uint8]] = []
    last: av.VideoFrame | None = None
    with open_media(path, Limits()) as media:
        stream = best_stream(media, "video")
        if stream is None:
            return []
        begin = (media.start_time or 0) / av.time_base
        if seek:
            try:
                media.seek(int((times[0] + begin) * av.time_base), backward=True)
            except av.error.FFmpegError:
                return []
        for packet in media.demux(stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in frames:
                shown = float((frame.pts or 0) * (frame.time_base or 0)) - begin
                if seek and last is None and shown > times[0] + 0.5:
                    return []  # it landed behind the place
                while last is not None and len(found) < len(times) and shown > times[len(found)]:
                    found.append(_small(last, height))
                if len(found) == len(times):
                    return found
                last = frame
    return found if last is None else [*found, _small(last, height)]


def _small(frame: av.VideoFrame, height: int) -> npt.NDArray[np.uint8]:
    """Upright, of that height."""
    pixels: npt.NDArray[np.uint8] = frame.reformat(format="rgb24").to_ndarray()
    upright = Image.fromarray(np.rot90(pixels, round(frame.rotation / 90) % 4 if frame.rotation else 0))
    return np.asarray(upright.resize((max(2, round(upright.width * height / upright.height)), height)))


def make_proxy(task: tuple[Path, Path]) -> None:
    """Write an H.264/AAC MP4 of at most 720 lines of `task[0]` to `task[1]`, replacing it only when complete.

    Raises:
        DecodeError: nothing could be decoded.
    """
    source, target = task
    partial = target.with_suffix(".partial.mp4")
    limits = Limits()
    with open_media(source, limits) as media, av.open(str(partial), "w", options={"movflags": "faststart"}) as out:
        pictures = _proxy_video(media, out)
        sound = _proxy_audio(media, out)
        written = 0
        for packet in media.demux([s for s in (best_stream(media, "video"), best_stream(media, "audio")) if s]):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in frames:
                encoder = pictures if isinstance(frame, av.VideoFrame) else sound
                if encoder is not None and frame.pts is not None:
                    if isinstance(frame, av.VideoFrame):
                        frame = frame.reformat(width=encoder.width, height=encoder.height, format="yuv420p")
                        frame.pict_type = 0  # the encoder chooses its own key frames
                    out.mux(encoder.encode(frame))
                    written += 1
        for encoder in (pictures, sound):
            if encoder is not None and written:
                out.mux(encoder.encode(None))
    if not written:
        partial.unlink(missing_ok=True)
        raise DecodeError(f"{str(source)!r}: nothing could be decoded for a browser copy")
    os.replace(partial, target)


def _proxy_video(media: av.container.InputContainer, out: av.container.OutputContainer) -> av.VideoStream | None:
    source = best_stream(media, "video")
    if source is None:
        return None
    stream = out.add_stream("libx264", rate=Fraction(source.average_rate or 25).limit_denominator(1001))
    scale = min(1.0, 720 / max(1, min(source.codec_context.width, source.codec_context.height)))
    stream.width = max(2, round(source.codec_context.width * scale / 2) * 2)
    stream.height = max(2, round(source.codec_context.height * scale / 2) * 2)
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = source.time_base or Fraction(1, 90_000)
    stream.options = {"preset": "veryfast", "crf": "26"}
    return stream


def _proxy_audio(media: av.container.InputContainer, out: av.container.OutputContainer) -> av.AudioStream | None:
    source = best_stream(media, "audio")
    if source is None:
        return None
    stream: av.AudioStream = out.add_stream("aac", rate=48_000)
    stream.layout = "stereo"
    return stream
