"""A moment of a video as a file of its own: its packets as they are, or its very frames, encoded again."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error

from reelseek.errors import DecodeError, MediaError
from reelseek.media.clock import Clock, clock_of, read_packets
from reelseek.media.container import Limits, best_stream, has_no_times, open_media
from reelseek.media.proxy import RATE, TICKS, PictureWriter, SoundWriter, picture_size
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


# Packets as they are


def _copy(task: CutTask) -> Cut:
    """Copy packets from the key frame at or before the start to the end; picture and sound stay together."""
    with open_media(task.source, Limits()) as media:
        clock = clock_of(task.source, media)
        if clock.joined or has_no_times(media):
            raise DecodeError("its times start again, or it has none")
        video, audio = best_stream(media, "video"), best_stream(media, "audio")
        streams = [stream for stream in (video, audio) if stream is not None]
        if not streams:
            raise DecodeError("it has neither pictures nor sound")
        codecs = {stream.codec_context.name for stream in streams}
        path = task.target.with_name(task.target.name + (".mp4" if codecs <= _MP4_CODECS else ".mkv"))
        media.seek(int(clock.container_seconds(task.start) * av.time_base), backward=True)
        packets = _packets(media, streams, clock, task)
        first = _first_seconds(packets, video, clock)
        if max(_end_seconds(packet, clock) for packet in packets) <= task.start:
            raise DecodeError(f"it ends before {task.start:g} s")
        with av.open(str(path), "w") as out:
            outputs = {stream.index: out.add_stream_from_template(stream) for stream in streams}
            for packet in packets:
                seconds = float(packet.pts * packet.time_base) - clock.start
                if packet.stream_index != (video.index if video is not None else -1) and seconds < first:
                    continue
                shift = round((first + clock.start) / float(packet.time_base))
                packet.pts -= shift
                packet.dts = packet.dts - shift if packet.dts is not None else None
                packet.stream = outputs[packet.stream_index]
                out.mux(packet)
    return Cut(path, max(0.0, first), False)


def _packets(media: Any, streams: list[Any], clock: Clock, task: CutTask) -> list[av.Packet]:
    """The packets of a moment: of pictures from the last key frame at or before its start."""
    selected: dict[int, list[av.Packet]] = {stream.index: [] for stream in streams}
    ended: set[int] = set()
    for packet in read_packets(media, streams, clock, lambda _: None):
        if packet.pts is None or not packet.time_base or packet.size == 0:
            continue
        decoded_at = float((packet.pts if packet.dts is None else packet.dts) * packet.time_base) - clock.start
        if decoded_at >= task.end:
            ended.add(packet.stream_index)
            if len(ended) == len(streams):
                break
            continue
        rows = selected[packet.stream_index]
        shown_at = float(packet.pts * packet.time_base) - clock.start
        if packet.is_keyframe and packet.stream.type == "video" and shown_at <= task.start + 1e-6:
            rows.clear()
        length = float((packet.duration or 0) * packet.time_base)
        if packet.stream.type == "audio" and shown_at + length <= task.start - 30:
            continue  # far before any key frame
        rows.append(packet)
    return sorted(
        (packet for rows in selected.values() for packet in rows),
        key=lambda packet: float((packet.pts if packet.dts is None else packet.dts) * packet.time_base),
    )


def _end_seconds(packet: av.Packet, clock: Clock) -> float:
    return float(((packet.pts or 0) + (packet.duration or 0)) * packet.time_base) - clock.start


def _first_seconds(packets: list[av.Packet], video: Any, clock: Clock) -> float:
    """When the cut begins: at its first key frame, or at its first sound where it has no pictures."""
    leading = [packet for packet in packets if video is not None and packet.stream_index == video.index] or packets
    if not leading or (video is not None and leading[0].stream.type == "video" and not leading[0].is_keyframe):
        raise DecodeError("there is no key frame before the moment")
    times = [float(packet.pts * packet.time_base) - clock.start for packet in leading]
    return times[0] if video is not None else min(times)


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
        _feed(media, streams, clock, pictures, sound, task.end)
        for writer in writers:
            if writer.written:
                out.mux(writer.encoder.encode(None))
    if not any(writer.written for writer in writers):
        path.unlink(missing_ok=True)
        raise DecodeError(f"{str(task.source)!r}: nothing could be decoded from {task.start:g} s to {task.end:g} s")
    return Cut(path, task.start, True)


def _feed(
    media: Any, streams: list[Any], clock: Clock, pictures: "_CutPictures | None", sound: "_CutSound | None", end: float
) -> None:
    """Decode until every stream is past the end."""
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
