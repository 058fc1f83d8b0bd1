"""Splits that are measured while a model is trained, and chance beside what it reaches."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner, Result

from reelseek.cli.main import app
from reelseek.errors import UsageError
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.library.tokens import TokenReader
from reelseek.models import RetrievalModel
from reelseek.training import FeatureDataset, evaluate, read_recipe, train
from reelseek.training.recipe import Recipe
from reelseek.training.reports import Row, comparison_table, training_curves
from reelseek.training.watch import Watcher, read_watched


def _dataset() -> FeatureDataset:
    rng = np.random.default_rng(0)
    captions = [[f"words of {clip}"] * (2 if clip in (9, 11) else 1) for clip in range(12)]
    captions[9][1], captions[11][1] = "more of it", "again"
    splits = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    return FeatureDataset({"see": rng.normal(size=(12, 2, 6)).astype(np.float32)}, captions, splits=splits)


def _recipe(**settings: object) -> Recipe:
    return read_recipe({"model": {"system": "late_fusion", "width": 8, "heads": 2, "depth": 1},
                        "train": {"epochs": 2, "batch": 4, "device": "cpu", **settings}})  # fmt: skip


class _Weights:
    """A callback that copies the weights of every epoch."""

    def __init__(self) -> None:
        self.by_epoch: dict[int, dict[str, Tensor]] = {}

    def __call__(self, model: RetrievalModel, reader: TokenReader, epoch: int) -> None:
        self.by_epoch[epoch] = {name: value.clone() for name, value in model.state_dict().items()}


def _same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return all(bool((one[name] == two[name]).all()) for name in one)


def test_the_weights_that_are_watched_are_those_that_may_be_selected(tmp_path: Path) -> None:
    raw, watched = _Weights(), _Weights()
    model = train(_recipe(average=0.9, rate=0.05), _dataset(), tmp_path / "run", after=raw, watch=watched)
    assert raw.by_epoch.keys() == watched.by_epoch.keys() == {0, 1, 2}
    assert _same(raw.by_epoch[0], watched.by_epoch[0])
    assert not _same(raw.by_epoch[2], watched.by_epoch[2])
    selected = load_file(tmp_path / "run" / "best.safetensors")
    assert sum(_same(selected, weights) for weights in watched.by_epoch.values()) == 1
    state = load_file(tmp_path / "run" / "state.safetensors")  # the optimizer goes on from the raw weights
    assert all(bool((state[f"model.{name}"] == value).all()) for name, value in raw.by_epoch[2].items())
    assert all(bool((state[f"average.{name}"] == value).all()) for name, value in watched.by_epoch[2].items())
    assert _same(selected, model.state_dict())


def test_a_watched_run_goes_on_with_more_epochs(tmp_path: Path) -> None:
    dataset = _dataset()
    whole = train(_recipe(epochs=3), dataset, tmp_path / "whole")
    for epochs in (1, 3):
        watcher = Watcher(dataset, ["test"], tmp_path / "run")
        longer = train(_recipe(epochs=epochs), dataset, tmp_path / "run", watch=watcher)
    assert _same(dict(whole.state_dict()), dict(longer.state_dict()))
    assert read_watched(tmp_path / "run")["test"][0] == [0.0, 1.0, 2.0, 3.0]
    assert (tmp_path / "run" / "log.csv").read_text() == (tmp_path / "whole" / "log.csv").read_text()


def test_epochs_that_were_trained_before_a_split_was_watched_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    splits = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    rows = [f"v{clip},words of {clip},{split}" for clip, split in enumerate(splits)]
    (tmp_path / "rows.csv").write_text("\n".join(["video,caption,split", *rows]) + "\n")
    np.savez(tmp_path / "see.npz", **{f"v{clip}": rng.normal(size=(2, 6)).astype(np.float32) for clip in range(12)})
    with Library.open(tmp_path / "lib", create=True) as library:
        add(library, [tmp_path / "rows.csv"], media=False)
        import_features(library, "see", [tmp_path / "see.npz"], modality="appearance", fps=1.0)
    (tmp_path / "r.toml").write_text(
        '[model]\nsystem = "late_fusion"\nwidth = 8\nheads = 2\ndepth = 1\n[train]\nbatch = 4\ndevice = "cpu"\n'
    )

    def run(out: str, epochs: int, *options: str) -> Result:
        command = ["train", str(tmp_path / "r.toml"), "--library", str(tmp_path / "lib"), "--out", str(tmp_path / out)]
        return CliRunner().invoke(app, [*command, "--set", f"train.epochs={epochs}", *options], catch_exceptions=False)

    assert run("run", 1).exit_code == 0
    done = run("run", 1, "--watch", "test", "--watch", "val")
    assert done.exit_code == 1
    assert "epochs 0-1 are not measured on test: they were trained before --watch test was set" in done.stderr
    assert "epochs 0-1 are not measured on val" in done.stderr
    assert run("run", 2, "--watch", "test").exit_code == 1
    done = run("run", 3, "--watch", "test", "--watch", "val")
    assert "epochs 0-1 are not measured on test" in done.stderr
    assert "epochs 0-2 are not measured on val" in done.stderr
    assert read_watched(tmp_path / "run")["test"][0] == [2.0, 3.0]
    assert run("run", 3).exit_code == 0

    done = run("fresh", 1, "--watch", "test")
    assert (done.exit_code, "not measured" in done.stderr) == (0, False)
    done = run("fresh", 1, "--watch", "test")
    assert (done.exit_code, "not measured" in done.stderr) == (0, False)

    assert run("several", 1, "--seeds", "1", "--watch", "test").exit_code == 0
    (tmp_path / "several" / "seed-1" / "watched.csv").unlink()
    done = run("several", 1, "--seeds", "1,2", "--watch", "test")
    assert done.exit_code == 1
    assert done.stderr.count("are not measured on test") == 1
    assert (tmp_path / "several" / "seeds.json").read_text() == "[1, 2]\n"


def test_a_watched_split_is_measured_every_epoch_and_changes_nothing(tmp_path: Path) -> None:
    dataset, recipe = _dataset(), _recipe()
    plain = train(recipe, dataset, tmp_path / "plain")
    watched = train(recipe, dataset, tmp_path / "run", watch=Watcher(dataset, ["test"], tmp_path / "run"))
    for one, two in zip(plain.state_dict().values(), watched.state_dict().values(), strict=True):
        assert bool((one == two).all())
    epochs, recalls = read_watched(tmp_path / "run")["test"]
    assert epochs == [0.0, 1.0, 2.0]
    assert all(0 <= recall <= 1 for recall in recalls)
    assert training_curves([tmp_path / "run"], tmp_path / "curves").png.is_file()
    train(recipe, dataset, tmp_path / "run", watch=Watcher(dataset, ["test"], tmp_path / "run"))  # it was finished
    assert read_watched(tmp_path / "run")["test"] == (epochs, recalls)
    with pytest.raises(UsageError, match="no caption in the split 'nothing'"):
        Watcher(dataset, ["nothing"], tmp_path / "run")

    table = comparison_table([Row("m", (watched,), 1, 1)], dataset, tmp_path / "runs", split="test", protocol="strict")
    chance = table.rows[-1]
    assert chance[0] == "chance"
    # Every order of the five captions of three clips: the rank of the best caption of each.
    ranks = np.array([
        [1 + min(order.index(caption) for caption in captions) for captions in ((0, 1), (2,), (3, 4))]
        for order in permutations(range(5))
    ])  # fmt: skip
    assert chance[1] == f"{100 / 3:.1f}"
    assert chance[6] == f"{100 * (ranks <= 1).mean():.1f}"
    assert chance[10] == f"{ranks.mean():.1f}"
    assert chance[4] == chance[5] == "2.0"
    assert evaluate(watched, dataset, split="test").queries == 5
    assert [chance[column] for column in (2, 3, 7, 8)] == ["100.0"] * 4  # R@5 and R@10 of three clips and five captions

    rows = [Row("m", (watched,), 1, 1)]
    table = comparison_table(rows, dataset, tmp_path / "runs", split="test", protocol="mdmmt")  # each caption alone
    chance = table.rows[-1]
    beside = [4, 4, 5, 4, 4]  # candidates of each caption: without the others of its clip
    assert chance[6] == f"{100 * np.mean([1 / count for count in beside]):.1f}"
    assert chance[10] == f"{np.mean([(count + 1) / 2 for count in beside]):.1f}"
