"""A stretch of a file as a file of its own, its packets copied as they are."""

from pathlib import Path
from typing import Any

import av
import av.error

from reelseek.media.clock import clock_of
from reelseek.media.container import Limits, best_stream, has_no_times, open_media

__all__ = ["write_excerpt"]


def write_excerpt(path: Path, start_seconds: float, seconds: float, out: Path, limits: Limits | None = None) -> bool:
    """Copy the pictures and the sound of a stretch into a Matroska file that begins at 0.

    It begins with the last picture at or before `start_seconds` that can be decoded by itself.

    Returns:
        False where the file has no times to go by, or its streams cannot be copied; `out` is then of no use.
    """
    with open_media(path, limits) as media:
        clock = clock_of(path, media)
        streams = [s for s in (best_stream(media, "video"), best_stream(media, "audio")) if s is not None]
        if clock.joined or has_no_times(media):
            return False
        try:
            media.seek(int(clock.container_seconds(start_seconds) * av.time_base), backward=True)
            with av.open(str(out), "w", format="matroska") as target:
                tracks = {stream.index: target.add_stream_from_template(stream) for stream in streams}
                return _copy(media, streams, tracks, target, seconds)
        except (av.error.FFmpegError, ValueError, OverflowError):
            return False


def _copy(media: Any, streams: list[Any], tracks: dict[int, Any], target: Any, seconds: float) -> bool:
    """Copy packets from where a file stands until every stream has `seconds` of them, or the file ends."""
    begin: float | None = None
    open_streams = {stream.index for stream in streams}
    for packet in media.demux(streams):
        if packet.dts is None or not packet.time_base:
            continue
        moment = float(packet.dts * packet.time_base)
        if begin is None:
            if packet.stream.type == "audio" and len(streams) > 1:
                continue  # the excerpt begins with a picture
            begin = moment
        if moment < begin:
            continue
        if moment >= begin + seconds:
            open_streams.discard(packet.stream_index)
            if not open_streams:
                break
            continue
        shift = round(begin / float(packet.time_base))
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts -= shift
        packet.stream = tracks[packet.stream_index]
        target.mux(packet)
    return begin is not None
