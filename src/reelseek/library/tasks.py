"""Which contents are to be extracted, and by which experts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reelseek.experts import available, load_expert
from reelseek.experts.parts import WHOLE, Stretch
from reelseek.library.catalog import Catalog, FileState, SidecarState
from reelseek.library.damage import Damage
from reelseek.library.records import Failure, TrackRow, Video
from reelseek.library.report import AddReport
from reelseek.library.sidecars import Sidecars, reads_subtitles
from reelseek.library.storage import Storage
from reelseek.media.address import Address, FilePath
from reelseek.media.guard import is_death
from reelseek.media.store import NOT_FETCHED, file_numbers

__all__ = ["Task", "add_damaged", "add_outdated", "is_final", "pending_tasks"]

_MOST_DEATHS = 3  # of a file's worker, one after the other, before the file is taken to be the cause


@dataclass(frozen=True)
class Task:
    """One content to be extracted: any path that holds it, and the experts it lacks.

    Attributes:
        has_tracks: it has tracks, and pictures, already.
        copies: every path at which the content lies.
        sidecars: the subtitle files beside those.
        numbers: state that the object has to have, where the path is an address.
        parts: a folder in which unfinished work on it is kept, if it is.
        stretch: of the video, that this piece of the work is of.
        starts: of all stretches, where the video is divided.
        ends: where frames and samples end, once all stretches are worked on: what is left is to make tracks of them.
        piece: tells the pieces of one content apart.
        short_side: see `decode`.
    """

    content: str
    path: FilePath
    video: str
    specs: tuple[str, ...]
    duration: float | None
    has_tracks: bool
    copies: tuple[FilePath, ...]
    sidecars: SidecarState
    numbers: FileState | None = None
    parts: Path | None = None
    stretch: Stretch = WHOLE
    starts: tuple[int, ...] = ()
    ends: tuple[float, float] | None = None
    piece: int = 0
    short_side: int = 0


def is_final(failure: Failure) -> bool:
    """Whether a file that failed is not tried again unasked.

    A worker or a model server that was killed from outside says nothing of a file, unless it happens again and again.
    """
    if failure.reason.startswith(NOT_FETCHED):
        return False  # the store or the disk may be well again
    return not is_death(failure.reason) or failure.attempts >= _MOST_DEATHS


def pending_tasks(
    storage: Storage, specs: Sequence[str], paths: set[FilePath], report: AddReport, retry_failed: bool
) -> list[Task]:
    """A task for every content among `paths` that lacks a track of one of the experts."""
    catalog = storage.catalog
    videos = catalog.videos.at_paths(paths)
    contents = {video.content for video in videos if video.content is not None}
    rows = catalog.tracks.of_owners(contents)
    fingerprints = {(row.owner, row.expert): row.fingerprint for row in rows}
    failures = [] if retry_failed else catalog.failures.of_videos(video.id for video in videos)
    failed = {(failure.video, failure.expert) for failure in failures if is_final(failure)}
    owners = {owner for owner, _ in fingerprints}
    sidecars = Sidecars(storage, contents)
    subtitle_specs = {spec for spec in specs if reads_subtitles(spec)}
    tasks: dict[str, Task] = {}
    for video in videos:
        if video.path is None or video.content is None or video.content in tasks:
            continue
        again = subtitle_specs if subtitle_specs and sidecars.changed(video.content) else set()
        lacks = tuple(
            spec
            for spec in specs
            if spec in again
            or fingerprints.get((video.content, load_expert(spec).name)) != load_expert(spec).fingerprint
        )
        has_tracks = video.content in owners
        if (video.id, "") in failed and not has_tracks:
            report.known_failures += 1
            continue
        lacks = tuple(s for s in lacks if s in again or (video.id, load_expert(s).name) not in failed)
        if lacks:
            tasks[video.content] = _task(catalog, video, video.path, lacks, sidecars, has_tracks=has_tracks)
    return list(tasks.values())


def _task(
    catalog: Catalog, video: Video, path: FilePath, specs: tuple[str, ...], sidecars: Sidecars, *, has_tracks: bool
) -> Task:
    assert video.content is not None
    copies, state = sidecars.copies(video.content), sidecars.state(video.content)
    numbers = catalog.videos.file_state(video.id) if isinstance(path, Address) else None
    return Task(video.content, path, video.id, specs, video.duration, has_tracks, copies, state, numbers)


def add_damaged(storage: Storage, tasks: list[Task], damage: Damage) -> list[Task]:
    """The tasks, with every damaged track whose file is at hand as it was, whether or not this call names the file."""
    if not damage:
        return tasks
    used = storage.catalog.expert_specs()
    missing = available(used)[1]
    return _add_tracks(storage, tasks, [row for row, _ in damage], [spec for spec in used if spec not in missing])


def add_outdated(
    storage: Storage, tasks: list[Task], outdated: Sequence[TrackRow], specs: Sequence[str], retry_failed: bool
) -> list[Task]:
    """The tasks, with every outdated track whose file is at hand, or it could not be searched beside the new ones."""
    catalog = storage.catalog
    videos = {row.owner: [video.id for video in catalog.videos.of_owner(row.owner)] for row in outdated}
    ids = [] if retry_failed else {identifier for members in videos.values() for identifier in members}
    failed = {(failure.video, failure.expert) for failure in catalog.failures.of_videos(ids) if is_final(failure)}
    rows = [row for row in outdated if not any((video, row.expert) in failed for video in videos[row.owner])]
    return _add_tracks(storage, tasks, rows, specs)


def _add_tracks(storage: Storage, tasks: list[Task], rows: Sequence[TrackRow], specs: Sequence[str]) -> list[Task]:
    """The tasks, with the tracks of some rows whose file is as it was."""
    if not rows:
        return tasks
    spec_of = {load_expert(spec).name: spec for spec in specs}
    by_content = {task.content: task for task in tasks}
    sidecars = Sidecars(storage, {row.owner for row in rows})
    for row in rows:
        spec, video = spec_of.get(row.expert), _unchanged_video(storage.catalog, row)
        if spec is None or video is None or video.path is None:
            continue
        task = by_content.get(row.owner)
        if task is None:
            by_content[row.owner] = _task(storage.catalog, video, video.path, (spec,), sidecars, has_tracks=True)
        elif spec not in task.specs:
            by_content[row.owner] = replace(task, specs=(*task.specs, spec))
    return list(by_content.values())


def _unchanged_video(catalog: Catalog, row: TrackRow) -> Video | None:
    """A video with this content whose file is as it was when it was read."""
    for video in catalog.videos.of_content(row.owner):
        if video.path is not None and file_numbers(video.path) == catalog.videos.file_state(video.id):
            return video
    return None
