"""Parts of an experiment: arms that are trained, views of them, tables, and claims with their verdicts."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import stats

from reelseek.errors import UsageError, suggest
from reelseek.experiments.power import deviation_of, smallest_effect
from reelseek.experiments.premises import Premise
from reelseek.studio.redundant_worlds import RedundantConfig
from reelseek.studio.worlds import WorldConfig

__all__ = [
    "LARGE_EFFECT",
    "LOWER_IS_BETTER",
    "NOT_CLAIMED",
    "SATURATED",
    "Arm",
    "Claim",
    "Column",
    "Experiment",
    "Judged",
    "Pair",
    "Result",
    "Table",
    "Verdict",
    "View",
    "differences",
    "enlarged",
    "judge",
    "narrowed",
    "value",
]

Result = Mapping[str, Any]  # of one arm and seed: values by view in `views`, and how the model was trained
LOWER_IS_BETTER = ("mean_rank", "median_rank", "seconds", "loss", "distance", "time")
LARGE_EFFECT = 0.08  # eight points: what is looked for where the text prints no figure
SATURATED: dict[str, Any] = {"epochs": 60}  # of all arms alike; a trial checks that it is enough
Verdict = Literal["reproduced", "contradicted", "not decidable here", "not claimed by the text"]
NOT_CLAIMED: Verdict = "not claimed by the text"


@dataclass(frozen=True)
class View:
    """One way of evaluating a trained model: a split, and the experts that are read of its clips (None: all)."""

    name: str = "all"
    experts: tuple[str, ...] | None = None
    split: str = "test"


@dataclass(frozen=True, eq=False)
class Arm:
    """One row of a table.

    Attributes:
        recipe: changes to the common recipe, by section.
        world: where it is trained and evaluated, unless real features are used.
        rates: learning rates, one of which is selected on validation clips of a world that no reported number is from.
        start: an arm that is trained first, and whose model is fine-tuned.
        measure: called with a folder and a seed instead of training; returns values by view.
    """

    name: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    world: WorldConfig | RedundantConfig = field(default_factory=WorldConfig)
    views: tuple[View, ...] = (View(),)
    rates: tuple[float, ...] = (1e-4, 4e-4, 1.6e-3, 6.4e-3)
    start: "Arm | None" = None
    measure: Callable[[Path, int], dict[str, dict[str, Any]]] | None = None

    @property
    def key(self) -> str:
        """Identify what is trained: arms with equal keys are trained once."""
        identity: list[Any] = [self.recipe, asdict(self.world), self.rates]
        if self.start is not None:
            identity.append(self.start.key)
        if self.measure is not None:
            identity.append(self.measure.__name__)
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Column:
    """One column of a table: a metric in a view, or its mean over several views.

    Attributes:
        reverse: False is text to video, True video to text, None the mean of both.
    """

    title: str
    metric: str
    view: str | tuple[str, ...] = "all"
    reverse: bool | None = False


@dataclass(frozen=True)
class Pair:
    """A comparison of the first arm's column with the second's; without a second arm, of a recall with chance.

    Attributes:
        published: the text's own difference in favour of the first, in points of a recall, or of mean ranks in per
            cent of its gallery; None where it prints none.
    """

    first: str
    second: str | None
    column: Column
    second_column: Column | None = None
    published: float | None = None


@dataclass(frozen=True)
class Claim:
    """A statement of a text, as comparisons all of which have to hold.

    Attributes:
        says: the statement.
        source: the text, and where in it: section or table, and line of the extracted text.
        quote: the words that state it; empty where the text does not state it, and `why` says so.
        helps: False if the claim is that the first is *not* better than the second by `margin` or more.
        margin: see `helps`; in the unit of the metric.
        why: why it is not tried: the text does not claim it, or its own figures say the opposite.
        premises: what a world must be like for the claim to be tried there.
    """

    says: str
    source: str
    pairs: tuple[Pair, ...] = ()
    helps: bool = True
    margin: float = 0.02
    quote: str = ""
    why: str = ""
    premises: tuple[Premise, ...] = ()

    @property
    def untried(self) -> Verdict:
        """The verdict of a claim that `why` leaves untried: whether the text states it at all."""
        return "not decidable here" if self.quote else NOT_CLAIMED

    @property
    def effects(self) -> tuple[float, ...]:
        """The difference that each comparison has to tell, as a fraction: the published one, else a large one."""
        if not self.helps:
            return (self.margin,) * len(self.pairs)
        return tuple(LARGE_EFFECT if pair.published is None else pair.published / 100 for pair in self.pairs)


@dataclass(frozen=True)
class Table:
    """A reproduction of a paper's table.

    Attributes:
        published: the paper's figures by row and column; on other data, so shown next to ours but not comparable.
        world_only: it needs what only a synthetic world has (domains, a stronger twin of an expert, copies).
        premises: what is measured of its world and printed beside it, besides the premises of its claims.
    """

    name: str
    title: str
    arms: tuple[Arm, ...]
    columns: tuple[Column, ...]
    claims: tuple[Claim, ...]
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    note: str = ""
    world_only: bool = False
    premises: tuple[Premise, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """The tables of a paper."""

    name: str
    paper: str
    tables: tuple[Table, ...]

    @property
    def arms(self) -> list[Arm]:
        """Every arm once, with the views of all tables; an arm that others start from comes before them.

        Raises:
            ValueError: two different views of an arm have one name, under which only one could be stored.
        """
        by_key: dict[str, Arm] = {}

        def add(arm: Arm) -> None:
            if arm.start is not None:
                add(arm.start)
            existing = by_key.get(arm.key)
            views = dict.fromkeys((*(existing.views if existing else ()), *arm.views))
            if len({view.name for view in views}) < len(views):
                raise ValueError(f"arm {arm.name!r} has two different views of one name: {', '.join(map(str, views))}")
            by_key[arm.key] = Arm(**{**vars(arm), "views": tuple(views)})

        for table in self.tables:
            for arm in table.arms:
                add(arm)
        return list(by_key.values())


def narrowed(experiment: Experiment, names: Sequence[str] | None) -> Experiment:
    """Restrict an experiment to the named tables; None takes all.

    Raises:
        UsageError: it has no such table.
    """
    tables = {table.name: table for table in experiment.tables}
    for name in names or ():
        if name not in tables:
            guess = suggest(name, tables)
            raise UsageError(f"{experiment.name} has no table {name!r}{guess}; it has {', '.join(tables)}")
    return replace(experiment, tables=tuple(tables[name] for name in names or tables))


_WIDTHS = ("width", "inner", "embedding", "pool_inner", "fine", "coarse", "words")
_LARGER = 4


def enlarged(experiment: Experiment) -> Experiment:
    """Return the experiment with four times as many videos and models four times as wide."""

    def larger(arm: Arm) -> Arm:
        recipe = dict(arm.recipe)
        if "model" in recipe:
            recipe["model"] = {n: v * _LARGER if n in _WIDTHS else v for n, v in recipe["model"].items()}
        if "examples" in recipe.get("data", {}):
            recipe["data"] = {**recipe["data"], "examples": recipe["data"]["examples"] * _LARGER}
        counts = {name: getattr(arm.world, name) * _LARGER for name in ("train", "validation", "test")}
        start = None if arm.start is None else larger(arm.start)
        return replace(arm, recipe=recipe, world=replace(arm.world, **counts), start=start)

    tables = tuple(replace(table, arms=tuple(map(larger, table.arms))) for table in experiment.tables)
    return replace(experiment, tables=tables)


def value(result: Result, column: Column) -> float:
    """Read the number of one run for a column. Recalls are fractions."""
    ways = {False: ["text_to_video"], True: ["video_to_text"], None: ["text_to_video", "video_to_text"]}[column.reverse]
    views = [result["views"][name] for name in ([column.view] if isinstance(column.view, str) else column.view)]
    if all(column.metric in view for view in views):  # a metric without direction
        return float(np.mean([view[column.metric] for view in views]))
    return float(np.mean([view[way][column.metric] for view in views for way in ways]))


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict.

    Attributes:
        verdict: `reproduced` if every interval lies on the claimed side, `contradicted` if one lies on the other side,
            `not claimed by the text` if it is not, else `not decidable here`.
        rows: for each pair the first, the second, the mean difference in favour of the first, and its interval.
        detectable: for each pair the smallest difference that these seeds tell with a power of 80 %.
        reason: why it was not decided.
    """

    claim: Claim
    verdict: Verdict
    rows: tuple[tuple[str, str, float, float, float], ...] = ()
    detectable: tuple[float, ...] = ()
    reason: str = ""


