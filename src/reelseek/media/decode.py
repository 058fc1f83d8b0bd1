"""One sequential pass over a file that feeds every stream its consumers asked for.

Frames are chosen by their own timestamps, packet errors are survived and counted, and all times are seconds from the
start of the presentation (the container's own clock minus its start time), which is what a player's clock shows.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from reelseek.errors import DecodeError, LimitError
from reelseek.media.container import Limits, best_stream, open_media
from reelseek.media.cues import Cue, without_rolling
from reelseek.media.markup import ass_words, plain_text
from reelseek.media.notice import Notice
from reelseek.media.streams import FrameBatch, FrameStream, SoundBatch, SoundStream, Stream, Subtitle, SubtitleStream
from reelseek.media.subtitles import sidecar_subtitles

__all__ = ["DECODE_VERSION", "Decoded", "decode", "read_frames", "read_sound"]

DECODE_VERSION = 1
"""Part of every expert's fingerprint: raise it whenever frames or samples could come out differently."""

Batch = FrameBatch | SoundBatch | list[Subtitle]
Consumer = Callable[[Any], None]

_FRAMES_A_BATCH = 16
_SOUND_SECONDS_A_BATCH = 10
_MOST_PACKET_ERRORS_IN_A_ROW = 500


@dataclass
class Decoded:
    """What a pass over a file found, beside what it fed to consumers.

    `picture_end` and `sound_end` are where the last frame and the last sample end; each is 0 unless that kind was asked
    for, so that what one consumer learns does not depend on what others want. `packet_errors` counts packets that could
    not be decoded; `notices` say what was guessed, mended or left out.
    """

    picture_end: float = 0.0
    sound_end: float = 0.0
    frames: int = 0
    sound_seconds: float = 0.0
    packet_errors: int = 0
    has_video: bool = False
    has_audio: bool = False
    notices: list[Notice] = field(default_factory=list)

    @property
    def end_seconds(self) -> float:
        return max(self.picture_end, self.sound_end)


class _Frames:
    """Chooses frames for one stream and hands them on in batches."""

    def __init__(self, stream: FrameStream, consumers: list[Consumer]) -> None:
        self.stream = stream
        self.consumers = consumers
        self.reformatter = VideoReformatter()  # kept, since it builds its tables anew for every new one
        self.next_cell = -math.inf
        self.pixels: list[npt.NDArray[np.uint8]] = []
        self.seconds: list[float] = []

    def wants(self, seconds: float) -> bool:
        return seconds >= self.next_cell

    def take(self, frame: av.VideoFrame, seconds: float) -> None:
        self.next_cell = (math.floor(seconds * self.stream.fps + 1e-6) + 1) / self.stream.fps - 1e-9
        pixels = _upright(frame, self.stream, self.reformatter)
        if self.pixels and pixels.shape != self.pixels[0].shape:
            self.flush()  # the picture's size may change in mid-stream
        self.pixels.append(pixels)
        self.seconds.append(seconds)
        if len(self.pixels) == _FRAMES_A_BATCH:
            self.flush()

    def flush(self) -> None:
        if self.pixels:
            seconds = np.array(self.seconds)
            cells = np.floor(seconds * self.stream.fps + 1e-6) / self.stream.fps
            batch = FrameBatch(np.stack(self.pixels), seconds, cells)
            self.pixels, self.seconds = [], []
            for consumer in self.consumers:
                consumer(batch)


def _upright(frame: av.VideoFrame, stream: FrameStream, reformatter: VideoReformatter) -> npt.NDArray[np.uint8]:
    """The frame as RGB, resized and cropped as the stream says, turned as its display matrix says."""
    width, height = stream.size(frame.width, frame.height)
    smooth = "BILINEAR" if stream.crop else "FAST_BILINEAR"  # what networks see is averaged; the rest may be coarser
    resized = reformatter.reformat(frame, width=width, height=height, format="rgb24", interpolation=smooth)
    pixels: Any = resized.to_ndarray()
    if stream.crop is not None:
        top, left = (height - stream.crop) // 2, (width - stream.crop) // 2
        pixels = pixels[top : top + stream.crop, left : left + stream.crop]
    quarter_turns = round(frame.rotation / 90) % 4 if frame.rotation else 0
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns)) if quarter_turns else np.ascontiguousarray(pixels)


