"""What became of a file that was examined or extracted: its row, its tracks, or why there are none."""

from dataclasses import dataclass

from reelseek.errors import MediaError, ReelseekError
from reelseek.experts import load_expert
from reelseek.experts.extract import Extracted
from reelseek.library.catalog import Catalog, FileState
from reelseek.library.collection import Entry
from reelseek.library.names import free_name, printable
from reelseek.library.records import Failure
from reelseek.library.report import AddReport
from reelseek.library.sidecars import reads_subtitles
from reelseek.library.storage import Storage
from reelseek.library.tasks import Task
from reelseek.media.address import FilePath
from reelseek.media.container import MediaInfo
from reelseek.media.guard import is_death
from reelseek.media.store import exists, file_numbers

__all__ = ["Examined", "put_failure", "record_examined", "record_extracted"]


@dataclass(frozen=True)
class Examined:
    """SHA-256 of a file's bytes, and what it says of itself."""

    content: str
    info: MediaInfo


def put_failure(catalog: Catalog, video: str, expert: str, reason: str, path: FilePath | None) -> None:
    """Note why a video's file or expert failed, and count how often it did in a row; call it inside a transaction."""
    before = catalog.failures.get(video, expert)
    attempts = before.attempts if before else 0
    if before and is_death(before.reason) != is_death(reason):
        attempts = 0  # deaths and other failures are counted apart
    state = file_numbers(path) if path else None
    catalog.failures.put(Failure(video, expert, reason, attempts + 1), path, state)


def record_examined(
    storage: Storage, entry: Entry, path: FilePath, outcome: Examined | Exception, report: AddReport
) -> None:
    """Give a file its row, or note why it cannot be read."""
    catalog, state = storage.catalog, file_numbers(path)
    with catalog.transaction():
        if isinstance(outcome, Exception):
            video = catalog.videos.at_path(path)
            name = video.id if video else _free_id(catalog, entry, path)
            report.failed.append((name, "", _reason(outcome)))
            put_failure(catalog, name, "", _reason(outcome), path)
            return
        _put_file(storage, entry, path, state, outcome, report)


def _put_file(
    storage: Storage, entry: Entry, path: FilePath, state: FileState, examined: Examined, report: AddReport
) -> None:
    catalog = storage.catalog
    identifier, is_new = _row_for(catalog, entry, path, examined.content)
    before = catalog.videos.get(identifier)
    catalog.videos.set_file(identifier, path, examined.content, state, examined.info.duration)
    catalog.failures.remove(identifier, "")
    if before and before.content and before.content != examined.content:
        catalog.failures.remove(identifier)
        storage.drop_content(before.content)
    catalog.contents.add(examined.content, vars(examined.info), examined.info.duration or 0.0)
    report.videos_new += is_new


def _row_for(catalog: Catalog, entry: Entry, path: FilePath, content: str) -> tuple[str, bool]:
    """The id of the row for a file: its path's, a moved file's with these bytes, the table's, or a new one."""
    video = catalog.videos.at_path(path)
    if video:
        return video.id, False
    for twin in catalog.videos.of_content(content):
        if twin.path is not None and not exists(twin.path):
            return twin.id, False
    video = catalog.videos.get(entry.id)
    if video and video.path is None:
        return entry.id, True
    identifier = _free_id(catalog, entry, path)
    catalog.videos.add(identifier)
    return identifier, True


def _free_id(catalog: Catalog, entry: Entry, path: FilePath) -> str:
    """An id that no other file has."""

    def is_free(name: str) -> bool:
        video = catalog.videos.get(name)
        return video is None or video.path == path

    return free_name(entry.id, path, is_free)


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if isinstance(error, ReelseekError) else f"{type(error).__name__}: {text}"


def record_extracted(storage: Storage, task: Task, outcome: Extracted | Exception, report: AddReport) -> None:
    """Store what experts made of a content, and note what they could not."""
    if isinstance(outcome, OSError) and not isinstance(outcome, MediaError):
        outcome = MediaError(f"{printable(task.path)} cannot be read: {outcome}")
    catalog = storage.catalog
    with storage.saving():
        if isinstance(outcome, Exception):
            report.failed.append((task.video, "", _reason(outcome)))
            put_failure(catalog, task.video, "", _reason(outcome), task.path)
            return
        for spec, track in outcome.tracks.items():
            expert = load_expert(spec)
            storage.put_track(task.content, expert.name, expert.fingerprint, expert.modality, track)
        for spec, reason in outcome.errors.items():
            report.failed.append((task.video, load_expert(spec).name, reason))
            put_failure(catalog, task.video, load_expert(spec).name, reason, task.path)
        if outcome.seconds:
            catalog.add_expert_seconds({load_expert(spec).name: value for spec, value in outcome.seconds.items()})
        if any(map(reads_subtitles, task.specs)):
            catalog.contents.set_sidecars(task.content, task.sidecars)
        _put_notices(catalog, task, outcome, report)
        if not task.has_tracks:
            catalog.contents.set_pictures(task.content, outcome.end_seconds, outcome.cuts, outcome.thumbnails)
            catalog.videos.set_duration(task.content, outcome.end_seconds)
        report.extracted += 1


def _put_notices(catalog: Catalog, task: Task, extracted: Extracted, report: AddReport) -> None:
    """Note what was guessed or mended; what was left out is a failure, which the next complete pass clears."""
    catalog.contents.add_notices(task.content, extracted.notices)
    report.notices += [(task.video, notice) for notice in extracted.notices if not notice.lost]
    if lost := "; ".join(str(notice) for notice in extracted.notices if notice.lost):
        report.failed.append((task.video, "", lost))
        put_failure(catalog, task.video, "", lost, task.path)
    else:  # unless an earlier pass, for other experts, left something out
        catalog.failures.remove_of_content(task.content)
