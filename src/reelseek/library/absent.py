"""Files that are gone from a folder that is added again: their videos leave the hits until the files are back."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from reelseek.library.catalog import Catalog
from reelseek.library.report import AddReport
from reelseek.media.address import FilePath, absolute, parse_path
from reelseek.media.notice import Notice

__all__ = ["absent_videos", "note_absent"]

_KEY = "absent"


def absent_videos(catalog: Catalog) -> frozenset[str]:
    """Return the ids of the videos whose files were gone when their folder was last added."""
    return frozenset(json.loads(catalog.meta(_KEY) or "[]"))


def note_absent(
    catalog: Catalog, paths: Sequence[str | os.PathLike[str]], files: Iterable[FilePath], report: AddReport
) -> None:
    """Note which videos of some folders have no file any more, and which have one again.

    A folder that holds none of its files may be a disk that is not mounted, and says nothing.

    Args:
        paths: as they were given to `add`.
        files: that were read in them.
    """
    before = absent_videos(catalog)
    absent = {video for video in before if (row := catalog.videos.get(video)) and not _has_file(row.path)}
    present = {path for path in files if isinstance(path, Path)}
    for path in map(parse_path, paths):
        if isinstance(path, Path) and path.is_dir():
            folder = absolute(path)
            if isinstance(folder, Path) and any(folder in file.parents for file in present):
                rows = catalog.videos.in_folder(folder)
                absent |= {row.id for row in rows if row.path not in present and not _has_file(row.path)}
    if absent != before:
        catalog.set_meta(_KEY, json.dumps(sorted(absent)))
    for video in sorted(absent - before):
        message = "its file is gone, so it leaves the hits until it is back; to forget it: reelseek remove"
        report.notices.append((video, Notice("", message)))


def _has_file(path: FilePath | None) -> bool:
    return path is None or not isinstance(path, Path) or os.path.exists(path)
