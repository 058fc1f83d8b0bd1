"""Tags of videos and of moments of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from reelseek.library.catalog.connection import Connection
from reelseek.library.records import Tag
from reelseek.library.words import fold

__all__ = ["TagCount", "Tags"]

_TAGS = "SELECT video, text, start_seconds, end_seconds FROM tags"
_SPAN = "start_seconds IS ? AND end_seconds IS ?"


@dataclass(frozen=True)
class TagCount:
    """A tag, with how many videos have it as a whole, and how many moments of videos."""

    text: str
    videos: int
    moments: int


class Tags:
    """The table of tags; each tag has one spelling in a library, that in which it was added first."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_video(self, video: str) -> list[Tag]:
        """The tags of a video, then those of its moments in order of time."""
        return list(self.of_videos([video]))

    def of_videos(self, videos: Iterable[str]) -> Iterator[Tag]:
        """The tags of some videos and of their moments; those of one video are in order of time."""
        if not self._connection.has_table("tags"):
            return
        query = f"{_TAGS} WHERE video IN (?) ORDER BY video, start_seconds, end_seconds, folded"
        yield from (Tag(*row) for row in self._connection.select_in(query, videos))

    def of_moment(self, video: str, start: float, end: float) -> tuple[str, ...]:
        """The tags of exactly this moment."""
        return tuple(tag.text for tag in self.of_video(video) if (tag.start_seconds, tag.end_seconds) == (start, end))

    def counts(self) -> list[TagCount]:
        """All tags of the library in order."""
        if not self._connection.has_table("tags"):
            return []
        query = (
            "SELECT min(text), sum(start_seconds IS NULL), count(start_seconds) FROM tags GROUP BY folded"
            " ORDER BY folded"
        )
        return [TagCount(*row) for row in self._connection.execute(query)]

    def names(self) -> dict[str, str]:
        """The spelling of each tag by its folded form."""
        if not self._connection.has_table("tags"):
            return {}
        query = "SELECT folded, min(text) FROM tags GROUP BY folded ORDER BY folded"
        return dict(self._connection.execute(query).fetchall())

    def count(self, video: str) -> int:
        """How many tags a video and its moments have."""
        query = "SELECT count(*) FROM tags WHERE video = ?"
        return int(self._connection.execute(query, (video,)).fetchone()[0])

    def add(self, tag: Tag) -> bool:
        """Add a tag in the spelling that the library has; False where it is present."""
        folded = fold(tag.text)
        existing = self._connection.execute("SELECT text FROM tags WHERE folded = ? LIMIT 1", (folded,)).fetchone()
        row = (tag.video, existing[0] if existing else tag.text, folded, tag.start_seconds, tag.end_seconds)
        return self._connection.execute("INSERT OR IGNORE INTO tags VALUES (?, ?, ?, ?, ?)", row).rowcount > 0

    def remove(self, tag: Tag) -> bool:
        """Remove a tag, however it is spelt; False where there is none."""
        query = f"DELETE FROM tags WHERE video = ? AND folded = ? AND {_SPAN}"
        row = (tag.video, fold(tag.text), tag.start_seconds, tag.end_seconds)
        return self._connection.execute(query, row).rowcount > 0
