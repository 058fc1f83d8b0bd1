"""A copy of a video that any browser plays: upright, from 0, each second where search has it."""

import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from reelseek.errors import DecodeError
from reelseek.media.clock import Clock, StreamTime, clock_of, rate_of, read_packets
from reelseek.media.container import Limits, best_stream, open_media, open_with_threads
from reelseek.media.sound import Samples, planes_of
from reelseek.media.upright import Upright

__all__ = ["PictureWriter", "SoundWriter", "browser_plays", "make_proxy", "picture_size", "played_start",
           "write_frames"]  # fmt: skip

_BROWSER_VIDEO = {"h264", "vp8", "vp9", "av1", "libdav1d", "libvpx", "libvpx-vp9"}
_BROWSER_AUDIO = {None, "aac", "mp3", "mp3float", "opus", "vorbis", "flac"}
_LATEST_START = 0.1  # seconds; a browser clips places in an MP4 that starts later to the length it first believes
_LINES = 720
TICKS = 24_000  # a second, of pictures: divides usual rates, and a day between two frames fits into an MP4
RATE = 48_000  # samples a second
_THREADS = 2  # of the encoder; copies are made beside searches
_SMALLEST_HOLE = 0.05  # seconds


def browser_plays(path: Path) -> bool:
    """Whether a common browser plays the file as it is, second for second: MP4 or WebM with codecs they all have."""
    with open_media(path) as media:
        video, audio = best_stream(media, "video"), best_stream(media, "audio")
        sound = audio.codec_context.name if audio is not None else None
        if video is None:
            return sound in _BROWSER_AUDIO
        webm = "webm" in media.format.name and path.suffix.lower() == ".webm"
        mp4 = "mp4" in media.format.name and (media.start_time or 0) / av.time_base <= _LATEST_START
        pixels = video.codec_context.pix_fmt in ("yuv420p", "yuvj420p")
        return (webm or mp4) and video.codec_context.name in _BROWSER_VIDEO and sound in _BROWSER_AUDIO and pixels


def played_start(path: Path) -> float:
    """The time in seconds at which a browser shows second 0 of a video: not 0 only for some files that it plays as is.

    Chromium goes by the container's own times (tests/web/test_page_clock.py).
    """
    with open_media(path) as media:
        return clock_of(path, media).start if browser_plays(path) else 0.0


def make_proxy(task: tuple[Path, Path]) -> None:
    """Write an H.264/AAC MP4 of at most 720 lines of `task[0]` to `task[1]`, replacing it only when complete.

    It begins at 0. If pictures begin later than the sound, the first one is shown until then; sound that begins later
    is silent until then.

    Raises:
        DecodeError: nothing could be decoded.
    """
    source, target = task
    partial = target.with_suffix(".partial.mp4")
    size = picture_size(source)
    with open_media(source, Limits()) as media, av.open(str(partial), "w", options={"movflags": "faststart"}) as out:
        clock = clock_of(source, media)
        video, audio = best_stream(media, "video"), best_stream(media, "audio")
        pictures = PictureWriter(out, video, clock, size) if size is not None else None
        sound = SoundWriter(out, audio, clock) if audio is not None else None
        write_frames(media, [s for s in (video if pictures else None, audio) if s], clock, pictures, sound)
        written = [track for track in (pictures, sound) if track is not None and track.written]
        for track in written:
            out.mux(track.encoder.encode(None))
    if not written:
        partial.unlink(missing_ok=True)
        raise DecodeError(f"{str(source)!r}: nothing could be decoded for a browser copy")
    os.replace(partial, target)


def write_frames(
    media: Any,
    streams: list[Any],
    clock: Clock,
    pictures: "PictureWriter | None",
    sound: "SoundWriter | None",
    end: float = math.inf,
) -> None:
    """Decode streams and encode their frames, until every stream is past the end; damaged packets are stepped over.

    Args:
        end: seconds of the presentation.
    """
    past: set[int] = set()
    for packet in read_packets(media, streams, clock, lambda _: None):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue
        for frame in frames:
            if isinstance(frame, av.VideoFrame) and pictures is not None:
                pictures.add(frame)
            elif isinstance(frame, av.AudioFrame) and sound is not None:
                sound.add(frame)
        decoded_at = packet.dts if packet.dts is not None else packet.pts
        if decoded_at is not None and packet.time_base and float(decoded_at * packet.time_base) - clock.start > end + 1:
            past.add(packet.stream_index)
        if len(past) == len(streams):
            return


