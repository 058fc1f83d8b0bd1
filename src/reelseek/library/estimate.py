"""How long adding videos will take, from samples of a few seconds and experts that are warm."""

import hashlib
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from reelseek.experts.extract import WorkerPlan, extract, plan_workers, prepare_worker
from reelseek.experts.sample import SAMPLE_CLIP
from reelseek.library.expert_costs import calibrate, reference_costs
from reelseek.library.pieces import divide_tasks, work_of
from reelseek.library.tasks import Task
from reelseek.media.address import FilePath
from reelseek.media.container import Limits, probe
from reelseek.media.excerpt import write_excerpt
from reelseek.media.guard import Workers, results_until_stopped, stopped_at
from reelseek.media.local_copy import local_copy
from reelseek.media.store import file_numbers

__all__ = ["Estimate", "estimate_ingest"]

_SAMPLES = 10
_PROBED = 100  # files whose length is read; that of more is their share of all bytes
_SAMPLE_SECONDS = 8.0  # one window of the text reader, which reads at most so many pictures of each
_HASHED_BYTES = 2**25
_SOON = 2.5  # seconds, in which a process that has started reads how long many files last
_MOST_SECONDS = 600.0  # that one sample may take


@dataclass
class Estimate:
    """What adding some files is expected to cost.

    Attributes:
        files: how many there are.
        video_seconds: that they last together, where only some were looked at by their share of all bytes.
        samples: stretches that were measured.
        sampled_seconds: of video that they hold.
        expert_seconds: by expert, seconds of computing for one second of video; `decoding` is one of them.
        workers: processes that run side by side.
        start_seconds: until all processes are ready, and have used every expert once.
        seconds: that the whole of it takes.
        failed: names of sampled files that could not be read, each with the reason.
        is_stopped: whether the deadline came before everything was measured that was to be.
        from_clip, from_table: experts whose cost no sample gave: it is that on the packaged clip, or that of another
            machine, with the difference of both machines.
        unknown: experts that `seconds` leaves out, since nothing is known of what they cost.
    """

    files: int
    video_seconds: float = 0.0
    samples: int = 0
    sampled_seconds: float = 0.0
    expert_seconds: dict[str, float] = field(default_factory=dict)
    workers: int = 1
    start_seconds: float = 0.0
    seconds: float = 0.0
    failed: list[tuple[str, str]] = field(default_factory=list)
    is_stopped: bool = False
    from_clip: list[str] = field(default_factory=list)
    from_table: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


_Place = tuple[FilePath, float] | None
"""A file, and where in it, as a share of its length; None is no work."""


@dataclass(frozen=True)
class _Sample:
    """What a worker measured: seconds of video and of computing, of a stretch and of its file."""

    duration: float
    seconds: float
    spent: float
    expert_seconds: dict[str, float]
    hashing: float


