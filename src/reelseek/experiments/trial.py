"""A fair trial of claims: premises first, then a pilot and what it says of power, then only what can be decided.

OUT/runs-SOURCE/ARM/seed-101..104/  the pilot, whose differences enter no verdict
OUT/runs-SOURCE/ARM/seed-1..20/     as many as the pilot says that the claims need
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelseek.cluster import Cluster
from reelseek.errors import UsageError
from reelseek.experiments.experiment import (
    Arm,
    Claim,
    Experiment,
    Judged,
    Result,
    Table,
    differences,
    judge,
    value,
)
from reelseek.experiments.power import deviation_of, power_of, seeds_needed, smallest_effect
from reelseek.experiments.premises import CheckedPremise, check
from reelseek.experiments.run import home_of, run_experiment, source_of, table_identity
from reelseek.experiments.worlds import cached_world
from reelseek.studio.redundant_worlds import RedundantConfig
from reelseek.training.log import read_log

__all__ = [
    "PILOT_SEEDS",
    "SEED_CHOICES",
    "ClaimPlan",
    "PairPlan",
    "Trial",
    "as_plain",
    "check_premises",
    "plan_claim",
    "require_enough_seeds",
    "rise_of",
    "try_table",
]

PILOT_SEEDS = (101, 102, 103, 104)
SEED_CHOICES = (5, 8, 12, 15, 20)
MOST_RISE = 0.02
Say = Callable[[str], None]
Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class PairPlan:
    """What the pilot says of one comparison.

    Attributes:
        deviation: standard deviation of the difference of one seed.
        effect: the difference that has to be told, a fraction.
        detectable: the smallest difference that the planned seeds tell with a power of 80 %.
        power: the chance that the planned seeds tell `effect`.
    """

    deviation: float
    effect: float
    detectable: float
    power: float


@dataclass(frozen=True)
class ClaimPlan:
    """Whether a claim is tried, and with how many seeds.

    Power is that of one comparison. A claim of k comparisons holds only if all of them do: where each is told with a
    power of 80 %, all are told together with one of at most 80 % and at least 100 - 20 k %.

    Attributes:
        seeds: with which every comparison has a power of 80 % or more; None if it is not tried, and `reason` says why.
        pairs: of each comparison.
    """

    claim: Claim
    seeds: int | None
    pairs: tuple[PairPlan, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Trial:
    """A table that was tried.

    Attributes:
        judged: every claim of the table, in its order; of one that was left out those alone that were refused.
        plans: of the same claims.
        results: of the arms that were trained, by name, in the order of the seeds of the verdicts.
        left_out: the claims that were not refused would have ended after the deadline.
    """

    experiment: Experiment
    table: Table
    premises: tuple[CheckedPremise, ...]
    plans: tuple[ClaimPlan, ...]
    judged: tuple[Judged, ...]
    results: Mapping[str, Sequence[Result]]
    left_out: bool = False


def try_table(
    experiment: Experiment,
    table: Table,
    out: Path,
    *,
    choices: Sequence[int] = SEED_CHOICES,
    seeds: Sequence[int] = range(1, max(SEED_CHOICES) + 1),
    earlier: Mapping[str, Sequence[float]] | None = None,
    workers: int | None = None,
    device: str | torch.device | None = None,
    cluster: Cluster | None = None,
    progress: Progress = lambda *_: None,
    say: Say = lambda _: None,
    deadline: float = float("inf"),
) -> Trial:
    """Try the claims of one table, or of one that would pass the deadline its premises alone.

    Args:
        choices: numbers of seeds to choose from; the smallest that tells the published difference is taken.
        seeds: as many of them as are needed are run, in this order.
        earlier: standard deviations that an earlier pilot found, by what a claim says; what they cannot decide is
            refused before any training.
        say: called with what is not tried and why, and with what the seeds of the rest tell, before these are trained.
        deadline: in seconds of `time.monotonic`.
    """

    def run(claims: Sequence[Claim], seeds: Sequence[int]) -> dict[str, Sequence[Result]]:
        arms = _arms_of(table, claims)
        part = replace(experiment, tables=(replace(table, arms=arms, claims=tuple(claims)),))
        results = run_experiment(part, out, seeds, workers=workers, device=device, cluster=cluster, progress=progress)
        return {arm.name: results[arm.key] for arm in arms}

    premises = check_premises(table)
    plans = [_before_pilot(claim, premises, (earlier or {}).get(claim.says, ()), choices) for claim in table.claims]
    for plan in plans:
        if plan.reason:
            say(f"not tried: {plan.claim.says}: {plan.reason}")
    tried = [plan.claim for plan in plans if not plan.reason]

    def without_training() -> Trial:
        refused = tuple(plan for plan in plans if plan.reason)
        judged = tuple(_judged(plan, {}) for plan in refused)
        return Trial(experiment, table, tuple(premises), refused, judged, {}, left_out=len(refused) < len(plans))

    if not tried or time.monotonic() >= deadline:
        return without_training()
    pilot = run(tried, PILOT_SEEDS)
    rise = rise_of(_arms_of(table, tried), out)
    premises = [*premises, *([rise] if rise is not None else [])]
    plans = [plan if plan.reason else _plan_by_pilot(table, plan.claim, pilot, choices, out, say) for plan in plans]
    planned = [plan for plan in plans if plan.seeds]
    seconds = _seconds_left(table, pilot, planned, seeds, out) / (workers or 2)
    say(f"{experiment.name}/{table.name}: about {seconds / 60:.0f} minutes of training are left")
    if time.monotonic() + seconds > deadline:
        return without_training()
    results: dict[str, Sequence[Result]] = {}
    for count in sorted({plan.seeds or 0 for plan in planned}, reverse=True):
        results = {**run([plan.claim for plan in planned if plan.seeds == count], seeds[:count]), **results}
    judged = tuple(_judged(plan, results) for plan in plans)
    return Trial(experiment, table, tuple(premises), tuple(plans), judged, results)


def check_premises(table: Table) -> list[CheckedPremise]:
    """Measure the premises of a table and of its claims in the world of the first pilot seed."""
    premises = {p.says: p for p in (*table.premises, *(p for claim in table.claims for p in claim.premises))}
    worlds = [arm.world for arm in table.arms if isinstance(arm.world, RedundantConfig)]
    if not premises or not worlds:
        return []
    return check(list(premises.values()), cached_world(worlds[0], PILOT_SEEDS[0]))


def _before_pilot(
    claim: Claim, premises: Sequence[CheckedPremise], deviations: Sequence[float], choices: Sequence[int]
) -> ClaimPlan:
    """Refuse what needs no training to be refused."""
    if claim.why:
        return ClaimPlan(claim, None, reason=claim.why)
    needed = {premise.says for premise in claim.premises}
    failed = [premise for premise in premises if premise.says in needed and not premise.holds]
    if failed:
        reasons = [f"a premise fails: {p.says} is {p.value:.3g}, wanted {p.bounds}" for p in failed]
        return ClaimPlan(claim, None, reason="; ".join(reasons))
    if len(deviations) == len(claim.pairs):
        plan = _plan(claim, deviations, choices)
        return plan if plan.reason else ClaimPlan(claim, None)
    return ClaimPlan(claim, None)


def _plan_by_pilot(
    table: Table, claim: Claim, pilot: Mapping[str, Sequence[Result]], choices: Sequence[int], out: Path, say: Say
) -> ClaimPlan:
    """Plan a claim by the pilot of its arms, and say what comes of it."""
    plan = plan_claim(claim, pilot, choices, rise_of(_arms_of(table, [claim]), out))
    if plan.reason:
        say(f"not tried further: {claim.says}: {plan.reason}")
    else:
        say(f"tried with {plan.seeds} seeds: {claim.says}: {_power_in_words(plan)}")
    return plan


def plan_claim(
    claim: Claim, pilot: Mapping[str, Sequence[Result]], choices: Sequence[int], rise: CheckedPremise | None = None
) -> ClaimPlan:
    """Choose how many seeds a claim needs by the pilot's standard deviations; none if no choice is enough.

    Args:
        pilot: results by the name of the arm.
        rise: of the validation score at the end of training, see `rise_of`.
    """
    plan = _plan(claim, [deviation_of(differences(pair, pilot)[0].tolist()) for pair in claim.pairs], choices)
    if rise is not None and not rise.holds:
        reason = f"the arms are not saturated: {rise.says} is {rise.value:.3g}, wanted {rise.bounds}"
        return replace(plan, seeds=None, reason=reason)
    return plan


def _plan(claim: Claim, deviations: Sequence[float], choices: Sequence[int]) -> ClaimPlan:
    significance = 0.05 / len(claim.pairs)
    needed = [
        seeds_needed(effect, deviation, choices, significance=significance) if effect > 0 else None
        for effect, deviation in zip(claim.effects, deviations, strict=True)
    ]
    seeds = None if None in needed else max(count for count in needed if count is not None)
    count = max(choices) if seeds is None else seeds
    pairs = tuple(
        PairPlan(
            deviation,
            effect,
            smallest_effect(deviation, count, significance=significance),
            power_of(effect, deviation, count, significance=significance),
        )
        for effect, deviation in zip(claim.effects, deviations, strict=True)
    )
    reason = ""
    if seeds is None:
        worst = min(pairs, key=lambda pair: pair.power)
        reason = (
            f"{count} seeds tell {100 * worst.detectable:.2g} points, and the text's difference is "
            f"{100 * worst.effect:.2g} (power {100 * worst.power:.0f} %)"
        )
    return ClaimPlan(claim, seeds, pairs, reason)


def rise_of(arms: Sequence[Arm], out: Path) -> CheckedPremise | None:
    """Return by how much the best validation score still rose in the last quarter of the pilot's epochs.

    It is the mean over the pilot's seeds, of the arm that rises most: an arm that is not saturated is not excused by
    others that are. None if no arm was trained by epochs.
    """
    rises = []
    for arm in arms:
        rises_of_arm = []
        for seed in PILOT_SEEDS:
            model = home_of(out, source_of(None), arm) / f"seed-{seed}" / "model"
            if (model / "log.csv").is_file():
                scores = [float(row["score"]) for row in read_log(model)]
                rises_of_arm.append(max(scores) - max(scores[: max(1, 3 * len(scores) // 4)]))
        rises += [float(np.mean(rises_of_arm))] if rises_of_arm else []
    if not rises:
        return None
    says = "rise of the best validation score in the last quarter of training, of the arm that rises most"
    return CheckedPremise(says, max(rises), -np.inf, MOST_RISE)


def _arms_of(table: Table, claims: Sequence[Claim]) -> tuple[Arm, ...]:
    """The arms that some claims compare."""
    named = {name for claim in claims for pair in claim.pairs for name in (pair.first, pair.second)}
    return tuple(arm for arm in table.arms if arm.name in named)


def _power_in_words(plan: ClaimPlan) -> str:
    """What the planned seeds tell of each comparison, beside what they have to tell."""
    return "; ".join(
        f"{100 * pair.detectable:.2g} points are told with a power of 80 %, and the difference to be told is "
        f"{100 * pair.effect:.2g}"
        for pair in plan.pairs
    )


def _seconds_left(
    table: Table, pilot: Mapping[str, Sequence[Result]], planned: Sequence[ClaimPlan], seeds: Sequence[int], out: Path
) -> float:
    """Predict the seconds of one process for what is planned and not stored yet, from those of the pilot's runs."""
    seconds = 0.0
    for arm in table.arms:
        count = max((plan.seeds or 0 for plan in planned if arm in _arms_of(table, [plan.claim])), default=0)
        home = home_of(out, source_of(None), arm)
        missing = [seed for seed in seeds[:count] if not (home / f"seed-{seed}" / "result.json").is_file()]
        seconds += len(missing) * float(np.mean([run["seconds"] for run in pilot[arm.name]])) if missing else 0.0
    return seconds


