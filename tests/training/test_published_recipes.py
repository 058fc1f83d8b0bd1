"""Published settings against what papers and released code print: tests/data/published.toml names paper and place."""

import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch

from reelseek.cli.models import _recipe as recipe_shown
from reelseek.models import SYSTEMS
from reelseek.models.text import TextEncoder
from reelseek.training.recipe import packaged_recipes, read_recipe, read_settings

ROWS = tomllib.loads((Path(__file__).parents[1] / "data" / "published.toml").read_text("utf-8"))["row"]
PUBLISHED = [name for name in packaged_recipes() if name.startswith("published/")]
SMALL = [name for name in packaged_recipes() if name.startswith("small/") and read_recipe(name).pixels is None]


def _numbers(table: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a recipe, by its place."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{place}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{place}{key}", value


def _printed(recipe: str) -> dict[str, float]:
    """Every number that a paper prints of a recipe."""
    name = recipe.removeprefix("published/")
    rows = [row["values"] for row in ROWS if any(fnmatch(name, pattern) for pattern in row["recipes"])]
    return {place: value for values in rows for place, value in values.items()}


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_every_number_of_a_published_recipe_is_printed_somewhere(recipe: str) -> None:
    assert dict(_numbers(read_settings(recipe))) == _printed(recipe)


def test_every_row_is_of_some_recipe_and_names_its_place() -> None:
    names = [name.removeprefix("published/") for name in PUBLISHED]
    for row in ROWS:
        assert row["paper"]
        assert row["place"]
        assert all(any(fnmatch(name, pattern) for name in names) for pattern in row["recipes"]), row


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_a_published_recipe_is_a_model_of_its_system(recipe: str) -> None:
    settings = dict(read_recipe(recipe).model)
    system = settings.pop("system")
    # whatever the captions are encoded by
    text = {**settings.get("text", {}), "encoder": "features", "dim": 300, "trained": False}
    with torch.device("meta"):
        model = SYSTEMS[system].build({**settings, "text": text, "experts": {"video": 4096, "audio": 40}})
    assert model.system == system


@pytest.mark.parametrize("name", SMALL)
def test_a_small_recipe_reads_captions_with_what_the_package_brings(name: str) -> None:
    model = SYSTEMS["anchored"].build({"experts": {"see": 512, "hear": 256}, "inner": read_recipe(name).model})
    for encoder in (part for part in model.modules() if isinstance(part, TextEncoder)):
        assert encoder.pooled(["a cat"]).shape == (1, encoder.width)
        assert encoder.words(["a cat"]).values.shape[2] == encoder.width


def test_every_system_that_is_trained_has_a_small_recipe() -> None:
    systems = {read_recipe(name).model["system"]: name for name in SMALL}
    assert set(systems) == {name for name in SYSTEMS if SYSTEMS[name].trained} - {"anchored"}
    for system, name in systems.items():
        assert name == f"small/{system}"
        recipe = read_recipe(name)
        assert recipe.anchor is not None
        with torch.device("meta"):
            inner = {**recipe.model, "text": {"encoder": "features", "dim": 384}}
            SYSTEMS["anchored"].build({"experts": {"see": 512, "hear": 256}, "inner": inner})


@pytest.mark.parametrize("name", [name for name, system in SYSTEMS.items() if system.published])
def test_the_recipe_that_is_shown_of_a_system_is_the_published_one_whole(name: str) -> None:
    published = read_settings(SYSTEMS[name].published)
    published["train"].pop("text_dropout", None)
    shown = tomllib.loads(recipe_shown(name))
    assert SYSTEMS[name].schedule == shown["train"] == published["train"]
    assert {key: shown.get(key) for key in ("data", "pseudo")} == {
        key: published.get(key) for key in ("data", "pseudo")
    }
    for key, value in published["model"].items():
        if key not in ("system", "text"):
            assert shown["model"][key] == value or value.items() <= shown["model"][key].items()
