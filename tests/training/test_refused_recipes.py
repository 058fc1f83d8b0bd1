"""Recipes that cannot be trained as written, and runs whose files were damaged: refused before the first step."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.training.test_training import world  # noqa: F401 - the fixture

from reelseek.errors import ModelError, RecipeError, ReelseekError, UsageError
from reelseek.library import Library
from reelseek.models import SYSTEMS
from reelseek.training import train
from reelseek.training.pseudo import _Mean
from reelseek.training.recipe import Recipe, read_recipe
from reelseek.training.split import Split
from reelseek.training.validation import Validator

_GROUP = '{experts = ["a"], when = ["b", "c"]}'
_SIZES = ["model.width=16", "model.heads=2", "model.inner=16", "model.depth=1", "train.batch=32", "train.epochs=2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["train.warmup=inf"], r"train\.warmup.*finite"),
        (["train.rate_per=step", "train.warmup=inf"], r"train\.warmup.*finite"),
        (["train.rate=inf"], r"train\.rate: .*finite"),
        (["train.clip_norm=inf"], r"train\.clip_norm: .*finite"),
        (["data.mixture={a=nan}"], r"data\.mixture\.a: .*finite"),
        (["train.clip_norm=true"], r"train\.clip_norm: .*it is no switch, and true is no value of it"),
        (["train.warmup=true"], r"train\.warmup: .*no switch"),
        (["train.epochs=false"], r"train\.epochs: .*no switch"),
        (["pseudo.last=true"], r"pseudo\.last: .*no switch"),
        (["anchor.bank=true"], r"anchor\.bank: .*no switch"),
        (["data.examples=true"], r"data\.examples: .*no switch"),
        (["model.text=sentence"], r"model\.text is 'sentence'; it is a table"),
        (["model.text.encoder=5"], r"model\.text is \{'encoder': 5\}; it is a table"),
        (["data.experts=[]"], r"data\.experts: .*at least 1"),
        (['train.device=""'], r"train\.device: .*at least 1"),
        (["data.mixture={a=1}", "data.train=b"], r"data\.train: data\.mixture says what is learnt from"),
        (["data.validation=b", "data.validation_fraction=0.2"], r"data\.validation_fraction: data\.validation names"),
        (["train.batch=8", "train.clips_per_video=9"], r"train\.clips_per_video = 9 is above train\.batch = 8"),
        (["train.decay=1", "train.decay_every=3"], r"decay_every = 3 changes nothing"),
        (['data.experts=["a", "b", "a"]'], r"experts names 'a' 2 times"),
        (['data.validation_needs=["a", "a"]'], r"validation_needs names 'a' 2 times"),
        ([f"data.groups=[{_GROUP}, {_GROUP}]"], r"two are for videos with b, c"),
        (["train.batch=8", "train.chunk=9"], r"train\.chunk = 9 is above train\.batch = 8"),
    ],
)
def test_settings_that_are_no_values_or_have_no_effect(changes: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_recipe({"model": {"system": "mmt"}}, changes)


def test_a_problem_of_several_settings_is_told_without_a_place() -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe({"model": {"system": "mmt", "text": 5}})
    assert str(caught.value).endswith('the recipe: model.text is 5; it is a table, such as { encoder = "sentence" }')


def test_switches_remain_switches() -> None:
    changes = ["train.freeze_norms=true", "train.compile=true", "train.gather=false"]
    train_recipe = read_recipe({"model": {"system": "mmt"}}, changes).train
    assert (train_recipe.freeze_norms, train_recipe.compile, train_recipe.gather) == (True, True, False)


@pytest.mark.parametrize(
    ("system", "settings", "message"),
    [
        ("ce", {"vlad": {"smell": 2}}, "model.vlad names 'smell', and the experts that it can name are: see"),
        ("ce", {"vlad_ghosts": {"see": 1}}, "model.vlad_ghosts names 'see', .* as model.vlad is empty"),
        ("mee", {"vlad": {"see": 0}}, r"vlad\.see: .*greater than or equal to 1"),
        ("mee", {"vlad": {"see": 2}, "vlad_ghosts": {"see": -1}}, r"vlad_ghosts\.see: .*greater than or equal to 0"),
        ("ce", {"widths": {"see": 8}}, "ce has spaces of one width, model.width; leave widths out"),
        ("mmt", {"width": 0}, "width: .*greater than or equal to 1"),
        ("mmt", {"most_steps": True}, "most_steps: .*no switch"),
    ],
)
def test_settings_of_models(system: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        SYSTEMS[system].build({"experts": {"see": 4}, **settings})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ['data.experts=["smell","see","taste"]'],
            r"no tracks of 'smell', 'taste'; it has hear, see\. .*features import",
        ),
        (["data.mixture={a=1,train=1,b=2}"], r"splits 'a', 'b' of the recipe; .*test, train\. .*--set data\.mixture="),
        (
            ["data.train=trian"],
            r"split 'trian' of the recipe; did you mean 'train'\?.*reelseek add .*--set data\.train=",
        ),
        (["model.experts={see=16}"], r"model\.experts is \{'see': 16\}, .*choose experts with data\.experts"),
        (["model.system=mmtt"], r"model\.system is 'mmtt'; did you mean 'mmt'\?"),
        (["train.batch=2", "train.clips_per_video=2"], "no batch of 'train' has two clips"),
    ],
)
def test_what_a_library_lacks_is_said_before_training(
    world: Path,  # noqa: F811
    changes: list[str],
    message: str,
    tmp_path: Path,
) -> None:
    recipe = read_recipe({"model": {"system": "mmt"}}, [*_SIZES, *changes])
    epochs: list[int] = []
    with Library.open(world) as library, pytest.raises(ReelseekError, match=message):
        train(recipe, library, tmp_path / "m", report=lambda line, *_: epochs.append(line.epoch))
    assert not epochs


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A run of two epochs that was stopped before its model was saved; epoch 2 is not its best one."""
    folder = tmp_path_factory.mktemp("run") / "m"

    def stop(line: object, *_: object) -> None:
        if getattr(line, "epoch", 0) == 1:
            raise KeyboardInterrupt

    scores = iter([1.0, 0.0])
    patch = pytest.MonkeyPatch()
    patch.setattr(Validator, "score", lambda *_: next(scores))
    with Library.open(world) as library, pytest.raises(KeyboardInterrupt):
        train(_recipe(), library, folder, report=stop)
    patch.undo()
    return folder


