"""Opening one local media file, and nothing else, with what can be known before decoding."""

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import av
import av.error
from av.format import Flags
from av.stream import Discard

from reelseek.errors import DecodeError, LimitError
from reelseek.media.selection import best_stream, candidates, undecodable
from reelseek.media.suffixes import without_media_suffix

__all__ = [
    "Limits",
    "MediaInfo",
    "best_stream",
    "declared_duration",
    "has_no_times",
    "may_restart",
    "open_media",
    "open_with_threads",
    "probe",
    "without_media_suffix",
]

# Self-contained formats only: playlists and scripts (hls, dash, concat, image sequences ...) open other files, and
# `protocol_whitelist=file` alone does not stop them.
FORMATS = (
    "3g2,3gp,aac,ac3,aiff,amr,ape,apng,asf,au,avi,bink,caf,cavsvideo,dhav,dirac,dsf,dts,dtshd,dv,eac3,f4v,flac,flic,"
    "flv,gif,gxf,h264,hevc,ivf,live_flv,loas,lxf,m4a,m4v,matroska,mj2,mlp,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,mpegvideo,"
    "mxf,nsv,nut,nuv,obu,ogg,oga,ogv,oma,opus,pva,qcp,rm,roq,smk,swf,tak,truehd,tta,ty,vc1,vivo,voc,vvc,w64,wav,webm,"
    "wtv,wv,yuv4mpegpipe"
)

_RESTARTING = {"flv", "live_flv"}  # besides the formats that FFmpeg itself marks


@dataclass(frozen=True)
class Limits:
    """What one file may cost before its worker gives up on it.

    Args:
        base_seconds, seconds_per_second: wall time allowed, `base + factor * duration`.
        seconds_per_model: what each learned model of the user's choice adds to the factor.
        memory_bytes: address space that decoding and experts may add to a worker.
        pixels: width times height of a frame.
        duration_seconds: longest presentation.
        streams: most streams in one file.
    """

    base_seconds: float = 120.0
    seconds_per_second: float = 15.0
    seconds_per_model: float = 30.0
    memory_bytes: int = 6 * 2**30
    pixels: int = 8192 * 4608
    duration_seconds: float = 24 * 3600.0
    streams: int = 64

    def wall_seconds(self, duration: float | None) -> float:
        """Return the wall seconds that a file of `duration` seconds (None: unknown) may take."""
        expected = 3600.0 if duration is None else min(duration, self.duration_seconds)
        return self.base_seconds + self.seconds_per_second * expected

    def with_models(self, count: int) -> "Limits":
        """Return the same limits with the time that so many learned models of the user's choice may add."""
        return replace(self, seconds_per_second=self.seconds_per_second + count * self.seconds_per_model)


@dataclass(frozen=True)
class MediaInfo:
    """What a file says of itself; `duration` in seconds, None where it does not say.

    `start` is the container's own time, in seconds, at which the presentation starts: a player that goes by the
    container's times shows second 0 there. `treatment` names what sets the file apart from ordinary ones. `taken` is
    when it was filmed, as `2020-05-17T09:30:00`, where it says that.
    """

    format: str
    duration: float | None
    width: int | None
    height: int | None
    fps: float | None
    video_codec: str | None
    audio_codec: str | None
    audio_streams: int
    subtitle_streams: int
    start: float = 0.0
    treatment: tuple[str, ...] = ()
    taken: str | None = None


def _address(path: Path) -> str:
    """A name FFmpeg reads as a local file whatever it begins with or holds."""
    absolute = os.path.abspath(path)
    try:
        absolute.encode("utf-8")
    except UnicodeEncodeError:
        # PyAV encodes names as UTF-8; one that is not UTF-8 is reached through its directory's entry instead.
        absolute = f"/proc/self/fd/{os.open(absolute, os.O_RDONLY)}"
    return f"file:{absolute}"


