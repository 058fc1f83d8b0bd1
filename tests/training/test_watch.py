"""Splits that are measured while a model is trained, and chance beside what it reaches."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from reelseek.errors import UsageError
from reelseek.training import FeatureDataset, evaluate, read_recipe, train
from reelseek.training.reports import Row, comparison_table, training_curves
from reelseek.training.watch import Watcher, read_watched


def _dataset() -> FeatureDataset:
    rng = np.random.default_rng(0)
    captions = [[f"words of {clip}"] * (2 if clip in (9, 11) else 1) for clip in range(12)]
    captions[9][1], captions[11][1] = "more of it", "again"
    splits = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    return FeatureDataset({"see": rng.normal(size=(12, 2, 6)).astype(np.float32)}, captions, splits=splits)


def test_a_watched_split_is_measured_every_epoch_and_changes_nothing(tmp_path: Path) -> None:
    dataset = _dataset()
    recipe = read_recipe({"model": {"system": "late_fusion", "width": 8, "heads": 2, "depth": 1},
                          "train": {"epochs": 2, "batch": 4, "device": "cpu"}})  # fmt: skip
    plain = train(recipe, dataset, tmp_path / "plain")
    watched = train(recipe, dataset, tmp_path / "run", after=Watcher(dataset, ["test"], tmp_path / "run"))
    for one, two in zip(plain.state_dict().values(), watched.state_dict().values(), strict=True):
        assert bool((one == two).all())
    epochs, recalls = read_watched(tmp_path / "run")["test"]
    assert epochs == [0.0, 1.0, 2.0]
    assert all(0 <= recall <= 1 for recall in recalls)
    assert training_curves([tmp_path / "run"], tmp_path / "curves").png.is_file()
    train(recipe, dataset, tmp_path / "run", after=Watcher(dataset, ["test"], tmp_path / "run"))  # it was finished
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