def _recipe(*changes: str) -> Recipe:
    return read_recipe({"model": {"system": "mmt"}}, [*_SIZES, *changes])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def _flip(path: Path) -> None:
    """One bit of the last tensor, which leaves it a number."""
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("best.safetensors", Path.unlink, "it is missing, and no other file has the weights of epoch 0"),
        ("best.safetensors", _cut, "it cannot be read .*, and no other file has the weights of epoch 0"),
        ("best.safetensors", _flip, "is damaged: .*, and no other file has the weights of epoch 0"),
        ("state.safetensors", _flip, "is damaged: it does not hold what was written; put the file back"),
        ("state.safetensors", Path.unlink, "is missing, from which the run of 2 epochs in log.csv would go on"),
        ("state.safetensors", _cut, "cannot be read: .*; put the file back, or remove the folder"),
    ],
)
def test_a_damaged_run_is_refused_and_stays_as_it_is(
    world: Path,  # noqa: F811
    run: Path,
    name: str,
    damage: Callable[[Path], object],
    message: str,
    tmp_path: Path,
) -> None:
    shutil.copytree(run, tmp_path / "m")
    damage(tmp_path / "m" / name)
    before = {file.name: file.read_bytes() for file in (tmp_path / "m").iterdir()}
    with Library.open(world) as library, pytest.raises(RecipeError, match=message):
        train(_recipe(), library, tmp_path / "m")
    assert {file.name: file.read_bytes() for file in (tmp_path / "m").iterdir()} == before


def test_weights_of_the_last_epoch_are_written_again_from_the_state(
    world: Path,  # noqa: F811
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recipe = _recipe("train.keep=last")
    with Library.open(world) as library:
        train(recipe, library, tmp_path / "m")
        whole = (tmp_path / "m" / "best.safetensors").read_bytes()
        _cut(tmp_path / "m" / "best.safetensors")
        train(recipe, library, tmp_path / "m")
    assert (tmp_path / "m" / "best.safetensors").read_bytes() == whole
    assert "it is written again from state.safetensors" in caplog.text


def test_labels_of_the_first_stage_that_are_damaged_or_gone(tmp_path: Path) -> None:
    path = tmp_path / "see.safetensors"
    with pytest.raises(UsageError, match=r"see\.safetensors is gone, .*remove .* to train the first stage again"):
        _Mean(Split("train", (), (), ()), path, 1).result()
    path.write_bytes(b"\x00" * 5)
    with pytest.raises(UsageError, match=r"see\.safetensors cannot be read: .*to train the first stage again"):
        _Mean(Split("train", (), (), ()), path, 1)
