"""What a trial refuses stays refused, a record stands for its arms, and no arm hides another's rise."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import UsageError
from reelseek.experiments import claims as claims_module
from reelseek.experiments import run as run_module
from reelseek.experiments import trial as trial_module
from reelseek.experiments.claims import TEXTS, TrialOptions, try_claims
from reelseek.experiments.claims_page import WAITING, claim_rows, read_records
from reelseek.experiments.experiment import Arm, Claim, Column, Experiment, Pair, Table, View
from reelseek.experiments.run import home_of, source_of, table_identity
from reelseek.experiments.trial import PILOT_SEEDS, rise_of, try_table
from reelseek.studio.redundant_worlds import RedundantConfig, redundant_generator_hash

R5 = Column("R@5", "recall_at_5")
WORLD = RedundantConfig(train=24, validation=8, test=12)
ARMS = tuple(Arm(name, {"train": {"batch": size}}, WORLD) for name, size in (("a", 12), ("b", 8), ("c", 4)))
LARGE = Claim("a is better", "Text, line 1", (Pair("a", "b", R5, published=40.0),), quote="a beats b")
SMALL = replace(LARGE, says="a is hardly better", pairs=(Pair("a", "b", R5, published=1e-3),))


def _paper(*claims: Claim, arms: tuple[Arm, ...] = ARMS) -> Experiment:
    return Experiment("paper", "A paper", (Table("t", "A table", arms, (R5,), claims),))


class _Training:
    """Stands for training: recalls of the arms in their order, which differ a little from seed to seed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float = 1.0) -> None:
        self.seconds, self.seeds = seconds, list[tuple[int, ...]]()
        monkeypatch.setattr(trial_module, "run_experiment", self)

    def __call__(self, part: Experiment, out: Path, seeds: Any, **_: Any) -> dict[str, list[dict[str, Any]]]:
        self.seeds.append(tuple(seeds))
        return {
            arm.key: [self._result(0.1 * place + 0.01 * (seed * (place + 1) % 3)) for seed in seeds]
            for place, arm in enumerate(part.arms)
        }

    def _result(self, recall: float) -> dict[str, Any]:
        way = {"recall_at_5": recall}
        view = {"gallery": 100, "text_to_video": way, "video_to_text": way}
        return {"seconds": self.seconds, "rate": 1e-3, "views": {"all": view}}


def _log(out: Path, arm: Arm, *scores: list[float]) -> None:
    """Write the validation scores of an arm's pilot, a list for each seed."""
    for seed, values in zip(PILOT_SEEDS, scores, strict=False):
        model = home_of(out, source_of(None), arm) / f"seed-{seed}" / "model"
        model.mkdir(parents=True)
        rows = "".join(f"{epoch},{value}\n" for epoch, value in enumerate(values))
        (model / "log.csv").write_text(f"epoch,score\n{rows}")


def test_an_arm_that_still_rises_does_not_hide_behind_one_that_does_not(tmp_path: Path) -> None:
    flat, rising, untrained = ARMS
    _log(tmp_path, flat, [0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5])
    _log(tmp_path, rising, [0.2, 0.3, 0.4, 0.44], [0.2, 0.3, 0.4, 0.42])
    both, alone = rise_of([flat, rising, untrained], tmp_path), rise_of([flat, untrained], tmp_path)
    assert both is not None
    assert both.value == pytest.approx(0.03)  # the mean over seeds, of the arm that rises most
    assert not both.holds
    assert alone is not None
    assert alone.holds
    assert rise_of([untrained], tmp_path) is None


def test_a_claim_is_refused_for_a_rise_of_its_own_arms_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _Training(monkeypatch)
    other = replace(LARGE, says="c is better", pairs=(Pair("c", "b", R5, published=40.0),))
    _log(tmp_path, ARMS[0], [0.2, 0.5, 0.5, 0.5])
    _log(tmp_path, ARMS[2], [0.2, 0.3, 0.4, 0.5])
    paper = _paper(LARGE, other)
    trial = try_table(paper, paper.tables[0], tmp_path)
    assert trial.plans[0].seeds is not None
    assert "not saturated" in trial.plans[1].reason
    assert [premise.holds for premise in trial.premises] == [False]


def test_what_the_pilot_refused_stays_refused_where_the_rest_would_end_too_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = _Training(monkeypatch, seconds=1e6)
    both, alone = _paper(LARGE, SMALL), _paper(SMALL)
    trial = try_table(both, both.tables[0], tmp_path, deadline=time.monotonic() + 3600)
    assert trial.left_out
    assert [judged.claim.says for judged in trial.judged] == ["a is hardly better"]
    assert "20 seeds tell" in trial.judged[0].reason
    assert not try_table(alone, alone.tables[0], tmp_path, deadline=time.monotonic() + 3600).left_out
    assert training.seeds == [PILOT_SEEDS, PILOT_SEEDS]


def test_what_is_stored_takes_no_time_and_the_power_is_said_before_the_rest_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, paper = _Training(monkeypatch, seconds=1e6), _paper(LARGE)
    for arm, seeds in ((ARMS[0], range(1, 6)), (ARMS[1], range(1, 5))):
        for seed in seeds:
            folder = home_of(tmp_path, source_of(None), arm) / f"seed-{seed}"
            folder.mkdir(parents=True)
            (folder / "result.json").write_text("{}")
    messages: list[str] = []
    deadline = time.monotonic() + 3600
    late = try_table(paper, paper.tables[0], tmp_path, deadline=deadline, say=messages.append)
    assert late.left_out  # one run of the second arm is not stored
    assert messages[0].startswith("tried with 5 seeds: a is better: ")
    assert messages[0].endswith("points are told with a power of 80 %, and the difference to be told is 40")
    assert "about 8333 minutes" in messages[1]  # 1e6 seconds, on two processes
    (folder.with_name("seed-5")).mkdir()
    (folder.with_name("seed-5") / "result.json").write_text("{}")
    assert not try_table(paper, paper.tables[0], tmp_path, deadline=deadline).left_out
    assert training.seeds[-1] == (1, 2, 3, 4, 5)