def judge(claim: Claim, results: Mapping[str, Sequence[Result]]) -> Judged:
    """Test a claim on runs that are paired by their seeds.

    Differences are positive where the first is better; those of mean ranks are shares of the gallery. Their intervals
    are Student's, at 95 % for all pairs of the claim together (Bonferroni).

    Args:
        results: by the name of the arm, in the order of the seeds.
    """
    if claim.why:
        return Judged(claim, claim.untried, reason=claim.why)
    rows, sides, detectable = [], [], []
    for pair in claim.pairs:
        gain, other = differences(pair, results)
        mean, low, high = _interval(gain, len(claim.pairs))
        rows.append((f"{pair.first}, {pair.column.title}", other, mean, low, high))
        detectable.append(smallest_effect(deviation_of(gain.tolist()), len(gain), significance=0.05 / len(claim.pairs)))
        if claim.helps:
            sides.append(1 if low > 0 else -1 if high < 0 else 0)
        else:
            sides.append(1 if high < claim.margin else -1 if low >= claim.margin else 0)
    verdict: Verdict = "not decidable here"
    if min(sides) < 0:
        verdict = "contradicted"
    elif min(sides) > 0:
        verdict = "reproduced"
    reason = "an interval holds the border" if verdict == "not decidable here" else ""
    return Judged(claim, verdict, tuple(rows), tuple(detectable), reason)


