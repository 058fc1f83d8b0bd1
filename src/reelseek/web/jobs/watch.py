"""Watched folders: new and changed files are added once they have stopped changing, moved ones keep their ids.

Folders are looked through again and again instead of being subscribed to: file servers tell nobody of changes, and
whether a file still grows is seen in no other way.
"""

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelseek.errors import LibraryError
from reelseek.library import Library
from reelseek.library.files import write_whole
from reelseek.library.folders import walk_folder
from reelseek.library.names import printable
from reelseek.library.within import lies_within
from reelseek.web.state import Database, now

__all__ = ["FolderWatch", "WatchList", "WatchedFolder"]

State = tuple[int, int]
_SCHEMA = """
CREATE TABLE IF NOT EXISTS watched (
  library BLOB NOT NULL, folder BLOB NOT NULL, since REAL NOT NULL, by TEXT NOT NULL,
  PRIMARY KEY (library, folder)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS libraries (
  name TEXT PRIMARY KEY, folder BLOB NOT NULL, since REAL NOT NULL, by TEXT NOT NULL
) WITHOUT ROWID;
"""
_SCANS_PER_PAUSE = 20  # looking through takes at most so small a part of the time
_log = logging.getLogger("reelseek.web")


@dataclass(frozen=True)
class WatchedFolder:
    """A folder, and what the last look at it saw."""

    folder: Path
    since: float
    by: str
    problem: str = ""
    waiting: int = 0
    looked: float | None = None


