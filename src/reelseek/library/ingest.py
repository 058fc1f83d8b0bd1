"""Adding videos: read the collection, examine new files, run experts over new contents, keep what is finished.

Progress is kept per (video, expert). Killed at any moment and started again, it gives the same tables.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from reelseek.errors import MediaError, ReelseekError, UsageError
from reelseek.experts import DEFAULT_EXPERTS, available, load_expert
from reelseek.experts.expert import hash_files
from reelseek.experts.extract import Extracted, extract, prepare_worker
from reelseek.library.collection import Collection, Entry, printable, read_collection
from reelseek.library.renew import renew_treatments
from reelseek.library.store import Library
from reelseek.media.container import Limits, MediaInfo, probe
from reelseek.media.guard import Workers
from reelseek.media.notice import Notice

__all__ = ["AddReport", "Progress", "add"]

Progress = Callable[[str, int, int, str], None]
"""Called with stage, done, total and what was just finished."""


@dataclass
class AddReport:
    """What one call of `add` did. `failed` holds (video, expert or '', reason) of this run only.

    `unmatched` are names in a captions table that are no video here, nor a file that could become one. `notices` say of
    which video what was guessed or mended.
    """

    videos_seen: int = 0
    videos_new: int = 0
    captions: int = 0
    extracted: int = 0
    skipped_experts: dict[str, str] = field(default_factory=dict)
    experts: list[str] = field(default_factory=list)
    failed: list[tuple[str, str, str]] = field(default_factory=list)
    known_failures: int = 0
    unmatched: list[str] = field(default_factory=list)
    notices: list[tuple[str, Notice]] = field(default_factory=list)

    @property
    def nothing_new(self) -> bool:
        return not (self.videos_new or self.captions or self.extracted or self.failed)


@dataclass(frozen=True)
class _Examined:
    content: str
    info: MediaInfo


@dataclass(frozen=True)
class _Task:
    """One content to be extracted: any path that holds it, and the experts it lacks."""

    content: str
    path: Path
    video: str
    specs: tuple[str, ...]
    duration: float | None
    known: bool


def _examine(item: tuple[Path, Limits]) -> _Examined:
    path, limits = item
    info = probe(path, limits)
    return _Examined(hash_files([path]), info)


def _extract(limits: Limits, task: _Task) -> Extracted:
    return extract(task.path, task.specs, limits, pictures=not task.known)


def add(
    library: Library,
    paths: Sequence[str | os.PathLike[str]],
    *,
    captions: str | os.PathLike[str] | None = None,
    media: bool = True,
    experts: Sequence[str] | None = None,
    workers: int | None = None,
    limits: Limits | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> AddReport:
    """Ingest and extract what is new; what is known and unchanged costs nothing.

    Args:
        paths: folders, files, lists or tables, as `read_collection` takes them.
        captions: a table of captions.
        media: False adds rows from tables without looking for files.
        experts: `name` or `name@model`; None takes what the library was begun with, else every default that runs here.
        workers: processes; None takes one a core.
        retry_failed: try files and experts again that failed before.

    Raises:
        CollectionError, LibraryError, UsageError: nothing, or only finished work, was written.
    """
    tell = progress or (lambda *_: None)
    limits = limits or Limits()
    report = AddReport()
    collection = read_collection([Path(p) for p in paths], Path(captions) if captions else None, media=media)
    with library.writing():
        library.drop_lost_tracks()
        _write_rows(library, collection, report, media=media)
        if media:
            specs = _specs(library, experts, report)
            workers = workers or os.cpu_count() or 1
            _examine_files(library, collection.entries, workers, limits, report, retry_failed, tell)
            wanted = {Path(os.path.abspath(entry.path)) for entry in collection.entries if entry.path}
            report.notices += renew_treatments(library, wanted, workers=workers, limits=limits)
            tasks = _pending(library, specs, wanted, report, retry_failed)
            _extract_contents(library, tasks, specs, workers, limits, report, tell)
    return report


def _specs(library: Library, experts: Sequence[str] | None, report: AddReport) -> list[str]:
    kept: list[str] = json.loads(library.meta("experts") or "[]")
    chosen = list(experts) if experts is not None else kept or list(DEFAULT_EXPERTS)
    for spec in chosen:
        if chosen.count(spec) > 1:
            raise UsageError(f"expert {spec!r} is named twice")
    running, report.skipped_experts = available(chosen)
    if experts is not None and report.skipped_experts and not running:
        raise UsageError("; ".join(report.skipped_experts.values()))
    report.experts = [spec for spec in chosen if spec not in report.skipped_experts]
    if experts is not None or not kept:
        library.set_meta("experts", json.dumps(list(dict.fromkeys(kept + report.experts))))
    return report.experts


def _write_rows(library: Library, collection: Collection, report: AddReport, *, media: bool) -> None:
    """Captions, splits and rows for videos that a table names; their files come later, or never."""
    known = {video.id for video in library.videos()}
    named = {caption.video for caption in collection.captions} | set(collection.splits)
    entries = {entry.id for entry in collection.entries}
    rows = {c.id for c in collection.entries if c.path is None or c.id in named or not media}
    unmatched = named - known - entries
    report.failed += [(name, "", reason) for name, reason in collection.problems]
    report.unmatched = sorted(unmatched)
    with library.db:
        for identifier in sorted(rows - known):
            library.db.execute("INSERT INTO videos(id) VALUES (?)", (identifier,))
            report.videos_new += not media
        for identifier, split in collection.splits.items():
            library.db.execute("UPDATE videos SET split = ? WHERE id = ?", (split, identifier))
        _write_captions(library, collection, unmatched, report)


def _write_captions(library: Library, collection: Collection, unmatched: set[str], report: AddReport) -> None:
    """New captions follow those a video has; one that is there already, word for word, is not doubled."""
    there: dict[str, list[tuple[object, ...]]] = {}
    for old in library.captions():
        there.setdefault(old.video, []).append((old.text, old.start_seconds, old.end_seconds, old.split))
    for caption in collection.captions:
        key = (caption.text, caption.start_seconds, caption.end_seconds, caption.split)
        row = there.setdefault(caption.video, [])
        if caption.video in unmatched or key in row:
            continue
        library.db.execute("INSERT INTO captions VALUES (?, ?, ?, ?, ?, ?)", (caption.video, len(row), *key))
        row.append(key)
        report.captions += 1


def _examine_files(
    library: Library,
    entries: Iterable[Entry],
    workers: int,
    limits: Limits,
    report: AddReport,
    retry_failed: bool,
    tell: Progress,
) -> None:
    """Hash and probe every file that is new or whose size or time changed."""
    rows = library.db.execute("SELECT path, size, mtime_ns FROM videos WHERE path IS NOT NULL AND content IS NOT NULL")
    known = {path: (size, time) for path, size, time in rows}
    rows = library.db.execute("SELECT path, size, mtime_ns FROM failures WHERE expert = '' AND path IS NOT NULL")
    failed = {path: (size, time) for path, size, time in rows}
    new: dict[Path, Entry] = {}
    for entry in entries:
        if entry.path is None:
            continue
        report.videos_seen += 1
        path = Path(os.path.abspath(entry.path))
        state, key = _state(path), os.fsencode(path)
        if key in known and known[key] == state:
            continue
        if key in failed and failed[key] == state and not retry_failed and key not in known:
            report.known_failures += 1
            continue
        new.setdefault(path, Entry(entry.id, path))
    if not new:
        return
    items = [(path, limits) for path in new]
    with Workers(_examine, workers=min(workers, len(items)), memory_bytes=limits.memory_bytes) as pool:
        for done, (item, outcome) in enumerate(pool.map(items, lambda item: 60 + _size(item[0]) / 5e6), 1):
            _record_examined(library, new[item[0]], outcome, report)
            tell("examining", done, len(items), new[item[0]].id)


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    except OSError:
        return -1, -1


def _size(path: Path) -> int:
    return max(0, _state(path)[0])


def _record_examined(library: Library, entry: Entry, outcome: _Examined | Exception, report: AddReport) -> None:
    assert entry.path is not None
    key, (size, mtime) = os.fsencode(entry.path), _state(entry.path)
    with library.db:
        if isinstance(outcome, Exception):
            row = library.db.execute("SELECT id FROM videos WHERE path = ?", (key,)).fetchone()
            name = row[0] if row else _free_id(library, entry)
            reason = _reason(outcome)
            report.failed.append((name, "", reason))
            _put_failure(library, name, "", reason, entry.path)
            return
        identifier, new = _place(library, entry, outcome.content)
        old = library.db.execute("SELECT content FROM videos WHERE id = ?", (identifier,)).fetchone()
        library.db.execute(
            "UPDATE videos SET path = ?, content = ?, size = ?, mtime_ns = ?, duration = ? WHERE id = ?",
            (key, outcome.content, size, mtime, outcome.info.duration, identifier),
        )
        library.db.execute("DELETE FROM failures WHERE video = ? AND expert = ''", (identifier,))
        if old and old[0] and old[0] != outcome.content:
            library.db.execute("DELETE FROM failures WHERE video = ?", (identifier,))
            library.drop_content(old[0])
        library.db.execute(
            "INSERT OR IGNORE INTO contents VALUES (?, ?, ?, '[]')",
            (outcome.content, json.dumps(vars(outcome.info)), outcome.info.duration or 0.0),
        )
        report.videos_new += new


def _place(library: Library, entry: Entry, content: str) -> tuple[str, bool]:
    """The id of the row for a file: its path's, a moved file's with these bytes, the table's, or a new one."""
    assert entry.path is not None
    row = library.db.execute("SELECT id FROM videos WHERE path = ?", (os.fsencode(entry.path),)).fetchone()
    if row:
        return row[0], False
    twins = library.db.execute("SELECT id, path FROM videos WHERE content = ? ORDER BY id", (content,)).fetchall()
    for identifier, path in twins:
        if path is not None and not os.path.lexists(os.fsdecode(path)):
            return identifier, False
    row = library.db.execute("SELECT 1 FROM videos WHERE id = ? AND path IS NULL", (entry.id,)).fetchone()
    if row:
        return entry.id, True
    identifier = _free_id(library, entry)
    library.db.execute("INSERT INTO videos(id) VALUES (?)", (identifier,))
    return identifier, True


