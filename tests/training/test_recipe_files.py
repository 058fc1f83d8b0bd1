"""Recipes as files: what TOML's reader lets through ends as an error of ours."""

from pathlib import Path

import pytest
import torch
from tests.models.worlds import small

from reelseek.errors import RecipeError
from reelseek.training.optimizer import build_optimizer
from reelseek.training.recipe import read_recipe, read_settings
from reelseek.training.start import set_text_dropout
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


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "radam", "sgd"])
def test_momentum_reaches_every_optimizer(optimizer: str) -> None:
    changes = [f'train.optimizer="{optimizer}"', "train.momentum=0.56"]
    changes += [] if optimizer == "sgd" else ["train.second_beta=0.98", "train.epsilon=1.5e-9"]
    config = read_recipe({"model": {"system": "vse"}}, changes).train
    group = build_optimizer(small("vse"), config, torch.device("cpu")).param_groups[0]
    if optimizer == "sgd":
        assert group["momentum"] == 0.56
    else:
        assert group["betas"] == (0.56, 0.98)
        assert group["eps"] == 1.5e-9


def test_adam_has_the_betas_of_pytorch_where_a_recipe_says_nothing() -> None:
    group = build_optimizer(small("vse"), read_recipe({"model": {}}).train, torch.device("cpu")).param_groups[0]
    usual = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert (group["betas"], group["eps"]) == (usual["betas"], usual["eps"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (['train.optimizer="sgd"', "train.second_beta=0.98"], "sgd has no second_beta"),
        (['train.optimizer="sgd"', "train.epsilon=1e-6"], "sgd has no epsilon"),
        (['train.schedule="cosine"', "train.decay=0.9"], "train.decay is a setting of the schedule 'exponential'"),
        (["train.cooldown=4"], "train.cooldown is a setting of the schedule 'plateau'"),
        (['train.schedule="constant"', "train.plateau_patience=3"], "which does not read it"),
    ],
)
def test_a_setting_that_nothing_reads_is_an_error(changes: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_recipe({"model": {"system": "mmt"}}, changes)


def test_dropout_of_a_text_encoder_that_is_trained() -> None:
    model = small("mmt", text={"encoder": "sentence", "trained": True})
    set_text_dropout(model, 0.2)
    layers = [layer for layer in model.text.modules() if isinstance(layer, torch.nn.Dropout)]
    assert layers
    assert {layer.p for layer in layers} == {0.2}
    model.train()
    one, two = (model.text.pooled(["a cat"]) for _ in range(2))
    assert not torch.equal(one, two)
    with pytest.raises(RecipeError, match="the text encoder of mmt is frozen"):
        set_text_dropout(small("mmt"), 0.2)
