"""Which videos changed since a revision of the library, and which are gone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from reelseek.library.catalog.connection import Connection

__all__ = ["Change", "Changes", "Subject"]

_ROWS_A_PAGE = 10_000
Subject = Literal["features", "words"]


@dataclass(frozen=True)
class Change:
    """The last change of a video.

    Attributes:
        number: of the video in this library; never used for another one, also after the video was removed.
        video: its id; None where it was removed.
        revision: at which it changed.
    """

    number: int
    video: str | None
    revision: int


class Changes:
    """The table of changes, which triggers of the database keep: no writer can forget it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def since(self, revision: int, subject: Subject = "features") -> Iterator[Change]:
        """Videos that changed or were removed after a revision, by revision and number, a page in memory at a time.

        What another process commits meanwhile may be among them, at its higher revision.
        """
        if not self._connection.has_table("changes"):
            yield from self._all_of_older_library(revision)
            return
        query = (
            f"SELECT number, video, {subject} FROM changes WHERE ({subject}, number) > (?, ?)"
            f" ORDER BY {subject}, number LIMIT {_ROWS_A_PAGE:d}"
        )
        place = (revision, 2**62)
        while rows := self._connection.execute(query, place).fetchall():
            yield from (Change(*row) for row in rows)
            place = (rows[-1][2], rows[-1][0])

    def highest_number(self) -> int:
        """The highest number that a video has or had: at least as many as there are."""
        return int(self._connection.execute("SELECT coalesce(max(number), 0) FROM changes").fetchone()[0])

    def numbers(self, videos: Iterable[str]) -> dict[str, int]:
        """The numbers of videos by their ids, of those that the library has."""
        query = "SELECT video, number FROM changes WHERE video IN (?)"
        if not self._connection.has_table("changes"):
            query = "SELECT id, (SELECT count(*) FROM videos v WHERE v.id <= videos.id) FROM videos WHERE id IN (?)"
        return dict(self._connection.select_in(query, videos))

    def last(self, videos: Iterable[str], subject: Subject = "features") -> dict[str, int]:
        """The revision at which each of some videos last changed."""
        if not self._connection.has_table("changes"):
            return {}
        return dict(self._connection.select_in(f"SELECT video, {subject} FROM changes WHERE video IN (?)", videos))

    def videos(self, numbers: Iterable[int]) -> dict[int, str]:
        """The ids of videos by their numbers, of those that were not removed."""
        if not self._connection.has_table("changes"):
            selected = set(numbers)
            return {
                change.number: change.video
                for change in self._all_of_older_library(-1)
                if change.video is not None and change.number in selected
            }
        rows = self._connection.select_in("SELECT number, video FROM changes WHERE number IN (?)", numbers)
        return {number: video for number, video in rows if video is not None}

    def _all_of_older_library(self, revision: int) -> Iterator[Change]:
        """Every video of a library of before version 4 that cannot be written, as carrying it forward numbers them."""
        current = "SELECT coalesce((SELECT value FROM meta WHERE key = 'revision'), 0) + 1"
        (present,) = self._connection.execute(current).fetchone()
        if present > revision:
            for number, (video,) in enumerate(self._connection.execute("SELECT id FROM videos ORDER BY id"), 1):
                yield Change(number, video, int(present))