def _free_id(library: Library, entry: Entry) -> str:
    """The entry's id, or with as many folders in front as it takes to differ from another file's."""
    assert entry.path is not None
    names = [entry.id]
    parts = Path(printable(entry.path)).parts
    depth = len(Path(entry.id).parts)
    names += [str(Path(*parts[-count:])) for count in range(depth + 1, len(parts) + 1)]
    for name in names:
        row = library.db.execute("SELECT path FROM videos WHERE id = ?", (name,)).fetchone()
        if row is None or row[0] == os.fsencode(entry.path):
            return name
    return names[-1]


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if isinstance(error, ReelseekError) else f"{type(error).__name__}: {text}"


def _put_failure(library: Library, video: str, expert: str, reason: str, path: Path | None) -> None:
    size, mtime = _state(path) if path else (None, None)
    library.db.execute(
        "INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET reason = excluded.reason,"
        " size = excluded.size, mtime_ns = excluded.mtime_ns, path = excluded.path, attempts = attempts + 1",
        (video, expert, os.fsencode(path) if path else None, size, mtime, reason),
    )


def _pending(
    library: Library, specs: Sequence[str], paths: set[Path], report: AddReport, retry_failed: bool
) -> list[_Task]:
    """A task for every content among `paths` that lacks a track of one of the experts."""
    have = {(row.owner, row.expert): row.fingerprint for row in library.track_rows()}
    failed = {(f["video"], f["expert"] or "") for f in library.failures()}
    tasks: dict[str, _Task] = {}
    for video in library.videos():
        if video.path is None or video.content is None or video.content in tasks or video.path not in paths:
            continue
        lacks = tuple(s for s in specs if have.get((video.content, load_expert(s).name)) != load_expert(s).fingerprint)
        known = any(owner == video.content for owner, _ in have)
        if not retry_failed:
            if (video.id, "") in failed and not known:
                report.known_failures += 1
                continue
            lacks = tuple(s for s in lacks if (video.id, load_expert(s).name) not in failed)
        if lacks:
            tasks[video.content] = _Task(video.content, video.path, video.id, lacks, video.duration, known)
    return list(tasks.values())


