"""Adding videos: read the collection, examine new files, run experts over new contents, keep what is finished.

Progress is kept per (video, expert). Killed at any moment and started again, it gives the same tables.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from reelseek.errors import MediaError, ReelseekError, UsageError
from reelseek.experts import DEFAULT_EXPERTS, available, load_expert
from reelseek.experts.expert import hash_files
from reelseek.experts.extract import Extracted, WorkerPlan, extract, plan_workers, prepare_worker
from reelseek.experts.presets import expand_presets
from reelseek.experts.sentence import use_sentence_encoder
from reelseek.library.collection import Collection, Entry, read_collection
from reelseek.library.damage import Damage, damaged_tracks, note_damage
from reelseek.library.names import printable
from reelseek.library.renew import describe_outdated, outdated_tracks, renew_treatments
from reelseek.library.sidecars import Sidecars, State, put_sidecars, reads_subtitles
from reelseek.library.store import Library, TrackRow
from reelseek.library.text_space import LINE_EXPERTS, check_text_space, note_text_space
from reelseek.media.container import Limits, MediaInfo, probe
from reelseek.media.guard import WORKER_DIED, Workers
from reelseek.media.notice import Notice

__all__ = ["AddReport", "Progress", "add"]

_MOST_DEATHS = 3  # of a file's worker, one after the other, before the file is taken to be the cause

Progress = Callable[[str, int, int, str], None]
"""Called with stage, done, total and what was just finished."""


@dataclass
class AddReport:
    """What one call of `add` did. `failed` holds (video, expert or '', reason) of this run only.

    `remade` holds (video, expert) of tracks whose bytes were lost or damaged, and are whole again; those that could not
    be made again are among `failed`. `unmatched` are names in a captions table that are no video here, nor a file that
    could become one. `notices` say of which video what was guessed or mended; of a table or folder the video is ''.
    `rows` of tables and lists were read, `lost_rows` were not.
    """

    videos_seen: int = 0
    videos_new: int = 0
    captions: int = 0
    extracted: int = 0
    skipped_experts: dict[str, str] = field(default_factory=dict)
    experts: list[str] = field(default_factory=list)
    failed: list[tuple[str, str, str]] = field(default_factory=list)
    remade: list[tuple[str, str]] = field(default_factory=list)
    known_failures: int = 0
    unmatched: list[str] = field(default_factory=list)
    rows: int = 0
    lost_rows: int = 0
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
    copies: tuple[Path, ...]
    sidecars: State


def _examine(item: tuple[Path, Limits]) -> _Examined:
    path, limits = item
    info = probe(path, limits)
    return _Examined(hash_files([path]), info)


def _extract(limits: Limits, task: _Task) -> Extracted:
    return extract(task.path, task.specs, _limits_of(limits, task), pictures=not task.known, copies=task.copies)


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
        experts: `name`, `name@model` or `preset:NAME`; None takes what the library was begun with, else every default
            that runs here.
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
        damage = damaged_tracks(library)
        note_damage(library, damage)
        _write_rows(library, collection, report, media=media)
        if media:
            specs = _specs(library, experts, report)
            if _embeds_lines(specs):
                note_text_space(library)
            plan = WorkerPlan(workers) if workers else plan_workers(specs)
            workers = workers or os.cpu_count() or 1
            _examine_files(library, collection.entries, workers, limits, report, retry_failed, tell)
            wanted = {Path(os.path.abspath(entry.path)) for entry in collection.entries if entry.path}
            report.notices += renew_treatments(library, wanted, workers=workers, limits=limits)
            tasks = _pending(library, specs, wanted, report, retry_failed)
            tasks = _with_damaged(library, tasks, damage)
            outdated = outdated_tracks(library, specs)
            tasks = _with_outdated(library, tasks, outdated, specs, retry_failed)
            _extract_contents(library, tasks, plan, limits, report, tell)
            failed = {video for video, _, _ in report.failed}
            notices, failures = describe_outdated(library, outdated, specs, failed)
            report.notices += notices
            report.failed += failures
        _report_damage(library, damage, report)
    return report


def _with_damaged(library: Library, tasks: list[_Task], damage: Damage) -> list[_Task]:
    """The tasks, with every damaged track whose file is at hand as it was, whether or not this call names the file."""
    if not damage:
        return tasks
    used: list[str] = json.loads(library.meta("experts") or "[]")
    missing = available(used)[1]
    specs = {load_expert(spec).name: spec for spec in used if spec not in missing}
    return _with_tracks(library, tasks, [row for row, _ in damage], specs)


def _with_outdated(
    library: Library, tasks: list[_Task], outdated: Sequence[TrackRow], specs: Sequence[str], retry_failed: bool
) -> list[_Task]:
    """The tasks, with every outdated track whose file is at hand, or it could not be searched beside the new ones."""
    failures = library.failures() if outdated and not retry_failed else []
    failed = {(f["video"], f["expert"] or "") for f in failures if _is_final(f["reason"], f["attempts"])}
    rows = [
        row for row in outdated if not any((video.id, row.expert) in failed for video in library.videos_of(row.owner))
    ]
    return _with_tracks(library, tasks, rows, {load_expert(spec).name: spec for spec in specs})


def _with_tracks(
    library: Library, tasks: list[_Task], rows: Sequence[TrackRow], specs: Mapping[str, str]
) -> list[_Task]:
    """The tasks, with the tracks of some rows whose file is as it was, by the spec of each expert."""
    if not rows:
        return tasks
    by_content = {task.content: task for task in tasks}
    beside = Sidecars(library)
    for row in rows:
        spec, video = specs.get(row.expert), _unchanged_video(library, row)
        if spec is None or video is None:
            continue
        task = by_content.get(row.owner)
        if task is None:
            path, name, duration = video
            copies, state = beside.copies(row.owner), beside.state(row.owner)
            by_content[row.owner] = _Task(row.owner, path, name, (spec,), duration, True, copies, state)
        elif spec not in task.specs:
            by_content[row.owner] = replace(task, specs=(*task.specs, spec))
    return list(by_content.values())


def _unchanged_video(library: Library, row: TrackRow) -> tuple[Path, str, float | None] | None:
    """Path, id and length of a video with this content whose file is as it was when it was read."""
    query = "SELECT path, id, duration, size, mtime_ns FROM videos WHERE content = ? AND path IS NOT NULL ORDER BY id"
    for path, video, duration, *state in library.db.execute(query, (row.owner,)).fetchall():
        file = Path(os.fsdecode(path))
        if _state(file) == tuple(state):
            return file, video, duration
    return None


def _report_damage(library: Library, damage: Damage, report: AddReport) -> None:
    still = {(row.owner, row.expert): sentence for row, sentence in damaged_tracks(library)} if damage else {}
    for row, _ in damage:
        ids = [video.id for video in library.videos_of(row.owner)] or [row.owner]
        sentence = still.get((row.owner, row.expert))
        if sentence is None:
            report.remade += [(video, row.expert) for video in ids]
        else:
            report.failed += [(video, row.expert, sentence) for video in ids]


def _specs(library: Library, experts: Sequence[str] | None, report: AddReport) -> list[str]:
    kept: list[str] = json.loads(library.meta("experts") or "[]")
    expansion = expand_presets(list(experts) if experts is not None else kept or list(DEFAULT_EXPERTS))
    if expansion.text_encoder:
        use_sentence_encoder(expansion.text_encoder)
    chosen = [_anchored(spec) for spec in expansion.experts]
    for spec in chosen:
        if chosen.count(spec) > 1:
            raise UsageError(f"expert {spec!r} is named twice")
        same = [other for other in chosen if other.partition("@")[0] == spec.partition("@")[0]]
        if experts is not None and len(same) > 1:
            raise UsageError(f"{' and '.join(same)} would write the same track; name one of them")
    running, report.skipped_experts = available(chosen)
    if experts is not None and report.skipped_experts and not running:
        raise UsageError("; ".join(report.skipped_experts.values()))
    report.experts = [spec for spec in chosen if spec not in report.skipped_experts]
    if _embeds_lines(report.experts):
        check_text_space(library)  # before the library records experts that it then refuses
    if experts is not None or not kept:
        used = {spec.partition("@")[0]: spec for spec in kept + report.experts}  # another model takes its place
        library.set_meta("experts", json.dumps(list(used.values())))
    return report.experts


def _embeds_lines(specs: Sequence[str]) -> bool:
    return any(load_expert(spec).name in LINE_EXPERTS for spec in specs)


def _anchored(spec: str) -> str:
    """The spec with a model's folder by its whole path, so that the library knows it from everywhere."""
    name, _, model = spec.partition("@")
    folder = Path(model).expanduser()
    return f"{name}@{folder.absolute()}" if model and folder.is_dir() else spec


