"""One clock for a file: what the times of its container mean, in seconds from the start of the presentation.

Everything that shows or measures a moment goes by it: frames, sound, subtitles, pictures of a place, copies for
browsers. A container may start anywhere (a recording at its hour, a cut at its place in the film). A transport or
program stream may also start again in the middle, since such files can be joined by appending one to another; its
parts then follow one another, and all streams of a part are shifted by the same amount.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import av.error

from reelseek.media.container import Limits, best_stream, declared_duration, has_no_times, may_restart, open_media

__all__ = ["Clock", "StreamTime", "clock_of", "rate_of", "read_packets", "scans_reported"]

_BACK = 0.2  # seconds by which a stream's decoding times may go back and still be of the same part
_AHEAD = 10.0  # seconds by which they may run ahead of everything else of the part
_MOST_PACKET_ERRORS_IN_A_ROW = 500
_REPORTED_PACKETS = 1000  # after which a scan says how far it is
_scan_report: ContextVar[Callable[[float], None]] = ContextVar("scan_report", default=lambda share: None)


@dataclass
class _Part:
    """A stretch of the file on one clock, in the container's own seconds."""

    first: float
    latest: float
    end: float


@dataclass
class _Parts:
    """Tells which part of a joined file a packet belongs to; the same packets always give the same answer."""

    parts: list[_Part] = field(default_factory=list)
    _current: dict[int, int] = field(default_factory=dict)
    _last: dict[int, float] = field(default_factory=dict)
    _ticks: dict[int, tuple[int, int]] = field(default_factory=dict)

    def place(self, packet: av.Packet) -> int:
        """The number of the packet's part; packets without times stay in their stream's part."""
        index = packet.stream_index
        current = self._current.get(index, 0)
        ticks = packet.pts if packet.dts is None else packet.dts
        # Products of fractions are exact, too, and cost most of a scan; the quotient of integers is rounded as theirs.
        numerator, denominator = self._ticks.get(index) or self._tick(packet)
        if ticks is None or not numerator:
            return current
        seconds = shown = ticks * numerator / denominator
        if packet.pts is not None:
            shown = packet.pts * numerator / denominator
            if abs(shown - seconds) > _AHEAD:  # the last of a part, with a time made up from the next part's
                packet.pts = ticks + (packet.duration or 0)
                shown = packet.pts * numerator / denominator
        leads = packet.stream.type in ("video", "audio")
        number = self._fitting(index, current, seconds)
        if leads and (number is None or not self.parts):
            self.parts.append(_Part(shown, seconds, shown))
            number = len(self.parts) - 1
        number = current if number is None else number
        self._current[index], self._last[index] = number, seconds
        if leads:
            part = self.parts[number]
            part.latest = max(part.latest, seconds)
            if packet.pts is not None:
                part.first = min(part.first, shown)
                part.end = max(part.end, shown + (packet.duration or 0) * numerator / denominator)
        return number

    def _tick(self, packet: av.Packet) -> tuple[int, int]:
        """Seconds of a tick of the packet's stream, as a fraction; 0 where it has none."""
        base = packet.time_base or Fraction(0)
        self._ticks[packet.stream_index] = base.numerator, base.denominator
        return self._ticks[packet.stream_index]

    def _fitting(self, index: int, current: int, seconds: float) -> int | None:
        """Of the parts a stream can be in now, the one whose latest time is nearest."""
        fits: list[tuple[float, int]] = []
        for number in range(max(current, len(self.parts) - 2), len(self.parts)):
            distance = seconds - self.parts[number].latest
            last = self._last.get(index) if number == current else None
            early = seconds < last - _BACK if last is not None else distance < -_AHEAD
            if not early and distance <= _AHEAD:
                fits.append((abs(distance), -number))
        return -min(fits)[1] if fits else None


@dataclass(frozen=True)
class Clock:
    """Maps a container's times to seconds from the start of the presentation.

    Args:
        start: the container's own time, in seconds, at which the presentation starts.
        duration: seconds from the start of the presentation to its end, where that is known without decoding.
        shifts: seconds added to the times of each part of a joined file, the first one's being 0; empty where the file
            is of one piece.
        breaks: seconds at which a new part starts.
    """

    start: float
    duration: float | None
    shifts: tuple[float, ...] = ()
    breaks: tuple[float, ...] = ()

    @property
    def joined(self) -> bool:
        """Whether the file's times start again or jump in the middle."""
        return len(self.shifts) > 1

    def seconds(self, pts: int, tick: float) -> float:
        """Where `pts` ticks of `tick` seconds lie in the presentation."""
        return pts * tick - self.start

    def container_seconds(self, seconds: float) -> float:
        """The container's own time of a place in the presentation, for seeking; not for joined files."""
        return seconds + self.start


