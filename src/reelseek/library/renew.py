"""Tracks of files that this version treats otherwise than the one that made them are made anew; all others stay."""

from collections.abc import Iterable
from pathlib import Path

from reelseek.library.records import Video
from reelseek.library.storage import Storage
from reelseek.media.container import Limits, MediaInfo, probe
from reelseek.media.guard import Workers
from reelseek.media.notice import Notice

__all__ = ["renew_treatments"]


def _probe(item: tuple[Video, Limits]) -> MediaInfo:
    video, limits = item
    assert video.path is not None
    return probe(video.path, limits)


def renew_treatments(
    storage: Storage, paths: Iterable[Path], *, workers: int, limits: Limits
) -> list[tuple[str, Notice]]:
    """Forget the tracks of contents that an earlier version extracted and this one would extract differently.

    Each file is opened once: what it is treated as is noted then. Copies for browsers of an earlier version go too.

    Returns:
        Videos whose tracks were forgotten, with the reason.
    """
    files = set(paths)
    contents = storage.catalog.contents
    old = {
        video.content: video
        for video in storage.catalog.videos.all()
        if video.content and video.path in files and "treatment" not in contents.info(video.content)
    }
    if not old:
        return []
    notices: list[tuple[str, Notice]] = []
    with Workers(_probe, workers=min(workers, len(old)), memory_bytes=limits.memory_bytes) as pool:
        for (video, _), outcome in pool.map([(video, limits) for video in old.values()], lambda _: 60.0):
            if isinstance(outcome, Exception):
                continue  # it is as it was; whoever extracts from it next says why it cannot be read
            assert video.content is not None
            if _replace_info(storage, video.content, outcome):
                message = f"extracted anew, since {', '.join(outcome.treatment)} is treated differently than before"
                notices.append((video.id, Notice("", message)))
    return notices


def _replace_info(storage: Storage, content: str, info: MediaInfo) -> bool:
    """Note what a file says of itself now; where it is treated differently, forget what was extracted from it.

    Returns:
        Whether anything was forgotten.
    """
    catalog = storage.catalog
    with storage.saving():
        catalog.contents.set_info(content, vars(info))
        storage.remove_copy(content)
        if not info.treatment or not catalog.tracks.has_owner(content):
            return False
        catalog.remove_owner(content)
        return True