def _write_rows(library: Library, collection: Collection, report: AddReport, *, media: bool) -> None:
    """Captions, splits and rows for videos that a table names; their files come later, or never."""
    videos = library.videos()
    collection.use_names_of(videos)
    known = {video.id for video in videos}
    named = {caption.video for caption in collection.captions} | set(collection.splits)
    entries = {entry.id for entry in collection.entries}
    rows = {c.id for c in collection.entries if c.path is None or c.id in named or not media}
    unmatched = named - known - entries
    report.rows, report.lost_rows = collection.rows, collection.lost_rows
    report.failed += [_failed_row(notice) for notice in collection.problems if notice.lost]
    report.notices += [("", notice) for notice in collection.problems if not notice.lost]
    report.unmatched = sorted(unmatched)
    with library.db:
        for identifier in sorted(rows - known):
            library.db.execute("INSERT INTO videos(id) VALUES (?)", (identifier,))
            report.videos_new += not media
        for identifier, split in collection.splits.items():
            library.db.execute("UPDATE videos SET split = ? WHERE id = ?", (split, identifier))
        _write_captions(library, collection, unmatched, report)


def _failed_row(notice: Notice) -> tuple[str, str, str]:
    """What was lost of a table or folder, as `failed` has it: the reason says in which line."""
    file, _, row = notice.place.rpartition(", ")
    if file and row.startswith(("line ", "row ", "item ")):
        return file, "", f"{row}: {notice.message}"
    return notice.place, "", notice.message


