"""What is kept: videos, captions, splits, tracks, failures; and how it is read back as tokens."""

from typing import TYPE_CHECKING, Any

from reelseek.library.records import Caption, Tag, Video
from reelseek.library.report import AddReport
from reelseek.library.store import Library

if TYPE_CHECKING:
    from reelseek.library.ingest import add

__all__ = ["AddReport", "Caption", "Library", "Tag", "Video", "add"]


def __getattr__(name: str) -> Any:
    if name == "add":  # with all that decodes, which only adding needs
        from reelseek.library.ingest import add

        return add
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
