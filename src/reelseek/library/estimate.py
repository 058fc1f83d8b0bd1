"""How long adding videos will take, from samples of a few seconds and experts that are warm."""

import hashlib
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reelseek.errors import MediaError
from reelseek.experts.extract import Extracted, extract, plan_workers, prepare_worker
from reelseek.experts.sample import SAMPLE_CLIP
from reelseek.media.address import FilePath
from reelseek.media.container import Limits, probe
from reelseek.media.excerpt import write_excerpt
from reelseek.media.local_copy import local_copy
from reelseek.media.store import file_numbers

__all__ = ["Estimate", "estimate_ingest"]

_SAMPLES = 10
_SAMPLE_SECONDS = 8.0  # one window of the text reader, which reads at most so many pictures of each
_HASHED_BYTES = 2**25


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
        start_seconds: until a process is ready.
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


def estimate_ingest(
    files: Sequence[FilePath],
    specs: Sequence[str],
    *,
    budget_seconds: float = 20.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Estimate:
    """Predict how long `add` takes for new files on this machine.

    Args:
        files: at least one.
        specs: experts that run here.
        budget_seconds: wall time after which no further sample is begun.
        progress: called with samples done and planned.
    """
    plan = plan_workers(specs)
    estimate = Estimate(len(files), workers=min(plan.workers, len(files)))
    begun = time.monotonic()
    prepare_worker(specs, threads=plan.threads)
    extract(SAMPLE_CLIP, specs, Limits())
    estimate.start_seconds = max(time.monotonic() - begun, time.process_time())
    rng, unreadable = random.Random(0), set[FilePath]()
    looked_at = rng.sample(list(files), min(_SAMPLES, len(files)))
    started, bytes_seen, seconds_seen, spent, hashing = time.monotonic(), 0, 0.0, 0.0, 0.0
    for number in range(_SAMPLES):
        if estimate.samples and time.monotonic() - started > budget_seconds:
            break
        file = looked_at[number % len(looked_at)]
        if file in unreadable:
            continue
        try:
            with local_copy(file) as copy:
                duration, extracted, seconds = _measure(copy, specs, rng)
                if number < len(looked_at):
                    bytes_seen += _size(file)
                    seconds_seen += duration
                    hashing += _hashing_seconds(copy)
        except MediaError as error:
            estimate.failed.append((file.name, str(error)))
            unreadable.add(file)
            continue
        spent += seconds
        estimate.samples += 1
        estimate.sampled_seconds += extracted.end_seconds
        for spec, cost in extracted.seconds.items():
            estimate.expert_seconds[spec] = estimate.expert_seconds.get(spec, 0.0) + cost
        progress(number + 1, _SAMPLES)
    progress(_SAMPLES, _SAMPLES)
    _extrapolate(estimate, files, bytes_seen, seconds_seen, spent, hashing)
    return estimate


def _extrapolate(
    estimate: Estimate, files: Sequence[FilePath], bytes_seen: int, seconds_seen: float, spent: float, hashing: float
) -> None:
    """From what samples took to what all files take."""
    if not estimate.sampled_seconds:
        return
    total_bytes = sum(map(_size, files))
    share = total_bytes / bytes_seen if bytes_seen else 1.0
    estimate.video_seconds = seconds_seen * share
    rest = max(0.0, spent - sum(estimate.expert_seconds.values()))
    estimate.expert_seconds = {
        name: cost / estimate.sampled_seconds for name, cost in {**estimate.expert_seconds, "decoding": rest}.items()
    }
    work = estimate.video_seconds * spent / estimate.sampled_seconds + hashing * share
    # Workers of two kinds start one after the other, those that examine and those that extract; then all is indexed.
    estimate.seconds = 2 * estimate.start_seconds + work / estimate.workers


def _measure(path: Path, specs: Sequence[str], rng: random.Random) -> tuple[float, Extracted, float]:
    """Seconds that a file lasts, what was extracted from a sample of it, and the seconds that this took."""
    info = probe(path)
    duration = info.duration or 0.0
    with tempfile.TemporaryDirectory() as folder:
        sample, excerpt = path, Path(folder) / "excerpt.mkv"
        if duration > 1.5 * _SAMPLE_SECONDS:
            start = rng.uniform(0.0, duration - _SAMPLE_SECONDS)
            if write_excerpt(path, start, _SAMPLE_SECONDS, excerpt):
                sample = excerpt
        started = time.perf_counter()
        extracted = extract(sample, specs, Limits().with_models(sum("@" in spec for spec in specs)))
        return duration or extracted.end_seconds, extracted, time.perf_counter() - started


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
