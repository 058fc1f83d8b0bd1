"""The full text of what videos are called and captioned, in the table `about_words`."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from reelseek.library.catalog.connection import Connection
from reelseek.library.catalog.texts import match_any
from reelseek.library.catalog.words import fill_about, has_full_text

__all__ = ["About", "CaptionMatch"]

_STRIDE = 2**24  # of the numbers of two videos' captions, see about.sql
_FEW_VIDEOS = 2000  # that SQLite is given; of more each match is looked at
_NAMES = (
    "SELECT c.video, f.words FROM about_words f CROSS JOIN {numbers} c ON c.number = -f.rowid"
    " WHERE about_words MATCH ? AND f.rowid < 0"
)
_CAPTIONS = (
    "SELECT t.video, t.text, t.start_seconds, t.end_seconds, f.words FROM about_words f"
    f" CROSS JOIN {{numbers}} c ON c.number = f.rowid / {_STRIDE}"
    f" CROSS JOIN captions t ON t.video = c.video AND t.position = f.rowid % {_STRIDE} WHERE "
)


@dataclass(frozen=True)
class CaptionMatch:
    """A caption of a video, and all of its folded words between blanks; None: from the start, or to the end."""

    video: str
    text: str
    start_seconds: float | None
    end_seconds: float | None
    words: str


class About:
    """Names and captions by word; triggers of the database keep the table."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def names(self, phrases: Sequence[str], most: int, videos: Collection[str] | None = None) -> list[tuple[Any, ...]]:
        """Videos whose names hold any of some phrases of folded words, by SQLite's own rank, each with these words.

        Args:
            videos: only these; None is all.
        """
        return self._matches(_NAMES, phrases, most, videos)

    def captions(self, phrases: Sequence[str], most: int, videos: Collection[str] | None = None) -> list[CaptionMatch]:
        """Captions that hold any of some phrases of folded words, by SQLite's own rank.

        Args:
            videos: only of these; None is all.
        """
        query = f"{_CAPTIONS}about_words MATCH ? AND f.rowid > 0"
        return [CaptionMatch(*row) for row in self._matches(query, phrases, most, videos)]

    def _matches(
        self, query: str, phrases: Sequence[str], most: int, videos: Collection[str] | None
    ) -> list[tuple[Any, ...]]:
        """Rows of a query, of which the first cell is a video."""
        self._ensure_words()
        condition, values = "", [match_any(phrases)]
        if videos is not None and len(videos) <= _FEW_VIDEOS:
            condition, values = " AND c.video IN (SELECT value FROM json_each(?))", [*values, json.dumps(list(videos))]
        limit = "" if videos is not None and not condition else f" LIMIT {most:d}"
        query = query.format(numbers=self._numbers())
        rows = self._connection.execute(f"{query}{condition} ORDER BY f.rank, f.rowid{limit}", values)
        return list(islice((row for row in rows if videos is None or row[0] in videos), most))

    def holds(self, phrase: str) -> bool:
        """Whether any name or caption holds a phrase of folded words."""
        self._ensure_words()
        query = "SELECT 1 FROM about_words WHERE about_words MATCH ? LIMIT 1"
        return self._connection.execute(query, (match_any([phrase]),)).fetchone() is not None

    def terms(self, beginning: str) -> list[str]:
        """The stems in names and captions that begin with some letters."""
        self._ensure_words()
        schema = "main" if self._connection.has_table("about_words") else "temp"
        self._connection.execute(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.about_vocabulary USING fts5vocab({schema}, about_words, row)"
        )
        query = "SELECT term FROM temp.about_vocabulary WHERE term >= ? AND term < ?"
        return [term for (term,) in self._connection.execute(query, (beginning, beginning + chr(0x10FFFF)))]

    def some_captions(self, most: int) -> list[CaptionMatch]:
        """First captions of videos that are evenly spread over all that have one, at most so many, by video."""
        self._ensure_words()
        query = "SELECT rowid FROM about_words WHERE rowid > ? ORDER BY rowid"
        first, last = (self._connection.execute(f"{query}{order} LIMIT 1", (0,)).fetchone() for order in ("", " DESC"))
        if first is None:
            return []
        numbers = np.linspace(first[0] // _STRIDE, last[0] // _STRIDE, most).astype(np.int64)
        rows = {
            self._connection.execute(f"{query} LIMIT 1", (number * _STRIDE - 1,)).fetchone()[0]
            for number in dict.fromkeys(numbers.tolist())
        }
        query = f"{_CAPTIONS}f.rowid IN (?)".format(numbers=self._numbers())
        captions = self._connection.select_in(query, sorted(rows))
        return sorted((CaptionMatch(*row) for row in captions), key=lambda caption: caption.video)

    def rebuild_words(self) -> None:
        """Build the full text anew, which otherwise holds words that were removed."""
        self._connection.execute("INSERT INTO about_words(about_words) VALUES ('rebuild')")

    def _ensure_words(self) -> None:
        """For an older library that cannot be written, make the full text in memory."""
        if any(has_full_text(self._connection, schema, "about_words") for schema in ("main", "temp")):
            return
        self._connection.execute("PRAGMA temp_store = MEMORY")
        if self._numbers() != "changes":  # numbers as carrying it forward gives them
            self._connection.execute("CREATE TABLE temp.numbers (number INTEGER PRIMARY KEY, video TEXT UNIQUE)")
            self._connection.execute("INSERT INTO temp.numbers(video) SELECT id FROM videos ORDER BY id")
        self._connection.execute("CREATE VIRTUAL TABLE temp.about_words USING fts5(words, tokenize='porter ascii')")
        fill_about(self._connection, self._numbers())
        self._connection.commit_derived()

    def _numbers(self) -> str:
        """The table of the numbers of videos."""
        return "changes" if self._connection.has_table("changes") else "temp.numbers"
