"""`reelseek models`, as it is typed."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from reelseek.models import SYSTEMS, load_model
from reelseek.models.systems import NOT_OFFERED

DATA = Path(__file__).parents[1] / "data" / "parity"


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reelseek.cli.main", "models", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_list_has_every_system_and_says_what_is_not_offered() -> None:
    done = _run("list", "--json")
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
    table = _run("list").stdout
    assert "eao" in table
    assert "xpool" in table
    assert "not offered: ct_san" in table


@pytest.mark.long
def test_a_system_is_shown_in_words_in_json_and_as_a_recipe() -> None:
    words = _run("show", "zorro").stdout
    for said in ("Recasens", "fusion reads all", "without a modality: mask", "parameters: 34,356,224", "fusion_tokens"):
        assert said in words
    about = json.loads(_run("show", "zorro", "--json").stdout)
    assert about["settings"]["fusion_tokens"] == 16
    recipe = tomllib.loads(_run("show", "umi", "--recipe").stdout)
    assert recipe["model"]["system"] == "umi"
    assert recipe["train"]["optimizer"] == "sgd"


@pytest.mark.long
def test_what_is_not_there_is_said() -> None:
    for name, said in (("ct_san", "not offered: traces concepts"), ("mtm", "no system is called 'mtm'")):
        done = _run("show", name)
        assert done.returncode == 2
        assert said in done.stderr
    done = _run("show", "concepts", "--recipe")
    assert done.returncode == 2
    assert "has no recipe" in done.stderr


@pytest.mark.long
def test_a_released_checkpoint_becomes_a_model(tmp_path: Path) -> None:
    shutil.copy(DATA / "coot" / "weights.safetensors", tmp_path / "coot.safetensors")
    given = str(tmp_path / "coot.safetensors")
    done = _run("convert", given, "--format", "coot", "--out", str(tmp_path / "m"), "--set", "heads=4")
    assert done.returncode == 0, done.stderr
    assert load_model(tmp_path / "m").system == "coot"
    assert json.loads((tmp_path / "m" / "config.json").read_text())["released_as"] == "coot"
    wrong = _run("convert", given, "--format", "mee", "--out", str(tmp_path / "n"))
    assert wrong.returncode == 1
    assert "not a released mee checkpoint" in wrong.stderr
    assert not (tmp_path / "n").exists()
    assert _run("convert", given, "--format", "coot", "--out", "x", "--set", "heads").returncode == 2


def test_the_demonstration_and_every_recipe_build_a_model() -> None:
    from reelseek.cli.demo import demo_recipe
    from reelseek.training import read_recipe

    folder = Path(__file__).parents[2] / "recipes"
    for recipe in (demo_recipe(2), *map(read_recipe, sorted(folder.glob("*.toml")))):
        settings = dict(recipe.model)
        model = SYSTEMS[settings.pop("system")].build({**settings, "experts": {"object": 1000, "audio": 40}})
        assert model.slots
