"""A search proposes recipes, keeps every trial, and goes on where it was stopped."""

import csv
from pathlib import Path

import pytest
from tests.training.test_training import world  # noqa: F401 - the fixture

from reelseek.errors import RecipeError
from reelseek.library import Library
from reelseek.training import read_recipe
from reelseek.training.tune import Trial, read_ranges, tune

RECIPES = Path(__file__).parents[2] / "recipes"
SETTINGS = {
    "model": {"system": "mmt", "width": 16, "depth": 1, "heads": 2, "inner": 16},
    "train": {"epochs": 4, "batch": 32, "rate": 1e-3},
}


def _ranges(tmp_path: Path, text: str) -> Path:
    (tmp_path / "ranges.toml").write_text(text)
    return tmp_path / "ranges.toml"


def test_the_best_recipe_is_found_and_a_stopped_search_goes_on(world: Path, tmp_path: Path) -> None:  # noqa: F811
    ranges = read_ranges(
        _ranges(
            tmp_path,
            '"train.rate" = { low = 1e-8, high = 1e-2, log = true }\n"model.depth" = [1, 2]\n'
            '"model.inner" = { low = 16, high = 32 }\n',
        )
    )
    seen: list[Trial] = []
    with Library.open(world) as library:
        tune(SETTINGS, ranges, library, tmp_path / "s", trials=2, report=lambda trial, *_: seen.append(trial))
        best = tune(SETTINGS, ranges, library, tmp_path / "s", trials=5, report=lambda trial, *_: seen.append(trial))
        assert [trial.number for trial in seen] == [0, 1, 2, 3, 4]
        with pytest.raises(RecipeError, match="another recipe"):
            tune({**SETTINGS, "train": {}}, ranges, library, tmp_path / "s", trials=5)
    assert len({trial.settings["train.rate"] for trial in seen}) == 5
    assert all(1e-8 <= trial.settings["train.rate"] <= 1e-2 for trial in seen)
    assert all(isinstance(trial.settings["model.inner"], int) for trial in seen)
    assert best == max(seen, key=lambda trial: trial.score)
    assert len({trial.score for trial in seen}) > 1
    with (tmp_path / "s" / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == [trial.score for trial in seen]
    read = read_recipe(tmp_path / "s" / "best.toml")
    assert read.train.rate == best.settings["train.rate"]
    assert read.model["depth"] == best.settings["model.depth"]
    assert (tmp_path / "s" / f"trial-{best.number:03}" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "names no setting"),
        ('"rate" = [1]', "the place of a setting"),
        ('"train.rate" = []', "the place of a setting"),
        ('"train.rate" = { low = 2, high = 1 }', "low < high"),
        ('"train.rate" = { low = 0, high = 1, log = true }', "low > 0"),
        ('"train.rate" = { lowest = 0, high = 1 }', "wanted a list, or low and high"),
        ("train.rate = ", "not TOML"),
    ],
)
def test_ranges_that_are_none(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        read_ranges(_ranges(tmp_path, text))


def test_a_misspelt_setting_is_told_before_anything_is_trained(world: Path, tmp_path: Path) -> None:  # noqa: F811
    ranges = read_ranges(_ranges(tmp_path, '"train.raet" = [1.0]'))
    with Library.open(world) as library, pytest.raises(RecipeError, match=r"train\.raet"):
        tune(SETTINGS, ranges, library, tmp_path / "s", trials=1)


def test_the_papers_ranges_fit_the_papers_recipe() -> None:
    assert read_recipe(RECIPES / "crossclr.toml").model["local"]["queue"] == 5000
    ranges = read_ranges(RECIPES / "ranges" / "crossclr.toml")
    assert ranges["model.local.queue"].high == 10_000
