"""How long a run is said to take: as many steps and validations as it makes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reelseek.training import FeatureDataset, read_recipe, train
from reelseek.training.loop import Trainer, predict_seconds
from reelseek.training.measure import Measured
from reelseek.training.validation import Validator

UMI = {"system": "umi", "width": 16, "heads": 2, "inner": 16, "reorganise_depth": 1, "depth": 1, "slots": 2,
       "prototypes": 3}  # fmt: skip


@pytest.mark.parametrize("pseudo", [None, {"epochs": 1, "last": 1}])
def test_every_epoch_and_every_validation_counts(
    pseudo: dict[str, int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=(12, 2, 6)).astype(np.float32) for name in ("see", "hear")}
    splits = ["train"] * 8 + ["val"] * 4
    dataset = FeatureDataset(features, [[f"words of {clip}"] for clip in range(12)], splits=splits)
    recipe = read_recipe({"model": UMI, "pseudo": pseudo, "train": {"epochs": 2, "batch": 4, "device": "cpu"}})
    assert predict_seconds(recipe, dataset) > 0

    validations, epochs = 0, 0
    measure, train_epoch = Validator.measure, Trainer.train_epoch

    def count_validation(self: Validator, *args: Any) -> Measured:
        nonlocal validations
        validations += 1
        return measure(self, *args)

    def count_epoch(self: Trainer) -> float:
        nonlocal epochs
        epochs += 1
        return train_epoch(self)

    monkeypatch.setattr(Trainer, "time_epoch", lambda _: (1.0, 100.0))
    predicted = predict_seconds(recipe, dataset)
    monkeypatch.setattr(Validator, "measure", count_validation)
    monkeypatch.setattr(Trainer, "train_epoch", count_epoch)
    train(recipe, dataset, tmp_path / "run")
    assert predicted == epochs + 100 * validations