def estimate_ingest(
    files: Sequence[FilePath],
    specs: Sequence[str],
    *,
    budget_seconds: float = 15.0,
    tried: Mapping[str, float | None] | None = None,
    deadline: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Estimate:
    """Predict how long `add` takes for new files on this machine, by samples in workers as `add` would start them.

    Args:
        files: at least one.
        specs: experts that run here.
        budget_seconds: wall time after which no further sample is begun.
        tried: seconds of computing for a second of the packaged clip, by expert, which count where nothing better does.
        deadline: of the monotonic clock; samples that are not finished by then are given up.
        progress: called with samples done and planned.
    """
    plan = plan_workers(specs)
    estimate = Estimate(len(files), workers=plan.workers)
    rng = random.Random(0)
    selected = rng.sample(list(files), min(_SAMPLES, len(files)))
    progress(0, _SAMPLES)
    near = [file for file in files if isinstance(file, Path)]  # others would be fetched for it
    until = math.inf if deadline is None else deadline
    durations = _probe_files(rng.sample(near, min(_PROBED, len(near))), plan.workers, estimate, until)
    places = _places(estimate, selected, rng, budget_seconds)
    sampled = _sample_files(specs, places, plan, durations, estimate, until, progress)
    progress(_SAMPLES, _SAMPLES)
    if not estimate.sampled_seconds and estimate.is_stopped:
        _assume_costs(estimate, specs, tried or {})
    _extrapolate(estimate, files, durations, specs, sampled)
    return estimate


@dataclass
class _Sampled:
    """What samples took together."""

    spent: float = 0.0
    hashing: dict[FilePath, float] = field(default_factory=dict)


def _probe_files(files: Sequence[FilePath], workers: int, estimate: Estimate, deadline: float) -> dict[FilePath, float]:
    """Read how long some files last: what can be read in a third of the time, or soon after the first."""
    now = time.monotonic()
    enough = now + (deadline - now) / 3
    durations: dict[FilePath, float] = {}
    pool = Workers(_duration, workers=min(workers, max(1, len(files))), memory_bytes=Limits().memory_bytes)
    with pool, stopped_at(pool, deadline) as is_stopped:
        for file, duration in results_until_stopped(pool, files, _MOST_SECONDS, is_stopped):
            if not isinstance(duration, Exception):
                enough = enough if durations else max(enough, time.monotonic() + _SOON)
                durations[file] = duration
            if durations and time.monotonic() >= enough:
                pool.stop()
                break
        estimate.is_stopped = is_stopped()
    return durations


def _sample_files(
    specs: Sequence[str],
    places: Iterable[_Place],
    plan: WorkerPlan,
    durations: dict[FilePath, float],
    estimate: Estimate,
    deadline: float,
    progress: Callable[[int, int], None],
) -> _Sampled:
    """Extract from samples; `estimate` takes what they cost, and `durations` the lengths that nobody knew before."""
    sampled, begun = _Sampled(), time.monotonic()
    pool = Workers(
        partial(_measure, specs),
        workers=plan.workers,
        memory_bytes=Limits().memory_bytes,
        prepare=_prepare,
        arguments=(specs, plan.threads),
    )
    with pool, stopped_at(pool, deadline) as is_stopped:
        # A worker is ready once it has taken nothing, and the time for samples begins.
        for _ in results_until_stopped(pool, [None], _MOST_SECONDS, is_stopped):
            estimate.start_seconds = time.monotonic() - begun
        for place, sample in results_until_stopped(pool, places, _MOST_SECONDS, is_stopped):
            assert place is not None
            _note_sample(estimate, sampled, durations, place[0], sample)
            progress(min(_SAMPLES - 1, estimate.samples + len(estimate.failed)), _SAMPLES)
        estimate.is_stopped |= is_stopped()
    return sampled


def _note_sample(
    estimate: Estimate,
    sampled: _Sampled,
    durations: dict[FilePath, float],
    file: FilePath,
    sample: "_Sample | Exception | None",
) -> None:
    if sample is None:
        return
    if isinstance(sample, Exception):
        if file.name not in dict(estimate.failed):
            estimate.failed.append((file.name, str(sample)))
        return
    if durations.get(file, 0.0) <= 0:  # which some files do not say
        durations[file] = sample.duration
    sampled.hashing[file] = sample.hashing
    sampled.spent += sample.spent
    estimate.samples += 1
    estimate.sampled_seconds += sample.seconds
    for spec, cost in sample.expert_seconds.items():
        estimate.expert_seconds[spec] = estimate.expert_seconds.get(spec, 0.0) + cost


def _assume_costs(estimate: Estimate, specs: Sequence[str], tried: Mapping[str, float | None]) -> None:
    """Take the costs of experts from the packaged clip or another machine, where no sample gave them."""
    reference = reference_costs()
    here = reference.scaled(calibrate() / reference.calibration)
    estimate.start_seconds = here.start
    estimate.expert_seconds = {"decoding": here.experts["decoding"]}
    for spec in specs:
        cost = tried.get(spec)
        if cost is not None and spec not in here.experts:
            estimate.from_clip.append(spec)
        elif spec in here.experts:
            cost = here.experts[spec]
            estimate.from_table.append(spec)
        else:
            estimate.unknown.append(spec)
        estimate.expert_seconds[spec] = cost or 0.0


def _places(
    estimate: Estimate, files: Sequence[FilePath], rng: random.Random, budget_seconds: float
) -> Iterator[_Place]:
    """What to sample, as long as there is time: a file, and where in it, as a share of its length."""
    started = time.monotonic()
    for number in range(_SAMPLES):
        if number and time.monotonic() - started >= budget_seconds:
            return
        file = files[number % len(files)]
        if file.name not in dict(estimate.failed):
            yield file, rng.random()


def _extrapolate(
    estimate: Estimate,
    files: Sequence[FilePath],
    durations: Mapping[FilePath, float],
    specs: Sequence[str],
    sampled: _Sampled,
) -> None:
    """From what samples took to what all files take."""
    total = sum(map(_size, files))
    if estimate.sampled_seconds:
        rest = max(0.0, sampled.spent - sum(estimate.expert_seconds.values()))
        costs = {**estimate.expert_seconds, "decoding": rest}
        estimate.expert_seconds = {name: cost / estimate.sampled_seconds for name, cost in costs.items()}
    if not estimate.expert_seconds or not durations:
        return
    estimate.video_seconds = sum(durations.values()) * _share(durations, total)
    work = estimate.video_seconds * sum(estimate.expert_seconds.values())
    work += sum(sampled.hashing.values()) * _share(sampled.hashing, total)
    if len(durations) == len(files):  # few, so that the last of them may leave workers idle
        work *= _longest_share(list(durations.values()), specs, estimate.workers) * estimate.workers
    # Processes that examine start before those that extract, and the index is made at last, which takes as long.
    estimate.seconds = 2 * estimate.start_seconds + work / estimate.workers


def _longest_share(durations: Sequence[float], specs: Sequence[str], workers: int) -> float:
    """The share of the work on some videos that the worker does which has most of it, divided as `add` divides it."""
    with tempfile.TemporaryDirectory() as folder:
        tasks = [
            Task(str(number), Path(), str(number), tuple(specs), duration, False, (), frozenset(), parts=Path(folder))
            for number, duration in enumerate(durations)
        ]
        loads = [0.0] * workers
        for work in sorted(map(work_of, divide_tasks(tasks, workers)), reverse=True):
            loads[loads.index(min(loads))] += work
    return max(loads) / sum(map(work_of, tasks))


def _share(files: Iterable[FilePath], total_bytes: int) -> float:
    """How often the bytes of some files go into those of all."""
    return total_bytes / max(1, sum(map(_size, files)))


def _prepare(specs: Sequence[str], threads: int) -> None:
    """Load experts in a new worker, and run each once, since some load more at first use."""
    prepare_worker(specs, threads=threads)
    extract(SAMPLE_CLIP, specs, Limits())


def _duration(path: FilePath) -> float:
    """Read how long a file lasts, in a worker; 0 where it does not say."""
    with local_copy(path) as copy:
        return probe(copy).duration or 0.0


def _measure(specs: Sequence[str], place: _Place) -> _Sample | None:
    """Extract from a sample of a file, in a worker."""
    if place is None:
        return None
    path, share = place
    with local_copy(path) as copy, tempfile.TemporaryDirectory() as folder:
        duration = probe(copy).duration or 0.0
        sample, excerpt = copy, Path(folder) / "excerpt.mkv"
        if duration > 1.5 * _SAMPLE_SECONDS:
            start = share * (duration - _SAMPLE_SECONDS)
            if write_excerpt(copy, start, excerpt, seconds=_SAMPLE_SECONDS) is not None:
                sample = excerpt
        started = time.perf_counter()
        extracted = extract(sample, specs, Limits().with_models(sum("@" in spec for spec in specs)))
        spent, seconds = time.perf_counter() - started, extracted.end_seconds
        return _Sample(duration or seconds, seconds, spent, extracted.seconds, _hashing_seconds(copy))


def _hashing_seconds(path: Path) -> float:
    """Seconds that reading and hashing all of a file takes, by its beginning."""
    size = path.stat().st_size
    started = time.perf_counter()
    with path.open("rb") as file:
        block = file.read(_HASHED_BYTES)
    hashlib.sha256(block)
    return (time.perf_counter() - started) * size / max(1, len(block))


def _size(file: FilePath) -> int:
    return max(0, file_numbers(file)[0])
