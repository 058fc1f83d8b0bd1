"""The state folder of a server: what outlives it, as SQLite databases beside the libraries that it serves."""

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import platformdirs

from reelseek.errors import LibraryError

__all__ = ["Database", "StateFolder", "default_state", "now"]

_BUSY_SECONDS = 10.0


class Database:
    """One SQLite database of the state folder, for all threads of a server and for other processes beside it.

    Args:
        path: of the file; begun if it does not exist, readable by its user alone.
        schema: statements that lay its tables out, each with IF NOT EXISTS.

    Raises:
        LibraryError: it cannot be opened.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self.path = path
        self._lock = threading.RLock()
        with self._errors():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
            try:
                self._connection.executescript(f"PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON; {schema}")
            except sqlite3.Error:
                self._connection.close()
                raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write, all or nothing.

        Raises:
            LibraryError: the disk is full or the folder read-only; nothing was written.
        """
        with self._lock, self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self._lock, self._errors():
            return self._connection.execute(query, parameters).fetchall()

    def row(self, query: str, parameters: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row of a query, if there is one."""
        rows = self.rows(query, parameters)
        return rows[0] if rows else None

    def close(self) -> None:
        """Close the database; nothing may use it any more."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except (sqlite3.Error, OSError) as error:
            raise LibraryError(f"{self.path} cannot be used: {error}; see to its folder (is the disk full?)") from error


class StateFolder:
    """The folder, which one server at a time has for itself.

    Args:
        path: made if it does not exist, for its user alone.

    Raises:
        LibraryError: it cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            reason = error.strerror
            raise LibraryError(
                f"{self.path} cannot hold the server's state: {reason}; name another: --state"
            ) from error

    def claim(self) -> bool:
        """Take the folder for this process until it ends; False where another server has it."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def subfolder(self, name: str) -> Path:
        """A folder within, made if it does not exist.

        Raises:
            LibraryError: it cannot be made.
        """
        folder = self.path / name
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise LibraryError(f"{folder} cannot be made: {error.strerror}") from error
        return folder

    def close(self) -> None:
        """Let another server have it."""
        os.close(self._lock)


def default_state(library: Path) -> Path:
    """Where a server keeps its state unless told: beside the library, else among this user's own data.

    Example:
        default_state(Path("/srv/my.library")) == Path("/srv/my.library.state")
    """
    folder = library.absolute()
    beside = folder.with_name(f"{folder.name}.state")
    if beside.is_dir() or os.access(beside.parent, os.W_OK):
        return beside
    return Path(platformdirs.user_state_dir("reelseek")) / f"{folder.name}.state"


def now() -> float:
    """Seconds since 1970, as all tables have them."""
    return round(time.time(), 3)
