"""What is not as it was written: the database's own checks, and tracks whose bytes are lost or altered."""

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from reelseek.errors import LibraryError
from reelseek.library.shards import track_hash

if TYPE_CHECKING:
    from reelseek.library.store import Library, TrackRow

__all__ = [
    "Check",
    "Damage",
    "clear_damage",
    "damaged_bytes",
    "damaged_tracks",
    "describe_damage",
    "name_owner",
    "note_damage",
    "verify",
]

Check = Callable[["Library"], Iterable[tuple[str, str]]]
"""Finds what is wrong with derived files, as (name, problem)."""
Damage = list[tuple["TrackRow", str]]
"""Tracks, and a sentence on what is wrong with each and what to do."""
_DAMAGED = "damaged"  # key in `meta`: experts by owner


def name_owner(library: "Library", owner: str) -> str:
    """The videos of an owner, for people."""
    return ", ".join(video.id for video in library.videos_of(owner)) or owner.removeprefix("id:")


def describe_damage(library: "Library", row: "TrackRow", problem: str) -> str:
    """A sentence that names the video, what is wrong with its track, and what makes it whole again."""
    path = next((video.path for video in library.videos_of(row.owner) if video.path), None)
    if row.owner.startswith("id:"):
        remedy = f"import it again with: reelseek features import {library.path} {row.expert} FILES"
    elif path is not None and path.is_file():
        remedy = f"make it again with: reelseek add {library.path} {path}"
    else:
        remedy = "its file is not at hand; put it back and add it again"
    return f"the track {row.expert} of {name_owner(library, row.owner)} is damaged: {problem}; {remedy}"


def damaged_bytes(library: "Library") -> Damage:
    """Tracks whose bytes on disk are lost or not what was written; reads all of them."""
    damage = []
    for row in library.track_rows():
        try:
            if track_hash(*library.shards(row).read(row.place, row.steps)) == library.hash_of(row):
                continue
            problem = "its bytes on disk are not what was written"
        except LibraryError as error:
            problem = str(error)
        damage.append((row, describe_damage(library, row, problem)))
    return damage


def damaged_tracks(library: "Library") -> Damage:
    """Tracks that were found damaged before, and those whose files are gone or too short now; reads none of them."""
    noted = _noted(library)
    rows_of: dict[tuple[str, int], int] = {}
    damage = []
    for row in library.track_rows():
        key = (row.fingerprint, row.place[0])
        if row.steps and key not in rows_of:
            rows_of[key] = library.shards(row).rows(row.place[0])
        if row.steps and row.place[1] + row.steps > rows_of[key]:
            damage.append((row, describe_damage(library, row, "its bytes are gone from the disk")))
        elif row.expert in noted.get(row.owner, ()):
            damage.append((row, describe_damage(library, row, "its bytes on disk are not what was written")))
    return damage


def note_damage(library: "Library", damage: Damage) -> None:
    """Keep for the next `add` which tracks are damaged, and show them among the failures until they are whole."""
    if not damage:
        return
    noted = _noted(library)
    with library.db:
        for row, reason in damage:
            noted[row.owner] = sorted({*noted.get(row.owner, ()), row.expert})
            for video in library.videos_of(row.owner):
                library.db.execute(
                    "INSERT INTO failures VALUES (?, ?, NULL, NULL, NULL, ?, 1)"
                    " ON CONFLICT DO UPDATE SET reason = excluded.reason",
                    (video.id, row.expert, reason),
                )
        library.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_DAMAGED, json.dumps(noted)))


def clear_damage(library: "Library", owner: str, expert: str) -> None:
    """A track is whole again: nothing is said against it any more; call it inside a transaction."""
    for video in library.videos_of(owner):
        library.db.execute("DELETE FROM failures WHERE video = ? AND expert = ?", (video.id, expert))
    noted = _noted(library)
    if expert in noted.get(owner, ()):
        rest = {**noted, owner: [name for name in noted[owner] if name != expert]}
        library.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_DAMAGED, json.dumps(rest)))


def _noted(library: "Library") -> dict[str, list[str]]:
    return dict(json.loads(library.meta(_DAMAGED) or "{}"))


def verify(library: "Library", checks: Iterable[Check]) -> list[tuple[str, str]]:
    """See `Library.verify`."""
    problems = list(_database_problems(library))
    try:
        damage = damaged_bytes(library)
        problems += [(name_owner(library, row.owner), sentence) for row, sentence in damage]
        with contextlib.suppress(LibraryError), library.writing():  # it may be read-only, or somebody else's now
            note_damage(library, damage)
        for check in checks:
            problems += check(library)
    except sqlite3.DatabaseError as error:
        problems.append(("library.db", str(error)))
    return problems


def _database_problems(library: "Library") -> Iterable[tuple[str, str]]:
    try:
        for (line,) in library.db.execute("PRAGMA integrity_check").fetchall():
            if line != "ok":
                yield "library.db", line
        for table, row, parent, _ in library.db.execute("PRAGMA foreign_key_check").fetchall():
            yield "library.db", f"row {row} of {table} names something that {parent} has not"
    except sqlite3.DatabaseError as error:
        yield "library.db", str(error)
