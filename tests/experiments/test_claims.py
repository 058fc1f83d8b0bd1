"""Claims are tried fairly: premises and power come first, four verdicts, and a page that says what waits."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
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
from reelseek.experiments.claims import TEXTS, TrialOptions, ordered_tables, try_claims
from reelseek.experiments.claims_page import WAITING, _at_border, claim_rows, claims_page
from reelseek.experiments.experiment import Arm, Claim, Column, Experiment, Pair, Table, judge
from reelseek.experiments.power import smallest_effect
from reelseek.experiments.premises import CheckedPremise, Premise
from reelseek.experiments.trial import plan_claim, try_table
from reelseek.studio.redundant_worlds import RedundantConfig, redundant_generator_hash

R5 = Column("R@5", "recall_at_5")
RANK = Column("MnR", "mean_rank")


def _result(recall: float, rank: float = 1.0, gallery: int = 100) -> dict[str, Any]:
    way = {"recall_at_5": recall, "mean_rank": rank}
    return {
        "seconds": 1.0,
        "rate": 1e-3,
        "views": {"all": {"gallery": gallery, "text_to_video": way, "video_to_text": way}},
    }


def _runs(*recalls: float) -> list[dict[str, Any]]:
    return [_result(recall) for recall in recalls]


def _claim(**change: Any) -> Claim:
    return Claim(
        "a is better", "Text, line 1", (Pair("a", "b", R5, published=5.0),), **{"quote": "a beats b", **change}
    )


def test_a_claim_gets_as_many_seeds_as_its_difference_needs() -> None:
    pilot = {"a": _runs(0.50, 0.52, 0.49, 0.53), "b": _runs(0.50, 0.50, 0.50, 0.50)}
    plan = plan_claim(_claim(), pilot, (5, 8, 12, 15, 20))
    deviation = plan.pairs[0].deviation
    assert plan.pairs[0].effect == 0.05
    assert plan.seeds is not None
    assert plan.pairs[0].detectable == pytest.approx(smallest_effect(deviation, plan.seeds))
    assert plan.pairs[0].detectable <= 0.05
    assert plan.pairs[0].power >= 0.8


def test_too_few_seeds_and_no_difference_are_refused_with_the_power() -> None:
    pilot = {"a": _runs(0.50, 0.60, 0.40, 0.70), "b": _runs(0.50, 0.50, 0.50, 0.50)}
    plan = plan_claim(_claim(), pilot, (5,))
    assert plan.seeds is None
    assert "5 seeds tell" in plan.reason
    assert "the text's difference is 5" in plan.reason
    assert "power" in plan.reason
    nothing = replace(_claim(), pairs=(Pair("a", "b", R5, published=0.0),))
    assert plan_claim(nothing, {"a": _runs(0.5, 0.5, 0.5, 0.5), "b": _runs(0.4, 0.4, 0.4, 0.4)}, (5,)).seeds is None


def test_a_claim_of_no_help_has_to_tell_its_margin_and_one_without_figures_eight_points() -> None:
    assert replace(_claim(), helps=False, margin=0.03).effects == (0.03,)
    assert replace(_claim(), pairs=(Pair("a", "b", R5),)).effects == (0.08,)


def test_arms_that_still_rise_decide_nothing() -> None:
    pilot = {"a": _runs(0.50, 0.52, 0.49, 0.53), "b": _runs(0.50, 0.50, 0.50, 0.50)}
    rise = CheckedPremise("rise", 0.05, -1.0, 0.02)
    plan = plan_claim(_claim(), pilot, (20,), rise)
    assert plan.seeds is None
    assert "not saturated" in plan.reason


def test_mean_ranks_are_compared_as_shares_of_the_gallery() -> None:
    claim = replace(_claim(), pairs=(Pair("a", "b", RANK, published=1.0),))
    results = {
        "a": [_result(0, 10.0, 200), _result(0, 11.0, 200), _result(0, 10.5, 200)],
        "b": [_result(0, 14.0, 200), _result(0, 15.2, 200), _result(0, 14.4, 200)],
    }
    judged = judge(claim, results)
    assert judged.rows[0][2] == pytest.approx((4.0 + 4.2 + 3.9) / 3 / 200)
    assert judged.verdict == "reproduced"
    assert judged.detectable[0] > 0


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "reproduced"),
        ({"pairs": (Pair("b", "a", R5),)}, "contradicted"),
        ({"pairs": (Pair("a", "c", R5),)}, "not decidable here"),
        ({"quote": "", "why": "nobody says so"}, "not claimed by the text"),
        ({"why": "the text's figures say the opposite"}, "not decidable here"),
    ],
)
def test_four_verdicts(change: dict[str, Any], verdict: str) -> None:
    results = {"a": _runs(0.6, 0.61, 0.6), "b": _runs(0.3, 0.3, 0.31), "c": _runs(0.5, 0.7, 0.6)}
    judged = judge(replace(_claim(), **change), results)
    assert judged.verdict == verdict
    assert bool(judged.reason) == (verdict not in ("reproduced", "contradicted"))


@contextmanager
def _in_this_process(*_: object) -> Iterator[Any]:
    yield lambda jobs: [run_module._job(*job) for job in jobs]


TINY = RedundantConfig(train=24, validation=8, test=12)
SIZES = {"width": 8, "depth": 1, "heads": 2, "inner": 8, "embedding": 8}


def _table(*claims: Claim) -> tuple[Experiment, Table]:
    recipe = {"model": {"system": "late_fusion", **SIZES}, "data": {"experts": ["appearance"]},
              "train": {"epochs": 1, "batch": 12}}  # fmt: skip
    arms = tuple(Arm(name, {**recipe, "train": {**recipe["train"], "batch": size}}, TINY, rates=(1e-3,))
                 for name, size in (("a", 12), ("b", 8)))  # fmt: skip
    table = Table("t", "A table", arms, (R5,), claims)
    return Experiment("paper", "A paper", (table,)), table


def test_what_cannot_be_decided_is_never_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_module, "run_experiment", lambda *_, **__: pytest.fail("something was trained"))
    fails = Premise("share that is pruned", lambda world: 1.0, 0.0, 0.5)
    told: list[str] = []
    trial = try_table(
        *_table(_claim(premises=(fails,)), _claim(quote="", why="nobody says so")), tmp_path, say=told.append
    )
    assert not trial.left_out
    assert [judged.verdict for judged in trial.judged] == ["not decidable here", "not claimed by the text"]
    assert "share that is pruned is 1, wanted 0 to 0.5" in trial.judged[0].reason
    assert len(told) == 2
    assert not trial.premises[0].holds


def test_a_table_is_tried_recorded_and_written_and_the_rest_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real training of two tiny arms: the pilot, then the seeds, once."""
    monkeypatch.setattr(trial_module, "PILOT_SEEDS", (101, 102))
    monkeypatch.setattr(run_module, "_runner", _in_this_process)
    large = replace(
        _claim(), pairs=(Pair("a", "b", R5, published=400.0),), premises=(Premise("one", lambda _: 1.0, 0),)
    )
    experiment, table = _table(large)
    other = Experiment("other", "Another", (replace(table, name="u", claims=(replace(large, says="c waits"),)),))
    monkeypatch.setattr(claims_module, "TEXTS", (experiment, other))
    monkeypatch.setattr(claims_module, "_CHEAPEST", ("paper/t", "other/u"))
    page = tmp_path / "docs" / "claims.md"
    options = TrialOptions(tables=["paper/t"], seeds=(4, 2, 3))
    outcome = try_claims(options, tmp_path / "out", page, workers=1)
    trained = sorted(path.parent.name for path in (tmp_path / "out").rglob("result.json"))
    assert trained == sorted([f"seed-{seed}" for seed in (101, 102, 2, 3, 4)] * 2)
    assert [row.verdict for row in outcome.claims][1] == WAITING
    assert outcome.claims[0].verdict in ("reproduced", "contradicted", "not decidable here")
    record = json.loads((page.with_suffix("") / "paper-t.json").read_text())
    assert record["generator"] == redundant_generator_hash()
    assert record["claims"][0]["seeds"] == 3
    assert record["claims"][0]["comparisons"][0]["pilot"]["effect"] == 4.0
    text = page.read_text()
    assert f"1 {WAITING}" in text
    assert '"a beats b"' in text
    assert "| one | 1 | at least 0 | holds |" in text
    with monkeypatch.context() as patch:  # again: nothing is trained
        patch.setattr(run_module, "_job", lambda *_: pytest.fail("every job is stored"))
        patch.setattr(claims_module, "_machine", lambda: "a machine that trained nothing")
        try_claims(options, tmp_path / "out", page, workers=1)
    assert page.read_text() == text
    record["claims"][0]["comparisons"][0]["pilot"]["deviation"] = 0.05  # two tiny arms may be the same to all digits
    (page.with_suffix("") / "paper-t.json").write_text(json.dumps(record))
    small = replace(large, pairs=(Pair("a", "b", R5, published=1e-3),))
    with monkeypatch.context() as patch:  # what the recorded pilot cannot decide is refused before any training
        patch.setattr(claims_module, "TEXTS", (_table(small)[0], other))
        patch.setattr(trial_module, "run_experiment", lambda *_, **__: pytest.fail("something was trained"))
        told: list[str] = []
        try_claims(options, tmp_path / "new", page, say=told.append)
        assert any("3 seeds tell" in line for line in told)
        assert any("what an earlier trial recorded stays" in line for line in told)
    late = try_claims(replace(options, hours=0.0), tmp_path / "out", page, workers=1)
    assert late.left_out == ["paper/t"]
    assert "| one | 1 | at least 0 | holds |" in page.read_text()  # what was recorded stays
    assert "Mean ± standard deviation" in page.read_text()
    (page.with_suffix("") / "paper-t.json").write_text(json.dumps({**record, "generator": "another"}))
    again = try_claims(replace(options, hours=0.0), tmp_path / "out", page, workers=1, say=told.append)
    assert again.claims[0].verdict == WAITING
    assert "| one | 1 | at least 0 | holds |" in page.read_text()  # premises are measured without training
    (page.with_suffix("") / "paper-u.json").write_text(json.dumps({**record, "generator": "another"}))
    try_claims(replace(options, hours=0.0), tmp_path / "out", page, workers=1, say=told.append)
    assert any("1 records of other generators" in line for line in told)


