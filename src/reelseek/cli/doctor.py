"""`reelseek doctor`."""

import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.models import megabytes
from reelseek.cli.show import Bar, clock, counted, print_table, say
from reelseek.errors import UsageError

if TYPE_CHECKING:
    from reelseek.library.estimate import Estimate
    from reelseek.media.address import FilePath

__all__ = ["register"]

_SECONDS = 20.0  # after which `doctor FOLDER` stops measuring
_LOOK_SECONDS = 7.5  # of them to try experts
_DEVICES, _SYSTEMS = "devices", "systems"  # looked at as experts are; no expert has such a name
_SAMPLE = 10
_FILMS = 3  # that a preset is measured on


def doctor(
    path: Annotated[str | None, typer.Argument(help="A folder of videos: predicts how long adding it takes.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="offline, standard or best: what of it is missing, and how long an hour of video takes."),
    ] = None,
) -> None:
    """Say what runs here and what does not, and why; predict the hours an ingest will take."""
    from reelseek.experts import DEFAULT_EXPERTS, expert_faults, known_experts

    started = time.monotonic()
    files = [] if path is None else _find_videos(path)  # first, since a name may be mistyped
    if preset is not None:
        raise typer.Exit(_check_preset(preset, None if path is None else files))
    names = sorted(known_experts(), key=lambda name: (name not in DEFAULT_EXPERTS, name))
    works = {name: partial(_try_expert, name) for name in names}
    looks = _look_here(works) if path is None else _look_until(works, started + _LOOK_SECONDS)
    rows = [(name, looks[name].state, looks[name].detail) for name in sorted(names)]
    broken = any(looks[name].state == "does not run" for name in DEFAULT_EXPERTS)
    rows += [(name, "does not run", reason) for name, reason in expert_faults().items()]
    print_table(["expert", "state", "about"], rows)
    if looks[_SYSTEMS].rows:
        print_table(["system of a package", "state", "about"], looks[_SYSTEMS].rows)
    tools = [
        ("device", looks[_DEVICES].detail),
        ("browser copies", "PyAV with H.264"),
        ("chromium", shutil.which("chromium") or "absent: page tests are skipped"),
    ]
    tools.append(("espeak-ng", shutil.which("espeak-ng") or "absent: the studio films without spoken words"))
    print_table(["tool", "about"], [("python", sys.version.split()[0]), ("cores", str(os.cpu_count())), *tools])
    if path is not None:
        running = {name: looks[name].cost for name in DEFAULT_EXPERTS if looks[name].state != "does not run"}
        _predict(path, files, running, started + _SECONDS)
    raise typer.Exit(1 if broken else 0)


@dataclass(frozen=True)
class _Look:
    """What was seen of an expert, of the devices or of the systems of other packages.

    Attributes:
        cost: seconds of computing for one second of video, where an expert was run.
    """

    state: str = ""
    detail: str = ""
    cost: float | None = None
    rows: tuple[tuple[str, str, str], ...] = ()


_Works = Mapping[str, Callable[[], _Look]]


def _look_here(works: _Works) -> dict[str, _Look]:
    """Look at everything, in this process."""
    works = {_DEVICES: _describe_devices, _SYSTEMS: _list_plugin_systems, **works}
    looks = {}
    with Bar("trying") as bar:
        for done, (name, work) in enumerate(works.items(), 1):
            looks[name] = work()
            bar(done, len(works))
    return looks


def _look_until(works: _Works, deadline: float) -> dict[str, _Look]:
    """Look at what there is time for, in another process, which is stopped at a moment of the monotonic clock."""
    from reelseek.media.container import Limits
    from reelseek.media.guard import Workers, results_until_stopped, stopped_at

    works = {_DEVICES: _describe_devices, _SYSTEMS: _list_plugin_systems, **works}
    late = "no time was left; `reelseek doctor` without a folder takes its time"
    looks = dict.fromkeys(works, _Look("not tried", late))
    names = {work: name for name, work in works.items()}
    pool = Workers(_call, workers=1, memory_bytes=Limits().memory_bytes)
    with Bar("trying") as bar, pool, stopped_at(pool, deadline) as is_stopped:
        results = results_until_stopped(pool, works.values(), _SECONDS, is_stopped)
        for done, (work, outcome) in enumerate(results, 1):
            failed = _Look("does not run", " ".join(str(outcome).split()))
            looks[names[work]] = failed if isinstance(outcome, Exception) else outcome
            bar(done, len(works))
    return looks


def _call(work: Callable[[], _Look]) -> _Look:
    return work()


def _describe_devices() -> _Look:
    import torch

    from reelseek.media.memory import available_memory
    from reelseek.models.device import available, describe, resolve_device

    auto = resolve_device("auto")
    default = "" if resolve_device() == auto else f", and REELSEEK_DEVICE names {resolve_device()}"
    devices = [describe(torch.device(name)) for name in available()[:-1]]
    devices.append(f"cpu: {available_memory() / 2**30:.1f} GiB free")
    return _Look(detail=f"auto takes {auto}{default}; here there is {'; '.join(devices)}")


def _try_expert(name: str) -> _Look:
    """Run an expert on the clip that comes with the package."""
    from reelseek.errors import ExpertUnavailable
    from reelseek.experts import load_expert
    from reelseek.experts.sample import SAMPLE_SECONDS, run_on_sample

    try:
        expert = load_expert(name)
    except ExpertUnavailable as error:
        return _Look("does not run", " ".join(str(error).split()))
    run = run_on_sample(name)
    if run.error:
        return _Look("does not run", " ".join(run.error.split()))
    steps = counted(run.steps, "step")
    detail = f"{expert.modality}, {expert.dim} wide; {steps} of a {SAMPLE_SECONDS:g} s clip in {run.seconds:.2f} s"
    return _Look("runs", detail, cost=run.seconds / SAMPLE_SECONDS)


def _list_plugin_systems() -> _Look:
    """A row for each system of another package, where there is one."""
    from reelseek.models import SYSTEMS

    packages = {name: SYSTEMS.package(name) for name in SYSTEMS}
    rows = [(name, "loads", package) for name, package in packages.items() if package]
    rows += [(name, "does not load", reason) for name, reason in SYSTEMS.faults().items()]
    return _Look(rows=tuple(rows))


def _find_videos(path: str) -> "list[FilePath]":
    from reelseek.library.collection import read_collection
    from reelseek.media.address import parse_path

    return [entry.path for entry in read_collection([parse_path(path)]).entries if entry.path]


def _predict(path: str, files: "list[FilePath]", specs: Mapping[str, float | None], deadline: float) -> None:
    """Print how long adding the videos of a folder takes, and which expert takes most of it.

    Args:
        specs: experts, each with its cost on the packaged clip, where it was run on it.
        deadline: of the monotonic clock; what is measured by then has to do.
    """
    from reelseek.library.estimate import estimate_ingest

    if not files:
        say(f"{path} holds no video")
        return
    with Bar("measuring") as bar:
        estimate = estimate_ingest(files, list(specs), tried=specs, deadline=deadline, progress=bar)
    for name, reason in estimate.failed:
        say(f"failed: {name}: {reason}")
    if not estimate.seconds:
        late = "none could be looked at in time" if estimate.is_stopped else "none that was tried could be read"
        print(f"{len(files)} files: not measured, since {late}")
        return
    costs = sorted(estimate.expert_seconds.items(), key=lambda cost: -cost[1])
    rows = [(name, f"{60 * seconds:.1f}") for name, seconds in costs]
    print_table(["work", "seconds for a minute of video"], rows)
    print(
        f"{counted(len(files), 'file')}, {clock(estimate.video_seconds)} of video: adding them takes about "
        f"{_duration(estimate.seconds)} in {estimate.workers} side by side ({_extent(estimate)})"
    )
    if estimate.is_stopped:
        say(f"measuring stopped after {_SECONDS:.0f} s, since this machine is slow or busy" + _sources(estimate))


def _extent(estimate: "Estimate") -> str:
    """How much the prediction stands on."""
    if not estimate.samples:
        return "no sample could be measured in time"
    return f"{counted(estimate.samples, 'sample')}, {estimate.sampled_seconds:.0f} s of video, measured"


def _sources(estimate: "Estimate") -> str:
    """Where the costs come from that no sample gave."""
    sources = []
    if estimate.from_clip:
        sources.append(f"{', '.join(estimate.from_clip)}: by the packaged clip")
    if estimate.from_table:
        table = "by a table of another machine, and how much slower or faster this one is"
        sources.append(f"{', '.join(estimate.from_table)}: {table}")
    if estimate.unknown:
        sources.append(f"{', '.join(estimate.unknown)}: not counted, for nothing is known of what it costs")
    return "".join(f"; {source}" for source in sources)


def _duration(seconds: float) -> str:
    """A rough time in words, such as 40 s, 12 minutes or 3.5 hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _check_preset(name: str, videos: "list[FilePath] | None") -> int:
    """Print what of a preset is here, and how long the rest of it takes for an hour of video.

    Args:
        videos: to measure it on; None takes films that are shot for it.

    Returns:
        The exit status: 1 where a model is missing or an expert does not run.
    """
    from reelseek.errors import ExpertUnavailable
    from reelseek.experts import load_expert
    from reelseek.experts.presets import find_preset, missing_models
    from reelseek.experts.sentence import use_sentence_encoder

    preset = find_preset(name)
    missing = missing_models(preset)
    absent = {member.model for member in missing}
    states = {member.expert: f"missing: {member.model}" for member in preset.members if member.model in absent}
    try:
        if preset.text_encoder and f"text@{preset.text_encoder}" not in states:
            use_sentence_encoder(preset.text_encoder)
    except (ExpertUnavailable, UsageError) as error:
        states[f"text@{preset.text_encoder}"] = f"does not run: {error}"
    for spec in preset.experts:
        if spec not in states:
            try:
                load_expert(spec)
            except ExpertUnavailable as error:
                states[spec] = f"does not run: {error}"
    rows = [
        (member.name, states.get(member.expert, "runs"), member.licence, megabytes(member), member.adds)
        for member in preset.members
    ]
    print_table(["expert", "state", "licence", "MB", "adds"], rows)
    if missing:
        say(
            f"{len(missing)} models are missing, {sum(member.megabytes for member in missing):,} MB; fetch them with: "
            f"reelseek models pull --preset {name}"
        )
    _measure_preset([spec for spec in preset.experts if spec not in states], len(preset.experts), videos)
    return 1 if states else 0


def _measure_preset(specs: list[str], members: int, videos: "list[FilePath] | None") -> None:
    """Measure experts on short videos, the user's or films shot for it, and say what that makes of an hour."""
    import tempfile

    from reelseek.errors import MediaError
    from reelseek.experts.extract import extract, plan_workers, prepare_worker
    from reelseek.media.container import Limits
    from reelseek.media.local_copy import local_copy
    from reelseek.studio import plan_films, shoot

    if not specs:
        print("an hour of video: not measured, since no expert of the preset runs here")
        return
    plan, limits = plan_workers(specs), Limits().with_models(len(specs))
    with tempfile.TemporaryDirectory() as folder:
        if videos is None:
            files: "list[FilePath]" = [shoot(film, Path(folder)) for film in plan_films(_FILMS)]
        else:
            files = sorted(random.Random(0).sample(videos, min(_SAMPLE, len(videos))), key=_size)[:_FILMS]
        say(f"measuring {len(specs)} experts on {len(files)} videos ...")
        prepare_worker(specs, threads=plan.threads)
        seconds = spent = 0.0
        for file in files:
            started = time.monotonic()
            try:
                with local_copy(file) as copy:
                    extracted = extract(copy, specs, limits)
            except MediaError as error:
                say(f"failed: {file.name}: {error}")
                continue
            spent += time.monotonic() - started
            seconds += extracted.end_seconds
            for spec, reason in extracted.errors.items():
                say(f"failed: {file.name} ({spec}): {reason}")
    if not seconds:
        print("an hour of video: not measured, since no video could be read")
        return
    rest = f", without the {members - len(specs)} experts that do not run here" if len(specs) < members else ""
    hours = spent / seconds
    print(
        f"an hour of video takes about {hours:.2f} hours in one process, {hours / plan.workers:.2f} in {plan.workers} "
        f"side by side as add runs them ({len(specs)} experts{rest}; {seconds:.0f} s of video measured)"
    )


def _size(file: "FilePath") -> int:
    from reelseek.media.store import file_numbers

    return max(0, file_numbers(file)[0])


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek doctor ~/Videos --preset best")(doctor)