class _Sound:
    """Resamples one audio stream to one rate, on the presentation's clock, and hands it on in batches."""

    def __init__(self, stream: SoundStream, consumers: list[Consumer]) -> None:
        self.rate = stream.rate
        self.consumers = consumers
        self.resampler: av.AudioResampler | None = None
        self.setup: tuple[str, str, int] | None = None  # what the resampler was made for
        self.blocks: list[npt.NDArray[np.float32]] = []
        self.pending = 0
        self.clock: float | None = None  # time of the next sample
        self.batch_start = 0.0

    def take(self, frame: av.AudioFrame, seconds: float | None) -> None:
        if self.clock is None:
            self.clock = self.batch_start = max(0.0, seconds or 0.0)
        elif seconds is not None and 0.05 < seconds - self.clock < 3600:
            self._push(np.zeros(int((seconds - self.clock) * self.rate), np.float32))
        frame.pts = None
        setup = (frame.format.name, frame.layout.name, frame.sample_rate)
        if setup != self.setup:  # broadcasts turn from stereo to mono midway, and a resampler takes one kind only
            self._drain()
            self.resampler = av.AudioResampler(format="flt", layout="mono", rate=self.rate)
            self.setup = setup
        assert self.resampler is not None
        for resampled in self.resampler.resample(frame):
            self._push(resampled.to_ndarray().reshape(-1))

    def _drain(self) -> None:
        """Hand on what the resampler still holds."""
        if self.resampler is not None:
            try:
                for resampled in self.resampler.resample(None):
                    self._push(resampled.to_ndarray().reshape(-1))
            except (av.error.FFmpegError, ValueError):
                pass  # nothing was buffered

    def _push(self, samples: npt.NDArray[np.float32]) -> None:
        assert self.clock is not None
        self.blocks.append(samples)
        self.pending += len(samples)
        self.clock += len(samples) / self.rate
        if self.pending >= _SOUND_SECONDS_A_BATCH * self.rate:
            self._emit()

    def _emit(self) -> None:
        samples = np.nan_to_num(np.concatenate(self.blocks).astype(np.float32, copy=False)).clip(-1, 1)
        batch = SoundBatch(samples, self.batch_start, self.rate)
        self.blocks, self.pending = [], 0
        self.batch_start = batch.start_seconds + len(batch.samples) / self.rate
        for consumer in self.consumers:
            consumer(batch)

    def flush(self) -> None:
        self._drain()
        if self.pending:
            self._emit()


def _packets(container: av.container.InputContainer, streams: list[Any], found: Decoded) -> Iterator[av.Packet]:
    """Packets until the end; a damaged stretch is stepped over and counted."""
    demuxer = container.demux(streams)
    in_a_row = 0
    while in_a_row < _MOST_PACKET_ERRORS_IN_A_ROW:
        try:
            packet = next(demuxer)
        except (StopIteration, av.error.EOFError):
            return
        except av.error.FFmpegError:
            found.packet_errors += 1
            in_a_row += 1
            demuxer = container.demux(streams)
            continue
        in_a_row = 0
        yield packet
    found.notices.append(
        Notice("", f"gave up after {_MOST_PACKET_ERRORS_IN_A_ROW} unreadable packets in a row", lost=True)
    )