def _write_captions(library: Library, collection: Collection, unmatched: set[str], report: AddReport) -> None:
    """New captions follow those a video has; one that is there already, word for word, is not doubled."""
    existing: dict[str, set[tuple[object, ...]]] = {}
    counts: dict[str, int] = {}
    for old in library.captions():
        existing.setdefault(old.video, set()).add((old.text, old.start_seconds, old.end_seconds, old.split))
        counts[old.video] = counts.get(old.video, 0) + 1
    for caption in collection.captions:
        key = (caption.text, caption.start_seconds, caption.end_seconds, caption.split)
        keys = existing.setdefault(caption.video, set())
        if caption.video in unmatched or key in keys:
            continue
        place = counts.get(caption.video, 0)
        library.db.execute("INSERT INTO captions VALUES (?, ?, ?, ?, ?, ?)", (caption.video, place, *key))
        keys.add(key)
        counts[caption.video] = place + 1
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
    rows = library.db.execute(
        "SELECT path, size, mtime_ns, reason, attempts FROM failures WHERE expert = '' AND path IS NOT NULL"
    )
    failed = {path: (size, time) for path, size, time, *failure in rows if _is_final(*failure)}
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


def _is_final(reason: str, attempts: int) -> bool:
    """Whether a file that failed is not tried again unasked.

    A worker that was killed from outside says nothing of its file, unless it happens again and again.
    """
    return not reason.startswith(WORKER_DIED) or attempts >= _MOST_DEATHS


