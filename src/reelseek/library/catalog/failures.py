"""What failed: files that could not be read, experts that could not run on them, tracks that are damaged."""

import os
from collections.abc import Iterable

from reelseek.library.catalog.connection import Connection
from reelseek.library.catalog.videos import FileState
from reelseek.library.records import Failure
from reelseek.media.address import FilePath, parse_path, path_bytes

__all__ = ["Failures"]


class Failures:
    """The table of failures; the expert '' stands for the file itself."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> list[Failure]:
        """What failed and why, in order of video."""
        rows = self._connection.execute("SELECT video, expert, reason, attempts FROM failures ORDER BY video, expert")
        return [Failure(*row) for row in rows]

    def get(self, video: str, expert: str) -> Failure | None:
        """What failed of one video and expert."""
        query = "SELECT video, expert, reason, attempts FROM failures WHERE video = ? AND expert = ?"
        row = self._connection.execute(query, (video, expert)).fetchone()
        return Failure(*row) if row else None

    def of_files(self, paths: Iterable[FilePath]) -> list[tuple[FilePath, FileState, Failure]]:
        """Those of some files that failed as a whole, each as it was then."""
        rows = self._connection.select_in(
            "SELECT path, size, mtime_ns, video, expert, reason, attempts FROM failures"
            " WHERE expert = '' AND path IN (?)",
            map(path_bytes, paths),
        )
        return [(parse_path(os.fsdecode(path)), (size, mtime), Failure(*cells)) for path, size, mtime, *cells in rows]

    def paths(self) -> list[FilePath]:
        """The files of all failures, of those that were noted with one."""
        rows = self._connection.execute("SELECT DISTINCT path FROM failures WHERE path IS NOT NULL ORDER BY path")
        return [parse_path(os.fsdecode(path)) for (path,) in rows]

    def paths_by_video(self) -> dict[str, FilePath]:
        """The files of failures by video, where they are known."""
        rows = self._connection.execute("SELECT video, path FROM failures WHERE path IS NOT NULL")
        return {video: parse_path(os.fsdecode(path)) for video, path in rows}

    def of_videos(self, videos: Iterable[str]) -> list[Failure]:
        """What failed of some videos."""
        query = "SELECT video, expert, reason, attempts FROM failures WHERE video IN (?)"
        return [Failure(*row) for row in self._connection.select_in(query, videos)]

    def videos_after(self, video: str, count: int) -> list[str]:
        """The next ids behind one of videos of which something failed, in order."""
        query = "SELECT DISTINCT video FROM failures WHERE video > ? ORDER BY video LIMIT ?"
        return [row[0] for row in self._connection.execute(query, (video, count)).fetchall()]

    def put(self, failure: Failure, path: FilePath | None, state: FileState | None) -> None:
        """Note a failure, and of which file as it is now, in the place of what was noted."""
        self._connection.execute(
            "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?, ?)",
            (failure.video, failure.expert, path_bytes(path) if path else None, *(state or (None, None)),
             failure.reason, failure.attempts),
        )  # fmt: skip

    def put_reason(self, video: str, expert: str, reason: str) -> None:
        """Note why a track cannot be used; how often it failed before, and of which file, stays."""
        self._connection.execute(
            "INSERT INTO failures VALUES (?, ?, NULL, NULL, NULL, ?, 1)"
            " ON CONFLICT DO UPDATE SET reason = excluded.reason",
            (video, expert, reason),
        )

    def remove(self, video: str, expert: str | None = None) -> None:
        """Forget what failed of one expert, or all that failed of a video."""
        if expert is None:
            self._connection.execute("DELETE FROM failures WHERE video = ?", (video,))
        else:
            self._connection.execute("DELETE FROM failures WHERE video = ? AND expert = ?", (video, expert))

    def remove_of_content(self, content: str) -> None:
        """Forget that files with these bytes failed, unless something of them was left out."""
        self._connection.execute(
            "DELETE FROM failures WHERE expert = '' AND video IN (SELECT id FROM videos WHERE content = ?1)"
            " AND NOT EXISTS (SELECT 1 FROM notices WHERE owner = ?1 AND lost)",
            (content,),
        )
