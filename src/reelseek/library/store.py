"""A library: videos, captions, tracks, texts and failures in one folder. SQLite is the one truth.

Bytes of a track are on disk before the row that names them commits, so a crash at any instant loses at most the item
in hand. Many readers, one writer.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from reelseek.errors import LibraryError, UsageError
from reelseek.experts.expert import Text, Track
from reelseek.library.shards import Place, Shards
from reelseek.media.notice import Notice

__all__ = ["FORMAT_VERSION", "Caption", "Library", "TrackRow", "Video"]

FORMAT_VERSION = 1
_APPLICATION = 0x5265656C  # "Reel"


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

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
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
            if folder.is_dir() and any(p.name != "library.db" for p in folder.iterdir()):
                raise LibraryError(f"{folder} exists and is not a library; name an empty or a new folder")
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LibraryError(f"{folder} cannot be made: {error.strerror}") from error
        try:
            return cls(folder, _connect(database))
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
    def writing(self) -> Iterator[None]:
        """Be the one writer.

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
            yield
        except sqlite3.OperationalError as error:
            raise LibraryError(f"{self.path} cannot be written: {error}; what was finished is kept") from error
        except OSError as error:
            if error.filename is None or str(error.filename).startswith(str(self.path)):
                raise LibraryError(f"{self.path} cannot be written: {error}; what was finished is kept") from error
            raise
        finally:
            self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    def drop_lost_tracks(self) -> int:
        """Forget tracks whose bytes are gone from the disk, so that they are made again; says how many."""
        lost = []
        for row in self.track_rows():
            try:
                self.read(row)
            except LibraryError:
                lost.append(row)
        with self.saving():
            for row in lost:
                self.drop_track(row.owner, row.expert)
        return len(lost)

    # Reading

    def meta(self, key: str) -> str | None:
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def set_meta(self, key: str, value: str) -> None:
        with self.db:
            self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def videos(self) -> list[Video]:
        """All videos in order of id."""
        rows = self.db.execute("SELECT id, path, content, duration, split FROM videos ORDER BY id")
        return [_video(row) for row in rows]

    def video(self, name: str) -> Video:
        """A video by its id, its path, or the end of its path where that names just one.

        Raises:
            UsageError: no such video, or several.
        """
        columns = "SELECT id, path, content, duration, split FROM videos"
        row = self.db.execute(f"{columns} WHERE id = ?", (name,)).fetchone()
        row = row or self.db.execute(f"{columns} WHERE path = ?", (os.fsencode(os.path.abspath(name)),)).fetchone()
        if row:
            return _video(row)
        near = [v for v in self.videos() if v.path and (v.path.name == name or str(v.path).endswith(f"/{name}"))]
        if len(near) == 1:
            return near[0]
        several = f"; it could be {', '.join(v.id for v in near[:5])}" if near else ""
        raise UsageError(f"{self.path} has no video {name!r}{several}; list them with: reelseek info --videos")

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
        query = "SELECT owner, expert, fingerprint, modality, shard, first_row, steps, dim, dtype, note FROM tracks"
        rows = self.db.execute(f"{query} WHERE expert = ?" if expert else query, (expert,) if expert else ())
        return [_track_row(row) for row in rows]

    def read(self, row: TrackRow) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
        """Memory-mapped values [step, dim] and spans [step, 2] of a track."""
        return self._shards_of(row.fingerprint, row.dim, row.dtype).read(row.place, row.steps)

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
                self._drop_owner(content)
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
        if verify:
            self._verify()
        return digest.hexdigest()

    def _verify(self) -> None:
        known = dict(self.db.execute("SELECT owner || char(10) || expert, sha256 FROM tracks").fetchall())
        for track in self.track_rows():
            if _track_hash(*self.read(track)) != known[f"{track.owner}\n{track.expert}"]:
                raise LibraryError(f"the bytes of {track.expert} for {track.owner} on disk are not what was written")

    # Writing

    def add(self, paths: Sequence[str | os.PathLike[str]], **how: Any) -> Any:
        """Ingest and extract what is new; see `reelseek.library.ingest.add`."""
        from reelseek.library.ingest import add

        return add(self, paths, **how)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """One transaction: the bytes of its tracks are on disk before the rows that name them commit."""
        try:
            yield
            self.commit()
        except BaseException:
            self.db.rollback()
            raise

    def commit(self) -> None:
        """End the transaction at hand, bytes first; for long imports inside `saving`."""
        for shards in self._shards.values():
            shards.sync()
        self.db.commit()

    def put_track(self, owner: str, expert: str, fingerprint: str, modality: str, track: Track) -> None:
        """Store one track, replacing what the expert had for this owner; call it inside `saving`."""
        dim, dtype = track.values.shape[1], track.values.dtype.name
        shards = self._shards_of(fingerprint, dim, dtype)
        end = self.db.execute(
            "SELECT shard, first_row + steps FROM tracks WHERE fingerprint = ?"
            " ORDER BY shard DESC, first_row DESC, steps DESC LIMIT 1",
            (fingerprint,),
        ).fetchone() or (0, 0)
        shard, row = shards.append(track.values, track.spans, end) if len(track.values) else end
        self.drop_track(owner, expert)
        self.db.execute(
            "INSERT INTO tracks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(owner, expert, fingerprint, modality, shard, row, len(track.values), dim, dtype),
                *(_track_hash(track.values, track.spans), track.note),
            ),
        )
        self.put_texts(owner, expert, track.texts)

    def put_texts(self, owner: str, source: str, texts: Sequence[Text]) -> None:
        """Store words of one source, replacing what it had for this owner; call it inside `saving`."""
        self.db.execute("DELETE FROM texts WHERE owner = ? AND expert = ?", (owner, source))
        self.db.executemany(
            "INSERT INTO texts(owner, expert, kind, text, start_seconds, end_seconds, score) VALUES (?,?,?,?,?,?,?)",
            [(owner, source, t.kind, t.text, t.start_seconds, t.end_seconds, t.score) for t in texts],
        )

    def drop_track(self, owner: str, expert: str) -> None:
        """Forget one track and its words (its bytes stay until the shard is compacted)."""
        self.db.execute("DELETE FROM tracks WHERE owner = ? AND expert = ?", (owner, expert))
        self.db.execute("DELETE FROM texts WHERE owner = ? AND expert = ?", (owner, expert))

    def drop_content(self, content: str) -> None:
        """Forget everything derived from a content that no video has any more."""
        if not self.db.execute("SELECT 1 FROM videos WHERE content = ?", (content,)).fetchone():
            (self.path / "copies" / f"{content}.mp4").unlink(missing_ok=True)  # made for browsers
            self._drop_owner(content)
            self.db.execute("DELETE FROM contents WHERE hash = ?", (content,))

    def _drop_owner(self, owner: str) -> None:
        for table in ("tracks", "texts", "thumbnails", "notices"):
            self.db.execute(f"DELETE FROM {table} WHERE owner = ?", (owner,))

    def remove(self, names: Sequence[str]) -> list[str]:
        """Forget videos and everything derived from them; sources are not touched.

        Returns:
            The ids removed.

        Raises:
            UsageError: a name is not a video here; then nothing is removed.
        """
        failed = {failure["video"] for failure in self.failures()}
        found = [self.video(name) if name not in failed else None for name in names]
        with self.writing():
            with self.db:
                for name, video in zip(names, found, strict=True):
                    self.db.execute("DELETE FROM failures WHERE video = ?", (video.id if video else name,))
                    self.db.execute("DELETE FROM videos WHERE id = ?", (video.id if video else name,))
                    self._drop_owner(f"id:{video.id if video else name}")
                    if video is not None and video.content:
                        self.drop_content(video.content)
            self.compact()
        if (self.path / "overlap" / "library.db").is_file():  # what an overlap search looked at besides
            self._remove_beside({video.content for video in found if video and video.content})
        return [video.id if video else name for name, video in zip(names, found, strict=True)]

    def _remove_beside(self, contents: set[str]) -> None:
        kept = {video.content for video in self.videos()}
        with Library.open(self.path / "overlap") as beside:
            beside.remove([video.id for video in beside.videos() if video.content in contents - kept])

    def remove_expert(self, expert: str) -> int:
        """Erase all tracks and words of one expert, or of `captions`, which a machine wrote; says how many there were.

        Raises:
            UsageError: the library has nothing of that expert.
        """
        rows = self.track_rows(expert)
        told = self.db.execute("SELECT count(DISTINCT owner) FROM texts WHERE expert = ?", (expert,)).fetchone()[0]
        if not rows and not told:
            raise UsageError(f"{self.path} has no tracks of {expert!r}; it has {', '.join(self.experts()) or 'none'}")
        with self.writing():
            with self.db:
                for row in rows:
                    self.drop_track(row.owner, expert)
                self.db.execute("DELETE FROM texts WHERE expert = ?", (expert,))
                self.db.execute("DELETE FROM failures WHERE expert = ?", (expert,))
                kept = [s for s in json.loads(self.meta("experts") or "[]") if s.partition("@")[0] != expert]
                self.db.execute("INSERT OR REPLACE INTO meta VALUES ('experts', ?)", (json.dumps(kept),))
            self.compact()
        return len(rows) or int(told)

    def compact(self) -> None:
        """Rewrite shards that hold bytes no row names, so that what was removed is gone from the disk."""
        with self.writing():
            named: dict[str, list[TrackRow]] = {}
            for row in self.track_rows():
                named.setdefault(_folder_name(row.fingerprint), []).append(row)
            for folder in sorted((self.path / "tracks").glob("*")):
                self._compact(folder, sorted(named.get(folder.name, []), key=lambda row: row.place))
            with self.db:  # full text keeps deleted words until it is built anew
                self.db.execute("INSERT INTO texts_fts(texts_fts) VALUES ('rebuild')")
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self.db.execute("VACUUM")
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _compact(self, folder: Path, rows: list[TrackRow]) -> None:
        old = sorted(int(path.stem) for path in folder.glob("*.values"))
        if not rows:
            Shards(folder, 1, np.float16).drop(old)
            self._shards.clear()
            return
        shards = self._shards_of(rows[0].fingerprint, rows[0].dim, rows[0].dtype)
        size = sum(path.stat().st_size for path in folder.glob("*.values"))
        if size == sum(row.steps for row in rows) * rows[0].dim * np.dtype(rows[0].dtype).itemsize:
            return
        places = shards.compact((row.place, row.steps) for row in rows)
        with self.db:
            self.db.executemany(
                "UPDATE tracks SET shard = ?, first_row = ? WHERE owner = ? AND expert = ?",
                [(*place, row.owner, row.expert) for place, row in zip(places, rows, strict=True)],
            )
        shards.drop(old)

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

    def _shards_of(self, fingerprint: str, dim: int, dtype: str) -> Shards:
        if fingerprint not in self._shards:
            self._shards[fingerprint] = Shards(self.path / "tracks" / _folder_name(fingerprint), dim, dtype)
        return self._shards[fingerprint]


