"""Rows of videos: ids, paths, contents, lengths."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from reelseek.library.catalog.connection import Connection
from reelseek.library.records import Video
from reelseek.library.texts import is_unicode
from reelseek.media.address import FilePath, parse_path, path_bytes

__all__ = ["FileState", "Videos"]

_VIDEOS = "SELECT id, path, content, duration, split FROM videos"
_ROWS_A_PAGE = 10_000
FileState = tuple[int, int]
"""Size and time of change (ns) of a file, or size and a number of the tag that a store gives an object."""


class Videos:
    """The table of videos.

    A path is kept as the bytes of the absolute path or of the address, so that names that are no Unicode survive.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> list[Video]:
        """All videos in order of id."""
        return [_video(row) for row in self._connection.execute(f"{_VIDEOS} ORDER BY id")]

    def pages(self) -> Iterator[Video]:
        """All videos in order of id, a page in memory at a time; what others write meanwhile is seen or not."""
        query, last = f"{_VIDEOS} WHERE id > ? ORDER BY id LIMIT {_ROWS_A_PAGE:d}", ""
        while rows := self._connection.execute(query, (last,)).fetchall():
            yield from map(_video, rows)
            last = rows[-1][0]

    def after(self, identifier: str, count: int, condition: str = "1", values: Sequence[object] = ()) -> list[Video]:
        """The next videos behind an id in order of id.

        Args:
            condition, values: on a row `v`, see `Selection.where`.
        """
        query = f"{_VIDEOS} v WHERE id > ? AND ({condition}) ORDER BY id LIMIT ?"
        return [_video(row) for row in self._connection.execute(query, (identifier, *values, count)).fetchall()]

    def totals(self) -> tuple[int, int, float]:
        """How many videos there are, how many of them with a file that was read, and the seconds of all."""
        query = "SELECT videos, with_content, microseconds / 1e6 FROM video_totals"
        if not self._connection.has_table("video_totals"):
            query = "SELECT count(*), count(content), total(duration) FROM videos"
        count, with_media, seconds = self._connection.execute(query).fetchone()
        return count, with_media, seconds

    def get(self, identifier: str) -> Video | None:
        """The video of exactly this id; none has one that is no Unicode."""
        if not is_unicode(identifier):
            return None
        row = self._connection.execute(f"{_VIDEOS} WHERE id = ?", (identifier,)).fetchone()
        return _video(row) if row else None

    def at_path(self, path: FilePath) -> Video | None:
        """The video whose file is at exactly this absolute path."""
        try:
            stored = path_bytes(path)
        except UnicodeEncodeError:
            return None  # no file can be called so
        row = self._connection.execute(f"{_VIDEOS} WHERE path = ?", (stored,)).fetchone()
        return _video(row) if row else None

    def at_paths(self, paths: Iterable[FilePath]) -> list[Video]:
        """The videos whose files are at some absolute paths, in order of id."""
        rows = self._connection.select_in(f"{_VIDEOS} WHERE path IN (?)", map(path_bytes, paths))
        return sorted(map(_video, rows), key=lambda video: video.id)

    def named(self, key: int) -> list[Video] | None:
        """The videos that have a number among their `name_keys`; None where an older library has no such table."""
        if not self._connection.has_table("names"):
            return None
        rows = self._connection.execute(
            f"{_VIDEOS} WHERE id IN (SELECT video FROM names JOIN changes USING (number) WHERE key = ?) ORDER BY id",
            (key,),
        )
        return [_video(row) for row in rows]

    def of_contents(self, contents: Iterable[str]) -> Iterator[Video]:
        """The videos with some bytes."""
        return map(_video, self._connection.select_in(f"{_VIDEOS} WHERE content IN (?)", contents))

    def with_ids(self, identifiers: Iterable[str]) -> Iterator[Video]:
        """The videos of some ids, of those that there are."""
        return map(_video, self._connection.select_in(f"{_VIDEOS} WHERE id IN (?)", identifiers))

    def existing(self, identifiers: Iterable[str]) -> set[str]:
        """Those of some ids that videos have."""
        return {row[0] for row in self._connection.select_in("SELECT id FROM videos WHERE id IN (?)", identifiers)}

    def of_content(self, content: str) -> list[Video]:
        """The videos with these bytes, in order of id."""
        rows = self._connection.execute(f"{_VIDEOS} WHERE content = ? ORDER BY id", (content,))
        return [_video(row) for row in rows]

    def of_owner(self, owner: str) -> list[Video]:
        """The videos whose tracks an owner's are, in order of id."""
        if not owner.startswith("id:"):
            return self.of_content(owner)
        video = self.get(owner.removeprefix("id:"))
        return [video] if video else []

    def has_content(self, content: str) -> bool:
        """Whether any video has these bytes."""
        query = "SELECT 1 FROM videos WHERE content = ?"
        return self._connection.execute(query, (content,)).fetchone() is not None

    def in_folder(self, folder: Path) -> list[Video]:
        """The videos whose files are under an absolute path, in order of id."""
        first, end = path_bytes(folder) + b"/", path_bytes(folder) + b"0"  # the byte behind that of "/"
        rows = self._connection.execute(f"{_VIDEOS} WHERE path >= ? AND path < ? ORDER BY id", (first, end))
        return [_video(row) for row in rows]

    def file_states(self, paths: Iterable[FilePath]) -> dict[FilePath, FileState]:
        """Size and time of change of those of some files that were read, as they were then."""
        rows = self._connection.select_in(
            "SELECT path, size, mtime_ns FROM videos WHERE content IS NOT NULL AND path IN (?)", map(path_bytes, paths)
        )
        return {parse_path(os.fsdecode(path)): (size, mtime) for path, size, mtime in rows}

    def file_state(self, identifier: str) -> FileState | None:
        """Size and time of change of a video's file when it was read."""
        row = self._connection.execute("SELECT size, mtime_ns FROM videos WHERE id = ?", (identifier,)).fetchone()
        return (row[0], row[1]) if row and row[0] is not None else None

    def add(self, identifier: str) -> bool:
        """Add a row without a file; False where there is one of this id."""
        return bool(self._connection.execute("INSERT OR IGNORE INTO videos(id) VALUES (?)", (identifier,)).rowcount)

    def set_split(self, identifier: str, split: str) -> None:
        """Put a video into a split, with or without captions."""
        self._connection.execute("UPDATE videos SET split = ? WHERE id = ?", (split, identifier))

    def set_file(self, identifier: str, path: FilePath, content: str, state: FileState, duration: float | None) -> None:
        """Note which file is a video's, what its bytes are and how long it is."""
        self._connection.execute(
            "UPDATE videos SET path = ?, content = ?, size = ?, mtime_ns = ?, duration = ? WHERE id = ?",
            (path_bytes(path), content, *state, duration, identifier),
        )

    def set_duration(self, content: str, seconds: float) -> None:
        """Note how long the videos with these bytes are."""
        self._connection.execute("UPDATE videos SET duration = ? WHERE content = ?", (seconds, content))

    def remove(self, identifier: str) -> None:
        """Remove a row, with its captions and its places in splits."""
        self._connection.execute("DELETE FROM videos WHERE id = ?", (identifier,))


def _video(row: Sequence[Any]) -> Video:
    identifier, path, content, duration, split = row
    return Video(identifier, parse_path(os.fsdecode(path)) if path is not None else None, content, duration, split)
