"""Rows of tracks: whose they are, what they are, and where their bytes lie."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reelseek.library.catalog.connection import Connection
from reelseek.library.records import Place, TrackRow

__all__ = ["TrackGroup", "Tracks"]

_TRACKS = "SELECT owner, expert, fingerprint, modality, shard, first_row, steps, dim, dtype, note FROM tracks"

_ROWS_A_PAGE = 10_000
_LAST = 2**62


@dataclass(frozen=True)
class TrackGroup:
    """Tracks of one expert and kind: how many they are, and how many of them have steps."""

    expert: str
    fingerprint: str
    modality: str
    dim: int
    dtype: str
    tracks: int
    present: int


class Tracks:
    """The table of tracks."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self, expert: str | None = None) -> list[TrackRow]:
        """Every track's row, of one expert or of all."""
        query, values = (f"{_TRACKS} WHERE expert = ?", (expert,)) if expert else (_TRACKS, ())
        return [_track_row(row) for row in self._connection.execute(query, values)]

    def removals(self) -> list[tuple[str, str, int]]:
        """How many tracks of each expert and fingerprint were ever removed or replaced."""
        if not self._connection.has_table("track_groups"):
            return []
        return self._connection.execute("SELECT expert, fingerprint, removed FROM track_groups").fetchall()

    def of_owners(self, owners: Iterable[str]) -> Iterator[TrackRow]:
        """Every track's row of some owners."""
        return map(_track_row, self._connection.select_in(f"{_TRACKS} WHERE owner IN (?)", owners))

    def of_fingerprint(self, fingerprint: str, shard: int | None = None) -> list[TrackRow]:
        """The rows of tracks of one fingerprint, or of those of them that lie in one shard, in order of place."""
        rows = self._connection.execute(
            f"{_TRACKS} WHERE fingerprint = ? AND shard BETWEEN ? AND ? ORDER BY shard, first_row, steps",
            (fingerprint, shard or 0, _LAST if shard is None else shard),
        )
        return [_track_row(row) for row in rows]

    def gaps(self, fingerprint: str, shard: int) -> tuple[list[tuple[int, int]], int]:
        """Rows of a shard that no track names, as (first, behind the last), up to the last row that one names.

        Returns:
            These, and behind the last named row; 0 where there is none.
        """
        rows = self._connection.execute(
            "SELECT first_row, steps FROM tracks WHERE fingerprint = ? AND shard = ? AND steps > 0 ORDER BY first_row",
            (fingerprint, shard),
        )
        gaps, end = [], 0
        for first, steps in rows:
            if first > end:
                gaps.append((end, first))
            if first + steps > end:
                end = first + steps
        return gaps, end

    def count_steps(self, fingerprint: str, shard: int) -> int:
        """How many rows of a shard tracks name."""
        (count,) = self._connection.execute(
            "SELECT total(steps) FROM tracks WHERE fingerprint = ? AND shard = ?", (fingerprint, shard)
        ).fetchone()
        return int(count)

    def shard_ends(self) -> Iterator[tuple[str, Place]]:
        """Every shard in which tracks lie, as (fingerprint, (shard, behind the last row that a track names))."""
        key: tuple[str, int] = ("", -1)
        while row := self._connection.execute(
            "SELECT fingerprint, shard FROM tracks WHERE (fingerprint, shard, first_row) > (?, ?, ?)"
            " ORDER BY fingerprint, shard, first_row LIMIT 1",
            (*key, _LAST),  # behind all rows of the shard, so that none of them is stepped over
        ).fetchone():
            key = row[0], row[1]
            (end,) = self._connection.execute(
                "SELECT first_row + steps FROM tracks WHERE fingerprint = ? AND shard = ?"
                " ORDER BY first_row DESC, steps DESC LIMIT 1",
                key,
            ).fetchone()
            yield key[0], (key[1], end)

    def pages(self) -> Iterator[tuple[TrackRow, str]]:
        """Every track's row and the SHA-256 of its bytes, in order of owner and expert, a page in memory at a time."""
        query = (
            f"{_TRACKS.replace(' FROM', ', sha256 FROM')} WHERE (owner, expert) > (?, ?)"
            f" ORDER BY owner, expert LIMIT {_ROWS_A_PAGE:d}"
        )
        last = ("", "")
        while rows := self._connection.execute(query, last).fetchall():
            for *cells, sha256 in rows:
                yield _track_row(cells), sha256
            last = rows[-1][0], rows[-1][1]

    def get(self, owner: str, expert: str) -> TrackRow | None:
        """The track of one expert and owner."""
        row = self._connection.execute(f"{_TRACKS} WHERE owner = ? AND expert = ?", (owner, expert)).fetchone()
        return _track_row(row) if row else None

    def has_owner(self, owner: str) -> bool:
        """Whether an owner has any track."""
        return self._connection.execute("SELECT 1 FROM tracks WHERE owner = ?", (owner,)).fetchone() is not None

    def sha256(self, owner: str, expert: str) -> str | None:
        """SHA-256 of a track's bytes when they were written."""
        query = "SELECT sha256 FROM tracks WHERE owner = ? AND expert = ?"
        row = self._connection.execute(query, (owner, expert)).fetchone()
        return str(row[0]) if row else None

    def hashes_of(self, owners: Iterable[str]) -> dict[tuple[str, str], str]:
        """SHA-256 of the bytes of some owners' tracks, by owner and expert."""
        query = "SELECT owner, expert, sha256 FROM tracks WHERE owner IN (?)"
        rows = self._connection.select_in(query, owners)
        return {(owner, expert): sha256 for owner, expert, sha256 in rows}

    def hashes(self) -> dict[tuple[str, str], str]:
        """SHA-256 of every track's bytes by owner and expert."""
        rows = self._connection.execute("SELECT owner, expert, sha256 FROM tracks")
        return {(owner, expert): sha256 for owner, expert, sha256 in rows}

    def end(self, fingerprint: str) -> Place:
        """Behind the last row that a track of a fingerprint names; (0, 0) where there is none."""
        shard, row = self._connection.execute(
            "SELECT shard, first_row + steps FROM tracks WHERE fingerprint = ?"
            " ORDER BY shard DESC, first_row DESC, steps DESC LIMIT 1",
            (fingerprint,),
        ).fetchone() or (0, 0)
        return shard, row

    def add(self, row: TrackRow, sha256: str) -> None:
        """Add the row of a track whose bytes are written."""
        self._connection.execute(
            "INSERT INTO tracks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (row.owner, row.expert, row.fingerprint, row.modality, *row.place, row.steps, row.dim, row.dtype, sha256,
             row.note),
        )  # fmt: skip

    def move(self, fingerprint: str, old: Place, rows: int, new: Place) -> None:
        """Note that adjacent rows of a shard, and so the tracks in them, lie elsewhere now."""
        self._connection.execute(
            "UPDATE tracks SET shard = ?, first_row = first_row + ? WHERE fingerprint = ? AND shard = ?"
            " AND first_row >= ? AND first_row < ? AND steps > 0",
            (new[0], new[1] - old[1], fingerprint, *old, old[1] + rows),
        )

    def holes(self) -> list[tuple[str, int, str, int]]:
        """Shards that may hold bytes of no track, as (fingerprint, dim, dtype, shard)."""
        return self._connection.execute(
            "SELECT fingerprint, dim, dtype, shard FROM holes ORDER BY fingerprint, shard"
        ).fetchall()

    def add_hole(self, fingerprint: str, dim: int, dtype: str, shard: int) -> None:
        """Note that a shard may hold bytes of no track."""
        self._connection.execute("INSERT OR IGNORE INTO holes VALUES (?, ?, ?, ?)", (fingerprint, shard, dim, dtype))

    def clear_holes(self, fingerprint: str, shards: Iterable[int]) -> None:
        """Note that shards hold nothing but tracks, or are deleted."""
        self._connection.executemany(
            "DELETE FROM holes WHERE fingerprint = ? AND shard = ?", [(fingerprint, shard) for shard in shards]
        )

    def remove(self, owner: str, expert: str) -> None:
        """Remove the row of a track."""
        self._connection.execute("DELETE FROM tracks WHERE owner = ? AND expert = ?", (owner, expert))

    def experts(self) -> dict[str, dict[str, Any]]:
        """By expert: modality, dim, fingerprints, tracks, and how many of them have steps."""
        experts: dict[str, dict[str, Any]] = {}
        for group in self.groups():
            facts = experts.setdefault(
                group.expert,
                {"modality": group.modality, "dim": group.dim, "tracks": 0, "present": 0, "fingerprints": []},
            )
            facts["modality"], facts["dim"] = min(facts["modality"], group.modality), min(facts["dim"], group.dim)
            facts["tracks"] += group.tracks
            facts["present"] += group.present
            facts["fingerprints"] = sorted({*facts["fingerprints"], group.fingerprint})
        return experts

    def groups(self, expert: str | None = None) -> list[TrackGroup]:
        """What tracks there are, by what they have in common, in order of expert and fingerprint."""
        columns = "expert, fingerprint, modality, dim, dtype"
        query = f"SELECT {columns}, tracks, present FROM (SELECT * FROM track_groups WHERE tracks > 0)"
        if not self._connection.has_table("track_groups"):
            query = (
                f"SELECT * FROM (SELECT {columns}, count(*) AS tracks, sum(steps > 0) AS present FROM tracks"
                f" GROUP BY {columns})"
            )
        rows = self._connection.execute(
            f"{query} WHERE expert = coalesce(?, expert) ORDER BY expert, fingerprint", (expert,)
        )
        return [TrackGroup(*row) for row in rows]


def _track_row(row: Sequence[Any]) -> TrackRow:
    owner, expert, fingerprint, modality, shard, first, steps, dim, dtype, note = row
    return TrackRow(owner, expert, fingerprint, modality, (shard, first), steps, dim, dtype, note)