def _folder_name(fingerprint: str) -> str:
    return fingerprint.replace(":", "-").replace("/", "_")


def _video(row: Iterable[Any]) -> Video:
    identifier, path, content, duration, split = row
    return Video(identifier, Path(os.fsdecode(path)) if path is not None else None, content, duration, split)


def _track_row(row: Sequence[Any]) -> TrackRow:
    owner, expert, fingerprint, modality, shard, first, steps, dim, dtype, note = row
    return TrackRow(owner, expert, fingerprint, modality, (shard, first), steps, dim, dtype, note)


def _track_hash(values: npt.NDArray[Any], spans: npt.NDArray[np.float64]) -> str:
    digest = hashlib.sha256(f"{values.dtype.name}{values.shape}".encode())
    digest.update(np.ascontiguousarray(values).tobytes())
    digest.update(np.ascontiguousarray(spans).tobytes())
    return digest.hexdigest()


def _connect(database: Path) -> sqlite3.Connection:
    fresh = not database.is_file() or database.stat().st_size == 0
    if fresh and (database.parent / "tracks").is_dir():
        raise LibraryError(f"{database} is empty, though there are tracks beside it: it was damaged; restore it")
    if not fresh and not os.access(database.parent, os.W_OK):
        address = f"file:{quote(str(database))}?mode=ro&immutable=1"  # nobody can write there, so nothing changes
        return sqlite3.connect(address, uri=True, check_same_thread=False)
    connection = sqlite3.connect(database, timeout=30, check_same_thread=False)
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
            connection.executescript(_ADDED_LATER)
    return connection


# Tables that older libraries of this version lack; they are made when one is opened for writing.
_ADDED_LATER = """
CREATE TABLE IF NOT EXISTS memberships (
  split TEXT NOT NULL, video TEXT NOT NULL REFERENCES videos(id) ON DELETE CASCADE, position INTEGER NOT NULL,
  PRIMARY KEY (split, video)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notices (
  owner TEXT NOT NULL, place TEXT NOT NULL, message TEXT NOT NULL, lost INTEGER NOT NULL,   -- owner as in tracks
  PRIMARY KEY (owner, place, message)
) WITHOUT ROWID;
"""


def _create(connection: sqlite3.Connection) -> None:
    schema = files("reelseek.library").joinpath("schema.sql").read_text("utf-8")
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE; {schema} {_ADDED_LATER} PRAGMA application_id = {_APPLICATION};"
            f" PRAGMA user_version = {FORMAT_VERSION}; COMMIT;"
        )
    except sqlite3.OperationalError:
        connection.rollback()
        if connection.execute("PRAGMA user_version").fetchone()[0] != FORMAT_VERSION:
            raise
