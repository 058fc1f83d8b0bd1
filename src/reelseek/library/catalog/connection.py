"""How the database of a library is opened, for writing or only for reading, and how every commit is counted."""

import contextlib
import errno
import filecmp
import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote

from reelseek.errors import LibraryError
from reelseek.library.catalog.schema import carry_forward, create_tables, has_tables
from reelseek.library.catalog.spelling import in_folder, is_named
from reelseek.library.files import sync_folder
from reelseek.library.names import name_keys, name_words
from reelseek.library.words import tokens
from reelseek.media.address import FilePath, parse_path

__all__ = ["REVISION", "Connection", "connect", "file_state"]

REVISION = "revision"  # its key in `meta`
_COPY_ATTEMPTS = 12
_VALUES_A_QUERY = 500


class Connection(sqlite3.Connection):
    """Raises the library's revision in each transaction that changes a row, so that no writing method can forget to.

    Attributes:
        origin: `file_state` of what this was opened from, where it does not see what is written later; else None.
        read_only: what is written goes to temporary tables alone, which are no part of the library.
    """

    origin: tuple[tuple[int, int, int] | None, ...] | None = None
    read_only = False
    _counted = 0  # `total_changes` that a revision stands for

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.create_function("name_keys", 2, _name_keys, deterministic=True)  # triggers call these three
        self.create_function("name_words", 2, _name_words, deterministic=True)
        self.create_function("folded_words", 1, _folded_words, deterministic=True)
        self.create_function("in_folder", 3, in_folder, deterministic=True)
        self.create_function("is_named", 3, is_named, deterministic=True)
        self.execute("PRAGMA trusted_schema = ON")

    def commit(self) -> None:
        if self.in_transaction and not self.read_only and self.total_changes > self._counted:
            self.execute(
                "INSERT INTO meta VALUES (?, '1') ON CONFLICT(key) DO UPDATE SET value = value + 1", (REVISION,)
            )
        super().commit()
        self._counted = self.total_changes

    def commit_derived(self) -> None:
        """Commit temporary tables, or rows about what is derived from the library: no change of it.

        Call it outside other transactions.
        """
        super().commit()
        self._counted = self.total_changes

    def has_table(self, name: str) -> bool:
        """Whether there is a table; an older library that cannot be written lacks those of later versions."""
        query = "SELECT 1 FROM main.sqlite_master WHERE name = ?"
        return self.execute(query, (name,)).fetchone() is not None

    def select_in(self, query: str, values: Iterable[object]) -> Iterator[tuple[Any, ...]]:
        """Rows of a query for many values, some hundreds of them at a time.

        Args:
            query: it holds `IN (?)`, which takes the values.
        """
        iterator = iter(values)
        while block := list(islice(iterator, _VALUES_A_QUERY)):
            marks = ",".join("?" * len(block))
            yield from self.execute(query.replace("IN (?)", f"IN ({marks})"), block).fetchall()

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


def _name_keys(identifier: str, path: bytes | None) -> str:
    return json.dumps(name_keys(identifier, _parse_path(path)))


def _name_words(identifier: str, path: bytes | None) -> str:
    return " ".join(name_words(identifier, _parse_path(path)))


def _folded_words(text: str) -> str:
    return " ".join(tokens(text))


def _parse_path(path: bytes | None) -> FilePath | None:
    return parse_path(os.fsdecode(path)) if path is not None else None


def connect(database: Path) -> Connection:
    """Open a library's database, or lay its tables out where there is none.

    Opening one of this version writes nothing, so that it works on a full disk; an older one is carried forward if it
    can be. Where its folder cannot be written it is opened for reading, see `_connect_to_read`.

    Raises:
        LibraryError: it is damaged, of a later version, or no library.
        sqlite3.Error, OSError: it cannot be read, or not be begun.
    """
    fresh = not database.is_file() or database.stat().st_size == 0
    if fresh and (database.parent / "tracks").is_dir():
        raise LibraryError(f"{database} is empty, though there are tracks beside it: it was damaged; restore it")
    if not fresh and not (os.access(database.parent, os.W_OK) and os.access(database, os.W_OK)):
        return _connect_to_read(database)
    connection = sqlite3.connect(database, timeout=30, check_same_thread=False, factory=Connection)
    try:
        fresh = fresh or not has_tables(connection, database)
    except sqlite3.OperationalError:  # SQLite finds no room for the shared memory that it writes beside the database
        connection.close()
        return _connect_to_read(database)
    except BaseException:
        connection.close()
        raise
    connection.execute("PRAGMA synchronous = FULL")  # a commit that returned survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    if fresh:
        connection.execute("PRAGMA journal_mode = WAL")
        create_tables(connection)
        sync_folder(database.parent)
        return connection
    with contextlib.suppress(sqlite3.OperationalError):  # a full disk: it is read as it is, and written later
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = WAL")
        carry_forward(connection)
    return connection


