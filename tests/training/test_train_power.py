"""Training over power cuts and full disks: what was reported stays, the same command ends with the same model."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from pydantic import TypeAdapter
from safetensors import safe_open
from tests.library.power import Cut, PowerCuts

from reelseek.errors import ModelError
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.models import load_model
from reelseek.training import Recipe, train

RECIPE = TypeAdapter(Recipe).validate_python(
    {
        "model": {"system": "vse", "width": 4, "hidden": 4},
        "data": {"validation": "val"},
        "train": {"epochs": 1, "batch": 8, "rate": 0.01, "average": 0.9},
    }
)


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos of one imported expert."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    (folder / "see").mkdir()
    rows = ["video,caption,split"]
    for index in range(12):
        rows.append(f"v{index},a {'dog' if index % 2 else 'cat'} number {index},{'train' if index < 8 else 'val'}")
        np.save(folder / "see" / f"v{index}.npy", rng.normal(size=(2, 4)).astype(np.float32))
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")
    with Library.open(folder / "lib", create=True) as library:
        add(library, [folder / "rows.csv"], media=False)
        import_features(library, "see", [folder / "see"], modality="appearance")
    return folder / "lib"


@pytest.fixture
def library(lib: Path) -> Iterator[Library]:
    with Library.open(lib) as opened:
        yield opened


def _calm(library: Library, out: Path) -> tuple[str, bytes]:
    """The fingerprint and the files' configuration of a run that nothing disturbs."""
    return train(RECIPE, library, out).fingerprint, (out / "config.json").read_bytes()


def _epochs_on_disk(out: Path) -> int:
    """Epochs whose end a run that goes on will not repeat."""
    state = out / "state.safetensors"
    if not state.is_file():
        return 0
    with safe_open(state, framework="pt") as file:
        return int(json.loads(file.metadata()["about"])["epoch"])


def _distinct(cuts: list[Cut]) -> list[Cut]:
    """Those that differ in what the disk holds or in what was acknowledged."""
    return list({(cut.commits, tuple(sorted(cut.state.items(), key=str))): cut for cut in cuts}.values())


@pytest.mark.long
def test_after_a_cut_at_any_step_the_same_command_ends_with_the_same_model(library: Library, tmp_path: Path) -> None:
    calm = _calm(library, tmp_path / "calm")
    root = tmp_path / "root"
    root.mkdir()
    power = PowerCuts(root)
    with power.recording():
        train(RECIPE, library, root / "runs" / "m", report=lambda *_: power.acknowledge())
        power.acknowledge()  # the model itself
        train(RECIPE, library, root / "runs" / "m")  # writes over it what is there
    cuts = _distinct(power.cuts)
    assert {cut.commits for cut in cuts} == {0, 1, 2, 3}
    for number, cut in enumerate(cuts):
        out = cut.restore(tmp_path / f"cut{number}") / "runs" / "m"
        assert _epochs_on_disk(out) >= min(cut.commits, 2), (cut.step, cut.kind)
        if cut.commits == 3:
            assert load_model(out).fingerprint == calm[0], (cut.step, cut.kind)
        assert _calm(library, out) == calm, (cut.step, cut.kind)
        assert load_model(out).fingerprint == calm[0]
        shutil.rmtree(out.parent.parent)


def test_a_disk_that_is_full_at_any_step_loses_nothing_that_was_reported(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = _calm(library, tmp_path / "calm")
    fsync, out = os.fsync, tmp_path / "m"
    reported, failures, countdown, epochs = 0, 0, 0, 0

    def fill(descriptor: int) -> None:
        nonlocal countdown
        countdown -= 1
        if countdown == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    def report(*_: object) -> None:
        nonlocal reported
        reported += 1

    monkeypatch.setattr(os, "fsync", fill)
    step = 1
    while True:  # every write of every epoch fails once, and each time the run goes on from what it has on disk
        countdown = step
        try:
            train(RECIPE, library, out, report=report)
        except ModelError as error:
            message = str(error)
        else:
            break
        failures += 1
        assert "cannot be written: No space left on device; what was finished is kept, and the same" in message
        assert not list(out.glob("*.partial"))
        assert _epochs_on_disk(out) >= reported
        step = step + 1 if _epochs_on_disk(out) == epochs else 1
        epochs = _epochs_on_disk(out)
    assert epochs == 2
    assert failures > 12
    countdown = 0
    assert _calm(library, out) == calm


_FULL_DISK = """
import resource, sys
from reelseek.cli.main import main
limits = (100, int(sys.argv.pop(1)))
for limit in limits:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        main()
    except SystemExit as stop:
        print("exit", stop.code)
"""


@pytest.mark.long
def test_a_full_disk_is_one_line_of_the_command(lib: Path, library: Library, tmp_path: Path) -> None:
    calm = _calm(library, tmp_path / "calm")
    limit = (tmp_path / "calm" / "state.safetensors").stat().st_size - 1
    recipe, out = tmp_path / "recipe.toml", tmp_path / "m"
    recipe.write_text(tomli_w.dumps(TypeAdapter(Recipe).dump_python(RECIPE, exclude_defaults=True)))
    command = [sys.executable, "-c", _FULL_DISK, limit, "train", recipe, "--library", lib, "--out", out]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "exit 1\nexit 1\n", done.stderr
    first, second = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert "Traceback" not in done.stderr
    assert first.startswith(f"error: {out / 'best.safetensors'} cannot be written: "), first
    assert second.startswith(f"error: {out / 'state.safetensors'} cannot be written: "), second
    assert "File too large" in first
    assert "File too large" in second
    assert not list(out.glob("*.partial"))
    assert _calm(library, out) == calm