def _extract_contents(
    library: Library,
    tasks: Sequence[_Task],
    specs: Sequence[str],
    workers: int,
    limits: Limits,
    report: AddReport,
    tell: Progress,
) -> None:
    if not tasks:
        return
    pool = Workers(
        partial(_extract, limits),
        workers=min(workers, len(tasks)),
        memory_bytes=limits.memory_bytes,
        prepare=prepare_worker,
        arguments=(list(specs),),
    )
    with pool:
        # The longest first, so that no worker is left with an hour of film at the end.
        ordered = sorted(tasks, key=lambda task: (-(task.duration or 0), task.video))
        for done, (task, outcome) in enumerate(pool.map(ordered, lambda t: 60 + limits.wall_seconds(t.duration)), 1):
            _record_extracted(library, task, outcome, report)
            tell("extracting", done, len(tasks), task.video)


def _record_extracted(library: Library, task: _Task, outcome: Extracted | Exception, report: AddReport) -> None:
    if isinstance(outcome, OSError) and not isinstance(outcome, MediaError):
        outcome = MediaError(f"{printable(task.path)} cannot be read: {outcome}")
    with library.saving():
        if isinstance(outcome, Exception):
            report.failed.append((task.video, "", _reason(outcome)))
            _put_failure(library, task.video, "", _reason(outcome), task.path)
            return
        for spec, track in outcome.tracks.items():
            expert = load_expert(spec)
            library.put_track(task.content, expert.name, expert.fingerprint, expert.modality, track)
            library.db.execute("DELETE FROM failures WHERE video = ? AND expert = ?", (task.video, expert.name))
        for spec, reason in outcome.errors.items():
            report.failed.append((task.video, load_expert(spec).name, reason))
            _put_failure(library, task.video, load_expert(spec).name, reason, task.path)
        library.put_notices(task.content, outcome.notices)
        report.notices += [(task.video, notice) for notice in outcome.notices if not notice.lost]
        if lost := "; ".join(str(notice) for notice in outcome.notices if notice.lost):
            report.failed.append((task.video, "", lost))
            _put_failure(library, task.video, "", lost, task.path)
        if not task.known:
            _put_pictures(library, task.content, outcome)
        report.extracted += 1


def _put_pictures(library: Library, content: str, outcome: Extracted) -> None:
    library.db.execute(
        "UPDATE contents SET end_seconds = ?, cuts = ? WHERE hash = ?",
        (outcome.end_seconds, json.dumps(outcome.cuts), content),
    )
    library.db.execute("UPDATE videos SET duration = ? WHERE content = ?", (outcome.end_seconds, content))
    library.db.executemany(
        "INSERT OR REPLACE INTO thumbnails VALUES (?, ?, ?)",
        [(content, seconds, jpeg) for seconds, jpeg in outcome.thumbnails],
    )
