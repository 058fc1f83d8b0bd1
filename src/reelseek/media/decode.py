"""One sequential pass over a file that feeds every stream its consumers asked for.

Frames are chosen by their own timestamps, packet errors are survived and counted, and all times are seconds from the
start of the presentation, which is what a player's clock shows.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from reelseek.errors import DecodeError, LimitError
from reelseek.media.clock import Clock, StreamTime, clock_of, read_packets
from reelseek.media.container import Limits, best_stream, open_media, open_with_threads
from reelseek.media.cues import Cue, without_rolling
from reelseek.media.markup import ass_words, plain_text
from reelseek.media.notice import Notice
from reelseek.media.selection import passed_over
from reelseek.media.sound import MonoSound
from reelseek.media.streams import FrameBatch, FrameStream, SoundBatch, SoundStream, Stream, Subtitle, SubtitleStream
from reelseek.media.subtitles import sidecar_subtitles
from reelseek.media.upright import Upright

__all__ = ["Decoded", "decode", "read_frames", "read_sound"]

Batch = FrameBatch | SoundBatch | list[Subtitle]
Consumer = Callable[[Any], None]
Needed = Callable[[float], bool]

_FRAMES_PER_BATCH = 16
_OUT_OF_ORDER = 0.5  # seconds by which a frame may lie behind the one before
_DECLARED_WITHIN = 1.0  # seconds before the end that a stream of sound declares, at which it may be over
_INTERLEAVED_WITHIN = 10.0  # seconds by which pictures may run ahead of sound that still comes


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
    """Selects frames for one stream and passes them to its consumers in batches, black where no picture is needed."""

    def __init__(self, stream: FrameStream, consumers: list[Consumer], needed: Needed) -> None:
        self.stream = stream
        self.consumers = consumers
        self.needed = needed
        self.blank = False  # the batch that is being gathered
        self.reformatter = VideoReformatter()  # reused: a new one would build its tables again
        self.next_cell = -math.inf
        self.pixels: list[npt.NDArray[np.uint8]] = []
        self.seconds: list[float] = []

    def wants(self, seconds: float) -> bool:
        return seconds >= self.next_cell

    def wants_picture(self, seconds: float) -> bool:
        """Whether the frame at a time, which is wanted, is needed with its picture."""
        return not self.blank if self.pixels else self.needed(seconds)

    def is_past(self, seconds: float) -> bool:
        """Whether every batch that begins before a time was handed on."""
        return self.next_cell > seconds and (not self.pixels or self.seconds[0] >= seconds)

    def take(self, frame: av.VideoFrame, shown: av.VideoFrame | None, seconds: float, upright: Upright) -> None:
        """Add a frame: `shown` is its picture for the screen, `frame` tells its orientation."""
        self.next_cell = (math.floor(seconds * self.stream.fps + 1e-6) + 1) / self.stream.fps - 1e-9
        laid, size = upright.orientation(frame), upright.display_size(frame)
        shape = self._shape(*size, transposed=laid.transposed)
        if self.pixels and shape != self.pixels[0].shape:
            self.flush()  # the picture's size may change in mid-stream
        if not self.pixels:
            self.blank = not self.needed(seconds)
        if self.blank:
            pixels: npt.NDArray[np.uint8] = np.broadcast_to(np.uint8(0), shape)  # which takes no memory
        else:
            pixels = laid.apply(self._sized(upright.shown(frame) if shown is None else shown, *size))
        self.pixels.append(pixels)
        self.seconds.append(seconds)
        if len(self.pixels) == _FRAMES_PER_BATCH:
            self.flush()

    def _shape(self, width: int, height: int, *, transposed: bool) -> tuple[int, int, int]:
        """Shape of a picture as consumers get it, of a frame of that size."""
        width, height = self.stream.size(width, height)
        crop = self.stream.crop
        return (crop, crop, 3) if crop is not None else (width, height, 3) if transposed else (height, width, 3)

    def _sized(self, shown: av.VideoFrame, width: int, height: int) -> npt.NDArray[np.uint8]:
        """RGB of a picture of that size, resized and cropped as the stream says."""
        crop = self.stream.crop
        width, height = self.stream.size(width, height)
        smooth = "BILINEAR" if crop else "FAST_BILINEAR"  # what networks see is averaged; the rest may be coarser
        resized = self.reformatter.reformat(shown, width, height, "rgb24", interpolation=smooth, threads=1)
        pixels: npt.NDArray[Any] = resized.to_ndarray()
        if crop is not None:
            y, x = (height - crop) // 2, (width - crop) // 2
            pixels = pixels[y : y + crop, x : x + crop]
        return pixels

    def flush(self) -> None:
        if self.pixels:
            seconds = np.array(self.seconds)
            cells = np.floor(seconds * self.stream.fps + 1e-6) / self.stream.fps
            shape = (len(seconds), *self.pixels[0].shape)
            pixels = np.broadcast_to(np.uint8(0), shape) if self.blank else np.stack(self.pixels)
            batch = FrameBatch(pixels, seconds, cells)
            self.pixels, self.seconds = [], []
            for consumer in self.consumers:
                consumer(batch)


def _declared_end(stream: Any, clock: Clock) -> float:
    """Where a stream says that it ends, in seconds of the presentation; infinite where it does not say."""
    if stream is None or clock.joined or not stream.duration or not stream.time_base:
        return math.inf
    return clock.seconds((stream.start_time or 0) + stream.duration, float(stream.time_base))


class _Pass:
    """State of one pass over one open file."""

    def __init__(
        self,
        container: av.container.InputContainer,
        clock: Clock,
        wants: Mapping[Stream, list[Consumer]],
        limits: Limits,
        needed: Mapping[Stream, Needed],
        short_side: int,
    ) -> None:
        self.decoded = Decoded()
        self.limits, self.clock = limits, clock
        self.frames = [
            _Frames(s, c, needed.get(s, lambda _: True)) for s, c in wants.items() if isinstance(s, FrameStream)
        ]
        self.sounds = [MonoSound(s, c) for s, c in wants.items() if isinstance(s, SoundStream)]
        self.cues: dict[int, list[Cue]] = {}  # of embedded subtitles, by stream
        self.out_of_order = 0
        self.packets: Counter[int] = Counter()  # of each stream
        video, audio = best_stream(container, "video"), best_stream(container, "audio")
        self.decoded.has_video, self.decoded.has_audio = video is not None, audio is not None
        self.streams: list[Any] = []
        if video is not None and self.frames:
            self.streams.append(video)
            self.picture_time = StreamTime(clock, video)
            self.upright = Upright(video, max(short_side, *(chooser.stream.short_side for chooser in self.frames)))
        if audio is not None and self.sounds:
            self.streams.append(audio)
            self.sound_time = StreamTime(clock, audio)
        self.declared_sound_end = _declared_end(audio, clock)
        self.wants_subtitles = any(isinstance(s, SubtitleStream) for s in wants)
        if self.wants_subtitles:
            self.streams += [s for s in container.streams.subtitles if s.codec_context is not None]

    def video(self, frame: av.VideoFrame) -> None:
        if frame.width * frame.height > self.limits.pixels:
            raise LimitError(
                f"a frame of {frame.width}x{frame.height}; at most {self.limits.pixels} pixels are decoded"
            )
        begin, length = self.picture_time.span(frame)
        seconds = self.decoded.picture_end if begin is None else begin
        self.out_of_order += seconds + length < self.decoded.picture_end - _OUT_OF_ORDER
        self.decoded.picture_end = self._end(self.decoded.picture_end, seconds, length)
        self.decoded.frames += 1
        if seconds < 0:
            return
        takers = [chooser for chooser in self.frames if chooser.wants(seconds)]
        if takers:
            needed = any(chooser.wants_picture(seconds) for chooser in takers)
            shown = self.upright.shown(frame) if needed else None
            if shown is None:
                self.upright.pass_over(frame)
            for chooser in takers:
                chooser.take(frame, shown, seconds, self.upright)

    def audio(self, frame: av.AudioFrame) -> None:
        seconds, length = self.sound_time.span(frame)
        begin = self.decoded.sound_end if seconds is None else seconds
        self.decoded.sound_end = self._end(self.decoded.sound_end, begin, length)
        self.decoded.sound_seconds += length
        for sound in self.sounds:
            sound.take(frame, seconds)

    def _end(self, end: float, seconds: float, length: float) -> float:
        """The later of the end so far and a frame's end."""
        if seconds + length > self.limits.duration_seconds:
            raise LimitError(f"timestamps reach {seconds:.0f} s; at most {self.limits.duration_seconds:.0f} s are read")
        return max(end, seconds + length)

    def damaged(self, message: str) -> None:
        """Count an unreadable packet, or note why reading was given up."""
        if message:
            self.decoded.notices.append(Notice("", message, lost=True))
        else:
            self.decoded.packet_errors += 1

    def is_past(self, seconds: float) -> bool:
        """Whether every batch that begins before a time was handed on."""
        if math.isinf(seconds) or self.wants_subtitles:
            return False
        frames = self.frames if self.decoded.has_video else []
        sounds = self.sounds if self.decoded.has_audio and not self._is_sound_over() else []
        return all(chooser.is_past(seconds) for chooser in frames) and all(sound.is_past(seconds) for sound in sounds)

    def _is_sound_over(self) -> bool:
        """Whether the sound has come to the end that its stream declares, and pictures are well past it."""
        sound_end = self.decoded.sound_end
        declared = sound_end >= self.declared_sound_end - _DECLARED_WITHIN
        return declared and self.decoded.picture_end >= sound_end + _INTERLEAVED_WITHIN

    def end_early(self, seconds: float) -> Decoded:
        """Leave what lies after a time, and what was noted so far, to a pass over the whole file."""
        for sound in self.sounds:
            if not sound.is_past(seconds):  # it ended before, so that nothing comes that would hand its rest on
                sound.flush()
        self.decoded.notices, self.decoded.packet_errors = [], 0
        return self.decoded

    def finish(self) -> None:
        """Flush the batches, and note what was guessed, repaired or left out."""
        for chooser in self.frames:
            chooser.flush()
        for sound in self.sounds:
            sound.flush()
            self.decoded.notices += [notice for notice in sound.notices if notice not in self.decoded.notices]
        if self.clock.joined and self.streams:
            places = ", ".join(f"{seconds:.1f}" for seconds in self.clock.breaks[:5])
            more = ", ..." if len(self.clock.breaks) > 5 else ""
            message = f"the times start again or jump at {places}{more} s; the parts were laid one after the other"
            self.decoded.notices.append(Notice("", message))
        if self.decoded.frames:
            self.decoded.notices += self.upright.notices()
        for stream in self.streams:
            amount = {"video": self.decoded.frames, "audio": self.decoded.sound_seconds}.get(stream.type, 1)
            if not amount:
                packets = self.packets[stream.index]
                reason = "cannot be decoded (no packet yields anything)" if packets else "is empty"
                message = f"{stream.type} stream {stream.index} {reason}"
                self.decoded.notices.append(Notice("", message, lost=packets > 0))
        if self.out_of_order:
            message = f"{self.out_of_order} frames lie before others that came earlier in the file; they were left out"
            self.decoded.notices.append(Notice("", message, lost=True))

    def subtitle(self, packet: av.Packet) -> None:
        if packet.pts is None or packet.time_base is None:
            return
        begin = self.clock.seconds(packet.pts, float(packet.time_base))
        length = float((packet.duration or 0) * packet.time_base)
        pieces: Any = packet.decode()  # type: ignore[unused-ignore]
        for piece in pieces:
            raw = getattr(piece, "ass", None) or getattr(piece, "text", None) or b""
            raw = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
            fields = raw.split(",", 8)  # an event as FFmpeg writes one, whatever the file holds
            text = ass_words(fields[8]) if len(fields) == 9 else raw
            if words := tuple(plain for line in text.split("\n") if (plain := plain_text(line))):
                cue = Cue(words, max(0.0, begin), max(0.0, begin + (length or 1.0)))
                self.cues.setdefault(packet.stream.index, []).append(cue)

    def lines(self) -> list[Subtitle]:
        """Embedded lines in order of time, each once."""
        cues = [cue for stream in self.cues.values() for cue in without_rolling(stream)]
        lines = {Subtitle(" ".join(cue.lines), cue.start, cue.end, "embedded") for cue in cues}
        return sorted(lines, key=lambda line: (line.start_seconds, line.end_seconds, line.text))

    def packet(self, packet: av.Packet) -> None:
        self.packets[packet.stream_index] += bool(packet.size) or packet.dts is not None  # the last one ends the stream
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
    needed: Mapping[Stream, Needed] | None = None,
    short_side: int = 0,
    until_seconds: float = math.inf,
) -> Decoded:
    """Decode a file once and feed its frames, sound and subtitles to the consumers of each stream.

    Args:
        path: a local media file.
        wants: consumers by requested stream. A consumer of a FrameStream is called with FrameBatch, of a SoundStream
            with SoundBatch, of the SubtitleStream once with a list of Subtitle (before all else if they lie beside the
            file); not at all where there is nothing.
        limits: what the file may cost.
        threads: FFmpeg threads for video, 0 for one a core; one only where the system refuses more.
        copies: other files of the same bytes, beside which subtitles may lie too.
        needed: of a stream of frames, whether anybody looks at the batch that begins at a time; the others are black.
        short_side: of the largest picture that any pass over this file asks for, by which colours of high dynamic range
            are computed; by default of those that this one asks for.
        until_seconds: where frames and samples are of no use any more. A pass that ends there notes nothing.

    Raises:
        DecodeError: it cannot be opened, or not a single frame or sample could be decoded.
        LimitError: it costs more than allowed.
    """
    limits = limits or Limits()
    with open_media(path, limits) as container:
        run = _Pass(container, clock_of(path, container), wants, limits, needed or {}, short_side)
        run.decoded.notices += passed_over(container)
        deadline = time.monotonic() + limits.wall_seconds(None)
        for stream in run.streams:
            if stream.type == "video" and threads != 1:
                open_with_threads(stream.codec_context, threads)
        _sidecar(path, copies, wants, run, container.duration)
        for packet in read_packets(container, run.streams, run.clock, run.damaged) if run.streams else ():
            if time.monotonic() > deadline:
                raise LimitError(f"{str(path)!r}: decoding took more than {limits.wall_seconds(None):.0f} s")
            try:
                run.packet(packet)
            except (av.error.FFmpegError, UnicodeDecodeError):
                run.decoded.packet_errors += 1
            if run.is_past(until_seconds):
                return run.end_early(until_seconds)
        run.finish()
    requested = bool(run.frames and run.decoded.has_video) or bool(run.sounds and run.decoded.has_audio)
    if requested and run.decoded.frames == 0 and run.decoded.sound_seconds == 0:
        raise DecodeError(
            f"{str(path)!r}: not one frame or sample could be decoded ({run.decoded.packet_errors} damaged packets)"
        )
    _tell(wants, run.lines())
    return run.decoded


def _sidecar(
    path: Path, copies: Sequence[Path], wants: Mapping[Stream, list[Consumer]], run: _Pass, duration: int | None
) -> None:
    """Subtitles beside the file come first and stand for the embedded ones."""
    if run.wants_subtitles:
        beside, notices = sidecar_subtitles(path, copies, duration=duration / av.time_base if duration else None)
        run.decoded.notices += notices
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
    """The whole sound of a file, holes as silence, in memory; empty where it has none."""
    batches: list[SoundBatch] = []
    decode(path, {SoundStream(rate): [batches.append]}, limits=limits)
    if not batches:
        return SoundBatch(np.zeros(0, np.float32), 0.0, rate)
    start, pieces, end = batches[0].start_seconds, [], batches[0].start_seconds
    for batch in batches:
        pieces += [np.zeros(max(0, round((batch.start_seconds - end) * rate)), np.float32), batch.samples]
        end = batch.start_seconds + len(batch.samples) / rate
    return SoundBatch(np.concatenate(pieces), start, rate)
