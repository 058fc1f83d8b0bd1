"""Whether a copy of a video is whole: it opens, has what its source has, lasts as long, and decodes in samples."""

import itertools
from pathlib import Path

import av
import av.error

from reelseek.errors import DecodeError
from reelseek.media.container import Limits, best_stream, open_media, probe

__all__ = ["check_copy"]

_SAMPLES = 8  # places that are decoded
_TOLERANCE_SECONDS, _TOLERANCE = 2.0, 0.05


def check_copy(task: tuple[Path, Path]) -> None:
    """Compare the copy `task[1]` with its source `task[0]`.

    Raises:
        DecodeError: what the copy lacks.
    """
    source, copy = task
    with open_media(source, Limits()) as media:
        kinds = [kind for kind in ("video", "audio") if _counts(best_stream(media, kind))]
    with open_media(copy, Limits()) as media:
        for kind in kinds:
            if best_stream(media, kind) is None:
                raise DecodeError(f"its copy has no {kind}, though the video has")
    declared, length = probe(source).duration, probe(copy).duration or 0.0
    if length <= 0 or (not _near(length, declared) and not _near(length, _last_second(source))):
        lasts = "of unknown length" if declared is None else f"{declared:.1f} s long"
        raise DecodeError(f"its copy lasts {length:.1f} s, and the video is {lasts}")
    _decode_samples(copy, length)
    if _end_of_packets(copy) > copy.stat().st_size or not _near(_last_second(copy, length - 2), length):
        raise DecodeError(f"its copy ends before the {length:.1f} s that it says it lasts")


def _end_of_packets(copy: Path) -> int:
    """Where in the file the last packets of its index end."""
    with open_media(copy, Limits()) as media:
        last = [stream.index_entries[-1] for stream in media.streams if len(stream.index_entries)]
        return max((entry.pos + entry.size for entry in last), default=0)


def _counts(stream: "av.VideoStream | av.AudioStream | None") -> bool:
    """A cover picture is no video."""
    return stream is not None and not (stream.disposition & av.stream.Disposition.attached_pic)


def _near(seconds: float, other: float | None) -> bool:
    return other is None or abs(seconds - other) <= max(_TOLERANCE_SECONDS, _TOLERANCE * other)


def _last_second(path: Path, begin: float = 0.0) -> float:
    """Where the last packet that is in the file ends, whatever the file says of its length."""
    last = 0.0
    with open_media(path, Limits()) as media:
        start = (media.start_time or 0) / av.time_base
        if begin > 0:
            media.seek(int((begin + start) * av.time_base), backward=True)
        streams = [stream for stream in (best_stream(media, "video"), best_stream(media, "audio")) if stream]
        try:
            for packet in media.demux(streams):
                if packet.size and packet.pts is not None and not packet.is_corrupt:
                    end = (packet.pts + (packet.duration or 0)) * (packet.time_base or 0)
                    last = max(last, float(end) - start)
        except av.error.FFmpegError:
            return last  # as far as it can be read
    return last


def _decode_samples(copy: Path, length: float) -> None:
    with open_media(copy, Limits()) as media:
        stream = best_stream(media, "video") or best_stream(media, "audio")
        for place in range(_SAMPLES):
            second = length * place / _SAMPLES
            try:
                media.seek(int(second * av.time_base), backward=True)
                frames = list(itertools.islice(media.decode(stream), 3))
            except av.error.FFmpegError as error:
                raise DecodeError(f"its copy cannot be decoded at {second:.1f} s: {error.strerror}") from error
            if not frames or any(frame.is_corrupt for frame in frames):
                raise DecodeError(f"its copy has nothing that can be decoded at {second:.1f} s")
