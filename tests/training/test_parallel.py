"""Two processes that share every batch learn what one learns."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.models.worlds import SMALL, small
from tests.training.shared_losses import batch_of_eight, gradients, ready
from tests.training.test_training import world  # noqa: F401 - the fixture

from reelseek.library import Library
from reelseek.models import SYSTEMS
from reelseek.training import train

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


def _train_in_two(recipe: Path, library: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python", "--nproc-per-node=2"]
    command += [str(Path(sys.executable).with_name("reelseek")), "train", str(recipe)]
    command += ["--library", str(library), "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "REELSEEK_DEVICE": "cpu"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000, env=environment)


def _train_here(recipe: Path, library: Path, out: Path) -> None:
    with Library.open(library) as opened:
        train(recipe, opened, out, device="cpu")


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_learn_what_one_learns(name: str, world: Path, tmp_path: Path) -> None:  # noqa: F811
    recipe = tmp_path / "r.toml"
    recipe.write_text(RECIPE.format(system=name, settings=SETTINGS[name]), "utf-8")
    _train_here(recipe, world, tmp_path / "1")
    ran = _train_in_two(recipe, world, tmp_path / "2")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == [str(tmp_path / "2")]
    assert ran.stderr.count("epoch   1") == 1
    one, two = (load_file(tmp_path / name / "state.safetensors") for name in ("1", "2"))
    assert one.keys() == two.keys()
    for key in one:
        if one[key].dtype.is_floating_point:
            assert (one[key] - two[key]).abs().max() < 1e-4 * max(1.0, float(one[key].abs().max())), key


def test_with_negatives_of_its_own_each_process_learns_from_its_part(world: Path, tmp_path: Path) -> None:  # noqa: F811
    """As MDMMT was trained: the same as one process that adds the gradients of both halves of a batch."""
    shared = '[model]\nsystem = "vse"\nwidth = 16\nhidden = 16\n[train]\nepochs = 2\ncaption = "first"\n'
    shared += 'rate = 0.05\noptimizer = "sgd"\n'
    for name, more in (("own", "batch = 36\ngather = false"), ("halves", "batch = 18\naccumulate = 2")):
        (tmp_path / f"{name}.toml").write_text(shared + more, "utf-8")
    _train_here(tmp_path / "halves.toml", world, tmp_path / "halves")
    ran = _train_in_two(tmp_path / "own.toml", world, tmp_path / "own")
    assert ran.returncode == 0, ran.stderr
    own, halves = (load_file(tmp_path / name / "state.safetensors") for name in ("own", "halves"))
    for key in own:
        torch.testing.assert_close(own[key], halves[key], atol=1e-5, rtol=1e-4)


SHARED = [name for name in SMALL if "+" not in name and SYSTEMS[name].trained and small(name).compares_only]


def test_two_processes_have_the_gradients_of_one_for_every_loss(tmp_path: Path) -> None:
    assert {"eao", "mmv", "umi", "avlnet", "zorro", "late_fusion", "anchored"} <= set(SHARED)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    running = []
    for rank in ("0", "1"):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, "-m", "tests.training.shared_losses", str(tmp_path), *SHARED]
        running.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate(timeout=3000)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    wrong = []
    for name in SHARED:
        model = ready(name)
        alone = gradients(model, batch_of_eight(model))
        shared = load_file(tmp_path / f"{name}.safetensors")
        largest = max(float(value.abs().max()) for value in alone.values())  # beside it some are zero but for rounding
        for key, value in alone.items():
            allowed = 1e-4 * float(value.abs().max()) + 2e-5 * largest
            if (shared[key] - value).abs().max() > allowed:
                wrong.append((name, key, float((shared[key] - value).abs().max()), allowed))
    assert not wrong


def test_a_loss_that_cannot_be_shared_is_refused(world: Path, tmp_path: Path) -> None:  # noqa: F811
    recipe = tmp_path / "r.toml"
    recipe.write_text(RECIPE.format(system="crossclr", settings="width = 32"), "utf-8")
    ran = _train_in_two(recipe, world, tmp_path / "m")
    assert ran.returncode != 0
    assert "train it in one process" in " ".join(ran.stderr.split())
    assert not (tmp_path / "m").exists()


def _on_two_machines(folders: list[Path], *, launch: bool) -> list[str]:
    """What docs/training.md has for two machines, each in a folder of its own; returns what they print.

    Args:
        launch: by `torchrun`; else by the variables that it sets, which takes half the time.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    command = [str(Path(sys.executable).with_name("reelseek")), "train", "r.toml", "--library", "lib", "--out", "model"]
    running = []
    for rank, folder in enumerate(folders):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "REELSEEK_DEVICE": "cpu"}
        program = command
        if launch:
            place = ["--nnodes", "2", "--node-rank", str(rank), "--master-addr", "127.0.0.1", "--master-port", port]
            program = [sys.executable, "-m", "torch.distributed.run", "--no-python", "--nproc-per-node", "1", *place]
            program += command
        else:
            environment |= {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        running.append(subprocess.Popen(program, cwd=folder, text=True, env=environment, **pipes))
    outputs = [process.communicate(timeout=3000) for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    return [output for output, _ in outputs]


def test_two_machines_share_no_folder(world: Path, tmp_path: Path) -> None:  # noqa: F811
    """Each reads its own copy of the library; what a stopped run needs is sent to the machine that lost it."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        shutil.copytree(world, folder / "lib")
        (folder / "r.toml").write_text(RECIPE.format(system="mmt", settings=SETTINGS["mmt"]), "utf-8")
    assert _on_two_machines(folders, launch=True) == ["model\n", ""]
    with Library.open(world) as library:
        train(folders[0] / "r.toml", library, tmp_path / "alone", device="cpu")
    state = folders[0] / "model" / "state.safetensors"
    alone, together = load_file(tmp_path / "alone" / "state.safetensors"), load_file(state)
    for key in alone:
        if alone[key].dtype.is_floating_point:
            assert (alone[key] - together[key]).abs().max() < 1e-4 * max(1.0, float(alone[key].abs().max())), key
    (folders[0] / "model" / "model.safetensors").unlink()  # as if it was killed before it had written this
    shutil.rmtree(folders[1] / "model")
    assert _on_two_machines(folders, launch=False) == ["model\n", ""]
    assert load_file(folders[0] / "model" / "model.safetensors")
    assert (folders[1] / "model" / "state.safetensors").read_bytes() == state.read_bytes()