class _Pass:
    """State of one pass over one open file."""

    def __init__(self, container: av.container.InputContainer, wants: Mapping[Stream, list[Consumer]], limits: Limits):
        self.found = Decoded()
        self.limits = limits
        self.start = (container.start_time or 0) / av.time_base
        self.frames = [_Frames(s, c) for s, c in wants.items() if isinstance(s, FrameStream)]
        self.sounds = [_Sound(s, c) for s, c in wants.items() if isinstance(s, SoundStream)]
        self.cues: dict[int, list[Cue]] = {}  # of embedded subtitles, by stream
        self._ticks: dict[Any, float] = {}
        video, audio = best_stream(container, "video"), best_stream(container, "audio")
        self.found.has_video, self.found.has_audio = video is not None, audio is not None
        self.streams: list[Any] = []
        if video is not None and self.frames:
            self.streams.append(video)
        if audio is not None and self.sounds:
            self.streams.append(audio)
        self.wants_subtitles = any(isinstance(s, SubtitleStream) for s in wants)
        if self.wants_subtitles:
            self.streams += [s for s in container.streams.subtitles if s.codec_context is not None]

    def video(self, frame: av.VideoFrame) -> None:
        if frame.width * frame.height > self.limits.pixels:
            raise LimitError(
                f"a frame of {frame.width}x{frame.height}; at most {self.limits.pixels} pixels are decoded"
            )
        length = 0.0
        tick = self._tick(frame)
        if frame.duration:
            length = frame.duration * tick
        if frame.pts is None or not tick:
            seconds = self.found.picture_end  # no timestamp at all: it follows the one before
        else:
            seconds = frame.pts * tick - self.start
        self.found.picture_end = self._end(self.found.picture_end, seconds, length if 0 < length < 60 else 0.0)
        self.found.frames += 1
        if seconds < 0:
            return
        for chooser in self.frames:
            if chooser.wants(seconds):
                chooser.take(frame, seconds)

    def audio(self, frame: av.AudioFrame) -> None:
        tick = self._tick(frame)
        seconds = None if frame.pts is None or not tick else frame.pts * tick - self.start
        length = frame.samples / frame.sample_rate
        begin = seconds if seconds is not None else self.found.sound_seconds
        self.found.sound_end = self._end(self.found.sound_end, begin, length)
        self.found.sound_seconds += length
        for sound in self.sounds:
            sound.take(frame, seconds)

    def _tick(self, frame: av.VideoFrame | av.AudioFrame) -> float:
        """Seconds of one unit of a stream's clock, asked once: fractions a frame would cost as much as resizing."""
        kind = type(frame)
        if not self._ticks.get(kind):
            self._ticks[kind] = float(frame.time_base or 0)
        return self._ticks[kind]

    def _end(self, known: float, seconds: float, length: float) -> float:
        if seconds + length > self.limits.duration_seconds:
            raise LimitError(f"timestamps reach {seconds:.0f} s; at most {self.limits.duration_seconds:.0f} s are read")
        return max(known, seconds + length)

    def subtitle(self, packet: av.Packet) -> None:
        if packet.pts is None or packet.time_base is None:
            return
        begin = float(packet.pts * packet.time_base) - self.start
        length = float((packet.duration or 0) * packet.time_base)
        decoded: Any = packet.decode()  # type: ignore[unused-ignore]
        for piece in decoded:
            raw = getattr(piece, "ass", None) or getattr(piece, "text", None) or b""
            raw = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
            fields = raw.split(",", 8)  # an event as FFmpeg writes one, whatever the file holds
            said = ass_words(fields[8]) if len(fields) == 9 else raw
            if words := tuple(plain for line in said.split("\n") if (plain := plain_text(line))):
                cue = Cue(words, max(0.0, begin), max(0.0, begin + (length or 1.0)))
                self.cues.setdefault(packet.stream.index, []).append(cue)

    def lines(self) -> list[Subtitle]:
        """Embedded lines in order of time, each once."""
        cues = [cue for stream in self.cues.values() for cue in without_rolling(stream)]
        lines = {Subtitle(" ".join(cue.lines), cue.start, cue.end, "embedded") for cue in cues}
        return sorted(lines, key=lambda line: (line.start_seconds, line.end_seconds, line.text))

    def packet(self, packet: av.Packet) -> None:
        if packet.stream.type == "subtitle":
            self.subtitle(packet)
            return
        for frame in packet.decode():
            if isinstance(frame, av.VideoFrame):
                self.video(frame)
            elif isinstance(frame, av.AudioFrame):
                self.audio(frame)