def _require_regular_file(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise DecodeError(f"{str(path)!r}: cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise DecodeError(f"{str(path)!r}: not a regular file (a device, pipe or folder cannot be a video)")
    if status.st_size == 0:
        raise DecodeError(f"{str(path)!r}: the file is empty (0 bytes)")


def _check(container: av.container.InputContainer, path: Path, limits: Limits) -> None:
    if len(container.streams) > limits.streams:
        raise LimitError(f"{str(path)!r}: {len(container.streams)} streams; at most {limits.streams} are read")
    if best_stream(container, "video") is None and best_stream(container, "audio") is None:
        kinds = sorted({stream.type for stream in container.streams}) or ["none"]
        raise DecodeError(
            f"{str(path)!r}: no video or audio stream that can be decoded; streams are {', '.join(kinds)}"
        )
    for stream in container.streams.video:
        if stream.codec_context is None:
            continue
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > limits.pixels:
            raise LimitError(f"{str(path)!r}: frames of {width}x{height}; at most {limits.pixels} pixels are decoded")
    duration = declared_duration(container)
    if may_restart(container):
        return  # its times may jump, which says nothing of how long it lasts; whoever decodes it sees
    if duration is not None and duration > limits.duration_seconds:
        raise LimitError(
            f"{str(path)!r}: says it lasts {duration:.0f} s; at most {limits.duration_seconds:.0f} s are read"
        )


@contextmanager
def open_media(path: Path, limits: Limits | None = None) -> Iterator[av.container.InputContainer]:
    """Open one local file for reading; FFmpeg may open nothing but it.

    Raises:
        DecodeError: not a regular file, not a known self-contained format, or without video and audio.
        LimitError: too many streams or pixels, or too long.
    """
    limits = limits or Limits()
    with _opened(path, limits) as container:
        if any(len(candidates(container, kind)) > 1 for kind in ("video", "audio")):
            status = path.stat()
            for index in _undecodable(os.fspath(path), status.st_size, status.st_mtime_ns, limits):
                container.streams[index].discard = Discard.all
        _check(container, path, limits)
        yield container


@lru_cache(maxsize=64)
def _undecodable(path: str, size: int, modified: int, limits: Limits) -> tuple[int, ...]:
    """Streams of a file, whose name, size and time say whether it is still the same, that another has to stand for."""
    return tuple(
        index for kind in ("video", "audio") for index in undecodable(lambda: _opened(Path(path), limits), kind)
    )


@contextmanager
def _opened(path: Path, limits: Limits) -> Iterator[av.container.InputContainer]:
    _require_regular_file(path)
    address = _address(path)
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS, "max_streams": str(limits.streams * 4)}
    try:
        container = av.open(address, mode="r", options=options, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DecodeError(f"{str(path)!r}: not a readable media file: {reason}") from error
    finally:
        if address.startswith("file:/proc/self/fd/"):
            os.close(int(address.rsplit("/", 1)[1]))
    with container:
        for stream in container.streams:
            if stream.codec_context is not None:
                stream.codec_context.thread_count = 1  # a decoder fails if the system refuses it one more thread
        yield container


def open_with_threads(codec: av.VideoCodecContext, threads: int) -> None:
    """Open a decoder or encoder with so many threads, or with one where the system refuses more."""
    codec.thread_type, codec.thread_count = "AUTO", threads
    try:
        codec.open()
    except av.error.FFmpegError:
        codec.thread_count = 1
        codec.open()


def may_restart(container: av.container.InputContainer) -> bool:
    """Whether the format is one whose times may start again in the middle of a file."""
    return bool(container.format.flags & Flags.ts_discont.value) or container.format.name in _RESTARTING


def has_no_times(container: av.container.InputContainer) -> bool:
    """Whether it is a raw stream, in which nothing says when a frame is shown."""
    return bool(container.format.flags & Flags.no_timestamps.value)


def declared_duration(container: av.container.InputContainer) -> float | None:
    """Seconds that the container itself says it lasts, counted from wherever it counts."""
    if container.duration is not None and container.duration > 0:
        return float(container.duration / av.time_base)
    lengths = [
        float(stream.duration * stream.time_base)
        for stream in container.streams
        if stream.duration and stream.time_base
    ]
    longest = max(lengths, default=0.0)
    return longest if longest > 0 and math.isfinite(longest) else None


def probe(path: Path, limits: Limits | None = None) -> MediaInfo:
    """What the file says of itself; at most the first picture is decoded.

    Raises:
        DecodeError, LimitError: as `open_media`.
    """
    from reelseek.media.clock import clock_of  # these open files by way of this module
    from reelseek.media.taken import taken_of
    from reelseek.media.treatment import treatment_of

    with open_media(path, limits) as container:
        clock = clock_of(path, container)
        video, audio = best_stream(container, "video"), best_stream(container, "audio")
        rate = video.average_rate if video else None
        return MediaInfo(
            format=container.format.name,
            duration=clock.duration,
            width=video.codec_context.width if video else None,
            height=video.codec_context.height if video else None,
            fps=float(rate) if rate else None,
            video_codec=video.codec_context.name if video else None,
            audio_codec=audio.codec_context.name if audio else None,
            audio_streams=len(container.streams.audio),
            subtitle_streams=len(container.streams.subtitles),
            start=clock.start,
            treatment=treatment_of(container, clock),
            taken=taken_of(container),
        )
