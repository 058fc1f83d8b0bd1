"""Removing: rows first, then every byte that was derived from them.

What is to be erased commits with the deletion of the rows and is cleared when all of it is gone, so that a removal
stopped at any instant is finished by the same call again, or by the next command that writes.
"""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reelseek.errors import LibraryError, UsageError
from reelseek.library.files import sync_folder
from reelseek.library.shards import Shards, folder_name

if TYPE_CHECKING:
    from reelseek.library.store import Library, TrackRow, Video

__all__ = ["compact", "deleted_below", "finish_interrupted", "remove_expert", "remove_videos"]

_log = logging.getLogger("reelseek")
_UNFINISHED = "removal"  # keys in `meta`
_DELETED_BELOW = "deleted_below"
_DERIVED = ("index", "copies")  # folders that are made anew from what is left


@dataclass(frozen=True)
class _Removal:
    """Rows that are gone, whose bytes may still be on disk.

    Attributes:
        videos: ids by the names that they were removed by.
        contents: those of the videos.
        experts: how many tracks each had.
    """

    videos: Mapping[str, str] = field(default_factory=dict)
    contents: Sequence[str] = ()
    experts: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{len(set(self.videos.values()))} videos"] if self.videos else []
        return " and ".join([*parts, *(f"the tracks of {expert}" for expert in self.experts)])


def _unfinished(library: "Library") -> _Removal:
    return _Removal(**json.loads(library.meta(_UNFINISHED) or "{}"))


def _note(library: "Library", new: _Removal) -> None:
    """Keep what is to be erased, with the rows' deletion; call it inside a transaction."""
    old = _unfinished(library)
    both = _Removal(
        {**old.videos, **new.videos}, sorted({*old.contents, *new.contents}), {**old.experts, **new.experts}
    )
    library.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_UNFINISHED, json.dumps(asdict(both))))


def remove_videos(library: "Library", names: Sequence[str]) -> list[str]:
    """See `Library.remove`."""
    with library.writing(finish=False):
        removed = _unfinished(library).videos
        failed = {failure["video"] for failure in library.failures()}
        videos = {name: _video_to_remove(library, name, removed, failed) for name in names}
        ids = {name: video.id if video else removed.get(name, name) for name, video in videos.items()}
        contents = sorted({video.content for video in videos.values() if video and video.content})
        with library.db:
            for identifier in ids.values():
                library.db.execute("DELETE FROM failures WHERE video = ?", (identifier,))
                library.db.execute("DELETE FROM videos WHERE id = ?", (identifier,))
                library.drop_owner(f"id:{identifier}")
            for content in contents:
                library.drop_content(content)
            _note(library, _Removal(ids, contents))
        _finish(library)
    return [ids[name] for name in names]


def _video_to_remove(library: "Library", name: str, removed: Mapping[str, str], failed: set[str]) -> "Video | None":
    """None for a name whose rows are gone already, or that stands for a file that never became a video."""
    exact = library.db.execute("SELECT 1 FROM videos WHERE id = ?", (name,)).fetchone()
    if not exact and (name in removed or name in removed.values() or name in failed):
        return None
    return library.video(name)


def remove_expert(library: "Library", expert: str) -> int:
    """See `Library.remove_expert`."""
    with library.writing(finish=False):
        removed = _unfinished(library).experts
        rows = library.track_rows(expert)
        query = "SELECT count(DISTINCT owner) FROM texts WHERE expert = ?"
        count = len(rows) or int(library.db.execute(query, (expert,)).fetchone()[0])
        if not count and expert not in removed:
            names = ", ".join(library.experts()) or "none"
            raise UsageError(f"{library.path} has no tracks of {expert!r}; it has {names}")
        count = count or removed[expert]
        with library.db:
            for table in ("tracks", "texts", "failures"):
                library.db.execute(f"DELETE FROM {table} WHERE expert = ?", (expert,))
            specs = [s for s in json.loads(library.meta("experts") or "[]") if s.partition("@")[0] != expert]
            library.db.execute("INSERT OR REPLACE INTO meta VALUES ('experts', ?)", (json.dumps(specs),))
            _note(library, _Removal(experts={expert: count}))
        _finish(library)
    return count


def finish_interrupted(library: "Library") -> None:
    """Finish a removal that was stopped, and say so; call it as the writer."""
    removal = _unfinished(library)
    if removal == _Removal():
        return
    try:
        _finish(library)
        _log.warning("%s: a removal of %s had been interrupted; it is finished now", library.path, removal)
    except LibraryError as error:  # it can wait, what the user wants now need not
        _log.warning("%s", error)


def _finish(library: "Library") -> None:
    contents = set(_unfinished(library).contents) - {video.content for video in library.videos()}
    compact(library)
    for name in _DERIVED:
        if (library.path / name).is_dir():
            shutil.rmtree(library.path / name)
            sync_folder(library.path)
    if (library.path / "overlap" / "library.db").is_file():  # what an overlap search looked at besides
        with type(library).open(library.path / "overlap") as beside, beside.writing():
            beside.remove([video.id for video in beside.videos() if video.content in contents])
    with library.db:
        library.db.execute("DELETE FROM meta WHERE key = ?", (_UNFINISHED,))
    library.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def compact(library: "Library") -> None:
    """See `Library.compact`.

    Raises:
        LibraryError: another process reads at the moment and keeps deleted rows in the write-ahead log.
    """
    with library.writing(finish=False):
        named: dict[str, list[TrackRow]] = {}
        for row in library.track_rows():
            named.setdefault(folder_name(row.fingerprint), []).append(row)
        for folder in sorted((library.path / "tracks").glob("*")):
            if folder.is_dir():
                _compact_folder(library, folder, sorted(named.get(folder.name, []), key=lambda row: row.place))
        with library.db:  # full text keeps deleted words until it is built anew
            library.db.execute("INSERT INTO texts_fts(texts_fts) VALUES ('rebuild')")
        _empty_log(library)
        library.db.execute("VACUUM")
        _empty_log(library)


def _empty_log(library: "Library") -> None:
    (busy, *_) = library.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise LibraryError(
            f"what was removed from {library.path} is forgotten, but another process reads the library at this moment "
            "and keeps some of its bytes in library.db-wal; any command that writes erases them once that has ended"
        )


def _compact_folder(library: "Library", folder: Path, rows: "list[TrackRow]") -> None:
    """Move what is named out of shards that hold anything else; then, with the new places on disk, delete those."""
    present = [row for row in rows if row.steps]
    shards = library.shards(rows[0]) if rows else Shards(folder, 1, np.float16)
    old = shards.holey((row.place, row.steps) for row in present) if present else shards.numbers()
    moved = [row for row in present if row.place[0] in old]
    places = shards.move([(row.place, row.steps) for row in moved], deleted_below(library))
    with library.db:
        library.db.executemany(
            "UPDATE tracks SET shard = ?, first_row = ? WHERE owner = ? AND expert = ?",
            [(*place, row.owner, row.expert) for place, row in zip(places, moved, strict=True) if place],
        )
        if old:
            below = str(max(deleted_below(library), old[-1] + 1))
            library.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_DELETED_BELOW, below))
    shards.drop(old)


def deleted_below(library: "Library") -> int:
    """Every shard that was ever deleted has a lower number than this."""
    return int(library.meta(_DELETED_BELOW) or 0)
