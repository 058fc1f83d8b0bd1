"""Tracks that this version would make otherwise are made anew; all others stay.

Other versions treated some files differently, or had other experts; vectors of both must not meet.
"""

from collections.abc import Iterable, Sequence

from reelseek.experts import load_expert
from reelseek.library.records import TrackRow, Video
from reelseek.library.report import AddReport
from reelseek.library.storage import Storage
from reelseek.media.address import Address, FilePath
from reelseek.media.container import Limits, MediaInfo, probe
from reelseek.media.guard import Workers
from reelseek.media.local_copy import fetch_seconds, local_copy
from reelseek.media.notice import Notice
from reelseek.media.store import file_numbers

__all__ = ["outdated_tracks", "renew_treatments", "report_outdated"]


def _probe(item: tuple[Video, Limits]) -> MediaInfo:
    video, limits = item
    assert video.path is not None
    with local_copy(video.path) as path:
        return probe(path, limits)


def _probe_seconds(item: tuple[Video, Limits]) -> float:
    path = item[0].path
    return 60.0 + (fetch_seconds(path, file_numbers(path)[0]) if isinstance(path, Address) else 0.0)


def renew_treatments(
    storage: Storage, paths: Iterable[FilePath], *, workers: int, limits: Limits
) -> list[tuple[str, Notice]]:
    """Forget the tracks of contents that an earlier version extracted and this one would extract differently.

    Each file is opened once: what it is treated as is noted then. Copies for browsers of an earlier version go too.

    Returns:
        Videos whose tracks were forgotten, with the reason.
    """
    files = set(paths)
    videos = storage.catalog.videos
    old = {
        video.content: video
        for content in sorted(set(storage.catalog.contents.untreated(files)))
        for video in videos.of_content(content)
        if video.path in files
    }
    if not old:
        return []
    notices: list[tuple[str, Notice]] = []
    with Workers(_probe, workers=min(workers, len(old)), memory_bytes=limits.memory_bytes) as pool:
        for (video, _), outcome in pool.map([(video, limits) for video in old.values()], _probe_seconds):
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


def outdated_tracks(storage: Storage, specs: Sequence[str]) -> list[TrackRow]:
    """List the tracks of files that another version or model of their expert made than those that run now."""
    current = {load_expert(spec).name: load_expert(spec).fingerprint for spec in specs}
    tracks = storage.catalog.tracks
    rows = [
        row
        for group in tracks.groups()
        if current.get(group.expert, group.fingerprint) != group.fingerprint
        for row in tracks.of_fingerprint(group.fingerprint)
        if row.expert == group.expert and not row.owner.startswith("id:")
    ]
    return sorted({(row.owner, row.expert): row for row in rows}.values(), key=lambda row: (row.owner, row.expert))


def report_outdated(storage: Storage, outdated: Sequence[TrackRow], specs: Sequence[str], report: AddReport) -> None:
    """Report what became of outdated tracks after an extraction; those that stand in the way of a search have failed.

    Args:
        outdated: what `outdated_tracks` listed before it.
        report: takes them; a video whose failure it holds already does not fail again.
    """
    if not outdated:
        return
    failed = {video for video, _, _ in report.failed}
    remaining = {(row.owner, row.expert) for row in outdated_tracks(storage, specs)}
    experts = storage.catalog.tracks.experts()
    for expert in dict.fromkeys(row.expert for row in outdated):
        owners = [row.owner for row in outdated if row.expert == expert]
        old = [owner for owner in owners if (owner, expert) in remaining]
        if len(old) < len(owners):
            message = f"{len(owners) - len(old)} tracks by another version or model of this expert were extracted anew"
            report.notices.append(("", Notice(expert, message)))
        if old and len(experts[expert]["fingerprints"]) == 1:
            wait = "wait for their files to be extracted anew"
            message = f"{len(old)} tracks by another version or model of this expert {wait}"
            report.notices.append(("", Notice(expert, message)))
        elif old:
            reason = (
                "its track is by another version or model of this expert, and a search cannot use both; put its file "
                "back and add it again (with --retry-failed where it failed), or forget it: reelseek remove"
            )
            videos = [video.id for owner in old for video in storage.catalog.videos.of_owner(owner)]
            report.failed += [(video, expert, reason) for video in videos if video not in failed]