def _put_failure(library: Library, video: str, expert: str, reason: str, path: Path | None) -> None:
    size, mtime = _state(path) if path else (None, None)
    query = "SELECT reason, attempts FROM failures WHERE video = ? AND expert = ?"
    before, attempts = library.db.execute(query, (video, expert)).fetchone() or ("", 0)
    if before.startswith(WORKER_DIED) != reason.startswith(WORKER_DIED):
        attempts = 0  # deaths and other failures are counted apart
    library.db.execute(
        "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?, ?)",
        (video, expert, os.fsencode(path) if path else None, size, mtime, reason, attempts + 1),
    )


def _pending(
    library: Library, specs: Sequence[str], paths: set[Path], report: AddReport, retry_failed: bool
) -> list[_Task]:
    """A task for every content among `paths` that lacks a track of one of the experts."""
    have = {(row.owner, row.expert): row.fingerprint for row in library.track_rows()}
    failed = {(f["video"], f["expert"] or "") for f in library.failures() if _is_final(f["reason"], f["attempts"])}
    owners = {owner for owner, _ in have}
    beside = Sidecars(library)
    said = {spec for spec in specs if reads_subtitles(spec)}
    tasks: dict[str, _Task] = {}
    for video in library.videos():
        if video.path is None or video.content is None or video.content in tasks or video.path not in paths:
            continue
        again = said if said and beside.changed(video.content) else set()
        lacks = tuple(
            s
            for s in specs
            if s in again or have.get((video.content, load_expert(s).name)) != load_expert(s).fingerprint
        )
        known = video.content in owners
        if not retry_failed:
            if (video.id, "") in failed and not known:
                report.known_failures += 1
                continue
            lacks = tuple(s for s in lacks if s in again or (video.id, load_expert(s).name) not in failed)
        if lacks:
            copies, state = beside.copies(video.content), beside.state(video.content)
            tasks[video.content] = _Task(
                video.content, video.path, video.id, lacks, video.duration, known, copies, state
            )
    return list(tasks.values())


def _extract_contents(
    library: Library,
    tasks: Sequence[_Task],
    plan: WorkerPlan,
    limits: Limits,
    report: AddReport,
    tell: Progress,
) -> None:
    if not tasks:
        return
    if plan.reason and plan.workers < len(tasks):
        report.notices.append(("", Notice("workers", plan.reason)))
    specs = list(dict.fromkeys(spec for task in tasks for spec in task.specs))
    pool = Workers(
        partial(_extract, limits),
        workers=min(plan.workers, len(tasks)),
        memory_bytes=limits.memory_bytes,
        prepare=prepare_worker,
        arguments=(specs, plan.threads),
    )
    with pool:
        # The longest first, so that no worker is left with an hour of film at the end.
        ordered = sorted(tasks, key=lambda task: (-(task.duration or 0), task.video))
        outcomes = pool.map(ordered, lambda t: 60 + _limits_of(limits, t).wall_seconds(t.duration))
        for done, (task, outcome) in enumerate(outcomes, 1):
            _record_extracted(library, task, outcome, report)
            tell("extracting", done, len(tasks), task.video)


def _limits_of(limits: Limits, task: _Task) -> Limits:
    return limits.with_models(sum("@" in spec for spec in task.specs))


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
        for spec, reason in outcome.errors.items():
            report.failed.append((task.video, load_expert(spec).name, reason))
            _put_failure(library, task.video, load_expert(spec).name, reason, task.path)
        if any(map(reads_subtitles, task.specs)):
            put_sidecars(library, task.content, task.sidecars)
        library.put_notices(task.content, outcome.notices)
        report.notices += [(task.video, notice) for notice in outcome.notices if not notice.lost]
        if lost := "; ".join(str(notice) for notice in outcome.notices if notice.lost):
            report.failed.append((task.video, "", lost))
            _put_failure(library, task.video, "", lost, task.path)
        else:  # unless an earlier pass, for other experts, left something out
            library.db.execute(
                "DELETE FROM failures WHERE expert = '' AND video IN (SELECT id FROM videos WHERE content = ?1)"
                " AND NOT EXISTS (SELECT 1 FROM notices WHERE owner = ?1 AND lost)",
                (task.content,),
            )
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
