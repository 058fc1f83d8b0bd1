"""The database of a library: how it is opened, and how every committed change is counted."""

import contextlib
import os
import sqlite3
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Literal
from urllib.parse import quote

from reelseek.errors import LibraryError

__all__ = ["FORMAT_VERSION", "REVISION", "Connection", "connect"]

FORMAT_VERSION = 1
REVISION = "revision"  # its key in `meta`
_APPLICATION = 0x5265656C  # "Reel"


class Connection(sqlite3.Connection):
    """Raises the library's revision in each transaction that changes a row, so that no writing method can forget to."""

    _counted = 0  # `total_changes` that a revision stands for

    def commit(self) -> None:
        if self.in_transaction and self.total_changes > self._counted:
            self.execute(
                "INSERT INTO meta VALUES (?, '1') ON CONFLICT(key) DO UPDATE SET value = value + 1", (REVISION,)
            )
        super().commit()
        self._counted = self.total_changes

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        if kind is not None:
            self.rollback()
            return False
        try:
            self.commit()
        except BaseException:
            self.rollback()
            raise
        return False


def connect(database: Path) -> Connection:
    """Open a library's database, or lay its tables out where there is none.

    Raises:
        LibraryError: it is damaged or of another version.
        sqlite3.Error, OSError: it cannot be read, or not be begun.
    """
    fresh = not database.is_file() or database.stat().st_size == 0
    if fresh and (database.parent / "tracks").is_dir():
        raise LibraryError(f"{database} is empty, though there are tracks beside it: it was damaged; restore it")
    if not fresh and not os.access(database.parent, os.W_OK):
        address = f"file:{quote(str(database))}?mode=ro&immutable=1"  # nobody can write there, so nothing changes
        return sqlite3.connect(address, uri=True, check_same_thread=False, factory=Connection)
    connection = sqlite3.connect(database, timeout=30, check_same_thread=False, factory=Connection)
    if not fresh:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        fresh = version == 0 and application == 0
        if not fresh and (version != FORMAT_VERSION or application != _APPLICATION):
            connection.close()
            raise LibraryError(
                f"{database} has format version {version}; this Reelseek reads version {FORMAT_VERSION}. "
                "Use the release that made it, or begin a new library"
            )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    if fresh:
        _create(connection)
    else:
        with contextlib.suppress(sqlite3.OperationalError):  # it can only be read
            connection.execute(_MEMBERSHIPS)
    return connection


_MEMBERSHIPS = (
    "CREATE TABLE IF NOT EXISTS memberships (split TEXT NOT NULL, video TEXT NOT NULL REFERENCES videos(id)"
    " ON DELETE CASCADE, position INTEGER NOT NULL, PRIMARY KEY (split, video)) WITHOUT ROWID"
)


def _create(connection: sqlite3.Connection) -> None:
    schema = files("reelseek.library").joinpath("schema.sql").read_text("utf-8")
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE; {schema} {_MEMBERSHIPS}; PRAGMA application_id = {_APPLICATION};"
            f" PRAGMA user_version = {FORMAT_VERSION}; COMMIT;"
        )
    except sqlite3.OperationalError:
        connection.rollback()
        if connection.execute("PRAGMA user_version").fetchone()[0] != FORMAT_VERSION:
            raise