class WatchList:
    """The tables of watched folders, and of libraries that were begun by the server."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA)

    def close(self) -> None:
        self._database.close()

    def folders(self, library: Path) -> list[WatchedFolder]:
        """The watched folders of a library."""
        query = "SELECT folder, since, by FROM watched WHERE library = ? ORDER BY folder"
        rows = self._database.rows(query, (bytes(library),))
        return [WatchedFolder(Path(os.fsdecode(row["folder"])), row["since"], row["by"]) for row in rows]

    def put(self, library: Path, folders: Sequence[Path], by: str) -> None:
        """Watch these folders for a library and no others."""
        with self._database.transaction() as connection:
            present = {
                row["folder"]
                for row in connection.execute("SELECT folder FROM watched WHERE library = ?", (bytes(library),))
            }
            names = {bytes(folder) for folder in folders}
            for name in present - names:
                connection.execute("DELETE FROM watched WHERE library = ? AND folder = ?", (bytes(library), name))
            for name in names - present:
                connection.execute("INSERT INTO watched VALUES (?, ?, ?, ?)", (bytes(library), name, now(), by))

    def libraries(self) -> dict[str, Path]:
        """Folders of the libraries that were begun by the server, by name."""
        rows = self._database.rows("SELECT name, folder FROM libraries ORDER BY since")
        return {row["name"]: Path(os.fsdecode(row["folder"])) for row in rows}

    def add_library(self, name: str, folder: Path, by: str) -> bool:
        """Note a library that is begun; False where there is one of this name."""
        with self._database.transaction() as connection:
            statement = "INSERT OR IGNORE INTO libraries VALUES (?, ?, ?, ?)"
            return connection.execute(statement, (name, bytes(folder), now(), by)).rowcount > 0

    def remove_library(self, name: str) -> Path | None:
        """Forget a library that was begun; returns its folder, None where there is none of this name."""
        with self._database.transaction() as connection:
            row = connection.execute("DELETE FROM libraries WHERE name = ? RETURNING folder", (name,)).fetchone()
        return Path(os.fsdecode(row["folder"])) if row is not None else None


class FolderWatch:
    """Looks through watched folders, and hands over what is to be added.

    Args:
        add: called with the library's folder and the arguments of an add job; False where one waits already.
        tables: folder for the tables that such a job reads.
        settle_seconds: how long a file must not have changed.
    """

    def __init__(
        self,
        watched: WatchList,
        add: Callable[[Path, Mapping[str, Any]], bool],
        tables: Path,
        *,
        seconds: float = 10.0,
        settle_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watched, self._add, self._tables = watched, add, tables
        self._seconds, self._settle_seconds, self._clock = seconds, settle_seconds, clock
        self._states: dict[Path, tuple[State, float]] = {}  # of files that are new: as they are, and since when
        self._submitted: dict[Path, State] = {}
        self._looks: dict[tuple[Path, Path], WatchedFolder] = {}
        self._wake, self._closing = threading.Event(), False
        self._thread: threading.Thread | None = None

    def start(self, libraries: Callable[[], Sequence[Path]]) -> None:
        """Look through the folders of these libraries from now on."""
        self._thread = threading.Thread(target=self._run, args=(libraries,), name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(10.0)

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def folders(self, library: Path) -> list[WatchedFolder]:
        """The watched folders of a library, with what the last look saw."""
        return [self._looks.get((library, row.folder), row) for row in self._watched.folders(library)]

    def _run(self, libraries: Callable[[], Sequence[Path]]) -> None:
        while not self._closing:
            began = self._clock()
            try:
                for library in libraries():
                    self.look(library)
            except Exception as error:  # the thread goes on, so that one bad look does not end all later ones
                _log.error("watched folders: %s: %s", type(error).__name__, error)
            self._wake.wait(max(self._seconds, _SCANS_PER_PAUSE * (self._clock() - began)))
            self._wake.clear()

    def look(self, library: Path) -> None:
        """Look through the watched folders of a library once."""
        for watched in self._watched.folders(library):
            problem, waiting = "", 0
            try:
                settled, waiting, outside = self._changes(library, watched.folder)
                if outside:
                    problem = f"{outside} files are links out of the folder and are not added"
                if settled and not self._submit(library, watched.folder, settled):
                    waiting += len(settled)
            except (LibraryError, OSError, sqlite3.Error) as error:
                problem = str(error)
            row = WatchedFolder(watched.folder, watched.since, watched.by, problem, waiting, now())
            self._looks[library, watched.folder] = row

    def _changes(self, library: Path, folder: Path) -> tuple[dict[Path, State], int, int]:
        """Files that are new and have settled, and how many have not, or lead out of the folder."""
        if not folder.is_dir():
            raise LibraryError(f"{printable(folder)} is not there; it may have been moved or unmounted")
        new, outside = self._new_files(library, folder), 0
        settled: dict[Path, State] = {}
        waiting, moment = 0, self._clock()
        for path, state in new.items():
            if self._submitted.get(path) == state:
                continue
            if not lies_within(path, [folder]):
                outside += 1
                continue
            before, since = self._states.get(path, (None, moment))
            self._states[path] = (state, since if before == state else moment)
            if before == state and moment - since >= self._settle_seconds:
                settled[path] = state
            else:
                waiting += 1
        self._states = {path: row for path, row in self._states.items() if path in new or folder not in path.parents}
        return settled, waiting, outside

    def _new_files(self, library: Path, folder: Path) -> dict[Path, State]:
        """Files that the library does not have as they are, and that did not fail as they are."""
        states: dict[Path, State] = {}
        for path in walk_folder(folder)[0]:
            try:
                status = path.stat()
            except OSError:
                continue  # gone since; the next look knows
            states[path] = (status.st_size, status.st_mtime_ns)
        with Library.open(library) as opened:
            present = opened.catalog.videos.file_states(states)
            failed = {path: state for path, state, _ in opened.catalog.failures.of_files(states)}
        return {
            path: state for path, state in states.items() if present.get(path) != state and failed.get(path) != state
        }

    def _submit(self, library: Path, folder: Path, files: Mapping[Path, State]) -> bool:
        """Ask for an add job over these files alone, by a table: others of the folder may still be growing."""
        rows = [
            json.dumps({"video": printable(path.relative_to(folder)), "path": str(path)})
            for path in files
            if printable(path) == str(path)
        ]
        nameless = len(files) - len(rows)
        if nameless:
            _log.warning("%d files of %s have names that are no text; add the folder itself", nameless, folder)
        table = self._tables / f"watched-{time.time_ns()}.jsonl"
        if rows:
            write_whole(table, "\n".join(rows) + "\n")
            if not self._add(library, {"watched": [str(folder)], "table": str(table), "files": len(rows)}):
                table.unlink()
                return False
        self._submitted |= files
        return True
