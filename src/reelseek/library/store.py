"""A library: videos, captions, tracks, texts and failures in one folder. SQLite is the one truth.

Bytes of a track are on disk before the row that names them commits, and a commit is on disk before files that it no
longer names are deleted, so a crash or a power cut at any instant loses at most the item in hand. Many readers, one
writer.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import LibraryError, UsageError
from reelseek.experts.expert import Text, Track
from reelseek.library.damage import Check, clear_damage, damaged_bytes, describe_damage, name_owner, verify
from reelseek.library.database import FORMAT_VERSION, REVISION, Connection, connect, file_state
from reelseek.library.files import make_folder
from reelseek.library.names import same_name
from reelseek.library.removal import compact, deleted_below, finish_interrupted, remove_expert, remove_videos
from reelseek.library.shards import Place, Shards, folder_name, track_hash
from reelseek.library.words import add_words_table, index_words
from reelseek.media.notice import Notice

__all__ = ["FORMAT_VERSION", "Caption", "Library", "TrackRow", "Video"]

_TRACKS = "SELECT owner, expert, fingerprint, modality, shard, first_row, steps, dim, dtype, note FROM tracks"


@dataclass(frozen=True)
class Video:
    """One row of the collection; `path` is None where the file is not at hand."""

    id: str
    path: Path | None
    content: str | None
    duration: float | None
    split: str | None = None

    @property
    def owners(self) -> tuple[str, ...]:
        """Whose tracks are this video's: its content's, and those imported under its id."""
        return (*((self.content,) if self.content else ()), f"id:{self.id}")


@dataclass(frozen=True)
class Caption:
    """A caption of a video, or of a span of it."""

    video: str
    text: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    split: str | None = None


@dataclass(frozen=True)
class TrackRow:
    """Where a track lies and what it is."""

    owner: str
    expert: str
    fingerprint: str
    modality: str
    place: Place
    steps: int
    dim: int
    dtype: str
    note: str


class Library:
    """An open library.

    Args:
        path: its folder.
        connection: of its library.db.
    """

    def __init__(self, path: Path, connection: Connection) -> None:
        self.path = path
        self.db = connection
        self._shards: dict[str, Shards] = {}
        self._lock: int | None = None

    # Opening

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, create: bool = False) -> "Library":
        """Open a library, or begin one.

        Raises:
            LibraryError: there is none (and `create` is not set), it is of another version, or cannot be read.
        """
        folder = Path(path).absolute()
        database = folder / "library.db"
        if not database.is_file() and not create:
            raise LibraryError(f"{folder} is not a library; begin one with: reelseek add {folder} VIDEOS")
        if create and not database.is_file():
            begun = {"library.db", "library.db-journal", "library.db-wal", "library.db-shm", "library.lock"}
            if folder.is_dir() and {p.name for p in folder.iterdir()} - begun:
                raise LibraryError(f"{folder} exists and is not a library; name an empty or a new folder")
            try:
                make_folder(folder)
            except OSError as error:
                raise LibraryError(f"{folder} cannot be made: {error.strerror}") from error
        try:
            return cls(folder, connect(database))
        except (sqlite3.Error, OSError) as error:
            raise LibraryError(f"{database} cannot be opened: {error}") from error

    def close(self) -> None:
        self.db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> "Library":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def writing(self, *, finish: bool = True) -> Iterator[None]:
        """Be the one writer.

        Args:
            finish: first finish a removal that was interrupted.

        Raises:
            LibraryError: another process is; or the disk is full or the folder read-only. Nothing is lost by it.
        """
        if self._lock is not None:
            yield
            return
        try:
            self._lock = os.open(self.path / "library.lock", os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._unlock()
            raise LibraryError(f"another process is writing to {self.path}; wait for it to end") from error
        except OSError as error:
            self._unlock()
            raise LibraryError(f"{self.path} cannot be written: {error.strerror}") from error
        try:
            with self._write_errors():
                add_words_table(self.db)
                if finish:
                    finish_interrupted(self)
                yield
        finally:
            self._unlock()

    @contextmanager
    def _write_errors(self) -> Iterator[None]:
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

    # Reading

    def revision(self) -> int:
        """A number that every committed change of a row raises, whichever process commits it; the same for all readers.

        It costs one look-up by key, so that who follows a library may ask before every answer. A library that can only
        be read through a copy is opened again here when its files changed, so that what is read next is current.
        """
        database = self.path / "library.db"
        if self.db.origin is not None and self.db.origin != file_state(database):
            self.db = connect(database)  # the old one closes with the last query that uses it
        return int(self.meta(REVISION) or 0)

    def meta(self, key: str) -> str | None:
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def set_meta(self, key: str, value: str) -> None:
        with self._write_errors(), self.db:
            self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def videos(self) -> list[Video]:
        """All videos in order of id."""
        rows = self.db.execute("SELECT id, path, content, duration, split FROM videos ORDER BY id")
        return [_video(row) for row in rows]

    def video(self, name: str) -> Video:
        """A video by its id, its path, or the end of its path where that names just one, in any form of its letters.

        Raises:
            UsageError: no such video, or several.
        """
        columns = "SELECT id, path, content, duration, split FROM videos"
        row = self.db.execute(f"{columns} WHERE id = ?", (name,)).fetchone()
        row = row or self.db.execute(f"{columns} WHERE path = ?", (os.fsencode(os.path.abspath(name)),)).fetchone()
        if row:
            return _video(row)
        form, videos = same_name(name), self.videos()
        near = [v for v in videos if same_name(v.id) == form]
        near = near or [v for v in videos if v.path and f"/{same_name(str(v.path))}".endswith(f"/{form}")]
        if len(near) == 1:
            return near[0]
        several = f"; it could be {', '.join(v.id for v in near[:5])}" if near else ""
        raise UsageError(f"{self.path} has no video {name!r}{several}; list them with: reelseek info --videos")

    def get(self, identifier: str) -> Video | None:
        """The video of exactly this id, if there is one."""
        columns = "SELECT id, path, content, duration, split FROM videos"
        row = self.db.execute(f"{columns} WHERE id = ?", (identifier,)).fetchone()
        return _video(row) if row else None

    def captions(self, split: str | None = None) -> list[Caption]:
        """Captions in order of video and position, of one split or of all."""
        query = "SELECT video, text, start_seconds, end_seconds, split FROM captions"
        rows = self.db.execute(
            f"{query} WHERE split = ? ORDER BY video, position" if split else f"{query} ORDER BY video, position",
            (split,) if split else (),
        )
        return [Caption(*row) for row in rows]

    def splits(self) -> dict[str, int]:
        """Captions by split."""
        rows = self.db.execute("SELECT coalesce(split, ''), count(*) FROM captions GROUP BY 1 ORDER BY 1")
        return dict(rows.fetchall())

    def memberships(self) -> dict[str, list[str]]:
        """Videos of each split that a list gave, in its order; a video may be in several."""
        try:
            rows = self.db.execute("SELECT split, video FROM memberships ORDER BY split, position").fetchall()
        except sqlite3.OperationalError:  # a library of before lists were kept, opened for reading only
            return {}
        found: dict[str, list[str]] = {}
        for split, video in rows:
            found.setdefault(split, []).append(video)
        return found

    def put_split(self, split: str, videos: Sequence[str]) -> None:
        """Add videos to a split; those that it has keep their places."""
        (start,) = self.db.execute("SELECT count(*) FROM memberships WHERE split = ?", (split,)).fetchone()
        self.db.executemany(
            "INSERT OR IGNORE INTO memberships VALUES (?, ?, ?)",
            [(split, video, start + place) for place, video in enumerate(videos)],
        )

    def track_rows(self, expert: str | None = None) -> list[TrackRow]:
        """Every track's row, of one expert or of all."""
        rows = self.db.execute(f"{_TRACKS} WHERE expert = ?" if expert else _TRACKS, (expert,) if expert else ())
        return [_track_row(row) for row in rows]

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
                present = self._track(row.owner, row.expert)
                if present is None or present.fingerprint != row.fingerprint:
                    raise LibraryError(
                        f"{self.path} was changed: {row.expert} of {name_owner(self, row.owner)} was removed or made "
                        "anew since this began; open the library again"
                    ) from error
                if present.place == row.place and present.steps == row.steps:
                    raise LibraryError(describe_damage(self, row, str(error))) from error
                row = present

    def damage(self, row: TrackRow) -> str | None:
        """A sentence on what is wrong with a track's bytes on disk, all of which are read; None where nothing is.

        A track that another process moved or removed since its row was read is not damaged.
        """
        query = "SELECT sha256 FROM tracks WHERE owner = ? AND expert = ?"
        written = self.db.execute(query, (row.owner, row.expert)).fetchone()
        present = self._track(row.owner, row.expert)
        if present is None or written is None:
            return None
        try:
            values, spans = self.shards(present).read(present.place, present.steps)
        except LibraryError as error:
            problem = str(error)
        else:
            if track_hash(values, spans) != written[0]:
                problem = "its bytes on disk are not what was written"
            elif np.isfinite(values).all():
                return None
            else:
                problem = "it holds NaN or infinity"
        return describe_damage(self, row, problem) if self._track(row.owner, row.expert) == present else None

    def _track(self, owner: str, expert: str) -> TrackRow | None:
        row = self.db.execute(f"{_TRACKS} WHERE owner = ? AND expert = ?", (owner, expert)).fetchone()
        return _track_row(row) if row else None

    def videos_of(self, owner: str) -> list[Video]:
        """The videos whose tracks an owner's are, in order of id."""
        columns, name = "SELECT id, path, content, duration, split FROM videos", owner.removeprefix("id:")
        rows = self.db.execute(f"{columns} WHERE {'id' if owner != name else 'content'} = ? ORDER BY id", (name,))
        return [_video(row) for row in rows]

    def texts(self, owner: str) -> list[tuple[str, Text]]:
        """Expert and text of all words of one owner, in order of time."""
        rows = self.db.execute(
            "SELECT expert, text, start_seconds, end_seconds, kind, score FROM texts WHERE owner = ?"
            " ORDER BY start_seconds, end_seconds, text",
            (owner,),
        )
        return [(expert, Text(*rest)) for expert, *rest in rows]

    def thumbnail(self, owner: str, seconds: float) -> bytes | None:
        """The stored picture nearest to a time."""
        row = self.db.execute(
            "SELECT jpeg FROM thumbnails WHERE owner = ? ORDER BY abs(seconds - ?) LIMIT 1", (owner, seconds)
        ).fetchone()
        return row[0] if row else None

    def failures(self) -> list[dict[str, Any]]:
        """What failed and why, in order of video."""
        rows = self.db.execute("SELECT video, expert, reason, attempts FROM failures ORDER BY video, expert")
        return [
            {"video": video, "expert": expert or None, "reason": reason, "attempts": attempts}
            for video, expert, reason, attempts in rows
        ]

    def notices(self) -> list[tuple[str, Notice]]:
        """Video ids with what was guessed, mended or left out of their files, in order of id."""
        with contextlib.suppress(sqlite3.OperationalError):  # a library of before notices, opened for reading only
            rows = self.db.execute(
                "SELECT videos.id, place, message, lost FROM notices JOIN videos ON owner = content"
                " ORDER BY videos.id, place, message"
            )
            return [(video, Notice(place, message, bool(lost))) for video, place, message, lost in rows]
        return []

    def put_notices(self, owner: str, notices: Sequence[Notice]) -> None:
        """Add what is to be known of one owner's file; the same is kept once. Call it inside `saving`."""
        rows = [(owner, notice.place, notice.message, notice.lost) for notice in notices]
        self.db.executemany("INSERT OR REPLACE INTO notices VALUES (?, ?, ?, ?)", rows)

    def cuts(self, content: str) -> list[float]:
        row = self.db.execute("SELECT cuts FROM contents WHERE hash = ?", (content,)).fetchone()
        return list(json.loads(row[0])) if row else []

    def media_info(self, content: str) -> dict[str, Any]:
        """What a file says of itself (`MediaInfo` as a table); empty where it was never examined."""
        row = self.db.execute("SELECT info FROM contents WHERE hash = ?", (content,)).fetchone()
        return dict(json.loads(row[0])) if row else {}

    def set_media_info(self, content: str, info: dict[str, Any], *, renew: bool) -> bool:
        """Note what a file says of itself now; `renew` forgets what was extracted from it, and says if there was any.

        Browser copies that an earlier version made go in any case.
        """
        with self.saving():
            self.db.execute("UPDATE contents SET info = ? WHERE hash = ?", (json.dumps(info), content))
            (self.path / "copies" / f"{content}.mp4").unlink(missing_ok=True)
            extracted = self.db.execute("SELECT 1 FROM tracks WHERE owner = ?", (content,)).fetchone()
            if renew and extracted:
                self.drop_owner(content)
            return bool(renew and extracted)

    def digest(self, *, verify: bool = False) -> str:
        """SHA-256 over ids, captions, content hashes, fingerprints and track bytes, in an order of its own.

        Args:
            verify: hash the bytes on disk again instead of trusting the hashes noted when they were written.

        Raises:
            LibraryError: with `verify`, bytes on disk are not what was written.
        """
        digest = hashlib.sha256()
        for row in self.db.execute("SELECT id, content, split FROM videos ORDER BY id"):
            digest.update(json.dumps(["video", *row]).encode())
        for caption in self.captions():
            digest.update(json.dumps(["caption", *vars(caption).values()]).encode())
        rows = self.db.execute("SELECT owner, expert, fingerprint, sha256 FROM tracks ORDER BY owner, expert")
        for row in rows.fetchall():
            digest.update(json.dumps(["track", *row]).encode())
        damage = damaged_bytes(self) if verify else []
        if damage:
            raise LibraryError(damage[0][1] + (f" ({len(damage) - 1} more are damaged)" if len(damage) > 1 else ""))
        return digest.hexdigest()

    # Writing

    def add(self, paths: Sequence[str | os.PathLike[str]], **how: Any) -> Any:
        """Ingest and extract what is new; see `reelseek.library.ingest.add`."""
        from reelseek.library.ingest import add

        return add(self, paths, **how)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """One transaction: the bytes of its tracks are on disk before the rows that name them commit."""
        try:
            with self._write_errors():
                yield
                self.commit()
        except BaseException:
            self.db.rollback()
            raise

    def commit(self) -> None:
        """End the transaction at hand, bytes first; for long imports inside `saving`."""
        with self._write_errors():
            for shards in self._shards.values():
                shards.sync()
            self.db.commit()

    def put_track(self, owner: str, expert: str, fingerprint: str, modality: str, track: Track) -> None:
        """Store one track, replacing what the expert had for this owner; call it inside `saving`.

        Bytes that are there already are not written again.
        """
        dim, dtype, sha256 = track.values.shape[1], track.values.dtype.name, track_hash(track.values, track.spans)
        place = self._place_of(owner, expert, fingerprint, sha256)
        if place is None:
            place = self._append(fingerprint, track) if len(track.values) else (0, 0)
        self.drop_track(owner, expert)
        self.db.execute(
            "INSERT INTO tracks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (owner, expert, fingerprint, modality, *place, len(track.values), dim, dtype, sha256, track.note),
        )
        self.put_texts(owner, expert, track.texts)
        clear_damage(self, owner, expert)

    def _place_of(self, owner: str, expert: str, fingerprint: str, sha256: str) -> Place | None:
        """Where a track with these very bytes lies, if it does and they are whole."""
        row = self._track(owner, expert)
        if row is None or row.fingerprint != fingerprint or self.hash_of(row) != sha256:
            return None
        try:
            return row.place if track_hash(*self.shards(row).read(row.place, row.steps)) == sha256 else None
        except LibraryError:
            return None

    def hash_of(self, row: TrackRow) -> str:
        """SHA-256 of a track's bytes when they were written."""
        query = "SELECT sha256 FROM tracks WHERE owner = ? AND expert = ?"
        return str(self.db.execute(query, (row.owner, row.expert)).fetchone()[0])

    def _append(self, fingerprint: str, track: Track) -> Place:
        end = self.db.execute(
            "SELECT shard, first_row + steps FROM tracks WHERE fingerprint = ?"
            " ORDER BY shard DESC, first_row DESC, steps DESC LIMIT 1",
            (fingerprint,),
        ).fetchone() or (0, 0)
        shards = self._shards_of(fingerprint, track.values.shape[1], track.values.dtype.name)
        return shards.append(track.values, track.spans, end, deleted_below(self))

    def put_texts(self, owner: str, source: str, texts: Sequence[Text]) -> None:
        """Store words of one source, replacing what it had for this owner; call it inside `saving`."""
        self.db.execute("DELETE FROM texts WHERE owner = ? AND expert = ?", (owner, source))
        self.db.executemany(
            "INSERT INTO texts(owner, expert, kind, text, start_seconds, end_seconds, score) VALUES (?,?,?,?,?,?,?)",
            [
                (owner, source, t.kind, unicodedata.normalize("NFC", t.text), t.start_seconds, t.end_seconds, t.score)
                for t in texts
            ],
        )
        rows = self.db.execute("SELECT id, text FROM texts WHERE owner = ? AND expert = ?", (owner, source)).fetchall()
        index_words(self.db, rows)

    def drop_track(self, owner: str, expert: str) -> None:
        """Forget one track and its words (its bytes stay until the shard is compacted)."""
        self.db.execute("DELETE FROM tracks WHERE owner = ? AND expert = ?", (owner, expert))
        self.db.execute("DELETE FROM texts WHERE owner = ? AND expert = ?", (owner, expert))

    def drop_content(self, content: str) -> None:
        """Forget everything derived from a content that no video has any more (its bytes stay until compaction)."""
        if not self.db.execute("SELECT 1 FROM videos WHERE content = ?", (content,)).fetchone():
            (self.path / "copies" / f"{content}.mp4").unlink(missing_ok=True)  # made for browsers, when asked for
            self.drop_owner(content)
            self.db.execute("DELETE FROM contents WHERE hash = ?", (content,))

    def drop_owner(self, owner: str) -> None:
        """Forget the tracks, words and pictures of one owner."""
        for table in ("tracks", "texts", "thumbnails", "notices", "sidecars"):
            self.db.execute(f"DELETE FROM {table} WHERE owner = ?", (owner,))

    def remove(self, names: Sequence[str]) -> list[str]:
        """Forget videos and everything derived from them; sources are not touched.

        Stopped at any instant, the same call again, or any other that writes, finishes it.

        Returns:
            The ids removed.

        Raises:
            UsageError: a name is not a video here; then nothing is removed.
            LibraryError: the videos are forgotten, but some of their bytes could not be erased yet.
        """
        return remove_videos(self, names)

    def remove_expert(self, expert: str) -> int:
        """Erase all tracks and words of one expert, or of `captions`, which a machine wrote; says how many there were.

        Raises:
            UsageError: the library has nothing of that expert.
            LibraryError: as `remove`.
        """
        return remove_expert(self, expert)

    def compact(self) -> None:
        """Rewrite shards that hold bytes no row names, so that what was removed is gone from the disk."""
        compact(self)

    def verify(self, checks: Iterable[Check] = ()) -> list[tuple[str, str]]:
        """Everything that is not as it was written, as (name, problem): the database, tracks, and what `checks` find.

        Damaged tracks are noted where the library can be written, and the next `add` makes them again.

        Args:
            checks: of derived files.
        """
        return verify(self, checks)

    def experts(self) -> dict[str, dict[str, Any]]:
        """By expert: modality, dim, fingerprints, tracks, and how many of them have steps."""
        rows = self.db.execute(
            "SELECT expert, min(modality), min(dim), count(*), sum(steps > 0), group_concat(DISTINCT fingerprint)"
            " FROM tracks GROUP BY expert ORDER BY expert"
        )
        return {
            expert: {
                "modality": modality,
                "dim": dim,
                "tracks": tracks,
                "present": present,
                "fingerprints": sorted(prints.split(",")),
            }
            for expert, modality, dim, tracks, present, prints in rows
        }

    def shards(self, row: TrackRow) -> Shards:
        """The files in which a track lies."""
        return self._shards_of(row.fingerprint, row.dim, row.dtype)

    def _shards_of(self, fingerprint: str, dim: int, dtype: str) -> Shards:
        if fingerprint not in self._shards:
            self._shards[fingerprint] = Shards(self.path / "tracks" / folder_name(fingerprint), dim, dtype)
        return self._shards[fingerprint]


def _video(row: Iterable[Any]) -> Video:
    identifier, path, content, duration, split = row
    return Video(identifier, Path(os.fsdecode(path)) if path is not None else None, content, duration, split)


def _track_row(row: Sequence[Any]) -> TrackRow:
    owner, expert, fingerprint, modality, shard, first, steps, dim, dtype, note = row
    return TrackRow(owner, expert, fingerprint, modality, (shard, first), steps, dim, dtype, note)
