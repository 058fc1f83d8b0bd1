"""A stretch of a file as a file of its own, its packets copied as they are."""

from pathlib import Path

import av.error

from reelseek.errors import DecodeError
from reelseek.media.container import Limits, open_media
from reelseek.media.copying import PacketCopy

__all__ = ["write_excerpt"]


def write_excerpt(path: Path, start_seconds: float, seconds: float, out: Path, limits: Limits | None = None) -> bool:
    """Copy the pictures and the sound of a stretch into a Matroska file that begins at 0.

    It begins with the last picture at or before `start_seconds` that can be decoded by itself.

    Returns:
        False where the file has no times to go by, or its streams cannot be copied; there is no `out` then.
    """
    with open_media(path, limits) as media:
        try:
            packets = PacketCopy(media, path, start_seconds)
            packets.copy(out, packets.begin + seconds, "matroska")
        except (DecodeError, av.error.FFmpegError, ValueError, OverflowError):
            return False
        return True
