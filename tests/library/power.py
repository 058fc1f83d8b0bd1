"""Power cuts, replayed: what the disk may hold after each step of a command, if the power goes there.

Every call of this process that makes bytes or names durable, or changes names (fsync, rename, unlink, mkdir, rmdir), is
recorded, and before each the worst states that a cut allows are written down:

* `synced`: files as of their last fsync, folders as of theirs; what was never synced is empty or absent.
* `renamed`: files as of their last fsync, but every name as it is now: renames and unlinks overtook the bytes.
* `killed`: everything as it is now, as after a kill.

SQLite writes below Python, so its files are taken as a pair (database and log): in `killed` as they lie on disk, else
as they were when a commit, a checkpoint, VACUUM or close returned, which it has then synced. A commit counts as synced
only with `PRAGMA synchronous` at FULL; below that only a checkpoint does, as SQLite documents it. What this cannot see:
cuts inside SQLite's own calls (its own tests cover those), and sectors that a disk writes in part.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reelseek.library.catalog import Connection

_FULL = 2
_DATABASE = ("library.db", "library.db-wal")
_IGNORED = ("library.db-shm", "library.db-journal", "library.lock")
_CHANGES = ("fsync", "rename", "replace", "unlink", "remove", "mkdir", "rmdir", "truncate")
State = dict[str, bytes | None]
"""Bytes of each file by its path below the root; None for a folder."""


@dataclass(frozen=True)
class Cut:
    """The disk after a cut.

    Attributes:
        step: what would have come next.
        commits: how many commits, or other calls that acknowledge something, had returned.
    """

    step: str
    kind: str
    commits: int
    state: State = field(hash=False)

    def restore(self, root: Path) -> Path:
        """Write the state into a new folder."""
        root.mkdir(parents=True)
        for name, data in sorted(self.state.items()):
            path = root / name
            if data is None:
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        return root


class PowerCuts:
    """Records the cuts of whatever runs inside `recording`; what lies under `root` before is on disk.

    Args:
        on_commit: called after each commit of a library.
    """

    def __init__(self, root: Path, on_commit: Callable[[], None] = lambda: None) -> None:
        self.root, self.on_commit = root, on_commit
        self.cuts: list[Cut] = []
        self.commits = 0
        self._identity: dict[int, int] = {}  # of a file by its inode, which is used again after it is gone
        self._next = 0
        self._bytes: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._kinds: dict[int, bool] = {}  # whether it is a folder
        self._database: State = {}
        for path in [root, *sorted(root.rglob("*"))]:
            self._sync(path)
        self._sync_database()

    def _of(self, path: Path) -> int:
        inode = path.stat().st_ino
        if inode not in self._identity:
            self._identity[inode] = self._next
            self._kinds[self._next] = path.is_dir()
            self._next += 1
        return self._identity[inode]

    def _sync(self, path: Path) -> None:
        if path.name in (*_DATABASE, *_IGNORED):
            return
        if path.is_dir():
            names = {p.name: self._of(p) for p in path.iterdir() if p.name not in (*_DATABASE, *_IGNORED)}
            self._names[self._of(path)] = names
        else:
            self._bytes[self._of(path)] = path.read_bytes()

    def _sync_database(self) -> None:
        self._database = self._database_now()

    def _database_now(self) -> State:
        paths = [path for name in _DATABASE for path in self.root.rglob(name)]
        return {str(path.relative_to(self.root)): path.read_bytes() for path in paths}

    def _synced(self) -> State:
        def walk(folder: int, prefix: str) -> Iterator[tuple[str, bytes | None]]:
            for name, child in self._names.get(folder, {}).items():
                yield prefix + name, None if self._kinds[child] else self._bytes.get(child, b"")
                yield from walk(child, f"{prefix}{name}/")

        return {**dict(walk(self._of(self.root), "")), **self._database}

    def _now(self, *, synced: bool) -> State:
        state: State = {}
        for path in self.root.rglob("*"):
            if path.name in (*_DATABASE, *_IGNORED):
                continue
            name = str(path.relative_to(self.root))
            if path.is_dir():
                state[name] = None
            else:
                state[name] = self._bytes.get(self._of(path), b"") if synced else path.read_bytes()
        return {**state, **(self._database if synced else self._database_now())}

    def note(self, step: str) -> None:
        states = {"synced": self._synced(), "renamed": self._now(synced=True), "killed": self._now(synced=False)}
        for kind, state in states.items():
            if all(state != cut.state for cut in self.cuts[-6:] if cut.commits == self.commits):
                self.cuts.append(Cut(step, kind, self.commits, state))

    def acknowledge(self) -> None:
        """Something else than a commit returned, and is to survive every later cut."""
        self.commits += 1

    @contextmanager
    def recording(self) -> Iterator["PowerCuts"]:
        with pytest.MonkeyPatch.context() as patched:
            for name in _CHANGES:
                patched.setattr(os, name, self._patched(name, getattr(os, name)))
            patched.setattr(Connection, "commit", self._committing(Connection.commit))
            for name in ("execute", "close"):
                patched.setattr(Connection, name, self._settling(getattr(Connection, name)), raising=False)
            yield self
        self.note("the end")

    def _patched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.note(f"{name} {args}")
            before = {path.stat().st_ino for path in self.root.rglob("*")}
            result = function(*args, **options)
            for inode in before - {path.stat().st_ino for path in self.root.rglob("*")}:
                self._identity.pop(inode, None)
            if name == "fsync":
                status = os.fstat(args[0])
                for path in [self.root, *self.root.rglob("*")]:
                    if path.stat().st_ino == status.st_ino:
                        assert path.is_dir() == stat.S_ISDIR(status.st_mode)
                        self._sync(path)
            return result

        return call

    def _committing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(connection: Connection) -> Any:
            changes = connection.in_transaction
            self.note("commit")
            result = function(connection)
            if changes:
                if connection.execute("PRAGMA synchronous").fetchone()[0] >= _FULL:
                    self._sync_database()
                self.commits += 1
                self.on_commit()
            return result

        return call

    def _settling(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(connection: Connection, *args: Any) -> Any:
            settles = not args or "wal_checkpoint" in args[0] or args[0] == "VACUUM"
            if settles:
                self.note(args[0] if args else "close")
            result = function(connection, *args)
            if settles:
                self._sync_database()
            return result

        return call
