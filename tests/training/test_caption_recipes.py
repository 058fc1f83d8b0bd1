"""The settings of a captioner: packaged, from a file, and changed on the command line."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import reelseek.training.captions as captions
from reelseek.cli.main import app
from reelseek.errors import RecipeError
from reelseek.library import Library
from reelseek.training.captions import CaptionRecipe, read_caption_recipe


def test_mart_has_its_published_sizes() -> None:
    recipe = read_caption_recipe("captions/mart")
    published = {"width": 768, "heads": 12, "rate": 1e-4, "average": 0.9999, "epochs": 50, "layers": 2, "memory": 1}
    assert {name: getattr(recipe, name) for name in published} == published
    assert read_caption_recipe(None) == CaptionRecipe()


def test_a_misspelt_setting_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(RecipeError, match="did you mean width"):
        read_caption_recipe("captions/mart", ["widht=3"])


def test_options_go_over_changes_and_changes_over_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[CaptionRecipe] = []

    class Done(Exception):
        pass

    def record(library: Library, recipe: CaptionRecipe, **_: Any) -> None:
        taken.append(recipe)
        raise Done

    monkeypatch.setattr(captions, "train_captions", record)
    with Library.open(tmp_path / "library", create=True):
        pass
    command = ["captioner", "train", str(tmp_path / "library"), "--out", str(tmp_path / "out")]
    for options in ([], ["--recipe", "captions/mart", "--set", "heads=6", "--set", "epochs=7", "--epochs", "3"]):
        result = CliRunner().invoke(app, [*command, *options])
        assert isinstance(result.exception, Done), result.output
    assert taken[0] == CaptionRecipe()
    assert (taken[1].width, taken[1].heads, taken[1].epochs, taken[1].average) == (768, 6, 3, 0.9999)