def _connect_to_read(database: Path) -> Connection:
    """Open for reading, whole and current, where SQLite can write nothing beside the database.

    With its shared memory at hand SQLite reads the write-ahead log as ever. Without, the log must not be overlooked: it
    is read through a private copy. Where there is no log the database alone is all there is.
    """
    log = database.with_name(database.name + "-wal")
    origin = file_state(database)
    if log.exists() and database.with_name(database.name + "-shm").exists():
        connection = _open_address(database, "mode=ro")
        try:
            has_tables(connection, database)
            return connection
        except sqlite3.OperationalError:
            connection.close()
    if log.exists() and log.stat().st_size:
        connection = _connect_to_copy(database, log)
    else:
        connection = _open_address(database, "mode=ro&immutable=1")
    if not has_tables(connection, database):
        connection.close()
        raise LibraryError(f"{database} was begun and is empty; nothing was ever added to it")
    connection.origin = origin
    return connection


def _open_address(database: Path, options: str) -> Connection:
    address = f"file:{quote(str(database))}?{options}"
    connection = sqlite3.connect(address, uri=True, timeout=30, check_same_thread=False, factory=Connection)
    connection.read_only = True
    return connection


def _connect_to_copy(database: Path, log: Path) -> Connection:
    """Copy database and log, bring them together, and open the result, whose name is gone when this returns.

    Raises:
        LibraryError: there is no room for a copy, or the files never held still.
    """
    size = database.stat().st_size + log.stat().st_size
    try:
        with tempfile.TemporaryDirectory(prefix="reelseek-") as folder:
            if shutil.disk_usage(folder).free < 2 * size:
                raise OSError(errno.ENOSPC, f"it needs {2 * size / 1e6:.0f} MB", folder)
            copy = Path(folder, database.name)
            _copy_unchanged(database, log, copy)
            with contextlib.closing(sqlite3.connect(copy)) as merged:
                merged.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                merged.execute("PRAGMA journal_mode = DELETE")
            connection = _open_address(copy, "mode=ro&immutable=1")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens the file while it has a name
            return connection
    except OSError as error:
        raise LibraryError(
            f"{database.parent} cannot be written and has changes that are only in {log.name}; a private copy for "
            f"reading them could not be made: {error}. Set TMPDIR to a folder with room, or open the library as a "
            "user who may write it"
        ) from error


def _copy_unchanged(database: Path, log: Path, copy: Path) -> None:
    """Copy both as they were at one instant: each is compared with its copy after both were copied."""
    pairs = [(database, copy), (log, copy.with_name(copy.name + "-wal"))]
    for attempt in range(_COPY_ATTEMPTS):
        time.sleep(0.05 * attempt)
        filecmp.clear_cache()
        with contextlib.suppress(FileNotFoundError):  # the log goes when its last writer does
            for source, target in pairs:
                target.unlink(missing_ok=True)
                if source == database or source.exists():
                    shutil.copyfile(source, target)
            if all(source.exists() == target.exists() for source, target in pairs) and all(
                filecmp.cmp(source, target, shallow=False) for source, target in pairs if source.exists()
            ):
                return
    raise OSError(errno.EBUSY, "somebody writes to it without a pause", str(database))


def file_state(database: Path) -> tuple[tuple[int, int, int] | None, ...]:
    """Changes when the files of a database do; for those who cannot follow it through SQLite."""
    states: list[tuple[int, int, int] | None] = []
    for path in (database, database.with_name(database.name + "-wal")):
        try:
            status = path.stat()
            states.append((status.st_ino, status.st_size, status.st_mtime_ns))
        except FileNotFoundError:
            states.append(None)
    return tuple(states)