def differences(
    pair: Pair, results: Mapping[str, Sequence[Result]]
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], str]:
    """Return by how much the first was better with each seed, and what it is compared with, in words."""
    first = np.array([_share(result, pair.column) for result in results[pair.first]])
    if isinstance(pair.second, str):
        column = pair.second_column or pair.column
        second = np.array([_share(result, column) for result in results[pair.second]])
        other = pair.second if column.view == pair.column.view else f"{pair.second} ({column.view})"
    else:
        second = np.array([_chance(result, pair.column) for result in results[pair.first]])
        other = f"chance ({second.mean():.3g})"
    gain = first - second
    return (-gain if pair.column.metric in LOWER_IS_BETTER else gain), other


def _share(result: Result, column: Column) -> float:
    """The number of one run; mean ranks as a share of the gallery."""
    number = value(result, column)
    if column.metric == "mean_rank":
        view = column.view if isinstance(column.view, str) else column.view[0]
        return number / float(result["views"][view]["gallery"])
    return number


def _chance(result: Result, column: Column) -> float:
    """Expected recall of a random order, with one right answer per query."""
    assert isinstance(column.view, str)
    return min(1.0, int(column.metric.removeprefix("recall_at_")) / result["views"][column.view]["gallery"])


def _interval(gain: np.ndarray[Any, np.dtype[np.float64]], pairs: int) -> tuple[float, float, float]:
    mean = float(gain.mean())
    if len(gain) < 2:
        return mean, float("-inf"), float("inf")
    reach = float(stats.t.ppf(1 - 0.025 / pairs, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain)))
    return mean, mean - reach, mean + reach