def picture_size(source: Path, lines: int = _LINES) -> tuple[int, int] | None:
    """Even width and height of a copy's pictures of at most so many lines, or None if there are none."""
    with open_media(source, Limits()) as media:
        video = best_stream(media, "video")
        if video is None:
            return None
        upright = Upright(video, short_side=lines)
        for packet in read_packets(media, [video], clock_of(source, media), lambda _: None):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in frames:
                width, height = upright.size(frame)
                scale = min(1.0, lines / max(1, min(width, height)))
                return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
    return None


class PictureWriter:
    """Encodes frames of any size and kind at the time search has them."""

    quality = "26"  # x264's constant rate factor; lower is better
    lines = _LINES

    def __init__(self, out: av.container.OutputContainer, video: Any, clock: Clock, size: tuple[int, int]) -> None:
        self.encoder: Any = out.add_stream("libx264", rate=rate_of(video).limit_denominator(1001))
        self.encoder.width, self.encoder.height = size
        self.encoder.pix_fmt = "yuv420p"
        context = self.encoder.codec_context
        context.time_base = Fraction(1, TICKS)
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1  # BT.709, limited
        self.encoder.options = {"preset": "veryfast", "crf": self.quality}
        open_with_threads(context, _THREADS)
        self._out, self._time, self._upright = out, StreamTime(clock, video), Upright(video, short_side=self.lines)
        self._last = -1

    @property
    def written(self) -> bool:
        return self._last >= 0

    def ticks_of(self, begin: float, length: float) -> int | None:
        """When a frame is shown in the copy; None where it is left out."""
        return round(begin * TICKS) if self.written else min(0, round(begin * TICKS))

    def add(self, frame: av.VideoFrame) -> None:
        """Write a frame."""
        begin, length = self._time.span(frame)
        begin = self._time.end if begin is None else begin
        self._time.end = max(self._time.end, begin + length)
        ticks = self.ticks_of(begin, length)
        if ticks is None or ticks <= self._last:
            return
        picture = self._upright.for_encoding(frame, self.encoder.width, self.encoder.height)
        picture.pts, picture.time_base, self._last = ticks, Fraction(1, TICKS), ticks
        picture.duration = max(1, round(length * TICKS))
        picture.pict_type = 0  # the encoder chooses its own key frames
        self._out.mux(self.encoder.encode(picture))


class SoundWriter:
    """Encodes sound as stereo at the time search has it, silence where there is none."""

    def __init__(self, out: av.container.OutputContainer, audio: Any, clock: Clock) -> None:
        self.encoder: Any = out.add_stream("aac", rate=RATE)
        self.encoder.layout = "stereo"
        self._out, self._time = out, StreamTime(clock, audio)
        self._mixer: av.AudioResampler | None = None
        self._setup: tuple[str, str, int] | None = None
        self._samples = 0  # written
        self._position = 0  # in the presentation, of the next one

    @property
    def written(self) -> bool:
        return self._samples > 0

    def add(self, frame: av.AudioFrame) -> None:
        """Write a frame, and silence before it where samples are missing."""
        begin, _ = self._time.span(frame)
        missing = 0 if begin is None else round(begin * RATE) - self._position
        if missing > (_SMALLEST_HOLE * RATE if self._position else 0):
            self._silence(missing)
        for samples in self._stereo(frame):
            self.encode(samples)

    def _silence(self, count: int) -> None:
        block = np.zeros((2, RATE), np.float32)
        for first in range(0, count, RATE):
            self.encode(block[:, : min(RATE, count - first)])

    def _stereo(self, frame: av.AudioFrame) -> list[Samples]:
        """Two channels [2, sample]; of a layout that nobody knows how to mix the first two."""
        setup = (frame.format.name, frame.layout.name, frame.sample_rate)
        if setup != self._setup or self._mixer is None:
            self._mixer, self._setup = av.AudioResampler(format="fltp", layout="stereo", rate=RATE), setup
        frame.pts = None
        try:
            return [mixed.to_ndarray() for mixed in self._mixer.resample(frame)]
        except (av.error.FFmpegError, ValueError):
            planes = planes_of(frame)[[0, min(1, frame.layout.nb_channels - 1)]]
            plain = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), format="fltp", layout="stereo")
            plain.rate = frame.sample_rate
            self._mixer = None
            mixer = av.AudioResampler(format="fltp", layout="stereo", rate=RATE)
            return [mixed.to_ndarray() for part in (plain, None) for mixed in mixer.resample(part)]

    def encode(self, samples: Samples) -> None:
        """Take samples [2, sample] that follow those before."""
        self._position += samples.shape[1]
        self.write(samples)

    def write(self, samples: Samples) -> None:
        """Encode samples [2, sample]."""
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="stereo")
        frame.rate, frame.pts, frame.time_base = RATE, self._samples, Fraction(1, RATE)
        self._samples += samples.shape[1]
        self._out.mux(self.encoder.encode(frame))
