"""Training resumes to the same bits, refuses leaks, and measures what it says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file

from reelseek.errors import ModelError, RecipeError, UsageError
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.models import SYSTEMS, load_model
from reelseek.training import Recipe, evaluate, read_recipe, train
from reelseek.training.data import read_split, training_splits
from reelseek.training.recipe import packaged_recipes
from reelseek.training.tune import read_ranges

RECIPES = Path(__file__).parents[2] / "recipes"
WORDS = ["cat", "dog", "car", "tree", "boat", "house", "river", "guitar", "bread", "snow"]
SMALL = {"system": "mmt", "width": 32, "depth": 1, "heads": 2, "inner": 32}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 videos of two imported experts; a caption names the two things whose directions the features hold."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(len(WORDS), 16)).astype(np.float32)
    rows = ["video,caption,split"]
    for name in ("see", "hear"):
        (folder / name).mkdir()
    for index in range(120):
        first, second = rng.choice(len(WORDS), 2, replace=False)
        split = "train" if index < 80 else "test"
        rows.append(f"v{index},a {WORDS[first]} and a {WORDS[second]},{split}")
        rows.append(f"v{index},the {WORDS[second]} is beside the {WORDS[first]},{split}")
        for name, what in (("see", first), ("hear", second)):
            if not (name == "hear" and index % 5 == 0):
                values = directions[what] + 0.3 * rng.normal(size=(int(rng.integers(1, 6)), 16))
                np.save(folder / name / f"v{index}.npy", values.astype(np.float32))
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")
    with Library.open(folder / "lib", create=True) as library:
        add(library, [folder / "rows.csv"], media=False)
        import_features(library, "see", [folder / "see"], modality="appearance")
        import_features(library, "hear", [folder / "hear"], modality="audio")
    return folder / "lib"


def _recipe(**how: object) -> Recipe:
    settings = {"epochs": 4, "batch": 32, "rate": 3e-3, "average": 0.9, "drop": 0.2, **how}
    return TypeAdapter(Recipe).validate_python({"model": SMALL, "train": settings})


def test_it_learns_what_is_there_and_both_experts_help(world: Path, tmp_path: Path) -> None:
    with Library.open(world) as library:
        train(_recipe(epochs=30), library, tmp_path / "m")
        model = load_model(tmp_path / "m")
        both = evaluate(model, library)
        one = evaluate(model, library, experts=["see"])
    assert both.split == "test"
    assert both.gallery == 40
    assert both.queries == 80
    assert both.text_to_video.recall_at_5 > 0.5
    assert both.text_to_video.recall_at_5 > one.text_to_video.recall_at_5
    assert set(both.by_modalities) == {"see", "hear+see"}
    assert sum(part.queries for part in both.by_modalities.values()) == 80
    told = both.as_json()
    assert json.loads(json.dumps(told))["text_to_video"]["recall_at_1"] == both.text_to_video.recall_at_1
    assert "best epoch" in (tmp_path / "m" / "README.md").read_text()


def test_stopped_and_resumed_the_weights_are_equal_to_the_bit(world: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop_at_two(line: object, *_: object) -> None:
        if getattr(line, "epoch", 0) == 2:
            raise Stop

    with Library.open(world) as library:
        train(_recipe(), library, tmp_path / "calm")
        with pytest.raises(Stop):
            train(_recipe(), library, tmp_path / "stopped", report=stop_at_two)
        train(_recipe(), library, tmp_path / "stopped")
        calm, stopped = (load_file(tmp_path / n / "model.safetensors") for n in ("calm", "stopped"))
        assert calm.keys() == stopped.keys()
        assert all(torch.equal(calm[key], stopped[key]) for key in calm)
        for name in ("calm", "stopped"):  # 72 clips in batches of 32, four epochs
            config = json.loads((tmp_path / name / "config.json").read_text(), parse_constant=pytest.fail)
            assert config["steps"] == 12
            assert config["log"][0]["loss"] is None
        with pytest.raises(RecipeError, match="another recipe"):
            train(_recipe(rate=1e-3), library, tmp_path / "calm")


def test_more_epochs_go_on_to_the_bits_of_one_long_run(world: Path, tmp_path: Path) -> None:
    with Library.open(world) as library:
        train(_recipe(epochs=4), library, tmp_path / "long")
        train(_recipe(epochs=2), library, tmp_path / "grown")
        epochs = []
        train(_recipe(epochs=4), library, tmp_path / "grown", report=lambda line, *_: epochs.append(line.epoch))
        assert epochs == [3, 4]
        long, grown = (load_file(tmp_path / n / "model.safetensors") for n in ("long", "grown"))
        assert all(torch.equal(long[key], grown[key]) for key in long)
        with pytest.raises(RecipeError, match=r"a run of 4 epochs, and 3 are asked for"):
            train(_recipe(epochs=3), library, tmp_path / "grown")
        train(_recipe(epochs=2, schedule="cosine"), library, tmp_path / "cosine")
        with pytest.raises(RecipeError, match="another recipe"):  # its rates depend on the last epoch
            train(_recipe(epochs=4, schedule="cosine"), library, tmp_path / "cosine")


def test_packaged_recipes_are_read_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_recipe("mmt") == read_recipe(RECIPES / "mmt.toml")
    assert "ranges/crossclr" in packaged_recipes()
    assert read_ranges(Path("ranges/crossclr")) == read_ranges(RECIPES / "ranges" / "crossclr.toml")
    with pytest.raises(RecipeError, match="did you mean mmt, which is packaged"):
        read_recipe("recipes/mmt.toml")
    with pytest.raises(RecipeError, match=r"packaged are .*crossclr, .*eao"):
        read_recipe("nothing-like-it")
    (tmp_path / "mmt").write_text('[model]\nsystem = "eao"\n')
    assert read_recipe("mmt").model == {"system": "eao"}, "a file of one's own comes first"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("train.epoch=2", "train.epoch: no setting has this name; did you mean epochs?"),
        ("trian.epochs=2", "trian: no setting has this name; did you mean train?"),
        ('data.groups=[{expert=["see"]}]', "data.groups.0.expert: no setting has this name; did you mean experts?"),
        ("pseudo.zzz=1", "pseudo.zzz: no setting has this name; there are epochs, last"),
    ],
)
def test_a_misspelt_setting_is_named_with_the_one_that_was_meant(change: str, problem: str) -> None:
    with pytest.raises(RecipeError) as error:
        read_recipe("mmt", [change])
    assert problem in str(error.value)


def test_a_misspelt_setting_of_a_model_is_named_too() -> None:
    with pytest.raises(ModelError, match="widht: no setting has this name; did you mean width"):
        SYSTEMS["mmt"].build({"experts": {"see": 4}, "widht": 3})


def test_validation_is_set_aside_and_never_shared(world: Path) -> None:
    with Library.open(world) as library:
        learn, choose = training_splits(library, "train", None, 0.1)
        assert len(choose.clips) == 8
        assert not {c.video for c in learn.clips} & {c.video for c in choose.clips}
        assert training_splits(library, "train", None, 0.1)[1].hash == choose.hash
        with pytest.raises(UsageError, match="must not be trained on"):
            training_splits(library, "train", "train", 0.1)
        with pytest.raises(UsageError, match="no caption in the split 'dev'"):
            read_split(library, "dev")


def test_the_test_split_cannot_choose(world: Path, tmp_path: Path) -> None:
    recipe = TypeAdapter(Recipe).validate_python({"model": SMALL, "data": {"validation": "test"}})
    with Library.open(world) as library, pytest.raises(UsageError, match="worthless"):
        train(recipe, library, tmp_path / "m")


def test_recipes_are_read_changed_and_checked(tmp_path: Path) -> None:
    for path in sorted(RECIPES.glob("*.toml")):
        assert read_recipe(path).model["system"] in SYSTEMS
    read = read_recipe(RECIPES / "mmt.toml", ["train.epochs=2", "model.width=64", "data.train=learn"])
    assert (read.train.epochs, read.model["width"], read.data.train) == (2, 64, "learn")
    plain = {"model": {"system": "mmt"}, "train": {"epochs": 2}}
    assert read_recipe(plain, ["train.epochs=3"]).train.epochs == 3
    assert plain["train"] == {"epochs": 2}  # the settings passed in stay as they were
    with pytest.raises(RecipeError, match=r"train\.epoch"):
        read_recipe(RECIPES / "mmt.toml", ["train.epoch=2"])
    with pytest.raises(RecipeError, match=r"section\.key=value"):
        read_recipe(RECIPES / "mmt.toml", ["epochs=2"])
    (tmp_path / "bad.toml").write_text("[model\n")
    with pytest.raises(RecipeError, match="not TOML"):
        read_recipe(tmp_path / "bad.toml")


def test_what_a_model_was_not_built_for_is_refused(world: Path) -> None:
    with Library.open(world) as library:
        with pytest.raises(UsageError, match="none of the experts"):
            evaluate(load_model("concepts"), library)
        with pytest.raises(UsageError, match="takes no expert 'see'"):
            evaluate(load_model("concepts"), library, experts=["see"])


def test_a_linear_slot_is_fitted_chosen_and_kept(world: Path, tmp_path: Path) -> None:
    model = {**SMALL, "linear": True}
    recipe = TypeAdapter(Recipe).validate_python({"model": model, "train": {"epochs": 2, "batch": 32}})
    lines = []
    with Library.open(world) as library:
        trained = train(recipe, library, tmp_path / "m", report=lambda line, *_: lines.append(line))
        measured = evaluate(load_model(tmp_path / "m"), library)
    assert [line.epoch for line in lines] == [0, 1, 2]
    assert float(trained.state_dict()["linear.share"]) in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert measured.text_to_video.recall_at_5 > 0.4
