"""Packets of a file from a moment on, copied as they are into another file; each is written before the next is read."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from reelseek.errors import DecodeError
from reelseek.media.clock import Clock, clock_of, read_packets
from reelseek.media.container import best_stream, has_no_times

__all__ = ["PacketCopy"]

_BEFORE_SECONDS = 30.0  # of a file without pictures; where a format cannot be entered in the middle


class PacketCopy:
    """The pictures and the sound of a file from a moment on, from the last key frame at or before it.

    Args:
        media: the open file.
        source: its path.
        start, end: seconds of the presentation.

    Attributes:
        streams: that are copied.
        begin: seconds at which the first picture, or the first sound where there are none, is shown.

    Raises:
        DecodeError: packets cannot be copied: the file's times start again, or there is no key frame.
    """

    def __init__(self, media: Any, source: Path, start: float, end: float = math.inf) -> None:
        self._media, self._clock = media, clock_of(source, media)
        if self._clock.joined or has_no_times(media):
            raise DecodeError("its times start again, or it has none")
        self._video = best_stream(media, "video")
        self.streams = [stream for stream in (self._video, best_stream(media, "audio")) if stream is not None]
        if not self.streams:
            raise DecodeError("it has neither pictures nor sound")
        self._start, self._end = start, end
        self.begin = self._find_begin()

    def copy(self, path: Path, end: float | None = None, container: str | None = None) -> None:
        """Write the packets into a file, whose times begin at 0.

        Args:
            end: seconds of the presentation; None is that of the whole copy.
            container: format of the file; None goes by its ending.

        Raises:
            DecodeError: the source ends before the start; there is no file then.
            av.error.FFmpegError, ValueError: the format does not take these streams.
        """
        try:
            with av.open(str(path), "w", format=container) as out:
                outputs = {stream.index: out.add_stream_from_template(stream) for stream in self.streams}
                last = -math.inf
                for packet in self._packets(self._end if end is None else end):
                    last = max(last, _shown_at(packet, self._clock) + _length(packet))
                    shift = round((self.begin + self._clock.start) / float(packet.time_base))
                    packet.pts -= shift
                    packet.dts = packet.dts - shift if packet.dts is not None else None
                    packet.stream = outputs[packet.stream_index]
                    out.mux(packet)  # holds some seconds of each stream, to write them in the order of time
            if end is None and last <= self._start:
                raise DecodeError(f"it ends before {self._start:g} s")
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _find_begin(self) -> float:
        """When the last key frame at or before the start is shown, or the first sound where there are no pictures."""
        first: dict[int, Any] = {}
        key_frame: float | None = None
        earliest = math.inf
        for packet in self._read(self._end):
            shown_at = _shown_at(packet, self._clock)
            if packet.stream.type == "video":
                if packet.is_keyframe and shown_at <= self._start + 1e-6:
                    key_frame = shown_at
            else:
                earliest = min(earliest, shown_at)
            first.setdefault(packet.stream_index, packet)
            leads = self._video is None or packet.stream.type == "video"  # sound may lie far ahead of pictures
            if leads and len(first) == len(self.streams) and _decoded_at(packet, self._clock) > self._start + 1:
                break  # what is shown at the start has been decoded by now
        if key_frame is not None:
            return key_frame
        if self._video is not None and self._video.index in first:
            leading = first[self._video.index]
            if not leading.is_keyframe:
                raise DecodeError("there is no key frame before the moment")
            return _shown_at(leading, self._clock)
        if not first:
            raise DecodeError(f"it ends before {self._start:g} s")
        return earliest

    def _packets(self, end: float) -> Iterator[av.Packet]:
        """Those that are copied: of pictures from its key frame on, of sound from its first second on."""
        begun = False
        for packet in self._read(end):
            shown_at = _shown_at(packet, self._clock)
            if packet.stream.type == "video":
                begun = begun or (packet.is_keyframe and shown_at == self.begin)
                if begun:
                    yield packet
            elif shown_at >= self.begin:
                yield packet

    def _read(self, end: float) -> Iterator[av.Packet]:
        """Packets from the start on that are decoded before the end, in the order of the file."""
        self._media.seek(int(self._clock.container_seconds(self._start) * av.time_base), backward=True)
        ended: set[int] = set()
        for packet in read_packets(self._media, self.streams, self._clock, lambda _: None):
            if packet.pts is None or not packet.time_base or packet.size == 0:
                continue
            if _decoded_at(packet, self._clock) >= end:
                ended.add(packet.stream_index)
                if len(ended) == len(self.streams):
                    return
                continue
            shown_until = _shown_at(packet, self._clock) + _length(packet)
            if self._video is not None or shown_until > self._start - _BEFORE_SECONDS:
                yield packet


def _shown_at(packet: av.Packet, clock: Clock) -> float:
    return float(packet.pts * packet.time_base) - clock.start


def _decoded_at(packet: av.Packet, clock: Clock) -> float:
    return float((packet.pts if packet.dts is None else packet.dts) * packet.time_base) - clock.start


def _length(packet: av.Packet) -> float:
    return float((packet.duration or 0) * packet.time_base)
