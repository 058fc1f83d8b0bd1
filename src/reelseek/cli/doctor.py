"""`reelseek doctor`."""

import os
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from reelseek.cli.show import print_table, say

__all__ = ["register"]

_SAMPLE = 10


def doctor(
    path: Annotated[Path | None, typer.Argument(help="A folder of videos: predicts how long adding it takes.")] = None,
) -> None:
    """Say what runs here and what does not, and why; predict the hours an ingest will take."""
    import torch

    from reelseek.errors import ExpertUnavailable
    from reelseek.experts import DEFAULT_EXPERTS, expert_faults, known_experts, load_expert
    from reelseek.media.memory import available_memory
    from reelseek.models.device import available, describe, resolve_device

    rows = []
    broken = False
    for name in sorted(known_experts()):
        try:
            expert = load_expert(name)
            rows.append((name, "runs", f"{expert.modality}, {expert.dim} wide"))
        except ExpertUnavailable as error:
            rows.append((name, "does not run", " ".join(str(error).split())))
            broken |= name in DEFAULT_EXPERTS
    rows += [(name, "does not run", reason) for name, reason in expert_faults().items()]
    print_table(["expert", "state", "about"], rows)
    _print_plugin_systems()
    auto = resolve_device("auto")
    default = "" if resolve_device() == auto else f", and REELSEEK_DEVICE names {resolve_device()}"
    devices = [describe(torch.device(name)) for name in available()[:-1]]
    devices.append(f"cpu: {available_memory() / 2**30:.1f} GiB free")
    tools = [
        ("device", f"auto takes {auto}{default}; here there is {'; '.join(devices)}"),
        ("browser copies", "PyAV with H.264"),
        ("chromium", shutil.which("chromium") or "absent: page tests are skipped"),
    ]
    tools.append(("espeak-ng", shutil.which("espeak-ng") or "absent: the studio films without spoken words"))
    print_table(["tool", "about"], [("python", sys.version.split()[0]), ("cores", str(os.cpu_count())), *tools])
    if path is not None:
        _predict(path)
    raise typer.Exit(1 if broken else 0)


def _print_plugin_systems() -> None:
    """A line for each system of another package, where there is one."""
    from reelseek.models import SYSTEMS

    packages = {name: SYSTEMS.package(name) for name in SYSTEMS}
    rows = [(name, "loads", package) for name, package in packages.items() if package]
    rows += [(name, "does not load", reason) for name, reason in SYSTEMS.faults().items()]
    if rows:
        print_table(["system of a package", "state", "about"], rows)


def _predict(path: Path) -> None:
    import tempfile

    from reelseek.errors import MediaError
    from reelseek.library import Library, add
    from reelseek.library.collection import read_collection
    from reelseek.media.container import probe

    files = [entry.path for entry in read_collection([path]).entries if entry.path]
    if not files:
        say(f"{path} holds no video")
        return
    sample = random.Random(0).sample(files, min(_SAMPLE, len(files)))
    with tempfile.TemporaryDirectory() as folder, Library.open(Path(folder) / "trial", create=True) as trial:
        add(trial, sample[:1])  # loading models once is not what is measured
        started = time.monotonic()
        report = add(trial, sample)
        spent = time.monotonic() - started
    seconds = 0.0
    for file in sample:
        try:
            seconds += probe(file).duration or 0.0
        except MediaError:
            continue
    sizes = {file: file.stat().st_size for file in files}
    share = sum(sizes[file] for file in sample) / max(1, sum(sizes.values()))
    hours = spent / max(share, 1e-9) / 3600
    print(
        f"{len(files)} files; {len(sample)} of them ({seconds:.0f} s of video) took {spent:.1f} s, "
        f"{len(report.failed)} failed; "
        f"all will take about {hours:.2f} hours on {os.cpu_count()} cores"
    )


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek doctor ~/Videos")(doctor)
