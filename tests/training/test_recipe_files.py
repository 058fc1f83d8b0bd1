"""Recipes as files: what TOML's reader lets through ends as an error of ours."""

from pathlib import Path

import pytest

from reelseek.errors import RecipeError
from reelseek.training.recipe import read_recipe, read_settings
from reelseek.training.tune import read_ranges

_HOSTILE = {
    "dotted keys": "a" + ".a" * 2000 + " = 1\n",
    "table of dotted keys": f"[{'.'.join('a' * 10_000)}]\nx = 1\n",
    "lists": "x = " + "[" * 10_000 + "]" * 10_000,
    "lists below the limit of the reader": "x = " + "[" * 80 + "]" * 80,
    "inline tables": "x = " + "{a=" * 10_000 + "1" + "}" * 10_000,
    "decimal": "x = " + "9" * 5000,
    "hexadecimal": "x = 0x" + "f" * 5000,
    "more than 64 bits": "[train]\nepochs = " + "9" * 40,
    "no TOML": "x = = 1",
}


@pytest.mark.parametrize("name", _HOSTILE)
@pytest.mark.parametrize("read", [read_recipe, read_settings, read_ranges])
def test_hostile_files(name: str, read, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(_HOSTILE[name])
    with pytest.raises(RecipeError, match=r"r\.toml is not TOML: "):
        read(path)


@pytest.mark.parametrize(
    "change",
    ["train.x=" + "[" * 10_000 + "]" * 10_000, "train.x=" + "9" * 5000, ".".join("a" * 10_000) + "=1"],
)
def test_hostile_changes(change: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("")
    with pytest.raises(RecipeError, match="--set"):
        read_settings(tmp_path / "r.toml", [change])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marks_of_encodings_are_no_part_of_a_recipe(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes('[model]\nname = "é"\n'.encode(encoding))
    assert read_settings(tmp_path / "r.toml", ["train.x=1"]) == {"model": {"name": "é"}, "train": {"x": 1}}
    (tmp_path / "r.toml").write_bytes("# é\n".encode("cp1252"))
    with pytest.raises(RecipeError, match="save it as UTF-8"):
        read_settings(tmp_path / "r.toml")
