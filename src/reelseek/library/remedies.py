"""What is wrong with a track, in a sentence that says what makes it whole again."""

from pathlib import Path

from reelseek.library.catalog import Catalog
from reelseek.library.records import TrackRow
from reelseek.media.store import is_file

__all__ = ["describe_damage", "name_owner"]


def name_owner(catalog: Catalog, owner: str) -> str:
    """The videos of an owner, for people."""
    return ", ".join(video.id for video in catalog.videos.of_owner(owner)) or owner.removeprefix("id:")


def describe_damage(catalog: Catalog, library: Path, row: TrackRow, problem: str) -> str:
    """Say which video's track is damaged, how, and with which command it is made whole.

    Args:
        library: its folder.
    """
    path = next((video.path for video in catalog.videos.of_owner(row.owner) if video.path), None)
    if row.owner.startswith("id:"):
        remedy = f"import it again with: reelseek features import {library} {row.expert} FILES"
    elif path is not None and is_file(path):
        remedy = f"make it again with: reelseek add {library} {path}"
    else:
        remedy = "its file is not at hand; put it back and add it again"
    return f"the track {row.expert} of {name_owner(catalog, row.owner)} is damaged: {problem}; {remedy}"
