"""What weakens a number is said beside it: in the log, in the run's card, and in its JSON."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from reelseek.models import load_model
from reelseek.training import Recipe, evaluate, train
from reelseek.training.caveats import seen_in_training, training_caveats
from reelseek.training.data import read_split
from reelseek.training.dataset import FeatureDataset
from reelseek.training.log import Epoch

SMALL = {"system": "vse", "width": 4, "hidden": 4}


def _dataset(train_clips: int, validation_clips: int, *, seed: int = 0, named: str = "clip") -> FeatureDataset:
    rng = np.random.default_rng(seed)
    splits = ["train"] * train_clips + ["val"] * validation_clips + ["test"] * 4
    features = rng.normal(size=(len(splits), 4)).astype(np.float32)
    texts = [f"a thing of number {number}" for number in range(len(splits))]
    names = [f"{named} {number}" for number in range(len(splits))]
    return FeatureDataset({"see": features}, texts, splits=splits, names=names)


def _recipe(**config: object) -> Recipe:
    return TypeAdapter(Recipe).validate_python({"model": SMALL, "train": {"epochs": 1, "batch": 8, **config}})


def _line(epoch: int, *, best: bool) -> Epoch:
    return Epoch(epoch, 0.0, 0.1, 0.1, 0.1, 5.0, 5.0, -5.0, best)


def test_few_validation_clips_are_said_in_the_log_the_card_and_the_json(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for clips, warned in ((49, True), (50, False)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "reelseek"):
            model = train(_recipe(rate=1e-2), _dataset(16, clips), tmp_path / str(clips))
        message = f"the best epoch is selected on {clips} validation clips of 'val'"
        saved = json.loads((tmp_path / str(clips) / "config.json").read_text())["warnings"]
        card = (tmp_path / str(clips) / "README.md").read_text()
        assert any(message in record.getMessage() for record in caplog.records) is warned
        assert any(message in warning for warning in saved) is warned
        assert (f"Warning: {message}" in card) is warned
        assert model.record["warnings"] == load_model(tmp_path / str(clips)).record["warnings"] == saved


def test_an_epoch_0_that_was_never_beaten_learnt_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    validation = read_split(_dataset(2, 60), "val")
    assert training_caveats(validation, [_line(0, best=True), _line(1, best=True)]) == []
    assert training_caveats(validation, [_line(0, best=True)]) == []  # nothing was tried
    (caveat,) = training_caveats(validation, [_line(0, best=True), _line(1, best=False)])
    assert caveat.startswith("epoch 0 is best")
    with caplog.at_level(logging.WARNING, "reelseek"):
        train(_recipe(rate=1e-12), _dataset(16, 60), tmp_path / "m")
    assert any("nothing was learnt" in record.getMessage() for record in caplog.records)
    (saved,) = json.loads((tmp_path / "m" / "config.json").read_text())["warnings"]
    assert saved == caveat
    assert saved in (tmp_path / "m" / "README.md").read_text()


def test_clips_that_were_trained_on_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = _dataset(16, 60)
    train(_recipe(), data, tmp_path / "m")
    model = load_model(tmp_path / "m")
    assert evaluate(model, data).warnings == ()
    assert evaluate(model, data, split="val").warnings == ()
    caplog.clear()
    with caplog.at_level(logging.WARNING, "reelseek"):
        measured = evaluate(model, data, split="train", combinations="all")
    (warning,) = measured.warnings
    assert warning.startswith("16 of the 16 clips of 'train' are of videos that the model was trained on")
    assert [record.getMessage() for record in caplog.records] == [warning]  # once for all combinations
    assert json.loads(json.dumps(measured.as_json()))["warnings"] == [warning]
    # the same clips under other names are found out, and other clips under the same names are not taken for them
    renamed, other = _dataset(16, 60, named="other"), _dataset(16, 60, seed=1)
    assert seen_in_training(model.record, renamed, read_split(renamed, "train"))
    assert not seen_in_training(model.record, other, read_split(other, "train"))
    assert not seen_in_training({}, data, read_split(data, "train"))
    some = read_split(data, "train").subset([0, 1], "some")
    (warning,) = seen_in_training(model.record, data, some)
    assert warning.startswith("2 of the 2 clips")


def test_clips_set_aside_for_closed_forms_count_as_trained_on(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    data = FeatureDataset({"see": features}, [f"a thing of number {number}" for number in range(20)])
    model = train(_recipe(), data, tmp_path / "m")
    (warning,) = evaluate(model, data).warnings
    assert warning.startswith("20 of the 20 clips of 'all'")
