"""Published tables on somebody's features: what is missing, what is trained, and what stands beside the print."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from reelseek.cli.main import app
from reelseek.errors import UsageError
from reelseek.experiments.reproduction import run
from reelseek.experiments.reproduction.plan import Substitutes, plan_table
from reelseek.experiments.reproduction.tables import find_table, published_tables
from reelseek.experts.expert import Track
from reelseek.library import Library
from reelseek.library.imports import fingerprint_of
from reelseek.library.records import Caption
from reelseek.models import SYSTEMS
from reelseek.training import Recipe
from reelseek.training.recipe import packaged_recipes

EXPERTS = {"appearance": "appearance", "object": "object", "scene": "scene", "face": "face", "audio": "audio",
           "speech": "speech", "ocr": "ocr", "flow": "motion"}  # fmt: skip
SPLITS = {"train": 110, "val": 10, "test": 60}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips whose features tell the only word of their caption that differs."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("features") / "library"
    with Library.open(path, create=True) as opened, opened.writing(), opened.saving(), opened.catalog.transaction():
        for split, count in SPLITS.items():
            names = [f"{split}{number}" for number in range(count)]
            for name in names:
                opened.catalog.videos.add(name)
                for expert, modality in EXPERTS.items():
                    values = rng.normal(size=(2, 6)).astype(np.float32)
                    track = Track(values, np.array([[0, 1], [1, 2]], float))
                    opened.put_track(f"id:{name}", expert, fingerprint_of(expert, modality, None, 6), modality, track)
            opened.catalog.captions.add([Caption(name, f"the clip called {name}", 0.0, 2.0) for name in names])
            opened.put_split(split, names)
    return path


OPTIONS = Substitutes(
    "train", "val", "test",
    {"rgb": "appearance", "video": "appearance", "action": "flow", "howto100m": "face"},
    ("model.text.encoder=sentence", "model.text.trained=false"), start="some.model",
)  # fmt: skip


def test_every_trained_row_of_every_table_is_a_recipe_and_a_model(library: Path) -> None:
    recipes = set(packaged_recipes())
    models: dict[str, Any] = {}
    with Library.open(library) as opened:
        for table in published_tables().values():
            options = OPTIONS
            if table.name == "mdmmt-3":  # each row has an expert of its own
                names = {name: "flow" for row in table.rows for name in row.experts or ()}
                options = Substitutes("train", "val", "test", names, OPTIONS.changes)
            plan = plan_table(table, opened, options)
            assert not plan.missing, table.name
            for row in plan.rows:
                assert row.row.recipe is None or row.row.recipe in recipes
                assert row.row.start is None or row.row.start in recipes
                assert row.recipe is not None
                assert set(row.recipe.data.experts or ()) <= set(EXPERTS)
                assert row.recipe.data.train == "train"
                assert {test.split for test in row.tests.values()} == {"test"}
                settings = {**row.recipe.model, "experts": dict.fromkeys(row.recipe.data.experts or (), 40)}
                models[json.dumps(settings, sort_keys=True)] = settings
    with torch.device("meta"):
        for settings in models.values():
            system = settings.pop("system")
            SYSTEMS[system].build({**settings, "text": {"encoder": "features", "dim": 300}})


def test_printed_numbers_are_the_printed_ones() -> None:
    rows = {(table, row.name): row for table, entry in published_tables().items() for row in entry.rows}
    assert rows["umi-3", "late fusion"].published[0] == 72.3
    assert rows["umi-4", "UMI (its reproduction)"].published == (79.9, 74.3, 72.9, 86.9, 90.9, 73.2, 89.4, 88.5)
    assert rows["mdmmt-6", "M_c ALVYMTS"].published == (34.5, 32.4, 27.4)
    assert rows["mdmmt-6", "M_c ALVYMTS"].spread == (0.1, 0.5, 0.6)
    assert rows["mdmmt-3", "ipCSN152, Sports1M -> K400"].published == (7.8, 24.2, 35.2, 129.9, 23.0)
    assert rows["crossclr-3", "action | appearance | howto100m"].published[0] == 13.4
    assert rows["eao-5", "disentangled"].published[2] == 17.9


def test_clusters_of_an_expert_are_those_of_what_stands_in_for_it(library: Path) -> None:
    experts = {**OPTIONS.experts, "audio": "speech", "speech": "audio", "motion": "flow"}
    options = Substitutes("train", "val", "test", experts, OPTIONS.changes)
    with Library.open(library) as opened:
        plan = plan_table(find_table("mdmmt-7-full"), opened, options, ["CE"])
    recipe = plan.rows[0].recipe
    assert recipe is not None
    assert recipe.model["vlad"] == {"ocr": 43, "speech": 8, "audio": 19}


def _reproduce(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


def test_what_is_missing_is_named_before_training(library: Path, tmp_path: Path) -> None:
    result = _reproduce("mdmmt-6", "--features", library, "--out", tmp_path / "out")
    assert result.exit_code == 1
    said = " ".join(result.stderr.split())
    assert "missing: the split msrvtt/full-clean/train (import it: reelseek data import msrvtt" in said
    assert "missing: the text encoder bert-base-cased: reelseek models pull bert-base-cased" in said
    assert "0 of 6 rows of mdmmt-6 lack nothing" in said
    result = _reproduce("mdmmt-3", "--features", library, "--train", "train", "--test", "test", "--validation", "val")
    assert "missing: the expert slowfast: reelseek features import" in " ".join(result.stderr.split())
    result = _reproduce("umi-3", "--features", library, "--train", "nothing")
    assert isinstance(result.exception, UsageError)
    assert "the library has no such split; it has test, train, val" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_too_few_clips_are_refused_before_training(library: Path) -> None:
    with Library.open(library) as opened:
        options = Substitutes("val", "train", "test", OPTIONS.experts, OPTIONS.changes)
        with pytest.raises(UsageError, match="cannot be learnt from the 10 captioned clips of 'val'"):
            plan_table(find_table("umi-3"), opened, options)
        options = Substitutes("train", "test", "val", OPTIONS.experts, OPTIONS.changes)
        with pytest.raises(UsageError, match="ranks 765 clips; 'val' has 10"):
            plan_table(find_table("umi-3"), opened, options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["RGB=flow"], "--expert RGB: crossclr-3 reads no such expert; it reads"),
        (["action=flow,scene"], "--expert 'scene': wanted PUBLISHED=OURS"),
        (["action=flow", "action=rgb"], "--expert: action is said to be flow and rgb"),
        (["scene=scene, action=none"], "--expert action=none: the library has no such expert; it has"),
    ],
)
def test_a_stand_in_that_changes_nothing_is_refused(given: list[str], message: str, library: Path) -> None:
    options = [word for pair in given for word in ("--expert", pair)]
    splits = ("--train", "train", "--validation", "val", "--test", "test")
    result = _reproduce("crossclr-3", "--features", library, *splits, *options)
    assert result.exit_code != 0
    assert message in str(result.exception)


def test_a_table_is_trained_printed_and_gone_on_with(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command: list[Any] = ["crossclr-3", "--features", library, "--out", tmp_path, "--train", "train", "--test", "test",
                          "--validation", "val", "--row", "scene", "--expert", "action=flow", "--seeds", "1,2",
                          "--device", "cpu"]  # fmt: skip
    for change in ("train.epochs=1", "model.width=8", "model.heads=2", "model.global_heads=2", "model.inner=8",
                   "model.text.encoder=sentence", "model.local.queue=0"):  # fmt: skip
        command += ["--set", change]
    first = _reproduce(*command, "--json")
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    rows = {row["row"]: row["columns"] for row in report["rows"]}
    assert rows["scene"]["t2v R@5"]["published"] == 18.2
    assert len(rows["scene"]["t2v R@5"]["here"]) == 2
    assert rows["chance"]["t2v R@10"]["here"] == [pytest.approx(100 * 10 / 60)]
    assert rows["object"]["t2v R@5"]["here"] == []
    assert not report["comparable"]
    assert "the gallery of test has 60 clips, the paper's 1000" in report["differences"]
    assert "recipes are changed by --set train.epochs=1" in report["differences"]
    assert "scene: about" in first.stderr

    monkeypatch.setattr(run, "train", lambda *_, **__: pytest.fail("trained again"))
    again = _reproduce(*command)
    assert again.exit_code == 0, again.output
    assert "18.2" in again.stdout
    assert "Not comparable with the paper" in " ".join(again.stdout.split())
    markdown = (tmp_path / "crossclr-3" / "table.md").read_text("utf-8")
    assert "| scene | here |" in markdown
    other = _reproduce(*command, "--set", "train.rate=0.1")
    assert isinstance(other.exception, UsageError)
    assert "holds a result of other data or settings" in str(other.exception)


def test_a_model_that_rows_start_from_is_trained_on_the_library_at_hand(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second library, with the results of the first removed, does not start from what the first one trained."""
    other = tmp_path / "other"
    shutil.copytree(library, other)
    with Library.open(other) as opened, opened.writing(), opened.catalog.transaction():
        opened.catalog.captions.add([Caption("train0", "said once more", 0.0, 2.0)])
    trained: list[Path] = []

    def train(recipe: Recipe, source: Library, folder: Path, **_: Any) -> None:
        assert recipe.train.start is None or (Path(recipe.train.start) / "library").read_text() == str(source.path)
        trained.append(folder)
        folder.mkdir(parents=True)
        (folder / "config.json").touch()
        (folder / "library").write_text(str(source.path))

    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(run, "_measure", lambda *_: run.Result({}, {}, {}))
    options = Substitutes("train", "val", "test", OPTIONS.experts, OPTIONS.changes)
    for path in (library, other, other):
        with Library.open(path) as opened:
            plan = plan_table(find_table("eao-1"), opened, options, ["R152 + RX101, word2vec, fine-tuned on YouCook2"])
            run.train_table(plan, opened, tmp_path / "out", [1])
        shutil.rmtree(run._folder(tmp_path / "out", plan, plan.rows[0], 1))
    assert [folder.parent.name.startswith("start-") for folder in trained] == [True, False, True, False, False]
    assert trained[0] != trained[2]


def test_nothing_printed_is_nan_and_no_number() -> None:
    row = next(row for row in find_table("mdmmt-7-full").rows if row.name == "VSE")
    assert math.isnan(row.number(3))
    assert math.isnan(row.deviation(0))
