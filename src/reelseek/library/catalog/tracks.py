"""Rows of tracks: whose they are, what they are, and where their bytes lie."""

from collections.abc import Iterable, Sequence
from typing import Any

from reelseek.library.catalog.connection import Connection
from reelseek.library.records import Place, TrackRow

__all__ = ["Tracks"]

_TRACKS = "SELECT owner, expert, fingerprint, modality, shard, first_row, steps, dim, dtype, note FROM tracks"
_TRACKS_AND_HASHES = _TRACKS.replace(" FROM", ", sha256 FROM")
_OWNERS_A_QUERY = 500


class Tracks:
    """The table of tracks."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self, expert: str | None = None) -> list[TrackRow]:
        """Every track's row, of one expert or of all."""
        query, values = (f"{_TRACKS} WHERE expert = ?", (expert,)) if expert else (_TRACKS, ())
        return [_track_row(row) for row in self._connection.execute(query, values)]

    def get(self, owner: str, expert: str) -> TrackRow | None:
        """The track of one expert and owner."""
        row = self._connection.execute(f"{_TRACKS} WHERE owner = ? AND expert = ?", (owner, expert)).fetchone()
        return _track_row(row) if row else None

    def some(self, owners: Sequence[str]) -> list[tuple[TrackRow, str]]:
        """Rows of the tracks of some owners, and the SHA-256 of each one's bytes."""
        rows: list[tuple[TrackRow, str]] = []
        for start in range(0, len(owners), _OWNERS_A_QUERY):
            block = owners[start : start + _OWNERS_A_QUERY]
            query = f"{_TRACKS_AND_HASHES} WHERE owner IN ({','.join('?' * len(block))})"
            rows += [(_track_row(row[:-1]), row[-1]) for row in self._connection.execute(query, block)]
        return rows

    def has_owner(self, owner: str) -> bool:
        """Whether an owner has any track."""
        return self._connection.execute("SELECT 1 FROM tracks WHERE owner = ?", (owner,)).fetchone() is not None

    def sha256(self, owner: str, expert: str) -> str | None:
        """SHA-256 of a track's bytes when they were written."""
        query = "SELECT sha256 FROM tracks WHERE owner = ? AND expert = ?"
        row = self._connection.execute(query, (owner, expert)).fetchone()
        return str(row[0]) if row else None

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

    def move(self, places: Iterable[tuple[TrackRow, Place]]) -> None:
        """Note that the bytes of tracks lie elsewhere now."""
        self._connection.executemany(
            "UPDATE tracks SET shard = ?, first_row = ? WHERE owner = ? AND expert = ?",
            [(*place, row.owner, row.expert) for row, place in places],
        )

    def remove(self, owner: str, expert: str) -> None:
        """Remove the row of a track."""
        self._connection.execute("DELETE FROM tracks WHERE owner = ? AND expert = ?", (owner, expert))

    def experts(self) -> dict[str, dict[str, Any]]:
        """By expert: modality, dim, fingerprints, tracks, and how many of them have steps."""
        rows = self._connection.execute(
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


def _track_row(row: Sequence[Any]) -> TrackRow:
    owner, expert, fingerprint, modality, shard, first, steps, dim, dtype, note = row
    return TrackRow(owner, expert, fingerprint, modality, (shard, first), steps, dim, dtype, note)
