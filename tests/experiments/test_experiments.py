"""Claims are judged by what was measured; a small experiment runs whole, resumes, and its runs can be scored again."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import UsageError
from reelseek.evaluation.compare import read_run_ranks
from reelseek.experiments import EXPERIMENTS
from reelseek.experiments import run as run_module
from reelseek.experiments.experiment import (
    Arm,
    Claim,
    Column,
    Experiment,
    Pair,
    Table,
    View,
    enlarged,
    judge,
    narrowed,
    value,
)
from reelseek.experiments.report import as_json, report_tables, write_report
from reelseek.experiments.run import home_of, recipe_of, run_experiment, source_of
from reelseek.experiments.worlds import WorldSource, cached_world, world_library
from reelseek.library import Library
from reelseek.models import SYSTEMS
from reelseek.studio.redundant_worlds import RedundantConfig, redundant_generator_hash
from reelseek.studio.worlds import WorldConfig, generator_hash

R5, RANK = Column("R@5", "recall_at_5"), Column("MnR", "mean_rank", reverse=None)


def _result(recall: float, forward: float = 1.0, back: float = 1.0) -> dict[str, object]:
    return {
        "views": {
            "all": {
                "gallery": 100,
                "text_to_video": {"recall_at_5": recall, "mean_rank": forward},
                "video_to_text": {"recall_at_5": 0.0, "mean_rank": back},
            }
        }
    }


def test_values_are_of_one_direction_or_of_both() -> None:
    result = _result(0.25, 4.0, 8.0)
    assert value(result, R5) == 0.25
    assert value(result, replace(R5, reverse=True)) == 0.0
    assert value(result, RANK) == 6.0
    two = {"views": {"a": result["views"]["all"], "b": _result(0.75)["views"]["all"]}}
    assert value(two, replace(R5, view=("a", "b"))) == 0.5
    assert value({"views": {"x": {"seconds": 2.0}}}, Column("s", "seconds", "x")) == 2.0


def test_the_interval_is_students_over_paired_seeds_shared_among_the_claims_comparisons() -> None:
    one, two = [0.50, 0.55, 0.58], [0.40, 0.42, 0.41]
    results = {"a": [_result(x) for x in one], "b": [_result(x) for x in two]}
    gain = np.array(one) - np.array(two)
    claim = Claim("", "", (Pair("a", "b", R5), Pair("a", None, R5)))
    judged = judge(claim, results)
    reach = stats.t.ppf(1 - 0.0125, 2) * gain.std(ddof=1) / np.sqrt(3)
    assert judged.rows[0][2:] == pytest.approx((gain.mean(), gain.mean() - reach, gain.mean() + reach))
    assert judged.rows[1][1] == "chance (0.05)"
    assert judged.rows[1][2] == pytest.approx(np.mean(one) - 5 / 100)


@pytest.mark.parametrize(
    ("first", "second", "helps", "verdict"),
    [
        ([0.50, 0.52, 0.51, 0.50], [0.30, 0.31, 0.29, 0.30], True, "reproduced"),
        ([0.30, 0.31, 0.29, 0.30], [0.50, 0.52, 0.51, 0.50], True, "contradicted"),
        ([0.30, 0.50, 0.40, 0.20], [0.50, 0.30, 0.20, 0.40], True, "not decidable here"),
        ([0.300, 0.301, 0.299, 0.300], [0.300, 0.299, 0.301, 0.301], False, "reproduced"),
        ([0.50, 0.52, 0.51, 0.50], [0.30, 0.31, 0.29, 0.30], False, "contradicted"),
        (
            [0.315, 0.316, 0.314, 0.316],
            [0.30, 0.30, 0.30, 0.30],
            False,
            "reproduced",
        ),  # better, by less than two points
        ([0.33, 0.31, 0.32, 0.325], [0.30, 0.30, 0.30, 0.30], False, "not decidable here"),
        ([0.30, 0.50, 0.40, 0.20], [0.50, 0.30, 0.20, 0.40], False, "not decidable here"),
    ],
)
def test_verdicts(first: list[float], second: list[float], helps: bool, verdict: str) -> None:
    results = {"a": [_result(x) for x in first], "b": [_result(x) for x in second]}
    assert judge(Claim("", "", (Pair("a", "b", R5),), helps), results).verdict == verdict


def test_lower_ranks_are_better_and_one_seed_decides_nothing() -> None:
    results = {"a": [_result(0, 3.0), _result(0, 3.1)], "b": [_result(0, 90.0), _result(0, 90.1)]}
    assert judge(Claim("", "", (Pair("a", "b", RANK),)), results).verdict == "reproduced"
    alone = {name: runs[:1] for name, runs in results.items()}
    assert judge(Claim("", "", (Pair("a", "b", RANK),)), alone).verdict == "not decidable here"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_arm_is_a_recipe_that_can_be_built(name: str) -> None:
    """At its own size, in a small world, with every claim naming arms and columns that its table has."""
    experiment = EXPERIMENTS[name]
    for table in experiment.tables:
        arms = {arm.name: arm for arm in table.arms}
        assert len(arms) == len(table.arms)
        for claim in table.claims:
            for pair in claim.pairs:
                assert pair.first in arms
                assert pair.second is None or pair.second in arms
        assert set(table.published) <= set(arms)
    worlds: dict[object, WorldSource] = {}
    for arm in enlarged(experiment).arms + experiment.arms:
        if arm.measure is not None:
            continue
        assert isinstance(arm.world, RedundantConfig)
        world = replace(arm.world, train=4, validation=3, test=3)
        source = worlds.setdefault(world, WorldSource(cached_world(world, 1)))
        recipe = recipe_of(arm, 1, 1e-3, None, source, None)
        settings = dict(recipe.model)
        system = SYSTEMS[settings.pop("system")]
        dims = {n: e["dim"] for n, e in source.experts().items() if n in (recipe.data.experts or source.experts())}
        assert system.build({"experts": dims, **settings}).experts


TINY = WorldConfig(train=40, validation=12, test=16)
SIZES = {"width": 16, "depth": 1, "heads": 2, "inner": 16, "embedding": 16}


def _tiny(epochs: int = 2, world: WorldConfig = TINY) -> Experiment:
    recipe = {"model": {"system": "late_fusion", **SIZES}, "train": {"epochs": epochs, "batch": 16}}
    views = (View(), View("seen", ("object", "scene")))
    late = Arm("late", recipe, world, views, rates=(1e-3, 1e-2))
    tuned = Arm("tuned", recipe, world, views, (1e-3,), start=late)
    columns = (R5, Column("MnR, seen", "mean_rank", "seen"), Column("validation loss", "loss", "validation"))
    claim = Claim("going on helps", "nowhere", (Pair("tuned", "late", R5),))
    return Experiment(
        "tiny", "A paper", (Table("t", "A table", (late, tuned), columns, (claim,), {"late": {"R@5": 9.5}}),)
    )


@pytest.mark.long
def test_a_small_experiment_runs_whole_goes_on_and_can_be_scored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = _tiny()
    stages: list[str] = []
    results = run_experiment(experiment, tmp_path, [1, 2], workers=2, progress=lambda *step: stages.append(step[3]))
    late, tuned = experiment.tables[0].arms
    assert len(stages) == 2 + 2 + 2
    source = source_of(None)
    folder = home_of(tmp_path, source, late)
    scores = {
        r: json.loads((folder / f"tune-{r}" / "result.json").read_text())["validation_score"] for r in ("0.001", "0.01")
    }
    assert results[late.key][0]["rate"] == float(max(scores, key=scores.get))
    assert not (folder / "tune-0.001" / "all.run").exists()  # nothing is tested in the world that rates are chosen in
    run = folder / "seed-2" / "seen.run"
    ranks = np.array(list(read_run_ranks(run).values()))
    assert ranks.mean() == pytest.approx(results[late.key][1]["views"]["seen"]["text_to_video"]["mean_rank"])
    scored = CliRunner().invoke(app, ["score", str(run), "--json"])
    assert json.loads(scored.stdout)["mean_rank"] == pytest.approx(ranks.mean())
    recipe = json.loads((home_of(tmp_path, source, tuned) / "seed-1" / "model" / "config.json").read_text())["recipe"]
    assert recipe["train"]["start"] == str(folder / "seed-1" / "model")
    with monkeypatch.context() as patch:  # what is stored starts no process
        patch.setattr(run_module, "_job", lambda *_: pytest.fail("every job is stored"))
        stages.clear()
        again = run_experiment(experiment, tmp_path, [1, 2], progress=lambda *step: stages.append(step[3]))
        assert len(stages) == 2 + 2 + 2
    assert again == results
    more = replace(late, views=(*late.views, View("heard", ("audio",))))  # another table wants more of the same arm
    assert more.key == late.key
    larger = replace(experiment, tables=(replace(experiment.tables[0], arms=(more, tuned)),))
    added = run_experiment(larger, tmp_path, [1, 2], workers=1)[late.key]
    for old, new in zip(results[late.key], added, strict=True):
        assert new["views"].keys() - old["views"].keys() == {"heard"}
        assert new["seconds"] == old["seconds"]  # nothing was trained again
        assert new["views"]["all"] == old["views"]["all"]
        assert new["evaluated"]["heard"] == {"split": "test", "experts": ["audio"]}
        assert old["evaluated"].keys() == old["views"].keys() - {"validation"}
    reports = report_tables(experiment, results, tmp_path, source, "Here")
    files = write_report(experiment, reports, results, tmp_path / "tiny")
    page = (tmp_path / "tiny.html").read_text()
    assert {file.suffix for file in files} == {".md", ".tex", ".html"}
    assert f'href="runs-{source}/{late.key}/"' in page
    assert "not comparable" in page
    assert reports[0].judged[0].verdict in page
    plain = as_json(experiment, reports, results, [1, 2], "reelseek experiment tiny")
    assert plain["tables"][0]["claims"][0]["verdict"] == reports[0].judged[0].verdict
    assert plain["generator"] == generator_hash()


def test_a_report_names_the_generator_of_its_worlds_and_leaves_names_in_reasons_as_they_are(tmp_path: Path) -> None:
    why = "EAO's own supplement does not compare them"
    arm = Arm("a", world=RedundantConfig())
    table = Table("t", "A table", (arm,), (), (Claim("It helps", "EAO, line 1", why=why),))
    paper = Experiment("paper", "A paper", (table,))
    results = {arm.key: [{"rate": 1e-3, "views": {}}]}
    reports = report_tables(paper, results, tmp_path, source_of(None), "Here")
    write_report(paper, reports, results, tmp_path / "paper")
    page = (tmp_path / "paper.md").read_text()
    assert f"{why}." in page
    assert redundant_generator_hash() in page
    assert generator_hash() not in page


@pytest.mark.long
def test_real_features_stand_for_their_modalities(tmp_path: Path) -> None:
    """Experts are taken by name, else by modality; a library that lacks one says so."""
    path = world_library(TINY, 7, tmp_path / "w")
    arm = Arm("a", {"model": {"system": "late_fusion", **SIZES}, "data": {"experts": ["appearance"]}})
    with Library.open(path) as library:
        recipe = recipe_of(arm, 1, 1e-3, None, library, None)
        assert recipe.data.experts == ("appearance",)
        assert "text" not in recipe.model  # the sentence encoder, which knows real words
        lacking = replace(arm, recipe={**arm.recipe, "data": {"experts": ["appearance", "motion"]}})
        with pytest.raises(UsageError, match="lacks motion"):
            recipe_of(lacking, 1, 1e-3, None, library, None)
    experiment = _tiny(epochs=1)
    results = run_experiment(experiment, tmp_path / "out", [3], features=path, workers=1)
    assert len(results) == 2
    assert not (tmp_path / "out" / "worlds").exists()


def test_nodes_run_as_many_jobs_together_as_the_option_says_and_inputs_are_read_when_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster whose one worker computes nothing; models of many arms do not fit into the driver's memory at once."""
    read: list[str] = []
    inputs = run_module._inputs
    monkeypatch.setattr(run_module, "_inputs", lambda job: [read.append(job[4]), inputs(job)][1])
    result = json.dumps({"views": {"all": {}, "seen": {}}, "validation_score": 1.0}).encode()

    class Nodes:
        options: ClassVar[dict[str, object]] = {}

        def device(self, name: str | None) -> str:
            return "cpu"

        @contextmanager
        def mapping(self, function: object, **options: object) -> Iterator[object]:
            self.options |= options
            yield self.run

        def run(self, items: Iterable[tuple[Any, object]]) -> Iterator[object]:
            for number, item in enumerate(items, len(read)):
                assert len(read) == number + 1
                arm, where, _, _, name = item[0]
                folder = where.home(arm).relative_to(where.out) / name
                yield item, (name, {f"{folder.as_posix()}/result.json": result})

    assert run_experiment(_tiny(), tmp_path, [1, 2], workers=1, cluster=Nodes())
    assert Nodes.options["workers"] == 1
    assert len(read) == 2 + 2 + 2


def test_what_cannot_be_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none 0"):
        run_experiment(_tiny(), tmp_path, [0, 1])
    with pytest.raises(UsageError, match="no table 'x'; it has t"):
        narrowed(_tiny(), ["x"])
    said = CliRunner().invoke(app, ["experiment", "list"])
    assert all(table.name in said.stdout for each in EXPERIMENTS.values() for table in each.tables)
