"""A library: videos, captions, tracks, texts and failures in one folder, and everything that is done with them."""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelseek.errors import LibraryError, UsageError
from reelseek.experts.expert import Text
from reelseek.library.catalog import FORMAT_VERSION
from reelseek.library.damage import check_storage, damaged_bytes
from reelseek.library.names import name_some
from reelseek.library.records import Caption, Tag, TrackRow, Video
from reelseek.library.removal import compact, finish_interrupted, remove_expert, remove_videos
from reelseek.library.report import AddReport, Progress
from reelseek.library.storage import Storage
from reelseek.library.tags import add_tags, remove_tags
from reelseek.library.video_lookup import VideoLookup
from reelseek.media.address import absolute, parse_path
from reelseek.media.notice import Notice

if TYPE_CHECKING:
    import torch

    from reelseek.cluster import Cluster
    from reelseek.media.container import Limits

__all__ = ["FORMAT_VERSION", "Caption", "Check", "Library", "Tag", "TrackRow", "Video"]

Check = Callable[["Library"], Iterable[tuple[str, str]]]
"""Finds what is wrong with derived files, as (name, problem)."""


class Library(Storage):
    """An open library; open one with `Library.open`.

    Example:
        with Library.open("my.library", create=True) as library:
            library.add(["films"])
            print([video.id for video in library.videos()])
    """

    # Videos, captions and splits

    def videos(self) -> list[Video]:
        """All videos in order of id."""
        return self.catalog.videos.all()

    def names(self) -> VideoLookup:
        """Which video a name means, in any form of its letters, or none, or several."""
        return VideoLookup(self.catalog)

    def video(self, name: str) -> Video:
        """A video by its id, its path, or the end of either where that names just one, in any form of its letters.

        Raises:
            UsageError: no such video, or several.
        """
        video = self.catalog.videos.get(name) or self.catalog.videos.at_path(absolute(parse_path(name)))
        if video is not None:
            return video
        matches = self.names().matches(name)
        if len(matches) == 1:
            return matches[0]
        several = f"; it could be {name_some([video.id for video in matches])}" if matches else ""
        raise UsageError(f"{self.path} has no video {name!r}{several}; list them with: reelseek info --videos")

    def get(self, identifier: str) -> Video | None:
        """The video of exactly this id, if there is one."""
        return self.catalog.videos.get(identifier)

    def captions(self, split: str | None = None) -> list[Caption]:
        """Captions in order of video and position, of one split or of all."""
        return self.catalog.captions.all(split)

    def splits(self) -> dict[str, int]:
        """Captions by split."""
        return self.catalog.captions.count_by_split()

    def memberships(self) -> dict[str, list[str]]:
        """Videos of each split that a list gave, in its order; a video may be in several."""
        return self.catalog.captions.memberships()

    def put_split(self, split: str, videos: Sequence[str]) -> None:
        """Add videos to a split; those that it has keep their places."""
        self.catalog.captions.add_members(split, videos)

    def tags(self, video: str) -> list[Tag]:
        """The tags of a video, then those of its moments in order of time."""
        return self.catalog.tags.of_video(video)

    def add_tags(self, tags: Iterable[Tag]) -> int:
        """Put tags on videos and moments, all or none; no digest, index or file of a video depends on them.

        Returns:
            How many were new.

        Raises:
            UsageError: a text is no tag (`reelseek.library.tags.clean_tag`), or a video is not here.

        Example:
            library.add_tags([Tag("rome.mp4", "holiday"), Tag("rome.mp4", "fountain", 10.0, 14.5)])
        """
        return add_tags(self, tags)

    def remove_tags(self, tags: Iterable[Tag]) -> int:
        """Take tags off videos and moments, and return how many of them there were."""
        return remove_tags(self, tags)

    # What was extracted

    def track_rows(self, expert: str | None = None) -> list[TrackRow]:
        """Every track's row, of one expert or of all."""
        return self.catalog.tracks.all(expert)

    def experts(self) -> dict[str, dict[str, Any]]:
        """By expert: modality, dim, fingerprints, tracks, and how many of them have steps."""
        return self.catalog.tracks.experts()

    def drop_track(self, owner: str, expert: str) -> None:
        """Forget one track and its words (its bytes stay until the shard is compacted)."""
        self.catalog.remove_track(owner, expert)

    def texts(self, owner: str) -> list[tuple[str, Text]]:
        """Expert and text of all words of one owner, in order of time."""
        return self.catalog.texts.of_owner(owner)

    def put_texts(self, owner: str, source: str, texts: Sequence[Text]) -> None:
        """Store words of one source, replacing what it had for this owner; call it inside `saving`."""
        self.catalog.texts.put(owner, source, texts)

    def thumbnail(self, owner: str, seconds: float) -> bytes | None:
        """The stored picture nearest to a time."""
        return self.catalog.contents.thumbnail(owner, seconds)

    def cuts(self, content: str) -> list[float]:
        """Seconds at which the camera cuts."""
        return self.catalog.contents.cuts(content)

    def media_info(self, content: str) -> dict[str, Any]:
        """What a file says of itself (`MediaInfo` as a table); empty where it was never examined."""
        return self.catalog.contents.info(content)

    def failures(self) -> list[dict[str, Any]]:
        """What failed and why, in order of video."""
        return [vars(failure) | {"expert": failure.expert or None} for failure in self.catalog.failures.all()]

    def notices(self) -> list[tuple[str, Notice]]:
        """Video ids with what was guessed, mended or left out of their files, in order of id."""
        return self.catalog.contents.notices()

    # Adding and removing

    def add(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        captions: str | os.PathLike[str] | None = None,
        media: bool = True,
        experts: Sequence[str] | None = None,
        workers: int | None = None,
        limits: "Limits | None" = None,
        retry_failed: bool = False,
        device: "str | torch.device | None" = None,
        progress: Progress | None = None,
        cluster: "Cluster | None" = None,
        within: Sequence[Path] | None = None,
    ) -> AddReport:
        """Ingest and extract what is new; see `reelseek.library.add`."""
        from reelseek.library.ingest import add  # with all that decodes, which only adding needs

        return add(
            self, paths, captions=captions, media=media, experts=experts, workers=workers, limits=limits,
            retry_failed=retry_failed, device=device, progress=progress, cluster=cluster,
            within=within,
        )  # fmt: skip

    def remove(self, names: Sequence[str], *, erase: Callable[[Sequence[str]], None] | None = None) -> list[str]:
        """Forget videos and everything derived from them; sources are not touched.

        Stopped at any instant, the same call again, or any other that writes, finishes it.

        Args:
            erase: leaves no byte of videos of these ids in any index (`reelseek.search.erase_videos`); without it
                indexes are deleted, and are built again when they are next asked for.

        Returns:
            The ids removed.

        Raises:
            UsageError: a name is not a video here; then nothing is removed.
            LibraryError: the videos are forgotten, but some of their bytes could not be erased yet.
        """
        return remove_videos(self, names, self.video, erase)

    def remove_expert(self, expert: str) -> int:
        """Erase all tracks and words of one expert, or of `captions`, which a machine wrote; says how many there were.

        Raises:
            UsageError: the library has nothing of that expert.
            LibraryError: as `remove`.
        """
        return remove_expert(self, expert)

    def finish_interrupted(self) -> None:
        """Finish a removal that was stopped, and say so; call it as the writer."""
        finish_interrupted(self)

    def compact(self) -> None:
        """Rewrite shards that hold bytes no row names, so that what was removed is gone from the disk.

        Raises:
            LibraryError: another process reads at the moment and keeps deleted rows in the write-ahead log.
        """
        compact(self)

    # Checking

    def digest(self, *, verify: bool = False) -> str:
        """SHA-256 over ids, captions, content hashes, fingerprints and track bytes, in an order of its own.

        Args:
            verify: hash the bytes on disk again instead of trusting the hashes noted when they were written.

        Raises:
            LibraryError: with `verify`, bytes on disk are not what was written.
        """
        digest = hashlib.sha256()
        for line in self.catalog.digest_lines():
            digest.update(line.encode())
        damage = damaged_bytes(self) if verify else []
        if damage:
            raise LibraryError(damage[0][1] + (f" ({len(damage) - 1} more are damaged)" if len(damage) > 1 else ""))
        return digest.hexdigest()

    def verify(self, checks: Iterable[Check] = ()) -> list[tuple[str, str]]:
        """Everything that is not as it was written, as (name, problem): the database, tracks, and what `checks` find.

        Damaged tracks are noted where the library can be written, and the next `add` makes them again.

        Args:
            checks: of derived files.
        """
        problems = check_storage(self)
        try:
            for check in checks:
                problems += check(self)
        except sqlite3.DatabaseError as error:
            problems.append(("library.db", str(error)))
        return problems