def test_every_claim_is_quoted_or_says_why_it_is_not_tried() -> None:
    for experiment in TEXTS:
        for table in experiment.tables:
            for claim in table.claims:
                assert claim.quote or claim.why, claim.says
                assert claim.pairs or claim.why, claim.says
                assert claim.why or "line" in claim.source, claim.source
    assert len(ordered_tables()) == sum(len(paper.tables) for paper in TEXTS)


def test_without_records_every_claim_waits_or_is_not_claimed() -> None:
    rows = claim_rows(TEXTS, {})
    waiting = [row for row in rows if row.verdict == WAITING]
    assert all(row.claim.why == "" for row in waiting)
    page = claims_page(TEXTS, {}, "abc", "reelseek experiment claims")
    assert f"{len(rows)} claims: 0 reproduced, 0 contradicted" in page
    assert f"{len(waiting)} {WAITING}" in page
    assert "Fed together they are better than trained apart" in page.split("## Not claimed by the text")[1]


def test_the_command_refuses_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"2 seeds decide no claim: .* 1\d standard deviations"):
        try_claims(TrialOptions(seeds=(1, 2)), tmp_path, tmp_path / "claims.md")
    with pytest.raises(UsageError, match="are the pilot's"):
        try_claims(TrialOptions(seeds=(1, 2, 101)), tmp_path, tmp_path / "claims.md")
    with pytest.raises(UsageError, match="one seed decides no claim"):
        try_claims(TrialOptions(seeds=(1,)), tmp_path, tmp_path / "claims.md")
    with pytest.raises(UsageError, match="no table 'x'; there are mmv/deflation"):
        try_claims(TrialOptions(tables=["x"]), tmp_path, tmp_path / "claims.md")
    runner = CliRunner()
    refused = runner.invoke(app, ["experiment", "claims", "--seeds", "1", "--out", str(tmp_path)])
    assert refused.exit_code != 0
    assert not list(tmp_path.iterdir())


def test_arms_that_selected_the_largest_or_the_smallest_rate_are_named() -> None:
    arms = (*(Arm(name, rates=(1e-4, 1e-3, 1e-2)) for name in "abcd"), Arm("e", rates=(1e-2,)))
    rates = {"a": 1e-2, "b": 1e-3, "c": 1e-4, "d": 1e-2, "e": 1e-2}
    record = {"arms": [{"name": name, "rate": rate} for name, rate in rates.items()]}
    (line, _) = _at_border(Table("t", "title", arms, (), ()), record)
    assert line.startswith("The largest rate that was tried was selected for a, d: ")
    assert "The smallest rate that was tried was selected for c: " in line
    record["arms"] = record["arms"][1:2]
    assert _at_border(Table("t", "title", arms, (), ()), record) == []
