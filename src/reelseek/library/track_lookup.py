"""Which track a reader means by a video and an expert: looked up in the catalog by the batch, or all in memory."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Protocol

from reelseek.errors import LibraryError
from reelseek.library.records import TrackRow
from reelseek.library.source import FeatureSource
from reelseek.library.storage import Storage

__all__ = ["TrackLookup", "track_lookup"]

_MOST_VIDEOS = 50_000  # whose rows stay in memory, a few hundred bytes for each track
Rows = Mapping[str, TrackRow]
"""A video's tracks by expert."""


class TrackLookup(Protocol):
    """The rows of a video's tracks."""

    def rows(self, video: str) -> Rows:
        """The video's tracks by expert, of those experts that are read."""

    def prepare(self, videos: Iterable[str]) -> None:
        """Look up several videos at once, which are asked for next."""


def track_lookup(source: FeatureSource, fingerprints: Mapping[str, str]) -> TrackLookup:
    """A lookup of the tracks of some experts.

    Args:
        fingerprints: by expert.
    """
    if isinstance(source, Storage):
        return _CatalogTracks(source, fingerprints)
    return _TracksInMemory(source, fingerprints)


class _TracksInMemory:
    """All rows of a source that holds its features in memory as well."""

    def __init__(self, source: FeatureSource, experts: Iterable[str]) -> None:
        tracks: dict[str, dict[str, TrackRow]] = {}
        for row in (row for expert in experts for row in source.track_rows(expert)):
            tracks.setdefault(row.owner, {})[row.expert] = row
        self._rows = {
            video.id: {expert: row for owner in video.owners for expert, row in tracks.get(owner, {}).items()}
            for video in source.videos()
        }

    def rows(self, video: str) -> Rows:
        return self._rows[video]

    def prepare(self, videos: Iterable[str]) -> None:
        pass


class _CatalogTracks:
    """Rows as the catalog has them, some of which are kept in memory.

    What is removed or made anew while a reader goes on is refused, rather than read as if it had never been there.
    """

    def __init__(self, storage: Storage, fingerprints: Mapping[str, str]) -> None:
        self._storage, self._fingerprints = storage, dict(fingerprints)
        self._rows: dict[str, Rows] = {}
        self._revision = storage.revision()
        self._removed = self._count_removed()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": {}}

    def _count_removed(self) -> dict[str, int]:
        removed = dict.fromkeys(self._fingerprints, 0)
        for expert, fingerprint, count in self._storage.catalog.tracks.removals():
            if self._fingerprints.get(expert) == fingerprint:
                removed[expert] += count
        return removed

    def rows(self, video: str) -> Rows:
        if video not in self._rows:
            self.prepare([video])
        return self._rows[video]

    def prepare(self, videos: Iterable[str]) -> None:
        unread = [video for video in dict.fromkeys(videos) if video not in self._rows]
        if not unread:
            return
        rows = self._read(unread)
        if self._storage.revision() != self._revision:
            self._refuse_changed(unread, rows)
        for old in list(islice(self._rows, max(0, len(self._rows) + len(rows) - _MOST_VIDEOS))):
            del self._rows[old]
        self._rows.update(rows)

    def _refuse_changed(self, videos: Iterable[str], rows: Mapping[str, Rows]) -> None:
        removed = self._count_removed()
        doubtful = {expert for expert, count in removed.items() if count > self._removed[expert]}
        changed = self._storage.catalog.changes.last(videos) if doubtful else {}
        for video in videos:
            if video not in rows:
                raise LibraryError(
                    f"{self._storage.path} was changed: {video} is no video of it; open the library again"
                )
            tracks = rows[video]
            for expert, fingerprint in self._fingerprints.items():
                row = tracks.get(expert)
                is_new = changed.get(video, 0) > self._revision
                if (row is None and expert in doubtful and is_new) or (row and row.fingerprint != fingerprint):
                    raise LibraryError(
                        f"{self._storage.path} was changed: {expert} of {video} was removed or made anew since this "
                        "began; open the library again"
                    )

    def _read(self, videos: Iterable[str]) -> dict[str, Rows]:
        catalog = self._storage.catalog
        owners = {video.id: video.owners for video in catalog.videos.with_ids(videos)}
        tracks: dict[str, dict[str, TrackRow]] = {}
        for row in catalog.tracks.of_owners({owner for members in owners.values() for owner in members}):
            if row.expert in self._fingerprints:
                tracks.setdefault(row.owner, {})[row.expert] = row
        return {
            video: {expert: row for owner in members for expert, row in tracks.get(owner, {}).items()}
            for video, members in owners.items()
        }