def decode(
    path: Path,
    wants: Mapping[Stream, list[Consumer]],
    *,
    limits: Limits | None = None,
    threads: int = 1,
    copies: Sequence[Path] = (),
) -> Decoded:
    """Decode a file once and feed its frames, sound and subtitles to the consumers of each stream.

    Args:
        path: a local media file.
        wants: consumers by what they ask for. A consumer of a FrameStream is called with FrameBatch, of a SoundStream
            with SoundBatch, of the SubtitleStream once with a list of Subtitle (before all else if they lie beside the
            file); not at all where there is nothing.
        limits: what the file may cost.
        threads: FFmpeg threads for video.
        copies: other files of the same bytes, beside which subtitles may lie too.

    Raises:
        DecodeError: it cannot be opened, or not a single frame or sample could be decoded.
        LimitError: it costs more than allowed.
    """
    limits = limits or Limits()
    with open_media(path, limits) as container:
        run = _Pass(container, wants, limits)
        deadline = time.monotonic() + limits.wall_seconds(None)
        for stream in run.streams:
            if stream.type == "video":
                stream.thread_type = "AUTO"
                stream.codec_context.thread_count = threads
        _sidecar(path, copies, wants, run, container.duration)
        for packet in _packets(container, run.streams, run.found) if run.streams else ():
            if time.monotonic() > deadline:
                raise LimitError(f"{str(path)!r}: decoding took more than {limits.wall_seconds(None):.0f} s")
            try:
                run.packet(packet)
            except (av.error.FFmpegError, UnicodeDecodeError):
                run.found.packet_errors += 1
        for chooser in run.frames:
            chooser.flush()
        for sound in run.sounds:
            sound.flush()
    asked = bool(run.frames and run.found.has_video) or bool(run.sounds and run.found.has_audio)
    if asked and run.found.frames == 0 and run.found.sound_seconds == 0:
        raise DecodeError(
            f"{str(path)!r}: not one frame or sample could be decoded ({run.found.packet_errors} damaged packets)"
        )
    _tell(wants, run.lines())
    return run.found


def _sidecar(
    path: Path, copies: Sequence[Path], wants: Mapping[Stream, list[Consumer]], run: _Pass, duration: int | None
) -> None:
    """Subtitles beside the file come first and stand for the embedded ones."""
    if run.wants_subtitles:
        beside, notices = sidecar_subtitles(path, copies, duration=duration / av.time_base if duration else None)
        run.found.notices += notices
        if beside:
            run.streams = [s for s in run.streams if s.type != "subtitle"]
            _tell(wants, beside)


def _tell(wants: Mapping[Stream, list[Consumer]], lines: list[Subtitle]) -> None:
    for stream, consumers in wants.items():
        if isinstance(stream, SubtitleStream) and lines:
            for consumer in consumers:
                consumer(lines)


def read_frames(path: Path, stream: FrameStream, *, limits: Limits | None = None) -> Iterable[FrameBatch]:
    """All batches of one stream of frames, in memory: for short files, tests and notebooks."""
    batches: list[FrameBatch] = []
    decode(path, {stream: [batches.append]}, limits=limits)
    return batches


def read_sound(path: Path, *, rate: int = 16_000, limits: Limits | None = None) -> SoundBatch:
    """The whole sound of a file, in memory; empty where it has none."""
    batches: list[SoundBatch] = []
    decode(path, {SoundStream(rate): [batches.append]}, limits=limits)
    if not batches:
        return SoundBatch(np.zeros(0, np.float32), 0.0, rate)
    return SoundBatch(np.concatenate([batch.samples for batch in batches]), batches[0].start_seconds, rate)
