"""The folder of a library: its database, the bytes of its tracks, and who may write. SQLite is the one truth.

Bytes of a track are on disk before the row that names them commits, and a commit is on disk before files that it no
longer names are deleted, so a crash or a power cut at any instant loses at most the item in hand. Many readers, one
writer.
"""

import fcntl
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from reelseek.errors import LibraryError
from reelseek.experts.expert import Track
from reelseek.library.catalog import Catalog, Connection
from reelseek.library.files import make_folder
from reelseek.library.records import Place, TrackRow
from reelseek.library.remedies import describe_damage, name_owner
from reelseek.library.shards import Shards, folder_name, track_hash

__all__ = ["BusyError", "Storage"]

_DATABASE = "library.db"
_BEGUN = frozenset((_DATABASE, "library.db-journal", "library.db-wal", "library.db-shm", "library.lock"))
_BRIEF = b"brief"  # in the lock's file: whoever holds it will not do so for long
_SHORTEST_MOMENT, _LONGEST_MOMENT = 0.3, 60.0  # seconds to wait for a writer that does not say so, or does


class BusyError(LibraryError):
    """Another process is writing to the library."""


class Storage:
    """The open folder of a library: transactions over rows and bytes together.

    Args:
        path: its absolute path.
        catalog: its database.
    """

    def __init__(self, path: Path, catalog: Catalog) -> None:
        self.path = path
        self.catalog = catalog
        self._shards: dict[str, Shards] = {}
        self._lock: int | None = None

    @property
    def db(self) -> Connection:
        """The connection to the database, for tests and tools; the house itself calls the catalog's methods."""
        return self.catalog.connection

    # Opening

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, create: bool = False) -> Self:
        """Open a library, or begin one.

        Raises:
            LibraryError: there is none (and `create` is not set), it is of a later version, or cannot be read.
        """
        folder = Path(path).absolute()
        database = folder / _DATABASE
        if not database.is_file() and not create:
            raise LibraryError(f"{folder} is not a library; begin one with: reelseek add {folder} VIDEOS")
        if create and not database.is_file():
            if folder.is_dir() and {entry.name for entry in folder.iterdir()} - _BEGUN:
                raise LibraryError(f"{folder} exists and is not a library; name an empty or a new folder")
            try:
                make_folder(folder)
            except OSError as error:
                raise LibraryError(f"{folder} cannot be made: {error.strerror}") from error
        try:
            return cls(folder, Catalog.open(database))
        except (sqlite3.Error, OSError) as error:
            raise LibraryError(f"{database} cannot be opened: {error}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process it is opened again: a connection to SQLite must not be taken along."""
        return type(self).open, (self.path,)

    def close(self) -> None:
        """Close the database and let others write; arrays that were read stay valid."""
        self.catalog.close()
        self._unlock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def revision(self) -> int:
        """A number that every committed change of a row raises, whichever process commits it; the same for all readers.

        It costs one look-up by key, so that who follows a library may ask before every answer. A library that can only
        be read through a copy is opened again here when its files changed, so that what is read next is current.
        """
        if self.catalog.is_outdated():
            self.catalog = Catalog.open(self.path / _DATABASE)  # the old one closes with the last query that uses it
        return self.catalog.revision()

    # Writing

    @contextmanager
    def writing(self, *, finish: bool = True, brief: bool = False) -> Iterator[None]:
        """Be the one writer.

        Args:
            finish: first finish a removal that was interrupted.
            brief: it takes a moment; who wants to write meanwhile waits instead of failing.

        Raises:
            BusyError: another process is.
            LibraryError: the disk is full or the folder read-only. Nothing is lost by it.
        """
        if self._lock is not None:
            yield
            return
        try:
            self._lock = os.open(self.path / "library.lock", os.O_RDWR | os.O_CREAT, 0o644)
            self._wait_for_lock(self._lock)
            os.ftruncate(self._lock, 0)
            if brief:
                os.write(self._lock, _BRIEF)
        except BlockingIOError as error:
            self._unlock()
            raise BusyError(f"another process is writing to {self.path}; wait for it to end") from error
        except OSError as error:
            self._unlock()
            raise LibraryError(f"{self.path} cannot be written: {error.strerror}") from error
        try:
            with self.write_errors():
                self.catalog.carry_forward()
                if finish:
                    self.finish_interrupted()
                yield
        finally:
            self._unlock()

    @property
    def is_writer(self) -> bool:
        """Whether this is the one writer now."""
        return self._lock is not None

    def _wait_for_lock(self, lock: int) -> None:
        """Lock a file, as soon as a writer of a moment has ended.

        Raises:
            BlockingIOError: another process writes for longer.
        """
        started = time.monotonic()
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                waited = time.monotonic() - started  # the other one says that it is brief just after it got the lock
                if waited > (_LONGEST_MOMENT if os.pread(lock, len(_BRIEF), 0) == _BRIEF else _SHORTEST_MOMENT):
                    raise
            time.sleep(0.01)

    def finish_interrupted(self) -> None:
        """Finish what an earlier writer left half done; `Library` says how."""

    @contextmanager
    def write_errors(self) -> Iterator[None]:
        """Turn a full disk and a read-only folder into LibraryErrors."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise LibraryError(f"{self.path} cannot be written: {error}; what was finished is kept") from error
        except OSError as error:
            if error.filename is None or os.fsdecode(error.filename).startswith(str(self.path)):
                raise LibraryError(f"{self.path} cannot be written: {error}; what was finished is kept") from error
            raise

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    @contextmanager
    def saving(self) -> Iterator[None]:
        """One transaction: the bytes of its tracks are on disk before the rows that name them commit."""
        try:
            with self.write_errors():
                yield
                self.commit()
        except BaseException:
            self.catalog.rollback()
            raise

    def commit(self) -> None:
        """End the transaction at hand, bytes first; for long imports inside `saving`."""
        with self.write_errors():
            for shards in self._shards.values():
                shards.sync()
            self.catalog.commit()

    def meta(self, key: str) -> str | None:
        """The text that is kept under a key."""
        return self.catalog.meta(key)

    def set_meta(self, key: str, value: str) -> None:
        """Keep a text under a key, in a transaction of its own.

        Raises:
            LibraryError: it cannot be written.
        """
        with self.write_errors(), self.catalog.transaction():
            self.catalog.set_meta(key, value)

    # Tracks

    def read(self, row: TrackRow) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
        """Memory-mapped values [step, dim] and spans [step, 2] of a track; of where it lies now, if a writer moved it.

        Raises:
            LibraryError: it is lost or damaged (names the video and what to do), or was removed since `row` was read.
        """
        while True:
            try:
                return self.shards(row).read(row.place, row.steps)
            except LibraryError as error:
                self.revision()
                present = self.catalog.tracks.get(row.owner, row.expert)
                if present is None or present.fingerprint != row.fingerprint:
                    name = name_owner(self.catalog, row.owner)
                    raise LibraryError(
                        f"{self.path} was changed: {row.expert} of {name} was removed or made anew since this began; "
                        "open the library again"
                    ) from error
                if present.place == row.place and present.steps == row.steps:
                    raise LibraryError(self.describe_damage(row, str(error))) from error
                row = present

    def damage(self, row: TrackRow) -> str | None:
        """A sentence on what is wrong with a track's bytes on disk, all of which are read; None where nothing is.

        A track that another process moved or removed since its row was read is not damaged.
        """
        tracks = self.catalog.tracks
        sha256, present = tracks.sha256(row.owner, row.expert), tracks.get(row.owner, row.expert)
        if present is None or sha256 is None:
            return None
        try:
            values, spans = self.shards(present).read(present.place, present.steps)
        except LibraryError as error:
            problem = str(error)
        else:
            if track_hash(values, spans) != sha256:
                problem = "its bytes on disk are not what was written"
            elif np.isfinite(values).all():
                return None
            else:
                problem = "it holds NaN or infinity"
        return self.describe_damage(row, problem) if tracks.get(row.owner, row.expert) == present else None

    def describe_damage(self, row: TrackRow, problem: str) -> str:
        """A sentence that names the video, what is wrong with its track, and what makes it whole again."""
        return describe_damage(self.catalog, self.path, row, problem)

    def put_track(self, owner: str, expert: str, fingerprint: str, modality: str, track: Track) -> None:
        """Store one track, replacing what the expert had for this owner; call it inside `saving`.

        Bytes that are there already are not written again.
        """
        dim, dtype, sha256 = track.values.shape[1], track.values.dtype.name, track_hash(track.values, track.spans)
        place = self._place_of(owner, expert, fingerprint, sha256)
        if place is None:
            place = self._append(fingerprint, track) if len(track.values) else (0, 0)
        self.catalog.remove_track(owner, expert)
        row = TrackRow(owner, expert, fingerprint, modality, place, len(track.values), dim, dtype, track.note)
        self.catalog.tracks.add(row, sha256)
        self.catalog.texts.put(owner, expert, track.texts)
        self.catalog.clear_damage(owner, expert)

    def _place_of(self, owner: str, expert: str, fingerprint: str, sha256: str) -> Place | None:
        """Where a track with these very bytes lies, if it does and they are whole."""
        row = self.catalog.tracks.get(owner, expert)
        if row is None or row.fingerprint != fingerprint or self.catalog.tracks.sha256(owner, expert) != sha256:
            return None
        try:
            return row.place if track_hash(*self.shards(row).read(row.place, row.steps)) == sha256 else None
        except LibraryError:
            return None

    def _append(self, fingerprint: str, track: Track) -> Place:
        dim, dtype, tracks = track.values.shape[1], track.values.dtype.name, self.catalog.tracks
        shards, end = self.shards_of(fingerprint, dim, dtype), tracks.end(fingerprint)
        had_more = shards.has_more(end)
        place = shards.append(track.values, track.spans, end, self.catalog.deleted_below())
        for shard in {end[0], place[0]} if had_more else ():  # a writer was killed before it could name what it wrote
            tracks.add_hole(fingerprint, dim, dtype, shard)
        return place

    def shards(self, row: TrackRow) -> Shards:
        """The files in which a track lies."""
        return self.shards_of(row.fingerprint, row.dim, row.dtype)

    def shards_of(self, fingerprint: str, dim: int, dtype: str) -> Shards:
        """The files in which tracks of one fingerprint lie."""
        if fingerprint not in self._shards:
            self._shards[fingerprint] = Shards(self.path / "tracks" / folder_name(fingerprint), dim, dtype)
        return self._shards[fingerprint]

    def drop_content(self, content: str) -> None:
        """Forget everything derived from a content that no video has any more (its bytes stay until compaction)."""
        if not self.catalog.videos.has_content(content):
            self.remove_copy(content)
            self.catalog.remove_owner(content)
            self.catalog.contents.remove(content)

    def remove_copy(self, content: str) -> None:
        """Delete the copy for browsers that was made of a content, and what is kept of unfinished work on it."""
        (self.path / "copies" / f"{content}.mp4").unlink(missing_ok=True)
        self.remove_parts(content)

    def parts_folder(self, content: str) -> Path:
        """Where the unfinished work on a content is kept."""
        return self.path / "parts" / content

    def remove_parts(self, content: str) -> None:
        """Delete what is kept of unfinished work on a content."""
        shutil.rmtree(self.parts_folder(content), ignore_errors=True)
