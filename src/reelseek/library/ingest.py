"""Adding videos: read the collection, examine new files, run experts over new contents, keep what is finished.

Progress is kept per (video, expert). Killed at any moment and started again, it gives the same tables.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reelseek.cluster import Cluster
from reelseek.errors import UsageError
from reelseek.experts import DEFAULT_EXPERTS, available, load_expert
from reelseek.experts.accelerator import may_have_accelerator
from reelseek.experts.expert import hash_files
from reelseek.experts.extract import (
    Extracted,
    WorkerPlan,
    close_stretches,
    extract,
    is_served,
    plan_workers,
    prepare_worker,
)
from reelseek.experts.parts import Parts
from reelseek.experts.presets import expand_presets
from reelseek.experts.sentence import use_sentence_encoder
from reelseek.experts.server import ModelServer
from reelseek.library.absent import note_absent
from reelseek.library.catalog import Catalog
from reelseek.library.cluster_ingest import StartPool, workers_on
from reelseek.library.collection import Collection, Entry, read_collection
from reelseek.library.damage import Damage, damaged_tracks, note_damage
from reelseek.library.examining import ExamineWatch, count_bytes, reading
from reelseek.library.notebook import default_progress
from reelseek.library.outcomes import Examined, record_examined, record_extracted
from reelseek.library.pieces import PieceQueue, close_divided, divide_tasks, join_pieces, work_of
from reelseek.library.renew import outdated_tracks, renew_treatments, report_outdated
from reelseek.library.report import AddReport, Progress
from reelseek.library.storage import Storage
from reelseek.library.table_rows import write_beside, write_rows
from reelseek.library.tasks import Task, add_damaged, add_outdated, is_final, pending_tasks
from reelseek.library.text_space import LINE_EXPERTS, check_text_space, note_text_space
from reelseek.library.watch import Watch
from reelseek.library.within import check_within
from reelseek.media.address import FilePath, absolute
from reelseek.media.clock import scans_reported
from reelseek.media.container import Limits, probe
from reelseek.media.guard import Workers
from reelseek.media.local_copy import fetch_seconds, local_copy
from reelseek.media.notice import Notice
from reelseek.media.store import file_numbers, with_states
from reelseek.media.subtitles import FolderSubtitles, local_subtitles

if TYPE_CHECKING:
    import torch

__all__ = ["AddReport", "Progress", "add"]


_SCAN_SHARE = 0.875  # of the work on a file that is read through for its times before its bytes are hashed


def _examine(item: tuple[FilePath, Limits]) -> Examined:
    path, limits = item
    with local_copy(path) as file, reading(file.stat().st_size if file.is_file() else 0) as report:
        with scans_reported(lambda share: report(_SCAN_SHARE * share)) as scans:
            info = probe(file, limits)
        before = _SCAN_SHARE if scans else 0.0
        return Examined(hash_files([file], lambda share: report(before + (1 - before) * share)), info)


def _extract(limits: Limits, task: Task) -> Extracted:
    if task.ends is not None:
        assert task.parts is not None
        picture_end, sound_end = task.ends
        return close_stretches(task.parts, task.specs, task.starts, picture_end=picture_end, sound_end=sound_end)
    with local_copy(task.path, numbers=task.numbers) as path, local_subtitles(task.copies) as copies:
        parts = Parts(task.parts, task.stretch, task.piece) if task.parts is not None else None
        return extract(
            path, task.specs, _limits_of(limits, task), pictures=not task.has_tracks, copies=copies, parts=parts,
            short_side=task.short_side,
        )  # fmt: skip


def add(
    library: Storage,
    paths: Sequence[str | os.PathLike[str]],
    *,
    captions: str | os.PathLike[str] | None = None,
    media: bool = True,
    experts: Sequence[str] | None = None,
    workers: int | None = None,
    limits: Limits | None = None,
    retry_failed: bool = False,
    device: "str | torch.device | None" = None,
    progress: Progress | None = None,
    cluster: Cluster | None = None,
    within: Sequence[Path] | None = None,
) -> AddReport:
    """Ingest and extract what is new; what is known and unchanged costs nothing.

    Args:
        library: an open `Library`.
        paths: folders, files, lists or tables, as `read_collection` takes them.
        captions: a table of captions.
        media: False adds rows from tables without looking for files.
        experts: `name`, `name@model` or `preset:NAME`; None takes what the library was begun with, else every default
            that runs here.
        workers: processes; None takes one a core.
        retry_failed: try files and experts again that failed before.
        device: where experts compute that run a PyTorch model, `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; None takes
            REELSEEK_DEVICE, else an accelerator if there is one.
        progress: see `Progress`; None shows bars in a notebook, and nothing elsewhere.
        cluster: whose nodes examine and extract, see `reelseek.cluster`; this process alone writes.
        within: folders that every file must lie in, wherever links lead; None allows any.

    Raises:
        ClusterError, CollectionError, LibraryError, UsageError: nothing, or only finished work, was written.
    """
    progress, limits, report = progress or default_progress(), limits or Limits(), AddReport()
    collection = _collect(paths, captions, media, within)
    with library.writing():
        damage = damaged_tracks(library)
        note_damage(library, damage)
        write_rows(library.catalog, collection, report, media=media)
        if media:
            specs = _specs(library, experts, report)
            place = _device(device, specs, report, cluster)
            if _embeds_lines(specs):
                note_text_space(library)
            plan, start = _plan(specs, workers, place, cluster)
            workers = workers or (plan.workers if cluster is not None else os.cpu_count()) or 1
            _examine_files(library, collection, workers, limits, report, retry_failed, progress, start)
            files = {absolute(entry.path) for entry in collection.entries if entry.path}
            report.notices += renew_treatments(library, files, workers=workers, limits=limits)
            tasks = add_damaged(library, pending_tasks(library, specs, files, report, retry_failed), damage)
            outdated = outdated_tracks(library, specs)
            tasks = add_outdated(library, tasks, outdated, specs, retry_failed)
            _extract_contents(library, tasks, plan, place, limits, report, progress, start)
            with library.write_errors(), library.catalog.transaction():
                note_absent(library.catalog, paths, files, report)
            report_outdated(library, outdated, specs, report)
        _report_damage(library, damage, report)
    return report


def _collect(
    paths: Sequence[str | os.PathLike[str]],
    captions: str | os.PathLike[str] | None,
    media: bool,
    within: Sequence[Path] | None,
) -> Collection:
    """Read the collection, and refuse files outside of some folders."""
    collection = read_collection(paths, captions or None, media=media)
    if within is not None:
        files = [entry.path for entry in collection.entries if entry.path is not None]
        check_within([*files, *_subtitles_beside(files)], within)
    return collection


def _subtitles_beside(files: Sequence[FilePath]) -> Iterator[Path]:
    """The subtitle files that are read with some videos of this machine."""
    folders: dict[Path, FolderSubtitles] = {}
    for path in files:
        if isinstance(path, Path):
            folder = folders.setdefault(path.parent, FolderSubtitles(path.parent))
            yield from (path.parent / name for name in folder.beside(path.name))


def _plan(
    specs: Sequence[str], workers: int | None, device: str, cluster: Cluster | None
) -> tuple[WorkerPlan, StartPool]:
    """Plan how many workers extract, and what starts them: processes of this machine, or actors on a cluster."""
    if cluster is None:
        return plan_workers(specs, device, workers), Workers
    return workers_on(cluster, specs, device, WorkerPlan(workers) if workers else None)


def _report_damage(storage: Storage, damage: Damage, report: AddReport) -> None:
    remaining = {(row.owner, row.expert): sentence for row, sentence in damaged_tracks(storage)} if damage else {}
    for row, _ in damage:
        ids = [video.id for video in storage.catalog.videos.of_owner(row.owner)] or [row.owner]
        sentence = remaining.get((row.owner, row.expert))
        if sentence is None:
            report.remade += [(video, row.expert) for video in ids]
        else:
            report.failed += [(video, row.expert, sentence) for video in ids]


def _specs(storage: Storage, experts: Sequence[str] | None, report: AddReport) -> list[str]:
    """The experts that run, after a check that they can; kept for the next call without names."""
    noted = storage.catalog.expert_specs()
    expansion = expand_presets(list(experts) if experts is not None else noted or list(DEFAULT_EXPERTS))
    if expansion.text_encoder:
        use_sentence_encoder(expansion.text_encoder)
    specs = [_anchored(spec) for spec in expansion.experts]
    for spec in specs:
        if specs.count(spec) > 1:
            raise UsageError(f"expert {spec!r} is named twice")
        same = [other for other in specs if other.partition("@")[0] == spec.partition("@")[0]]
        if experts is not None and len(same) > 1:
            raise UsageError(f"{' and '.join(same)} would write the same track; name one of them")
    running, report.skipped_experts = available(specs)
    if experts is not None and report.skipped_experts and not running:
        raise UsageError("; ".join(report.skipped_experts.values()))
    report.experts = [spec for spec in specs if spec not in report.skipped_experts]
    if _embeds_lines(report.experts):
        check_text_space(storage)  # before the library records experts that it then refuses
    if experts is not None or not noted:
        by_name = {spec.partition("@")[0]: spec for spec in noted + report.experts}  # another model takes its place
        with storage.write_errors(), storage.catalog.transaction():
            storage.catalog.set_expert_specs(list(by_name.values()))
    return report.experts


def _embeds_lines(specs: Sequence[str]) -> bool:
    return any(load_expert(spec).name in LINE_EXPERTS for spec in specs)


def _anchored(spec: str) -> str:
    """The spec with a model's folder by its whole path, so that the library knows it from everywhere."""
    name, _, model = spec.partition("@")
    folder = Path(model).expanduser()
    return f"{name}@{folder.absolute()}" if model and folder.is_dir() else spec


def _device(name: "str | torch.device | None", specs: Sequence[str], report: AddReport, cluster: Cluster | None) -> str:
    """Where the experts' models compute; a named device that none of them can use is noted."""
    local = cluster is None
    movable = any(hasattr(load_expert(spec), "to") or (local and is_served(spec)) for spec in specs)
    if name is None and (not movable or (local and not may_have_accelerator())):
        return "cpu"
    from reelseek.experts.device import resolve_device  # imports torch

    if cluster is not None:
        device = cluster.device(None if name is None else str(name))
    else:
        device = str(resolve_device(name))
    if device != "cpu" and not movable:
        message = f"none of {', '.join(specs)} computes on a device, so {name} is not used"
        report.notices.append(("", Notice("", message)))
    return device


def _examine_files(
    storage: Storage,
    collection: Collection,
    workers: int,
    limits: Limits,
    report: AddReport,
    retry_failed: bool,
    progress: Progress,
    start: StartPool,
) -> None:
    """Hash and probe every file that is new or was changed, and note what lies beside videos in their shards."""
    new = _new_files(storage.catalog, collection.entries, report, retry_failed)
    items = [(path, limits) for path in new]
    if items:
        watch = ExamineWatch({path: max(0, file_numbers(path)[0]) for path in new}, progress)
        local = start is Workers  # else the number that is shared stays on another machine
        pool = start(
            _examine,
            workers=min(workers, len(items)),
            memory_bytes=limits.memory_bytes,
            prepare=count_bytes if local else None,
            arguments=(watch.count,) if local else (),
        )
        with pool:
            look = {"waiting_for": watch.look} if local else {}
            for (path, _), outcome in pool.map(items, lambda item: _examine_seconds(item[0]), **look):
                record_examined(storage, new[path], path, outcome, report)
                watch.finish(path, new[path].id)
    write_beside(storage.catalog, collection, report)


def _new_files(
    catalog: Catalog, entries: Iterable[Entry], report: AddReport, retry_failed: bool
) -> dict[FilePath, Entry]:
    """Entries by the absolute path of their file, of files that are not as they were when they were last read."""
    entries_of: dict[FilePath, Entry] = {}
    for entry in entries:
        if entry.path is not None:
            report.videos_seen += 1
            entries_of.setdefault(absolute(entry.path), entry)
    read = catalog.videos.file_states(entries_of)
    failed = {path: state for path, state, failure in catalog.failures.of_files(entries_of) if is_final(failure)}
    new: dict[FilePath, Entry] = {}
    for path, entry in zip(with_states(list(entries_of)), entries_of.values(), strict=True):
        state = file_numbers(path)
        if read.get(path) == state:
            continue
        if path in failed and failed[path] == state and not retry_failed and path not in read:
            report.known_failures += 1
            continue
        new[path] = entry
    return new


def _examine_seconds(path: FilePath) -> float:
    size = max(0, file_numbers(path)[0])
    return 60 + size / 5e6 + fetch_seconds(path, size)


def _extract_contents(
    storage: Storage,
    tasks: Sequence[Task],
    plan: WorkerPlan,
    device: str,
    limits: Limits,
    report: AddReport,
    progress: Progress,
    start: StartPool,
) -> None:
    if not tasks:
        return
    if plan.reason and plan.workers < len(tasks):
        report.notices.append(("", Notice("workers", plan.reason)))
    if start is Workers:  # on this machine, whose folder the workers reach
        tasks = [replace(task, parts=storage.parts_folder(task.content)) for task in tasks]
    # The longest first, so that no worker is left with an hour of film at the end.
    pieces = sorted(divide_tasks(tasks, plan.workers), key=lambda piece: (-work_of(piece), piece.video, piece.piece))
    specs = list(dict.fromkeys(spec for task in tasks for spec in task.specs))
    serves = plan.serves and any(map(is_served, specs))
    serving = ModelServer(specs, device) if serves else nullcontext()
    with serving as server:
        pool = start(
            partial(_extract, limits),
            workers=min(plan.workers, len(pieces)),
            memory_bytes=limits.memory_bytes,
            prepare=prepare_worker,
            arguments=(specs, device, plan.threads, server),
        )
        with pool:
            watch, queue = Watch(tasks, pieces, progress), PieceQueue(pieces)
            local = {"waiting_for": watch.look} if start is Workers else {}
            outcomes = _noting_ends(watch, pool.map(queue, partial(_extract_seconds, limits), **local))
            try:
                for task, outcome in join_pieces(tasks, close_divided(pieces, queue, outcomes)):
                    record_extracted(storage, task, outcome, report)
                    if task.parts is not None and not isinstance(outcome, Exception):
                        storage.remove_parts(task.content)
                    watch.finish(task)
            except KeyboardInterrupt:
                watch.stop()
                raise
    _remove_orphans(storage)


def _noting_ends(
    watch: Watch, outcomes: Iterable[tuple[Task, Extracted | Exception]]
) -> Iterator[tuple[Task, Extracted | Exception]]:
    for piece, outcome in outcomes:
        watch.end_piece(piece)
        yield piece, outcome


def _remove_orphans(storage: Storage) -> None:
    """Delete the unfinished work on contents that no video has any more."""
    for folder in (storage.path / "parts").glob("*"):
        if not storage.catalog.videos.has_content(folder.name):
            storage.remove_parts(folder.name)
    with contextlib.suppress(OSError):  # there is none, or work remains
        (storage.path / "parts").rmdir()


def _extract_seconds(limits: Limits, task: Task) -> float:
    fetching = fetch_seconds(task.path, task.numbers[0] if task.numbers else None)
    return 60 + fetching + _limits_of(limits, task).wall_seconds(task.duration)


def _limits_of(limits: Limits, task: Task) -> Limits:
    return limits.with_models(sum("@" in spec for spec in task.specs))
