"""Two processes that share every batch learn what one learns."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.test_training import world  # noqa: F401 - the fixture

RECIPE = """
[model]
system = "{system}"
{settings}

[train]
epochs = 2
batch = 33
rate = 0.05
optimizer = "sgd"
drop = 0.2
average = 0.9
"""
SETTINGS = {
    "mmt": "width = 32\ndepth = 1\nheads = 2\ninner = 32\ndropout = 0.0\nlinear = true",
    "dual_encoding": "width = 32",
}


def _train(recipe: Path, library: Path, out: Path, processes: int) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("reelseek")), "train", str(recipe)]
    command += ["--library", str(library), "--out", str(out)]
    if processes > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python"]
        command = [*launcher, f"--nproc-per-node={processes}", *command]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000, env=environment)


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_learn_what_one_learns(name: str, world: Path, tmp_path: Path) -> None:  # noqa: F811
    recipe = tmp_path / "r.toml"
    recipe.write_text(RECIPE.format(system=name, settings=SETTINGS[name]), "utf-8")
    states = []
    for processes in (1, 2):
        ran = _train(recipe, world, tmp_path / str(processes), processes)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.split() == [str(tmp_path / str(processes))]
        assert ran.stderr.count("epoch   1") == 1
        states.append(load_file(tmp_path / str(processes) / "state.safetensors"))
    one, two = states
    assert one.keys() == two.keys()
    for key in one:
        if one[key].dtype.is_floating_point:
            assert (one[key] - two[key]).abs().max() < 1e-4 * max(1.0, float(one[key].abs().max())), key


def test_with_negatives_of_its_own_each_process_learns_from_its_part(world: Path, tmp_path: Path) -> None:  # noqa: F811
    """As MDMMT was trained: the same as one process that adds the gradients of both halves of a batch."""
    shared = '[model]\nsystem = "vse"\nwidth = 16\nhidden = 16\n[train]\nepochs = 2\ncaption = "first"\n'
    shared += 'rate = 0.05\noptimizer = "sgd"\n'
    states = []
    for name, processes, more in (
        ("own", 2, "batch = 36\ngather = false"),
        ("halves", 1, "batch = 18\naccumulate = 2"),
    ):
        recipe = tmp_path / f"{name}.toml"
        recipe.write_text(shared + more, "utf-8")
        ran = _train(recipe, world, tmp_path / name, processes)
        assert ran.returncode == 0, ran.stderr
        states.append(load_file(tmp_path / name / "state.safetensors"))
    own, halves = states
    for key in own:
        torch.testing.assert_close(own[key], halves[key], atol=1e-5, rtol=1e-4)


def test_a_loss_that_cannot_be_shared_is_refused(world: Path, tmp_path: Path) -> None:  # noqa: F811
    recipe = tmp_path / "r.toml"
    recipe.write_text(RECIPE.format(system="crossclr", settings="width = 32"), "utf-8")
    ran = _train(recipe, world, tmp_path / "m", 2)
    assert ran.returncode != 0
    assert "train it in one process" in " ".join(ran.stderr.split())
    assert not (tmp_path / "m").exists()
