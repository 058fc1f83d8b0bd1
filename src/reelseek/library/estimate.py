"""How long adding videos will take, from samples of a few seconds and experts that are warm."""

import hashlib
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from reelseek.experts.extract import extract, plan_workers, prepare_worker
from reelseek.experts.sample import SAMPLE_CLIP
from reelseek.library.pieces import divide_tasks, work_of
from reelseek.library.tasks import Task
from reelseek.media.address import FilePath
from reelseek.media.container import Limits, probe
from reelseek.media.excerpt import write_excerpt
from reelseek.media.guard import Workers
from reelseek.media.local_copy import local_copy
from reelseek.media.store import file_numbers

__all__ = ["Estimate", "estimate_ingest"]

_SAMPLES = 10
_PROBED = 100  # files whose length is read; that of more is their share of all bytes
_SAMPLE_SECONDS = 8.0  # one window of the text reader, which reads at most so many pictures of each
_HASHED_BYTES = 2**25
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


@dataclass(frozen=True)
class _Sample:
    """What a worker measured: when it began, and seconds of video and of computing, of a stretch and of its file."""

    began: float
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
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Estimate:
    """Predict how long `add` takes for new files on this machine, by samples in workers as `add` would start them.

    Args:
        files: at least one.
        specs: experts that run here.
        budget_seconds: wall time after which no further sample is begun.
        progress: called with samples done and planned.
    """
    plan = plan_workers(specs)
    estimate = Estimate(len(files), workers=plan.workers)
    rng = random.Random(0)
    selected = rng.sample(list(files), min(_SAMPLES, len(files)))
    progress(0, _SAMPLES)
    begun = time.monotonic()
    pool = Workers(
        partial(_measure, specs),
        workers=plan.workers,
        memory_bytes=Limits().memory_bytes,
        prepare=_prepare,
        arguments=(specs, plan.threads),
    )
    durations: dict[FilePath, float] = {}
    hashing: dict[FilePath, float] = {}
    spent = 0.0
    near = [file for file in files if isinstance(file, Path)]  # others would be fetched for it
    probed = rng.sample(near, min(_PROBED, len(near)))
    with pool:
        for (file, _), sample in pool.map([(file, None) for file in probed], lambda _: _MOST_SECONDS):
            if not isinstance(sample, Exception):
                estimate.start_seconds = estimate.start_seconds or sample.began - begun
                durations[file] = sample.duration
        for (file, _), sample in pool.map(_places(estimate, selected, rng, budget_seconds), lambda _: _MOST_SECONDS):
            if isinstance(sample, Exception):
                if file.name not in dict(estimate.failed):
                    estimate.failed.append((file.name, str(sample)))
                continue
            if durations.get(file, 0.0) <= 0:  # which some files do not say
                durations[file] = sample.duration
            hashing[file] = sample.hashing
            spent += sample.spent
            estimate.samples += 1
            estimate.sampled_seconds += sample.seconds
            for spec, cost in sample.expert_seconds.items():
                estimate.expert_seconds[spec] = estimate.expert_seconds.get(spec, 0.0) + cost
            progress(min(_SAMPLES - 1, estimate.samples + len(estimate.failed)), _SAMPLES)
    progress(_SAMPLES, _SAMPLES)
    _extrapolate(estimate, files, durations, specs, spent, hashing)
    return estimate


def _places(
    estimate: Estimate, files: Sequence[FilePath], rng: random.Random, budget_seconds: float
) -> Iterator[tuple[FilePath, float | None]]:
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
    spent: float,
    hashing: Mapping[FilePath, float],
) -> None:
    """From what samples took to what all files take."""
    if not estimate.sampled_seconds:
        return
    total = sum(map(_size, files))
    estimate.video_seconds = sum(durations.values()) * _share(durations, total)
    rest = max(0.0, spent - sum(estimate.expert_seconds.values()))
    estimate.expert_seconds = {
        name: cost / estimate.sampled_seconds for name, cost in {**estimate.expert_seconds, "decoding": rest}.items()
    }
    work = estimate.video_seconds * spent / estimate.sampled_seconds + sum(hashing.values()) * _share(hashing, total)
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


def _measure(specs: Sequence[str], place: tuple[FilePath, float | None]) -> _Sample:
    """Extract from a sample of a file, in a worker; without a place in it, read how long it lasts."""
    began, (path, share) = time.monotonic(), place
    with local_copy(path) as copy, tempfile.TemporaryDirectory() as folder:
        duration = probe(copy).duration or 0.0
        if share is None:
            return _Sample(began, duration, 0.0, 0.0, {}, 0.0)
        sample, excerpt = copy, Path(folder) / "excerpt.mkv"
        if duration > 1.5 * _SAMPLE_SECONDS:
            start = share * (duration - _SAMPLE_SECONDS)
            if write_excerpt(copy, start, _SAMPLE_SECONDS, excerpt):
                sample = excerpt
        started = time.perf_counter()
        extracted = extract(sample, specs, Limits().with_models(sum("@" in spec for spec in specs)))
        spent, seconds = time.perf_counter() - started, extracted.end_seconds
        return _Sample(began, duration or seconds, seconds, spent, extracted.seconds, _hashing_seconds(copy))


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
