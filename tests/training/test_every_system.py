"""Every system goes the whole way: trained on a library, saved, measured, indexed and searched."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from safetensors.torch import load_file
from tests.models.worlds import SMALL
from tests.training.test_training import world  # noqa: F401 - the fixture

from reelseek.errors import RecipeError, UsageError
from reelseek.library import Library
from reelseek.models import SYSTEMS, load_model
from reelseek.search import Searcher
from reelseek.training import Recipe, evaluate, read_recipe, train
from reelseek.training.recipe import PseudoRecipe

TRAINED = [name for name in SMALL if SYSTEMS[name.partition("+")[0]].trained and "+" not in name]
_SIZES = ("vlad", "widths", "text_clusters", "experts", "text", "spectrograms", "spectrogram", "spaces", "together")


def _recipe(name: str, **train_settings: object) -> Recipe:
    settings = {key: value for key, value in SMALL[name].items() if key not in _SIZES}
    if name == "clip4clip":
        settings |= {"text_head": "linear", "head": "linear", "width": 16, "text": {"encoder": "sentence"}}
    if name == "w2vv":
        settings |= {"text": {"encoder": "sentence"}}
    how = {"epochs": 1, "batch": 32, "rate": 1e-3, **train_settings}
    return TypeAdapter(Recipe).validate_python({"model": {"system": name, **settings}, "train": how})


@pytest.mark.parametrize("name", TRAINED)
def test_a_system_is_trained_measured_and_searched(name: str, world: Path, tmp_path: Path) -> None:  # noqa: F811
    with Library.open(world) as library:
        train(_recipe(name), library, tmp_path / "m")
        model = load_model(tmp_path / "m")
        assert model.system == name
        measured = evaluate(model, library)
        assert measured.queries == 80
        one = evaluate(model, library, experts=["see"])
        assert one.experts == ("see",)
        searcher = Searcher(library, model=str(tmp_path / "m"))
        hits = searcher.search("a cat and a dog", k=5)
        assert len(hits) == 5
        assert all(hit.video for hit in hits)
    card = (tmp_path / "m" / "README.md").read_text()
    assert SYSTEMS[name].paper in card
    assert json.loads((tmp_path / "m" / "config.json").read_text())["system"] == name


@pytest.mark.parametrize("name", ["crossclr", "mcn", "eao"])
def test_what_a_loss_remembers_is_resumed_to_the_bit(name: str, world: Path, tmp_path: Path) -> None:  # noqa: F811
    class Stop(Exception):
        pass

    def stop(line: object, *_: object) -> None:
        if line.epoch == 1:  # type: ignore[attr-defined]
            raise Stop

    recipe = _recipe(name, epochs=3)
    with Library.open(world) as library:
        train(recipe, library, tmp_path / "whole")
        with pytest.raises(Stop):
            train(recipe, library, tmp_path / "parts", report=stop)
        train(recipe, library, tmp_path / "parts")
    one, two = (load_file(tmp_path / part / "state.safetensors") for part in ("whole", "parts"))
    assert one.keys() == two.keys()
    for key in one:
        assert one[key].equal(two[key]), key


@pytest.mark.parametrize("name", sorted(name for name, system in SYSTEMS.items() if system.trained))
def test_the_recipe_that_is_shown_can_be_trained_from(name: str, tmp_path: Path) -> None:
    from reelseek.cli.models import _recipe as shown

    (tmp_path / "r.toml").write_text(shown(name), "utf-8")
    recipe = read_recipe(tmp_path / "r.toml")
    settings = dict(recipe.model)
    assert settings.pop("system") == name
    import torch

    with torch.device("meta"):
        model = SYSTEMS[name].build({**settings, "experts": dict(SYSTEMS[name].experts)})
    if not settings.get("vlad"):  # else larger, by the clusters of experts that its recipe names
        assert sum(p.numel() for p in model.parameters()) == SYSTEMS[name].parameters
    for key, value in SYSTEMS[name].schedule.items():
        assert getattr(recipe.train, key) == value


def test_umi_learns_from_pseudo_labels_of_single_modalities_and_resumes(world: Path, tmp_path: Path) -> None:  # noqa: F811
    class Stop(Exception):
        pass

    def stop(line: object, _: int, stage: str) -> None:
        if stage == "hear" and line.epoch == 2:  # type: ignore[attr-defined]
            raise Stop

    recipe = replace(_recipe("umi", epochs=2), pseudo=PseudoRecipe(epochs=3, last=2))
    with Library.open(world) as library:
        train(recipe, library, tmp_path / "whole")
        with pytest.raises(Stop):
            train(recipe, library, tmp_path / "parts", report=stop)
        with pytest.raises(UsageError, match="holds the mean of what came after epoch 1"):
            train(replace(recipe, pseudo=PseudoRecipe(epochs=3, last=1)), library, tmp_path / "parts")
        train(recipe, library, tmp_path / "parts")
        with pytest.raises(RecipeError, match=r"\[pseudo\] is a stage of umi"):
            train(replace(_recipe("mmt"), pseudo=PseudoRecipe(epochs=3, last=2)), library, tmp_path / "no")
    for name in ("state.safetensors", "pseudo/hear.safetensors", "pseudo/see.safetensors"):
        one, two = (load_file(tmp_path / part / name) for part in ("whole", "parts"))
        for key in one:
            assert one[key].equal(two[key]), (name, key)
    kept = load_file(tmp_path / "whole" / "pseudo" / "hear.safetensors")
    assert float(kept["count"]) == 2
    assert 0 < int((~kept["present"]).sum()) < len(kept["present"])
