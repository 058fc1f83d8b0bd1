"""All tables of a library behind one name, and what concerns several of them."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from reelseek.library.catalog.about import About
from reelseek.library.catalog.captions import Captions
from reelseek.library.catalog.changes import Change, Changes, Subject
from reelseek.library.catalog.connection import REVISION, Connection, connect, file_state
from reelseek.library.catalog.contents import Contents
from reelseek.library.catalog.exchange import Exchange
from reelseek.library.catalog.failures import Failures
from reelseek.library.catalog.schema import carry_forward
from reelseek.library.catalog.selection import Selection
from reelseek.library.catalog.tags import Tags
from reelseek.library.catalog.texts import Texts
from reelseek.library.catalog.tracks import Tracks
from reelseek.library.catalog.videos import Videos

__all__ = ["Catalog"]

_DAMAGED = "damaged"  # keys in `meta`: experts by owner
_DELETED_BELOW = "deleted_below"
_INDEX = "index:"  # and the name of its folder
_INDEX_MARKS = 16  # so that a reader that has not followed the latest ones knows its own
_IMPORTS = "imports"
_SECONDS = "expert_seconds"


class Catalog:
    """The open database of a library.

    What a method of a table writes is part of the transaction at hand: use `transaction`, or `Storage.saving` where
    bytes of tracks are written too.

    Attributes:
        videos, captions, tags, contents, tracks, texts, about, failures, changes: the tables, by subject.
        exchange: whole tables, for exports.
        selection: videos by filter.
    """

    def __init__(self, database: Path, connection: Connection) -> None:
        self.connection = connection
        self.videos = Videos(connection)
        self.captions = Captions(connection)
        self.tags = Tags(connection)
        self.contents = Contents(connection)
        self.tracks = Tracks(connection)
        self.texts = Texts(connection)
        self.about = About(connection)
        self.failures = Failures(connection)
        self.changes = Changes(connection)
        self.exchange = Exchange(connection)
        self.selection = Selection(connection)
        self._database = database

    @classmethod
    def open(cls, database: Path) -> "Catalog":
        """Open a database, or lay its tables out where there is none.

        Raises:
            LibraryError: it is damaged, of a later version, or no library.
            sqlite3.Error, OSError: it cannot be read, or not be begun.
        """
        return cls(database, connect(database))

    def close(self) -> None:
        """Close the database; what was not committed is lost."""
        self.connection.close()

    # Transactions and versions

    def transaction(self) -> AbstractContextManager[object]:
        """Commit what is written inside, or nothing of it where something is raised."""
        return self.connection

    def begin(self) -> None:
        """Begin the transaction at hand as its one writer, so that what it reads is what it changes."""
        if not self.connection.in_transaction:
            self.connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """End the transaction at hand; it is on disk when this returns."""
        self.connection.commit()

    def rollback(self) -> None:
        """Take back the transaction at hand."""
        self.connection.rollback()

    def carry_forward(self) -> None:
        """Bring an older library to the present version; a present one is not touched.

        Raises:
            sqlite3.OperationalError: it cannot be written now; nothing was changed.
        """
        carry_forward(self.connection)

    def revision(self) -> int:
        """A number that every committed change of a row raises."""
        return int(self.meta(REVISION) or 0)

    def changed_since(self, revision: int, subject: Subject = "features") -> Iterator[Change]:
        """Videos that changed after a revision, and the numbers of those that were removed; the oldest changes first.

        Read `revision` first, then this: what is committed between the two comes at once, and again the next time.
        It costs what there is of changes, not of videos. Where the library's revision is lower than the one at hand,
        an earlier copy was put in its place, and nothing that was derived from it can be used.

        Args:
            revision: 0 gives every video.
            subject: `features` are lengths, cuts and tracks, of which clips and embeddings are made; `words` are what
                was said, written, labelled and captioned.

        Example:
            revision = catalog.revision()
            for change in catalog.changed_since(before):
                print(change.number, change.video or "removed")
        """
        return self.changes.since(revision, subject)

    def is_outdated(self) -> bool:
        """Whether this reads a copy, and the files that it was made of have changed since."""
        return self.connection.origin is not None and self.connection.origin != file_state(self._database)

    def data_version(self) -> int:
        """A number of this connection's own that changes when another one commits; costs no read of a table."""
        return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    # Settings and notes, by key

    def meta(self, key: str) -> str | None:
        """The text that is kept under a key."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def set_meta(self, key: str, value: str) -> None:
        """Keep a text under a key."""
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def remove_meta(self, key: str) -> None:
        """Forget what is kept under a key."""
        self.connection.execute("DELETE FROM meta WHERE key = ?", (key,))

    def index_marks(self, folder: str) -> list[str]:
        """The latest marks of the index in a folder of this name, see `add_index_mark`."""
        return list(json.loads(self.meta(_INDEX + folder) or "[]"))

    def add_index_mark(self, folder: str, mark: str) -> None:
        """Note that an index is made from this database as it is now; it is no change of the library.

        A database that was put back from a copy lacks the marks of later indexes, and that of another library all.
        """
        inside = self.connection.in_transaction
        self.set_meta(_INDEX + folder, json.dumps([*self.index_marks(folder), mark][-_INDEX_MARKS:]))
        if not inside:
            self.connection.commit_derived()

    def expert_specs(self) -> list[str]:
        """The experts that the library was begun with, as `name` or `name@model`."""
        return list(json.loads(self.meta("experts") or "[]"))

    def set_expert_specs(self, specs: list[str]) -> None:
        """Keep which experts `add` runs where none are named."""
        self.set_meta("experts", json.dumps(specs))

    def expert_seconds(self) -> dict[str, float]:
        """Seconds that each expert has computed for this library, as far as they were measured."""
        return dict(json.loads(self.meta(_SECONDS) or "{}"))

    def add_expert_seconds(self, seconds: Mapping[str, float]) -> None:
        """Add to what experts have cost, by name."""
        total = self.expert_seconds()
        for name, value in seconds.items():
            total[name] = round(total.get(name, 0.0) + value, 3)
        self.set_meta(_SECONDS, json.dumps(total))

    def import_notes(self) -> dict[str, dict[str, Any]]:
        """What imported features were said to be, by expert: `fingerprint`, `fps` and `model`."""
        return dict(json.loads(self.meta(_IMPORTS) or "{}"))

    def set_import_note(self, expert: str, note: dict[str, Any] | None) -> None:
        """Keep what an expert's features were said to be, or forget it."""
        notes = {name: noted for name, noted in self.import_notes().items() if name != expert}
        self.set_meta(_IMPORTS, json.dumps(notes | ({expert: note} if note is not None else {})))

    def damaged(self) -> dict[str, list[str]]:
        """Experts whose tracks were found damaged, by owner."""
        return dict(json.loads(self.meta(_DAMAGED) or "{}"))

    def set_damaged(self, experts: dict[str, list[str]]) -> None:
        """Keep which tracks are damaged, for the next `add`."""
        self.set_meta(_DAMAGED, json.dumps(experts))

    def clear_damage(self, owner: str, expert: str) -> None:
        """Forget that a track failed or was damaged: it is whole again."""
        for video in self.videos.of_owner(owner):
            self.failures.remove(video.id, expert)
        damaged = self.damaged()
        if expert in damaged.get(owner, ()):
            self.set_damaged({**damaged, owner: [name for name in damaged[owner] if name != expert]})

    def deleted_below(self) -> int:
        """Every shard that was ever deleted has a lower number than this."""
        return int(self.meta(_DELETED_BELOW) or 0)

    def set_deleted_below(self, shard: int) -> None:
        """Note that shards below a number may be deleted and their numbers are not used again."""
        self.set_meta(_DELETED_BELOW, str(max(self.deleted_below(), shard)))

    # Removing

    def remove_track(self, owner: str, expert: str) -> None:
        """Remove the rows of one track and its words."""
        self.tracks.remove(owner, expert)
        self.texts.remove(owner, expert)

    def remove_owner(self, owner: str) -> None:
        """Remove the rows of everything that was made from one owner."""
        for table in ("tracks", "texts", "thumbnails", "notices", "sidecars"):
            self.connection.execute(f"DELETE FROM {table} WHERE owner = ?", (owner,))

    def have_words(self, videos: Iterable[str], owners: Iterable[str]) -> bool:
        """Whether there are captions of some videos, or words of some owners."""
        captions = self.connection.select_in("SELECT video FROM captions WHERE video IN (?)", videos)
        texts = self.connection.select_in("SELECT owner FROM texts WHERE owner IN (?)", owners)
        return next(captions, None) is not None or next(texts, None) is not None

    def remove_expert(self, expert: str) -> None:
        """Remove the rows of one expert's tracks, words and failures, and run it no more unasked."""
        for table in ("tracks", "texts", "failures"):
            self.connection.execute(f"DELETE FROM {table} WHERE expert = ?", (expert,))
        self.set_import_note(expert, None)
        self.set_meta(_SECONDS, json.dumps({k: v for k, v in self.expert_seconds().items() if k != expert}))
        self.set_expert_specs([spec for spec in self.expert_specs() if spec.partition("@")[0] != expert])

    def rename_expert(self, expert: str, name: str) -> None:
        """Give an imported expert's tracks, words, failures and notes another name; their bytes stay where they are."""
        for table in ("tracks", "texts", "failures"):
            self.connection.execute(f"UPDATE OR REPLACE {table} SET expert = ? WHERE expert = ?", (name, expert))
        damaged = {owner: [name if old == expert else old for old in names] for owner, names in self.damaged().items()}
        self.set_damaged(damaged)
        note = self.import_notes().get(expert)
        self.set_import_note(expert, None)
        self.set_import_note(name, note)

    def empty_log(self) -> bool:
        """Write the write-ahead log back and cut it; False where another process reads and keeps some of it."""
        (busy, *_) = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def size(self) -> int:
        """Bytes of the database."""
        (pages,), (width,) = (
            self.connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
        )
        return int(pages * width)

    def rewrite(self) -> None:
        """Write the database anew, without the bytes of rows that were removed."""
        self.connection.execute("VACUUM")

    # Checking

    def digest_lines(self) -> Iterator[str]:
        """Ids, captions, content hashes, fingerprints and hashes of tracks, a JSON line each, in a fixed order."""
        for video in self.videos.pages():
            yield json.dumps(["video", video.id, video.content, video.split])
        for caption in self.captions.pages():
            yield json.dumps(["caption", *vars(caption).values()])
        for track, sha256 in self.tracks.pages():
            yield json.dumps(["track", track.owner, track.expert, track.fingerprint, sha256])

    def problems(self) -> Iterator[str]:
        """What the database's own checks find."""
        try:
            for (line,) in self.connection.execute("PRAGMA integrity_check").fetchall():
                if line != "ok":
                    yield line
            for table, row, parent, _ in self.connection.execute("PRAGMA foreign_key_check").fetchall():
                yield f"row {row} of {table} names something that {parent} has not"
        except sqlite3.DatabaseError as error:
            yield str(error)
