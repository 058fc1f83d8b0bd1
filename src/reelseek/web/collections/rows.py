"""Moments as exports show them, with their videos' names, lengths and rates; and names that files may have anywhere."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from reelseek.library import Library
from reelseek.library.names import printable
from reelseek.web.collections.store import SavedMoment
from reelseek.web.media import opaque_id

__all__ = ["ExportRow", "export_rows", "one_line", "safe_file_name", "tagged"]

_RESERVED = frozenset(("con", "prn", "aux", "nul", *(f"com{n}" for n in range(10)), *(f"lpt{n}" for n in range(10))))
_LONGEST_NAME_BYTES = 120


@dataclass(frozen=True)
class ExportRow:
    """A moment and its video.

    Args:
        moment: ends with the video at the latest.
        id: the moment as requests name it.
        name: the library's id of the video.
        path: its file, None where it is not at hand.
        content: hash of its bytes, None where it is no longer in the library.
        duration: of the video in seconds.
        fps: frames a second, None where it has no pictures.
    """

    moment: SavedMoment
    id: str
    name: str
    path: Path | None
    content: str | None
    duration: float | None
    fps: float | None


def export_rows(library: Library, moments: Sequence[SavedMoment]) -> list[ExportRow]:
    """Moments with what the library knows of their videos."""
    rows = []
    for moment in tagged(library, moments):
        video = library.get(moment.video)
        content = video.content if video is not None else None
        fps = library.media_info(content).get("fps") if content else None
        path = video.path if video is not None and isinstance(video.path, Path) and video.path.is_file() else None
        duration = video.duration if video is not None else None
        identifier = f"{opaque_id(moment.video)}@{moment.start:.3f}-{moment.end:.3f}"
        inside = replace(moment, end=min(moment.end, max(duration, moment.start + 0.001))) if duration else moment
        rows.append(ExportRow(inside, identifier, printable(moment.video), path, content, duration, fps))
    return rows


def tagged(library: Library, moments: Sequence[SavedMoment]) -> list[SavedMoment]:
    """Moments with the tags that they have in their library."""
    tags: dict[tuple[str, float | None, float | None], list[str]] = {}
    for tag in library.catalog.tags.of_videos(dict.fromkeys(moment.video for moment in moments)):
        tags.setdefault((tag.video, tag.start_seconds, tag.end_seconds), []).append(tag.text)
    return [replace(row, tags=tuple(tags.get((row.video, row.start, row.end), ()))) for row in moments]


def one_line(text: str) -> str:
    """A text without signs that end a line, turn it around or control a terminal."""
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return " ".join("".join(" " if unicodedata.category(sign) in hidden else sign for sign in text).split())


def safe_file_name(name: str) -> str:
    """The last part of a name as a file may be called on any system, and that is never a path.

    >>> safe_file_name("../../etc/passwd"), safe_file_name("C:\\\\a<b>.mp4"), safe_file_name("..")
    ('passwd', 'a_b_.mp4', 'clip')
    """
    last = PurePosixPath(one_line(name).replace("\\", "/")).name
    plain = re.sub(r'[<>:"/\\|?*]', "_", last).strip(" .")
    if plain.partition(".")[0].lower() in _RESERVED:
        plain = f"_{plain}"
    shortened = plain.encode("utf-8")[:_LONGEST_NAME_BYTES].decode("utf-8", "ignore").strip(" .")
    return shortened or "clip"
