"""What is not as it was written: the database's own checks, and tracks whose bytes are lost or altered."""

import contextlib
import sqlite3

from reelseek.errors import LibraryError
from reelseek.library.records import TrackRow
from reelseek.library.remedies import name_owner
from reelseek.library.shards import track_hash
from reelseek.library.storage import Storage

__all__ = ["Damage", "check_storage", "damaged_bytes", "damaged_tracks", "note_damage"]

Damage = list[tuple[TrackRow, str]]
"""Tracks, and a sentence on what is wrong with each and what to do."""


def damaged_bytes(storage: Storage) -> Damage:
    """Tracks whose bytes on disk are lost or not what was written; reads all of them."""
    damage = []
    for row, sha256 in storage.catalog.tracks.pages():
        try:
            if track_hash(*storage.shards(row).read(row.place, row.steps)) == sha256:
                continue
            problem = "its bytes on disk are not what was written"
        except LibraryError as error:
            problem = str(error)
        damage.append((row, storage.describe_damage(row, problem)))
    return damage


def damaged_tracks(storage: Storage) -> Damage:
    """Tracks that were found damaged before, and those whose files are gone or too short now; reads none of them."""
    tracks = storage.catalog.tracks
    problems: dict[tuple[str, str], tuple[TrackRow, str]] = {}
    for owner, experts in storage.catalog.damaged().items():
        for row in (row for expert in experts if (row := tracks.get(owner, expert)) is not None):
            problems[row.owner, row.expert] = row, "its bytes on disk are not what was written"
    groups = {group.fingerprint: group for group in tracks.groups()}
    for fingerprint, (shard, end) in tracks.shard_ends():
        group = groups[fingerprint]
        rows = storage.shards_of(fingerprint, group.dim, group.dtype).rows(shard) if end else end
        for row in tracks.of_fingerprint(fingerprint, shard) if rows < end else ():
            if row.steps and row.place[1] + row.steps > rows:
                problems[row.owner, row.expert] = row, "its bytes are gone from the disk"
    return [(row, storage.describe_damage(row, problem)) for _, (row, problem) in sorted(problems.items())]


def note_damage(storage: Storage, damage: Damage) -> None:
    """Keep for the next `add` which tracks are damaged, and show them among the failures until they are whole."""
    if not damage:
        return
    catalog = storage.catalog
    noted = catalog.damaged()
    with catalog.transaction():
        for row, reason in damage:
            noted[row.owner] = sorted({*noted.get(row.owner, ()), row.expert})
            for video in catalog.videos.of_owner(row.owner):
                catalog.failures.put_reason(video.id, row.expert, reason)
        catalog.set_damaged(noted)


def check_storage(storage: Storage) -> list[tuple[str, str]]:
    """What is wrong with the database and the bytes of tracks, as (name, problem).

    Damaged tracks are noted for the next `add`, where the library can be written.
    """
    problems = [("library.db", problem) for problem in storage.catalog.problems()]
    try:
        damage = damaged_bytes(storage)
        problems += [(name_owner(storage.catalog, row.owner), sentence) for row, sentence in damage]
        with contextlib.suppress(LibraryError), storage.writing():  # it may be read-only, or somebody else's now
            note_damage(storage, damage)
    except sqlite3.DatabaseError as error:
        problems.append(("library.db", str(error)))
    return problems
