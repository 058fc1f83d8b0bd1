"""What was learnt of the bytes of a file: its container, cuts, pictures, notices and the subtitles beside it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from reelseek.library.catalog.connection import Connection
from reelseek.media.address import FilePath, path_bytes
from reelseek.media.notice import Notice

__all__ = ["Contents", "SidecarState"]

SidecarState = frozenset[tuple[str, int, int]]
"""Name, size and time of change (ns) of every subtitle file."""


class Contents:
    """The tables of contents, thumbnails, notices and sidecars."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, content: str, info: dict[str, Any], end_seconds: float) -> None:
        """Note what a file says of itself, unless it is noted already; its cuts come when it is decoded."""
        self._connection.execute(
            "INSERT OR IGNORE INTO contents VALUES (?, ?, ?, '[]')", (content, json.dumps(info), end_seconds)
        )

    def remove(self, content: str) -> None:
        """Forget what a file said of itself."""
        self._connection.execute("DELETE FROM contents WHERE hash = ?", (content,))

    def info(self, content: str) -> dict[str, Any]:
        """What a file says of itself (`MediaInfo` as a table); empty where it was never examined."""
        row = self._connection.execute("SELECT info FROM contents WHERE hash = ?", (content,)).fetchone()
        return dict(json.loads(row[0])) if row else {}

    def untreated(self, paths: Iterable[FilePath]) -> Iterator[str]:
        """Contents of files at some absolute paths that an earlier version examined, which noted no treatment."""
        rows = self._connection.select_in(
            "SELECT content FROM videos LEFT JOIN contents ON hash = content WHERE content IS NOT NULL"
            " AND path IN (?) AND json_type(info, '$.treatment') IS NULL",
            map(path_bytes, paths),
        )
        return (content for (content,) in rows)

    def set_info(self, content: str, info: dict[str, Any]) -> None:
        """Replace what a file says of itself."""
        self._connection.execute("UPDATE contents SET info = ? WHERE hash = ?", (json.dumps(info), content))

    def cuts(self, content: str) -> list[float]:
        """Seconds at which the camera cuts."""
        row = self._connection.execute("SELECT cuts FROM contents WHERE hash = ?", (content,)).fetchone()
        return list(json.loads(row[0])) if row else []

    def set_pictures(
        self, content: str, end_seconds: float, cuts: Sequence[float], thumbnails: Iterable[tuple[float, bytes]]
    ) -> None:
        """Note where a file ends and cuts, and pictures of it as (seconds, JPEG)."""
        self._connection.execute(
            "UPDATE contents SET end_seconds = ?, cuts = ? WHERE hash = ?", (end_seconds, json.dumps(cuts), content)
        )
        self._connection.executemany(
            "INSERT OR REPLACE INTO thumbnails VALUES (?, ?, ?)",
            [(content, seconds, jpeg) for seconds, jpeg in thumbnails],
        )

    def thumbnail(self, owner: str, seconds: float) -> bytes | None:
        """The stored picture nearest to a time, as JPEG."""
        row = self._connection.execute(
            "SELECT jpeg FROM thumbnails WHERE owner = ? ORDER BY abs(seconds - ?) LIMIT 1", (owner, seconds)
        ).fetchone()
        return row[0] if row else None

    def notices(self) -> list[tuple[str, Notice]]:
        """Video ids with what was guessed, mended or left out of their files, in order of id."""
        if not self._connection.has_table("notices"):
            return []
        rows = self._connection.execute(
            "SELECT videos.id, place, message, lost FROM notices JOIN videos ON owner = content"
            " ORDER BY videos.id, place, message"
        )
        return [(video, Notice(place, message, bool(lost))) for video, place, message, lost in rows]

    def add_notices(self, owner: str, notices: Sequence[Notice]) -> None:
        """Add what is to be known of one owner's file; the same is noted once."""
        rows = [(owner, notice.place, notice.message, notice.lost) for notice in notices]
        self._connection.executemany("INSERT OR REPLACE INTO notices VALUES (?, ?, ?, ?)", rows)

    def sidecars(self, content: str) -> SidecarState:
        """The subtitle files that a content's words were last read from, as they were then."""
        rows = self._connection.execute("SELECT name, size, mtime_ns FROM sidecars WHERE owner = ?", (content,))
        return frozenset((name, size, mtime) for name, size, mtime in rows)

    def set_sidecars(self, content: str, state: SidecarState) -> None:
        """Note from which subtitle files a content's words were read; what was said of those before is forgotten.

        Call it before the new notices are added.
        """
        names = {name for name, _, _ in state | self.sidecars(content)}
        self._connection.execute("DELETE FROM sidecars WHERE owner = ?", (content,))
        self._connection.executemany(
            "INSERT INTO sidecars VALUES (?, ?, ?, ?)", [(content, *row) for row in sorted(state)]
        )
        self._connection.executemany(
            "DELETE FROM notices WHERE owner = ? AND place = ?", [(content, name) for name in names]
        )
