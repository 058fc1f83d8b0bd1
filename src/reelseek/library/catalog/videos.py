"""Rows of videos: ids, paths, contents, lengths."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from reelseek.library.catalog.connection import Connection
from reelseek.library.records import Video

__all__ = ["FileState", "Videos"]

_VIDEOS = "SELECT id, path, content, duration, split FROM videos"
_OWNERS_A_QUERY = 500
FileState = tuple[int, int]
"""Size and time of change (ns) of a file."""


class Videos:
    """The table of videos.

    A path is kept as the bytes of the absolute path, so that names that are no Unicode survive.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> list[Video]:
        """All videos in order of id."""
        return [_video(row) for row in self._connection.execute(f"{_VIDEOS} ORDER BY id")]

    def get(self, identifier: str) -> Video | None:
        """The video of exactly this id."""
        row = self._connection.execute(f"{_VIDEOS} WHERE id = ?", (identifier,)).fetchone()
        return _video(row) if row else None

    def at_path(self, path: Path) -> Video | None:
        """The video whose file is at exactly this absolute path."""
        row = self._connection.execute(f"{_VIDEOS} WHERE path = ?", (os.fsencode(path),)).fetchone()
        return _video(row) if row else None

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

    def ids_by_owner(self, owners: Iterable[str]) -> dict[str, list[str]]:
        """The ids of the videos whose tracks are those of each owner, in order of id; of an imported one as it says."""
        ids: dict[str, list[str]] = {owner: [] for owner in owners}
        contents = [owner for owner in ids if not owner.startswith("id:")]
        for start in range(0, len(contents), _OWNERS_A_QUERY):
            block = contents[start : start + _OWNERS_A_QUERY]
            query = f"SELECT content, id FROM videos WHERE content IN ({','.join('?' * len(block))}) ORDER BY id"
            for content, identifier in self._connection.execute(query, block):
                ids[content].append(identifier)
        return {owner: [owner.removeprefix("id:")] if owner.startswith("id:") else ids[owner] for owner in ids}

    def some(self, identifiers: Sequence[str]) -> list[Video]:
        """The videos of these ids that there are, in order of id."""
        rows: list[Video] = []
        for start in range(0, len(identifiers), _OWNERS_A_QUERY):
            block = identifiers[start : start + _OWNERS_A_QUERY]
            query = f"{_VIDEOS} WHERE id IN ({','.join('?' * len(block))})"
            rows += [_video(row) for row in self._connection.execute(query, block)]
        return sorted(rows, key=lambda video: video.id)

    def has_content(self, content: str) -> bool:
        """Whether any video has these bytes."""
        query = "SELECT 1 FROM videos WHERE content = ?"
        return self._connection.execute(query, (content,)).fetchone() is not None

    def file_states(self) -> dict[Path, FileState]:
        """Size and time of change of every file that was read, as they were then, by its path."""
        rows = self._connection.execute(
            "SELECT path, size, mtime_ns FROM videos WHERE path IS NOT NULL AND content IS NOT NULL"
        )
        return {Path(os.fsdecode(path)): (size, mtime) for path, size, mtime in rows}

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

    def set_file(self, identifier: str, path: Path, content: str, state: FileState, duration: float | None) -> None:
        """Note which file is a video's, what its bytes are and how long it is."""
        self._connection.execute(
            "UPDATE videos SET path = ?, content = ?, size = ?, mtime_ns = ?, duration = ? WHERE id = ?",
            (os.fsencode(path), content, *state, duration, identifier),
        )

    def set_duration(self, content: str, seconds: float) -> None:
        """Note how long the videos with these bytes are."""
        self._connection.execute("UPDATE videos SET duration = ? WHERE content = ?", (seconds, content))

    def remove(self, identifier: str) -> None:
        """Remove a row, with its captions and its places in splits."""
        self._connection.execute("DELETE FROM videos WHERE id = ?", (identifier,))


def _video(row: Sequence[Any]) -> Video:
    identifier, path, content, duration, split = row
    return Video(identifier, Path(os.fsdecode(path)) if path is not None else None, content, duration, split)
