"""What is kept: videos, captions, splits, tracks, failures; and how it is read back as tokens."""

from reelseek.library.ingest import AddReport, add
from reelseek.library.records import Caption, Video
from reelseek.library.store import Library

__all__ = ["AddReport", "Caption", "Library", "Video", "add"]
