"""`reelseek models`, as it is typed."""

import json
import shutil
import tomllib
from pathlib import Path

from reelseek.models import SYSTEMS, load_model
from reelseek.models.systems import NOT_OFFERED
from tests.typed import Run

DATA = Path(__file__).parents[1] / "data" / "parity"


def test_the_list_has_every_system_and_says_what_is_not_offered(run: Run) -> None:
    done = run("models", "list", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["system"] for line in lines] == [*SYSTEMS, *NOT_OFFERED]
    for line in lines:
        if not line["offered"]:
            assert len(line["why"]) > 20
            continue
        assert line["paper"]
        assert line["composition"]
        assert line["missing"]
        assert line["parameters"] > 1e5 or not line["trained"]
    table = run("models", "list").stdout
    assert "eao" in table
    assert "xpool" in table
    assert "not offered: ct_san" in table


def test_a_system_is_shown_in_words_in_json_and_as_a_recipe(run: Run) -> None:
    words = run("models", "show", "zorro").stdout
    for said in ("Recasens", "fusion reads all", "without a modality: mask", "parameters: 34,356,224", "fusion_tokens"):
        assert said in words
    about = json.loads(run("models", "show", "zorro", "--json").stdout)
    assert about["settings"]["fusion_tokens"] == 16
    recipe = tomllib.loads(run("models", "show", "umi", "--recipe").stdout)
    assert recipe["model"]["system"] == "umi"
    assert recipe["train"]["optimizer"] == "sgd"


def test_what_is_not_there_is_said(run: Run) -> None:
    for name, said in (("ct_san", "not offered: traces concepts"), ("mtm", "no system is called 'mtm'")):
        assert said in run("models", "show", name, code=2).stderr
    assert "has no recipe" in run("models", "show", "concepts", "--recipe", code=2).stderr


def test_a_released_checkpoint_becomes_a_model(tmp_path: Path, run: Run) -> None:
    shutil.copy(DATA / "coot" / "weights.safetensors", tmp_path / "coot.safetensors")
    given = ("models", "convert", tmp_path / "coot.safetensors", "--format")
    run(*given, "coot", "--out", tmp_path / "m", "--set", "heads=4")
    assert load_model(tmp_path / "m").system == "coot"
    assert json.loads((tmp_path / "m" / "config.json").read_text())["released_as"] == "coot"
    wrong = run(*given, "mee", "--out", tmp_path / "n", code=1)
    assert "not a released mee checkpoint" in wrong.stderr
    assert not (tmp_path / "n").exists()
    run(*given, "coot", "--out", tmp_path / "x", "--set", "heads", code=2)


def test_the_demonstration_and_every_recipe_build_a_model() -> None:
    from reelseek.cli.demo import demo_recipe
    from reelseek.training import read_recipe

    folder = Path(__file__).parents[2] / "recipes"
    for recipe in (demo_recipe(2), *map(read_recipe, sorted(folder.glob("*.toml")))):
        settings = dict(recipe.model)
        model = SYSTEMS[settings.pop("system")].build({**settings, "experts": {"object": 1000, "audio": 40}})
        assert model.slots