def _judged(plan: ClaimPlan, results: Mapping[str, Sequence[Result]]) -> Judged:
    if plan.seeds is None:
        verdict = plan.claim.untried if plan.claim.why else "not decidable here"
        return Judged(plan.claim, verdict, reason=plan.reason)
    return judge(plan.claim, {name: runs[: plan.seeds] for name, runs in results.items()})


def require_enough_seeds(seeds: Sequence[int]) -> None:
    """Refuse seeds with which nothing is decided.

    Raises:
        UsageError: one is of the pilot, or there are fewer than three: a paired t test of two tells only what is ten
            times its own deviation.
    """
    count = len(seeds)
    if set(seeds) & set(PILOT_SEEDS):
        raise UsageError(
            f"seeds {', '.join(map(str, PILOT_SEEDS))} are the pilot's, which enter no verdict; give others"
        )
    if count == 1:
        raise UsageError("one seed decides no claim: its difference has no interval; give three seeds or more")
    if count < 3:
        raise UsageError(
            f"{count} seeds decide no claim: a paired t test of so few tells only a difference of "
            f"{smallest_effect(1.0, count):.0f} standard deviations; give three seeds or more"
        )


def as_plain(trial: Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial as plain values, as the page of claims reads them.

    Args:
        settings: what else is recorded: the generator, the command, the machine.
    """
    return {
        "experiment": trial.experiment.name,
        "table": trial.table.name,
        "identity": table_identity(trial.table),
        **settings,
        "premises": [{"says": p.says, "value": p.value, "wanted": p.bounds, "holds": p.holds} for p in trial.premises],
        "arms": [_plain_arm(trial.table, name, runs) for name, runs in trial.results.items()],
        "claims": [_plain_claim(plan, judged) for plan, judged in zip(trial.plans, trial.judged, strict=True)],
    }


def _plain_arm(table: Table, name: str, runs: Sequence[Result]) -> dict[str, Any]:
    columns = {column.title: [value(run, column) for run in runs] for column in table.columns}
    return {
        "name": name,
        "seeds": len(runs),
        "rate": runs[0]["rate"],
        "steps": runs[0].get("steps"),
        "columns": {
            title: {"mean": float(np.mean(numbers)), "deviation": deviation_of(numbers)}
            for title, numbers in columns.items()
        },
    }


def _plain_claim(plan: ClaimPlan, judged: Judged) -> dict[str, Any]:
    untried = ((pair.first, pair.second or "chance", None, None, None) for pair in plan.claim.pairs)
    rows: tuple[tuple[Any, ...], ...] = judged.rows or tuple(untried)
    detectable = judged.detectable or (None,) * len(rows)
    pilots = plan.pairs or (None,) * len(rows)
    return {
        "says": plan.claim.says,
        "verdict": judged.verdict,
        "reason": judged.reason,
        "seeds": plan.seeds,
        "comparisons": [
            {
                "first": row[0],
                "second": row[1],
                "published": pair.published,
                "difference": row[2],
                "low": row[3],
                "high": row[4],
                "detectable": smallest,
                "pilot": None if pilot is None else asdict(pilot),
            }
            for pair, row, smallest, pilot in zip(plan.claim.pairs, rows, detectable, pilots, strict=True)
        ],
    }
