"""A moment of a video as a file of its own: its packets as they are, or its very frames, encoded again."""

import math
from dataclasses import dataclass
from pathlib import Path

import av
import av.error

from reelseek.errors import DecodeError, MediaError
from reelseek.media.clock import clock_of
from reelseek.media.container import Limits, best_stream, has_no_times, open_media
from reelseek.media.copying import PacketCopy
from reelseek.media.proxy import RATE, TICKS, PictureWriter, SoundWriter, picture_size, write_frames
from reelseek.media.sound import Samples

__all__ = ["Cut", "CutTask", "cut"]

_MP4_CODECS = frozenset(
    (
        "h264 hevc av1 libdav1d vp9 libvpx-vp9 mpeg4 mpeg2video mjpeg aac mp3 mp3float ac3 eac3 opus libopus flac alac"
    ).split()
)
_LINES = 2160
_SHORTEST = 0.001  # seconds


@dataclass(frozen=True)
class CutTask:
    """What to cut.

    Args:
        source: a local file.
        target: of the cut, without its ending.
        start, end: seconds of the presentation.
        exact: encode the very frames again; else packets are copied, from the key frame before `start`.
    """

    source: Path
    target: Path
    start: float
    end: float
    exact: bool


@dataclass(frozen=True)
class Cut:
    """A cut file.

    Args:
        start: seconds at which its first picture or sound was in the source.
        exact: whether it was encoded again, which may be so where packets could not be copied.
        reason: why they could not.
    """

    path: Path
    start: float
    exact: bool
    reason: str = ""


def cut(task: CutTask) -> Cut:
    """Cut a moment out of a file; call it in a guarded process.

    Raises:
        MediaError: there is nothing to cut, or it cannot be decoded.
    """
    if not (math.isfinite(task.start) and math.isfinite(task.end) and task.end - task.start >= _SHORTEST):
        raise DecodeError(f"{str(task.source)!r}: a cut from {task.start} s to {task.end} s holds nothing")
    if task.exact:
        return _encode(task)
    try:
        return _copy(task)
    except (MediaError, av.error.FFmpegError, ValueError) as error:
        encoded = _encode(task)
        return Cut(encoded.path, encoded.start, True, f"its packets cannot be copied: {error}")


def _copy(task: CutTask) -> Cut:
    """Copy packets from the key frame at or before the start to the end; picture and sound stay together."""
    with open_media(task.source, Limits()) as media:
        packets = PacketCopy(media, task.source, task.start, task.end)
        codecs = {stream.codec_context.name for stream in packets.streams}
        path = task.target.with_name(task.target.name + (".mp4" if codecs <= _MP4_CODECS else ".mkv"))
        packets.copy(path)
    return Cut(path, max(0.0, packets.begin), False)


# The very frames


class _CutPictures(PictureWriter):
    """Frames that are shown from `first` on and before `last`, to the nearest frame."""

    quality = "18"
    lines = _LINES
    first, last = 0.0, math.inf

    def ticks_of(self, begin: float, length: float) -> int | None:
        if not self.first <= begin + length / 2 < self.last:
            return None
        return max(0, round((begin - self.first) * TICKS)) if self.written else 0


class _CutSound(SoundWriter):
    """Samples from `first` on and before `last`."""

    first, last = 0.0, math.inf

    def write(self, samples: Samples) -> None:
        begin = self._position - samples.shape[1]
        selected = samples[:, max(0, round(self.first * RATE) - begin) : max(0, round(self.last * RATE) - begin)]
        if selected.shape[1]:
            super().write(selected)


def _encode(task: CutTask) -> Cut:
    path = task.target.with_name(f"{task.target.name}.mp4")
    size = picture_size(task.source, _LINES)
    with open_media(task.source, Limits()) as media, av.open(str(path), "w", options={"movflags": "faststart"}) as out:
        clock = clock_of(task.source, media)
        video, audio = best_stream(media, "video"), best_stream(media, "audio")
        pictures = _CutPictures(out, video, clock, size) if size is not None else None
        sound = _CutSound(out, audio, clock) if audio is not None else None
        writers = [writer for writer in (pictures, sound) if writer is not None]
        for writer in writers:
            writer.first, writer.last = task.start, task.end
        if not clock.joined and not has_no_times(media) and task.start > 1:
            media.seek(int(clock.container_seconds(task.start - 1) * av.time_base), backward=True)
        streams = [stream for stream, writer in ((video, pictures), (audio, sound)) if writer is not None]
        write_frames(media, streams, clock, pictures, sound, task.end)
        for writer in writers:
            if writer.written:
                out.mux(writer.encoder.encode(None))
    if not any(writer.written for writer in writers):
        path.unlink(missing_ok=True)
        raise DecodeError(f"{str(task.source)!r}: nothing could be decoded from {task.start:g} s to {task.end:g} s")
    return Cut(path, task.start, True)
