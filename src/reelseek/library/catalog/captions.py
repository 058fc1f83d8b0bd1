"""Captions, and the splits that lists give."""

from collections.abc import Iterable, Iterator, Sequence

from reelseek.library.catalog.connection import Connection
from reelseek.library.records import Caption

__all__ = ["Captions"]

_ROWS_A_PAGE = 10_000


class Captions:
    """The tables of captions and of ordered splits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self, split: str | None = None) -> list[Caption]:
        """Captions in order of video and position, of one split or of all."""
        query = "SELECT video, text, start_seconds, end_seconds, split FROM captions"
        rows = self._connection.execute(
            f"{query} WHERE split = ? ORDER BY video, position" if split else f"{query} ORDER BY video, position",
            (split,) if split else (),
        )
        return [Caption(*row) for row in rows]

    def of_video(self, video: str) -> list[Caption]:
        """The captions of one video in order of position."""
        query = "SELECT video, text, start_seconds, end_seconds, split FROM captions WHERE video = ? ORDER BY position"
        return [Caption(*row) for row in self._connection.execute(query, (video,))]

    def pages(self) -> Iterator[Caption]:
        """All captions in order of video and position, a page in memory at a time."""
        query = (
            "SELECT video, text, start_seconds, end_seconds, split, position FROM captions"
            f" WHERE (video, position) > (?, ?) ORDER BY video, position LIMIT {_ROWS_A_PAGE:d}"
        )
        last: tuple[str, int] = ("", -1)
        while rows := self._connection.execute(query, last).fetchall():
            for *cells, _ in rows:
                yield Caption(*cells)
            last = rows[-1][0], rows[-1][-1]

    def of_videos(self, videos: Iterable[str]) -> Iterator[Caption]:
        """Captions of some videos."""
        query = "SELECT video, text, start_seconds, end_seconds, split FROM captions WHERE video IN (?)"
        return (Caption(*row) for row in self._connection.select_in(query, videos))

    def count_by_split(self) -> dict[str, int]:
        """Captions by split; those of none under ''."""
        query = "SELECT split, captions FROM caption_totals WHERE captions > 0 ORDER BY split"
        if not self._connection.has_table("caption_totals"):
            query = "SELECT coalesce(split, ''), count(*) FROM captions GROUP BY 1 ORDER BY 1"
        return dict(self._connection.execute(query).fetchall())

    def add(self, captions: Iterable[Caption]) -> int:
        """Put captions behind those that their videos have; one that is there word for word is not doubled.

        Returns:
            How many were new.
        """
        captions = list(captions)
        existing: dict[str, set[Caption]] = {}
        positions: dict[str, int] = {}
        query = "SELECT video, text, start_seconds, end_seconds, split FROM captions WHERE video IN (?)"
        for row in self._connection.select_in(query, dict.fromkeys(caption.video for caption in captions)):
            old = Caption(*row)
            existing.setdefault(old.video, set()).add(old)
            positions[old.video] = positions.get(old.video, 0) + 1
        added = 0
        for caption in captions:
            if caption in existing.setdefault(caption.video, set()):
                continue
            existing[caption.video].add(caption)
            position = positions.get(caption.video, 0)
            positions[caption.video] = position + 1
            cells = (caption.text, caption.start_seconds, caption.end_seconds, caption.split)
            self._connection.execute(
                "INSERT INTO captions VALUES (?, ?, ?, ?, ?, ?)", (caption.video, position, *cells)
            )
            added += 1
        return added

    def memberships(self) -> dict[str, list[str]]:
        """Videos of each split that a list gave, in its order; a video may be in several."""
        if not self._connection.has_table("memberships"):
            return {}
        members: dict[str, list[str]] = {}
        rows = self._connection.execute("SELECT split, video FROM memberships ORDER BY split, position").fetchall()
        for split, video in rows:
            members.setdefault(split, []).append(video)
        return members

    def add_members(self, split: str, videos: Sequence[str]) -> None:
        """Add videos to a split; those that it has keep their places."""
        query = "SELECT count(*) FROM memberships WHERE split = ?"
        (start,) = self._connection.execute(query, (split,)).fetchone()
        self._connection.executemany(
            "INSERT OR IGNORE INTO memberships VALUES (?, ?, ?)",
            [(split, video, start + place) for place, video in enumerate(videos)],
        )

    def clear_members(self, split: str) -> None:
        """Empty a split that a list gave."""
        self._connection.execute("DELETE FROM memberships WHERE split = ?", (split,))