class StreamTime:
    """Times of one stream's frames, also of those without: they follow the one before at the stream's own rate."""

    def __init__(self, clock: Clock, stream: Any) -> None:
        self._clock = clock
        # Raw streams of pictures have no times; FFmpeg makes some up for a few, in the order of coding.
        self._untimed = stream.type == "video" and has_no_times(stream.container)
        self._tick = 0.0
        rate = (stream.average_rate or stream.guessed_rate) if stream.type == "video" else None
        self._frame_seconds = float(1 / rate) if rate else 0.0
        self.end = 0.0

    def span(self, frame: av.VideoFrame | av.AudioFrame) -> tuple[float | None, float]:
        """Start (None without a timestamp: it follows at `end`) and length of a frame in seconds."""
        if not self._tick:  # once: a fraction per frame would cost as much as resizing
            self._tick = float(frame.time_base or 0)
        timed = frame.pts is not None and self._tick and not self._untimed
        if isinstance(frame, av.AudioFrame):
            length = frame.samples / frame.sample_rate
        else:
            length = (frame.duration or 0) * self._tick
            length = length if 0 < length < 60 else 0.0
            if not length and not timed:
                length = self._frame_seconds
        return (self._clock.seconds(frame.pts, self._tick) if timed and frame.pts is not None else None), length


def read_packets(
    container: av.container.InputContainer,
    streams: Sequence[Any],
    clock: Clock,
    damaged: Callable[[str], None],
) -> Iterator[av.Packet]:
    """Read the packets of streams until the end, joined files on one clock; damaged stretches are skipped.

    Args:
        streams: whose packets are returned.
        clock: of this file.
        damaged: called with an empty text for every unreadable packet, and with a sentence when reading is given up.
    """
    selected = {stream.index for stream in streams}
    leading = _leading(container) if clock.joined else []
    parts = _Parts()
    for packet in _demuxed(container, [*streams, *(s for s in leading if s.index not in selected)], damaged):
        if clock.joined:
            shift = clock.shifts[min(parts.place(packet), len(clock.shifts) - 1)]
            if shift and packet.time_base:
                ticks = round(shift / float(packet.time_base))
                packet.pts = None if packet.pts is None else packet.pts + ticks
                packet.dts = None if packet.dts is None else packet.dts + ticks
            if packet.stream_index not in selected:
                continue
        yield packet


def _demuxed(
    container: av.container.InputContainer, streams: list[Any], damaged: Callable[[str], None]
) -> Iterator[av.Packet]:
    demuxer = container.demux(streams)
    in_a_row = 0
    while in_a_row < _MOST_PACKET_ERRORS_IN_A_ROW:
        try:
            packet = next(demuxer)
        except (StopIteration, av.error.EOFError):
            return
        except av.error.FFmpegError:
            damaged("")
            in_a_row += 1
            demuxer = container.demux(streams)
            continue
        in_a_row = 0
        yield packet
    damaged(f"gave up after {_MOST_PACKET_ERRORS_IN_A_ROW} unreadable packets in a row")


def _leading(container: av.container.InputContainer) -> list[Any]:
    """The streams whose times decide where a part of a joined file ends."""
    return [s for s in (best_stream(container, "video"), best_stream(container, "audio")) if s is not None]


def clock_of(path: Path, container: av.container.InputContainer) -> Clock:
    """The clock of an open file. A format whose times may start again is read through once to see whether they do."""
    start = (container.start_time or 0) / av.time_base
    if not may_restart(container):
        return Clock(start, _one_piece(container, start))
    status = path.stat()
    parts = _scan(os.fspath(path), status.st_size, status.st_mtime_ns)
    if len(parts) < 2:
        return Clock(start, parts[0].end - start if parts else _one_piece(container, start))
    shifts, ends = [0.0], [parts[0].end]
    for part in parts[1:]:
        shifts.append(ends[-1] - part.first)
        ends.append(part.end + shifts[-1])
    first = parts[0].first
    return Clock(first, ends[-1] - first, tuple(shifts), tuple(end - first for end in ends[:-1]))


def _one_piece(container: av.container.InputContainer, start: float) -> float | None:
    duration = declared_duration(container)
    if duration is not None and "matroska" in container.format.name and 0 < start < duration:
        return duration - start  # Matroska, as FFmpeg writes it, counts from 0 and not from where it starts
    return duration


@lru_cache(maxsize=64)
def _scan(path: str, size: int, modified: int) -> tuple[_Part, ...]:
    """The parts of a file, whose name, size and time say whether it is still the same."""
    parts, report = _Parts(), _scan_report.get()
    with open_media(Path(path), Limits()) as container:
        for number, packet in enumerate(_demuxed(container, _leading(container), lambda _: None)):
            parts.place(packet)
            if packet.pos and number % _REPORTED_PACKETS == 0:
                report(packet.pos / size)
    return tuple(parts.parts)


@contextmanager
def scans_reported(report: Callable[[float], None]) -> Iterator[list[float]]:
    """Report how far a file is read through where `clock_of` has to: calls with the share of its bytes.

    Yields:
        the shares so far; none where the file is not read through.
    """
    shares: list[float] = []

    def note(share: float) -> None:
        shares.append(share)
        report(share)

    before = _scan_report.set(note)
    try:
        yield shares
    finally:
        _scan_report.reset(before)


def rate_of(stream: Any) -> Fraction:
    """Frames a second of a stream of pictures; 25 where it does not say."""
    return Fraction(stream.average_rate or stream.guessed_rate or 25)
