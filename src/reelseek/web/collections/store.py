"""Collections of moments in SQLite, each of one library."""

import hashlib
import json
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reelseek.errors import UsageError
from reelseek.web.state import Database, now

__all__ = ["Collection", "Collections", "SavedMoment"]

MOST_MOMENTS = 10_000
_MOST_COLLECTIONS = 10_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS collections (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, library TEXT NOT NULL, name TEXT NOT NULL,
  note TEXT NOT NULL, tags TEXT NOT NULL, by TEXT NOT NULL, created REAL NOT NULL, changed REAL NOT NULL,
  share BLOB UNIQUE
);
CREATE TABLE IF NOT EXISTS moments (
  collection INTEGER NOT NULL REFERENCES collections(number) ON DELETE CASCADE,
  video TEXT NOT NULL, start REAL NOT NULL, end REAL NOT NULL,
  position INTEGER NOT NULL, note TEXT NOT NULL, by TEXT NOT NULL, added REAL NOT NULL,
  PRIMARY KEY (collection, video, start, end)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class SavedMoment:
    """A moment of a collection.

    Args:
        video: the library's id.
        start, end: seconds, `start < end`.
        tags: of the moment in its library (`reelseek.web.collections.rows.tagged`), which alone keeps them.
    """

    video: str
    start: float
    end: float
    note: str = ""
    tags: tuple[str, ...] = ()
    by: str = ""
    added: float = 0.0


@dataclass(frozen=True)
class Collection:
    """A collection without its moments; times are seconds since 1970."""

    id: str
    library: str
    name: str
    note: str
    tags: tuple[str, ...]
    by: str
    created: float
    changed: float
    shared: bool
    moments: int


class Collections:
    """The tables of collections and their moments."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA)
        if any(row["name"] == "tags" for row in self._database.rows("PRAGMA table_info(moments)")):
            with self._database.transaction() as connection:  # of before the first release that has collections
                connection.execute("ALTER TABLE moments DROP COLUMN tags")

    def close(self) -> None:
        self._database.close()

    def all(self) -> list[Collection]:
        """All collections, the one that was changed last first."""
        return [_collection(row) for row in self._database.rows(f"{_SELECT} ORDER BY changed DESC, number DESC")]

    def get(self, identifier: str) -> Collection | None:
        """The collection of an id."""
        row = self._database.row(f"{_SELECT} WHERE id = ?", (identifier,))
        return _collection(row) if row is not None else None

    def moments(self, identifier: str) -> list[SavedMoment]:
        """The moments of a collection, in its order."""
        query = "SELECT moments.* FROM moments JOIN collections ON number = collection WHERE id = ? ORDER BY position"
        return [
            SavedMoment(
                row["video"], row["start"], row["end"], row["note"], by=row["by"], added=row["added"]
            )
            for row in self._database.rows(query, (identifier,))
        ]  # fmt: skip

    def add(self, library: str, name: str, *, note: str = "", tags: Sequence[str] = (), by: str) -> Collection:
        """Begin a collection.

        Raises:
            UsageError: there are too many.
        """
        identifier = secrets.token_hex(8)
        with self._database.transaction() as connection:
            if connection.execute("SELECT count(*) FROM collections").fetchone()[0] >= _MOST_COLLECTIONS:
                raise UsageError(f"there are {_MOST_COLLECTIONS} collections already; delete some first")
            connection.execute(
                "INSERT INTO collections(id, library, name, note, tags, by, created, changed)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (identifier, library, name, note, json.dumps(list(tags)), by, now(), now()),
            )
        return self._require(identifier)

    def change(
        self,
        identifier: str,
        *,
        name: str | None = None,
        note: str | None = None,
        tags: Sequence[str] | None = None,
        order: Sequence[SavedMoment] | None = None,
    ) -> Collection | None:
        """Change what is named; None where there is no such collection.

        Args:
            order: its moments in the order that they shall have.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE collections SET name = ifnull(?, name), note = ifnull(?, note), tags = ifnull(?, tags),"
                " changed = ? WHERE id = ?",
                (name, note, json.dumps(list(tags)) if tags is not None else None, now(), identifier),
            )
            for position, moment in enumerate(order or ()):
                connection.execute(
                    "UPDATE moments SET position = ? WHERE collection = (SELECT number FROM collections WHERE id = ?)"
                    " AND video = ? AND start = ? AND end = ?",
                    (position, identifier, moment.video, moment.start, moment.end),
                )
        return self.get(identifier)

    def remove(self, identifier: str) -> bool:
        """Delete a collection with its moments and its link; False where there is none."""
        with self._database.transaction() as connection:
            return connection.execute("DELETE FROM collections WHERE id = ?", (identifier,)).rowcount > 0

    def put_moments(self, identifier: str, moments: Sequence[SavedMoment], by: str) -> Collection | None:
        """Add moments at the end; of one that is in it already the note is replaced.

        Raises:
            UsageError: the collection would be too large.
        """
        with self._database.transaction() as connection:
            row = connection.execute("SELECT number FROM collections WHERE id = ?", (identifier,)).fetchone()
            if row is None:
                return None
            number = row["number"]
            last = connection.execute(
                "SELECT ifnull(max(position), -1) FROM moments WHERE collection = ?", (number,)
            ).fetchone()[0]
            for position, moment in enumerate(moments, last + 1):
                connection.execute(
                    "INSERT INTO moments(collection, video, start, end, position, note, by, added)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET note = excluded.note",
                    (number, moment.video, moment.start, moment.end, position, moment.note, by, now()),
                )
            total = connection.execute("SELECT count(*) FROM moments WHERE collection = ?", (number,)).fetchone()[0]
            if total > MOST_MOMENTS:
                raise UsageError(f"a collection holds at most {MOST_MOMENTS} moments; begin another one")
            connection.execute("UPDATE collections SET changed = ? WHERE number = ?", (now(), number))
        return self._require(identifier)

    def remove_moments(self, identifier: str, moments: Sequence[SavedMoment]) -> int:
        """Take moments out, and return how many were in it."""
        removed = 0
        with self._database.transaction() as connection:
            for moment in moments:
                removed += connection.execute(
                    "DELETE FROM moments WHERE collection = (SELECT number FROM collections WHERE id = ?)"
                    " AND video = ? AND start = ? AND end = ?",
                    (identifier, moment.video, moment.start, moment.end),
                ).rowcount
            connection.execute("UPDATE collections SET changed = ? WHERE id = ?", (now(), identifier))
        return removed

    # Links

    def share(self, identifier: str) -> str:
        """Make a new secret under which anybody may read a collection; an earlier one ends. It is shown this once."""
        secret = secrets.token_urlsafe(32)
        with self._database.transaction() as connection:
            connection.execute("UPDATE collections SET share = ? WHERE id = ?", (_digest(secret), identifier))
        return secret

    def unshare(self, identifier: str) -> bool:
        """End the link of a collection; False where it has none."""
        with self._database.transaction() as connection:
            return (
                connection.execute(
                    "UPDATE collections SET share = NULL WHERE id = ? AND share IS NOT NULL", (identifier,)
                ).rowcount
                > 0
            )

    def shared(self, secret: str) -> Collection | None:
        """The collection that a secret opens."""
        row = self._database.row(f"{_SELECT} WHERE share = ?", (_digest(secret),))
        return _collection(row) if row is not None else None

    def _require(self, identifier: str) -> Collection:
        collection = self.get(identifier)
        assert collection is not None
        return collection


_SELECT = "SELECT *, (SELECT count(*) FROM moments WHERE collection = number) AS moments FROM collections"


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _collection(row: sqlite3.Row) -> Collection:
    return Collection(
        row["id"], row["library"], row["name"], row["note"], tuple(json.loads(row["tags"])), row["by"],
        row["created"], row["changed"], row["share"] is not None, row["moments"],
    )  # fmt: skip