def _claims_of(monkeypatch: pytest.MonkeyPatch, paper: Experiment) -> None:
    monkeypatch.setattr(claims_module, "TEXTS", (paper,))
    monkeypatch.setattr(claims_module, "_CHEAPEST", ("paper/t",))


def test_a_refusal_of_the_pilot_is_recorded_and_outlives_a_trial_that_does_not_come_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Training(monkeypatch, seconds=1e6)
    rising = replace(LARGE, says="c is better", pairs=(Pair("c", "b", R5, published=40.0),))
    _claims_of(monkeypatch, _paper(LARGE, rising))
    _log(tmp_path / "out", ARMS[2], [0.2, 0.3, 0.4, 0.5])
    page = tmp_path / "claims.md"
    for hours in (1.0, 0.0):  # the second ends before the pilot, which alone told the rise
        outcome = try_claims(TrialOptions(hours=hours), tmp_path / "out", page)
        assert [row.verdict for row in outcome.claims] == [WAITING, "not decidable here"], hours
        assert "not saturated" in outcome.claims[1].reason
        assert outcome.left_out == ["paper/t"]
    record = json.loads((tmp_path / "claims" / "paper-t.json").read_text())
    assert [claim["says"] for claim in record["claims"]] == ["c is better"]


@pytest.mark.parametrize("change", ["recipe", "world", "views", "pair", "common"])
def test_a_record_of_other_arms_or_settings_is_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    _Training(monkeypatch)
    paper = _paper(LARGE)
    _claims_of(monkeypatch, paper)
    messages: list[str] = []
    try_claims(TrialOptions(), tmp_path / "out", tmp_path / "claims.md", say=messages.append)
    generator = redundant_generator_hash()
    assert len(read_records(tmp_path / "claims", generator, (paper,))[0]) == 1
    if change == "recipe":
        paper = _paper(LARGE, arms=(replace(ARMS[0], recipe={"train": {"batch": 16}}), *ARMS[1:]))
    elif change == "world":
        paper = _paper(LARGE, arms=tuple(replace(arm, world=replace(WORLD, noise=1.0)) for arm in ARMS))
    elif change == "views":
        paper = _paper(LARGE, arms=tuple(replace(arm, views=(View(experts=("audio",)),)) for arm in ARMS))
    elif change == "pair":
        paper = _paper(replace(LARGE, pairs=(Pair("a", "c", R5, published=40.0),)))
    else:
        monkeypatch.setitem(run_module.COMMON["train"], "batch", 32)
    records, others = read_records(tmp_path / "claims", generator, (paper,))
    assert (records, others) == ({}, 1)
    _claims_of(monkeypatch, paper)
    late = try_claims(TrialOptions(hours=0.0), tmp_path / "out", tmp_path / "claims.md", say=messages.append)
    assert [row.verdict for row in late.claims] == [WAITING]


def test_every_record_of_the_page_stands_for_a_table_as_it_is_now() -> None:
    tables = {(paper.name, table.name): table for paper in TEXTS for table in paper.tables}
    records, others = read_records(Path("docs/claims"), redundant_generator_hash(), TEXTS)
    assert not others
    assert all(record["identity"] == table_identity(tables[key]) for key, record in records.items())
    decided = {row.verdict for row in claim_rows(TEXTS, records)}
    assert "reproduced" in decided


def test_a_view_that_was_changed_is_evaluated_again(tmp_path: Path) -> None:
    """A stored result says what its views read; a view of the same name and other experts is not taken for it."""
    where = run_module._Where(tmp_path, None, source_of(None))
    arm = replace(ARMS[0], views=(View(experts=("audio",)),))
    folder = where.home(arm) / "seed-1"
    folder.mkdir(parents=True)
    stored = {"arm": "a", "views": {"all": {}}, "evaluated": {"all": {"split": "test", "experts": ["audio"]}}}
    (folder / "result.json").write_text(json.dumps(stored))
    assert run_module._is_stored((arm, where, 1, 1e-3, "seed-1"))
    for view in (View(), View(experts=("audio",), split="val"), View("more")):
        assert not run_module._is_stored((replace(arm, views=(view,)), where, 1, 1e-3, "seed-1"))


def test_two_views_of_one_name_are_refused() -> None:
    table = Table("t", "A table", (replace(ARMS[0], views=(View(), View(split="val"))),), (R5,), ())
    with pytest.raises(ValueError, match="two different views of one name"):
        _ = Experiment("paper", "A paper", (table,)).arms


def test_a_quick_trial_refuses_what_it_would_leave_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_module, "try_table", lambda *_, **__: pytest.fail("a table was tried"))
    page = tmp_path / "claims.md"
    with pytest.raises(UsageError, match=r"one table, and 2 are named: mmv/graphs, umi/systems"):
        try_claims(TrialOptions(tables=["mmv/graphs", "umi/systems"], quick=True), tmp_path, page)
    with pytest.raises(UsageError, match="8 seeds at most, and 9 are named"):
        try_claims(TrialOptions(seeds=range(1, 10), quick=True), tmp_path, page)
    refused = CliRunner().invoke(
        app, ["experiment", "claims", "--quick", "--tables", "mmv/graphs,umi/systems", "--out", str(tmp_path)]
    )
    assert refused.exit_code != 0
    assert not list(tmp_path.iterdir())
