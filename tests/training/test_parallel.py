"""Two processes that share every batch learn what one learns."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file
from tests.models.worlds import SMALL, small
from tests.training.launch import free_port, run_two, start_two
from tests.training.shared_losses import gradients_of, ready
from tests.training.test_training import world  # noqa: F401 - the fixture

from reelseek.errors import RecipeError
from reelseek.library import Library
from reelseek.models import SYSTEMS, parallel
from reelseek.models.batch import Batch
from reelseek.models.systems.late_fusion import LateFusion
from reelseek.training import Recipe, train
from reelseek.training.start import check_loss

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
    "dual_encoding": "width = 16\nhidden = 8",
    "coot": "width = 16\nheads = 2\ninner = 16\npool_inner = 16\ndropout = 0.0",
}
OWN = '[model]\nsystem = "vse"\nwidth = 16\nhidden = 16\n[train]\nepochs = 2\ncaption = "first"\n'
OWN += 'rate = 0.05\noptimizer = "sgd"\n'
SHARED = [name for name in SMALL if "+" not in name and SYSTEMS[name].trained]
# Batch normalisation of texts; of parts; inside a similarity, which is computed again block by block.
SHARED += [f"{name} {variant}" for name in ("mee", "eao", "jsfusion") for variant in ("silent", "chunks")]
# A process without clips for a term: the backward passes of both meet in batch statistics all the same.
SHARED += ["mmv+disjoint apart", "eao apart", "eao apart chunks"]
SHARED += [f"{name} apart silent" for name in ("mmv", "mee", "xpool", "anchored")]


def _train_here(recipe: Path, library: Path, out: Path) -> None:
    with Library.open(library) as opened:
        train(recipe, opened, out, device="cpu")


@pytest.fixture(scope="module")
def shared(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """What two processes together made of every system's loss and of the recipes here, in one start of both."""
    out = tmp_path_factory.mktemp("shared")
    recipes = {name: RECIPE.format(system=name, settings=settings) for name, settings in SETTINGS.items()}
    for name, text in (recipes | {"own": OWN + "batch = 36\ngather = false"}).items():
        (out / f"{name}.toml").write_text(text, "utf-8")
    recipes_here = [str(path) for path in sorted(out.glob("*.toml"))]
    ended = run_two(["-m", "tests.training.shared_losses", out, world, *SHARED, "--", *recipes_here])
    assert [status for status, _, _ in ended] == [0, 0], ended
    return out


@pytest.mark.long
@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_learn_what_one_learns(name: str, shared: Path, world: Path, tmp_path: Path) -> None:  # noqa: F811
    _train_here(shared / f"{name}.toml", world, tmp_path / "1")
    one, two = (load_file(folder / "state.safetensors") for folder in (tmp_path / "1", shared / f"trained-{name}"))
    assert one.keys() == two.keys()
    for key in one:
        if one[key].dtype.is_floating_point:
            assert (one[key] - two[key]).abs().max() < 1e-4 * max(1.0, float(one[key].abs().max())), key


