"""Published settings against what papers and released code print: tests/data/published.toml names paper and place."""

import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.worlds import SMALL as SMALL_MODELS
from tests.training.test_training import world  # noqa: F401 - the fixture

import reelseek
from reelseek.cli.models import _recipe as recipe_shown
from reelseek.library import Library
from reelseek.models import SYSTEMS, load_model
from reelseek.models.text import TextEncoder
from reelseek.training import train
from reelseek.training.recipe import find_recipe, packaged_recipes, read_recipe, read_settings, read_toml, recipe_from

ROWS = tomllib.loads((Path(__file__).parents[1] / "data" / "published.toml").read_text("utf-8"))["row"]
PUBLISHED = [name for name in packaged_recipes() if name.startswith("published/")]
CAPTIONERS = [name for name in packaged_recipes() if name.startswith("captions/")]
NAMES = {
    "model.system",
    "model.text.encoder",
    "data.experts",
    "data.train",
    "data.validation",
}  # what a library calls it
NOT_SIZES = {"experts", "text", "spaces", "vlad", "local", "spectrogram", "spectrograms", "gate_layers"}
SMALL = [name for name in packaged_recipes() if name.startswith("small/") and read_recipe(name).pixels is None]


def _settings(table: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and switch of a recipe, by its place."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value


def _printed(recipe: str) -> dict[str, Any]:
    """Every number and switch that a paper, or its released code, prints of a recipe."""
    name = recipe.removeprefix("published/")
    rows = [row["values"] for row in ROWS if any(fnmatch(name, pattern) for pattern in row["recipes"])]
    return {place: value for values in rows for place, value in values.items()}


@pytest.mark.parametrize("recipe", [*PUBLISHED, *CAPTIONERS])
def test_every_setting_of_a_published_recipe_is_printed_somewhere(recipe: str) -> None:
    settings = read_settings(recipe) if recipe in PUBLISHED else read_toml(find_recipe(recipe))
    assert {place: value for place, value in _settings(settings) if place not in NAMES} == _printed(recipe)


def test_every_row_is_of_some_recipe_and_names_its_place() -> None:
    names = [name.removeprefix("published/") for name in [*PUBLISHED, *CAPTIONERS]]
    for row in ROWS:
        assert row["paper"]
        assert row["place"]
        assert all(any(fnmatch(name, pattern) for name in names) for pattern in row["recipes"]), row


def test_what_was_not_seen_printed_and_what_is_ours_is_said_where_recipes_are_described() -> None:
    described = (Path(reelseek.__file__).parent / "recipes" / "README.md").read_text("utf-8")
    rows = [row for row in ROWS if "kind" in row]
    assert {row["kind"] for row in rows} == {"ours", "unseen"}
    for row in rows:
        for place in row["values"]:
            assert f"`{place}`" in described, (row["recipes"], place)


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_a_published_recipe_is_a_model_of_its_system(recipe: str) -> None:
    settings = dict(read_recipe(recipe).model)
    system = settings.pop("system")
    # whatever the captions are encoded by
    clip = "clip" in settings.get("text", {}).get("encoder", "")
    text = {**settings.get("text", {}), "encoder": "features", "dim": 512 if clip else 300, "trained": False}
    text.pop("layers", None)  # of BERT, which is not at hand
    experts = read_recipe(recipe).data.experts or ("video", *(settings.get("vlad") or ["audio"]))
    widths = {name: 40 if name == "audio" else settings.get("width", 512 if clip else 4096) for name in experts}
    with torch.device("meta"):
        model = SYSTEMS[system].build({**settings, "text": text, "experts": widths})
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


@pytest.mark.parametrize("name", [name for name in PUBLISHED if read_recipe(name).pixels is None])
def test_a_published_recipe_takes_its_steps(name: str, world: Path, tmp_path: Path) -> None:  # noqa: F811
    """With every switch of its training, and those of its model, at sizes of a few seconds."""
    settings = read_settings(name)
    system = settings["model"]["system"]
    named = {"spaces": [["see"], ["hear"]], "vlad": {"hear": 4}, "vlad_ghosts": {"hear": 1}, "widths": {"hear": 16}}
    sizes = {key: value for key, value in SMALL_MODELS[system].items() if key not in NOT_SIZES}
    model = {**settings["model"], **sizes, "text": {"encoder": "sentence"}}
    model |= {key: value for key, value in named.items() if key in model}
    data: dict[str, Any] = {"train": "train"} if "batch_of" in settings["train"] else {"train": "train", "examples": 32}
    if system == "eao":  # whose batch normalisation is in a network over spectrograms
        data["experts"] = ["see", "hear"]
        weights = model.get("weights", {}).items()
        model["weights"] = {key.replace("audio", "hear").replace("video", "see"): value for key, value in weights}
        model["spectrograms"] = {"hear": {"widths": [8, 16], "blocks": [1]}}
    if "identity" in (SYSTEMS[system].defaults.get("head"), model.get("text_head")):
        model |= {"head": "linear", "text_head": "linear", "width": 16}  # the library's text is not as wide
    how = {**settings["train"], "epochs": 1, "batch": 8 if "clips_per_video" in settings["train"] else 16}
    how.pop("text_dropout", None)  # of a text encoder that is trained
    with Library.open(world) as library:
        if how.get("freeze_norms"):
            first = recipe_from({"model": model, "train": {"epochs": 1}, "data": data}, "the first")
            train(first, library, tmp_path / "first")
            how["start"] = str(tmp_path / "first")
        train(recipe_from({"model": model, "train": how, "data": data}, name), library, tmp_path / "m")
    assert load_model(tmp_path / "m").system == system
