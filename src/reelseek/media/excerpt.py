"""A stretch of a file as a file of its own, its packets copied as they are."""

import math
from pathlib import Path

import av.error

from reelseek.errors import DecodeError
from reelseek.media.container import Limits, open_media
from reelseek.media.copying import PacketCopy

__all__ = ["write_excerpt"]


def write_excerpt(
    path: Path, start_seconds: float, out: Path, limits: Limits | None = None, *, seconds: float = math.inf,
    end_seconds: float = math.inf,
) -> float | None:  # fmt: skip
    """Copy the pictures and the sound of a stretch into a Matroska file that begins at 0.

    It begins with the last picture at or before `start_seconds` that can be decoded by itself.

    Args:
        seconds: that the copy lasts at most.
        end_seconds: of `path`, where the copy ends at the latest.

    Returns:
        the second of `path` at which the copy begins; None where the file has no times to go by, or its streams cannot
        be copied, and there is no `out`.
    """
    with open_media(path, limits) as media:
        try:
            packets = PacketCopy(media, path, start_seconds)
            packets.copy(out, min(packets.begin + seconds, end_seconds), "matroska")
        except (DecodeError, av.error.FFmpegError, ValueError, OverflowError):
            return None
        return packets.begin