def test_apart_each_process_learns_from_its_part(shared: Path, world: Path, tmp_path: Path) -> None:  # noqa: F811
    """As MDMMT was trained: the same as one process that adds the gradients of both halves of a batch."""
    (tmp_path / "halves.toml").write_text(OWN + "batch = 18\naccumulate = 2", "utf-8")
    _train_here(tmp_path / "halves.toml", world, tmp_path / "halves")
    own, halves = (load_file(folder / "state.safetensors") for folder in (shared / "trained-own", tmp_path / "halves"))
    for key in own:
        torch.testing.assert_close(own[key], halves[key], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", SHARED)
def test_two_processes_have_the_gradients_of_one_for_every_loss(name: str, shared: Path) -> None:
    assert ready(name.partition(" ")[0]).compares_only
    alone = gradients_of(name)
    together = load_file(shared / f"{name}.safetensors")
    assert alone.keys() == together.keys()
    largest = max(float(v.abs().max()) for key, v in alone.items() if not key.startswith("remembered"))
    for key, value in alone.items():
        if value.numel():
            # Beside the largest gradient some are zero but for rounding.
            allowed = 1e-4 * float(value.abs().max()) + 2e-5 * largest
            assert float((together[key] - value).abs().max()) <= allowed, key


FAILING = """
import torch
from reelseek.errors import UsageError
from reelseek.models import parallel

parallel.join(torch.device("cpu"))
try:
    with parallel.same_errors():
        if parallel.rank() == 1:
            raise UsageError("a file is gone")
except UsageError as error:
    print(error)
"""


def test_an_error_of_one_process_is_raised_by_all() -> None:
    """Else the others would wait for it."""
    ended = run_two(["-c", FAILING])
    assert [output for _, output, _ in ended] == ["process 1: a file is gone\n", "a file is gone\n"], ended


ONE_BREAKS = """
import sys, torch
from reelseek.errors import ReelseekError
from reelseek.library import Library
from reelseek.models import parallel
from reelseek.training import loop

library, recipe, out, how = sys.argv[1:]
build = loop.build_model

def breaking(*arguments):
    model = build(*arguments)
    terms, taken = model.terms, []

    def broken(batch):
        taken.append(int(batch.clip[0]))
        if parallel.rank() == 1 and len(taken) > 1 and taken[-1] == taken[1]:
            if how == "raise":
                raise ReelseekError("the disk is gone")
            return {name: value * torch.inf for name, value in terms(batch).items()}
        return terms(batch)

    model.terms = broken
    return model

loop.build_model = breaking
with Library.open(library) as opened:
    try:
        loop.train(recipe, opened, out, device="cpu")
    except ReelseekError as error:
        sys.exit(str(error))
"""


@pytest.mark.parametrize("how", [pytest.param("overflow", marks=pytest.mark.long), "raise"])
def test_what_fails_in_one_process_ends_all_of_them(how: str, world: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "r.toml").write_text(OWN + "batch = 18\ngather = false", "utf-8")
    first, second = run_two(["-c", ONE_BREAKS, world, tmp_path / "r.toml", tmp_path / "m", how])
    assert (first[0], second[0]) == (1, 1), (first, second)
    if how == "raise":
        assert second[2] == "the disk is gone\n"
        assert first[2].startswith("process 0 waited for another process, which has ended: ")
    else:
        assert second[2].startswith("epoch 1, batch 2 (captions ")
        assert "the loss is inf" in second[2]
        assert first[2] == "epoch 1, batch 2: the loss of another process is not finite; it says more\n"


MIXED = """
import sys, torch
from reelseek.errors import UsageError
from reelseek.models import parallel

try:
    parallel.join(torch.device(sys.argv[1]))
except UsageError as error:
    print(error)
"""


@pytest.mark.long
def test_devices_of_different_kinds_are_refused_by_every_process() -> None:
    messages = [output for _, output, _ in run_two(["-c", MIXED, "cpu"], ["-c", MIXED, "meta"])]
    for message in messages:
        assert "one kind of device, and here are process 0 on cpu, process 1 on meta; name it with --device" in message


def test_a_loss_that_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of another package that joins what it embeds in `terms`; and one of whole videos that is taken in chunks."""

    class Joined(LateFusion):
        def terms(self, batch: Batch) -> dict[str, torch.Tensor]:
            return super().terms(batch)

    model = small("late_fusion")
    recipe = TypeAdapter(Recipe).validate_python({"model": {"system": "late_fusion"}, "train": {"epochs": 1}})
    monkeypatch.setattr(parallel, "world_size", lambda: 2)
    check_loss(recipe, model)
    with pytest.raises(RecipeError, match="train it in one process"):
        check_loss(recipe, Joined(model.config))
    chunks = replace(recipe, train=replace(recipe.train, chunk=4))
    check_loss(chunks, model)
    with pytest.raises(RecipeError, match="cannot take as many chunks each"):
        check_loss(chunks, small("coot"))
    apart = replace(recipe, train=replace(recipe.train, gather=False))
    check_loss(apart, small("xpool"))
    with pytest.raises(RecipeError, match="normalises pairs"):
        check_loss(apart, small("jsfusion"))


def _on_two_machines(folders: list[Path], *, launch: bool) -> list[tuple[str, str]]:
    """What docs/training.md has for two machines, each in a folder of its own; returns what they print, and report.

    Args:
        launch: by `torchrun`; else by the variables that it sets, which takes half the time.
    """
    command = ["train", "r.toml", "--library", "lib", "--out", "model"]
    if launch:
        running, place = [], ["--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", free_port()]
        program = [str(Path(sys.executable).with_name("reelseek")), *command]
        for rank, folder in enumerate(folders):
            launcher = ["-m", "torch.distributed.run", "--no-python", "--nproc-per-node", "1", *place]
            arguments = [sys.executable, *launcher, "--node-rank", str(rank), *program]
            environment = os.environ | {"OMP_NUM_THREADS": "1", "REELSEEK_DEVICE": "cpu"}
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            running.append(subprocess.Popen(arguments, cwd=folder, text=True, env=environment, **pipes))
    else:
        running = start_two(["-m", "reelseek", *command], folders=folders, LOCAL_RANK="0", REELSEEK_DEVICE="cpu")
    outputs = [process.communicate(timeout=3000) for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    return outputs


@pytest.mark.long
def test_two_machines_share_no_folder(world: Path, tmp_path: Path) -> None:  # noqa: F811
    """Each reads its own copy of the library; what a stopped run needs is sent to the machine that lost it."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        shutil.copytree(world, folder / "lib")
        (folder / "r.toml").write_text(RECIPE.format(system="mmt", settings=SETTINGS["mmt"]), "utf-8")
    printed, reports = zip(*_on_two_machines(folders, launch=True), strict=True)
    assert printed == ("model\n", "")
    assert "".join(reports).count("epoch   1") == 1
    with Library.open(world) as library:
        train(folders[0] / "r.toml", library, tmp_path / "alone", device="cpu")
    state = folders[0] / "model" / "state.safetensors"
    alone, together = load_file(tmp_path / "alone" / "state.safetensors"), load_file(state)
    for key in alone:
        if alone[key].dtype.is_floating_point:
            assert (alone[key] - together[key]).abs().max() < 1e-4 * max(1.0, float(alone[key].abs().max())), key
    (folders[0] / "model" / "model.safetensors").unlink()  # as if it was killed before it had written this
    shutil.rmtree(folders[1] / "model")
    assert [output for output, _ in _on_two_machines(folders, launch=False)] == ["model\n", ""]
    assert load_file(folders[0] / "model" / "model.safetensors")
    assert (folders[1] / "model" / "state.safetensors").read_bytes() == state.read_bytes()
