"""What an experiment is made of: arms that are trained, views of them, tables, and claims with their verdicts."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import stats

from reelseek.errors import UsageError
from reelseek.studio.worlds import WorldConfig

__all__ = [
    "LOWER_IS_BETTER",
    "Arm",
    "Claim",
    "Column",
    "Experiment",
    "Judged",
    "Pair",
    "Result",
    "Table",
    "View",
    "enlarged",
    "judge",
    "narrowed",
    "value",
]

Result = Mapping[str, Any]  # what one arm gave with one seed: `views`, and how it came to be
LOWER_IS_BETTER = ("mean_rank", "median_rank", "seconds", "loss")


@dataclass(frozen=True)
class View:
    """One way of measuring a trained model: a split, and what is shown of its clips."""

    name: str = "all"
    experts: tuple[str, ...] | None = None
    split: str = "test"


@dataclass(frozen=True, eq=False)
class Arm:
    """One row of a table.

    Attributes:
        recipe: what differs from the experiment's common recipe, section by section.
        world: what it is trained on and measured in, unless real features are given.
        rates: learning rates of which validation chooses, in a world that no reported number comes from.
        start: an arm that is trained before, and gone on from.
        measure: instead of training, called with a folder and a seed; returns values by view.
    """

    name: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    world: WorldConfig = field(default_factory=WorldConfig)
    views: tuple[View, ...] = (View(),)
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    start: "Arm | None" = None
    measure: Callable[[Path, int], dict[str, dict[str, Any]]] | None = None

    @property
    def key(self) -> str:
        """Names what is trained: two arms of one key are trained once."""
        told: list[Any] = [self.recipe, asdict(self.world), self.rates]
        if self.start is not None:
            told.append(self.start.key)
        if self.measure is not None:
            told.append(self.measure.__name__)
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Column:
    """One column of a table: a metric in a view, or its mean over several; `reverse` is video to text, None the mean of
    both directions."""

    title: str
    metric: str
    view: str | tuple[str, ...] = "all"
    reverse: bool | None = False


@dataclass(frozen=True)
class Pair:
    """A comparison: the first arm's column against the second's; without a second arm, a recall against chance."""

    first: str
    second: str | None
    column: Column
    second_column: Column | None = None


@dataclass(frozen=True)
class Claim:
    """What a paper says, as comparisons that all have to come out.

    Attributes:
        says: in words.
        source: paper and table.
        helps: False if the claim is that the first is *not* better than the second by `margin` or more.
        margin: see `helps`; in the metric's own unit.
    """

    says: str
    source: str
    pairs: tuple[Pair, ...]
    helps: bool = True
    margin: float = 0.02


@dataclass(frozen=True)
class Table:
    """A table of the papers', done again.

    Attributes:
        published: the paper's own figures by row and column, from its own data: never comparable, only beside.
        world_only: it needs what only a world has (domains, a stronger twin of an expert, copies), not real features.
    """

    name: str
    title: str
    arms: tuple[Arm, ...]
    columns: tuple[Column, ...]
    claims: tuple[Claim, ...]
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    note: str = ""
    world_only: bool = False


@dataclass(frozen=True)
class Experiment:
    """A paper's tables."""

    name: str
    paper: str
    tables: tuple[Table, ...]

    @property
    def arms(self) -> list[Arm]:
        """Each thing to be trained once, what others go on from first, with all the views that tables want of it."""
        found: dict[str, Arm] = {}

        def note(arm: Arm) -> None:
            if arm.start is not None:
                note(arm.start)
            known = found.get(arm.key)
            views = dict.fromkeys((*(known.views if known else ()), *arm.views))
            found[arm.key] = Arm(**{**vars(arm), "views": tuple(views)})

        for table in self.tables:
            for arm in table.arms:
                note(arm)
        return list(found.values())


def narrowed(experiment: Experiment, names: Sequence[str] | None) -> Experiment:
    """Some of an experiment's tables; None takes all.

    Raises:
        UsageError: it has no such table.
    """
    known = {table.name: table for table in experiment.tables}
    for name in names or ():
        if name not in known:
            raise UsageError(f"{experiment.name} has no table {name!r}; it has {', '.join(known)}")
    return replace(experiment, tables=tuple(known[name] for name in names or known))


_WIDTHS = ("width", "inner", "embedding", "pool_inner", "fine", "coarse", "words")
_LARGER = 4


def enlarged(experiment: Experiment) -> Experiment:
    """The same with four times as many videos and as wide models."""

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
    """A number of one run. Recalls are fractions."""
    ways = {False: ["text_to_video"], True: ["video_to_text"], None: ["text_to_video", "video_to_text"]}[column.reverse]
    views = [result["views"][name] for name in ([column.view] if isinstance(column.view, str) else column.view)]
    if all(column.metric in view for view in views):  # measured by itself, in neither direction
        return float(np.mean([view[column.metric] for view in views]))
    return float(np.mean([view[way][column.metric] for view in views for way in ways]))


@dataclass(frozen=True)
class Judged:
    """A claim and what became of it.

    Attributes:
        verdict: `reproduced` if every interval lies on the claimed side, `not reproduced` if one lies on the other
            side, else `undecided`.
        rows: for each pair: first, second, the mean difference in favour of the first, and its interval.
    """

    claim: Claim
    verdict: Literal["reproduced", "not reproduced", "undecided"]
    rows: tuple[tuple[str, str, float, float, float], ...]


def judge(claim: Claim, results: Mapping[str, Sequence[Result]]) -> Judged:
    """Hold a claim against runs that are paired by their seeds.

    Differences are positive where the first is better. Their interval is Student's, at 95 % for all pairs of the claim
    together (Bonferroni).

    Args:
        results: by the arms' names, in the order of the seeds.
    """
    rows, sides = [], []
    for pair in claim.pairs:
        first = np.array([value(result, pair.column) for result in results[pair.first]])
        if isinstance(pair.second, str):
            column = pair.second_column or pair.column
            second = np.array([value(result, column) for result in results[pair.second]])
            other = pair.second if column.view == pair.column.view else f"{pair.second} ({column.view})"
        else:
            second = np.array([_chance(result, pair.column) for result in results[pair.first]])
            other = f"chance ({second.mean():.3g})"
        gain = first - second
        if pair.column.metric in LOWER_IS_BETTER:
            gain = -gain
        mean, low, high = _interval(gain, len(claim.pairs))
        rows.append((f"{pair.first}, {pair.column.title}", other, mean, low, high))
        if claim.helps:
            sides.append(1 if low > 0 else -1 if high < 0 else 0)
        else:
            sides.append(1 if high < claim.margin else -1 if low >= claim.margin else 0)
    verdict: Literal["reproduced", "not reproduced", "undecided"] = "undecided"
    if min(sides) < 0:
        verdict = "not reproduced"
    elif min(sides) > 0:
        verdict = "reproduced"
    return Judged(claim, verdict, tuple(rows))


def _chance(result: Result, column: Column) -> float:
    """The recall of an order drawn at random, one answer a query."""
    assert isinstance(column.view, str)
    return min(1.0, int(column.metric.removeprefix("recall_at_")) / result["views"][column.view]["gallery"])


def _interval(gain: np.ndarray[Any, np.dtype[np.float64]], pairs: int) -> tuple[float, float, float]:
    mean = float(gain.mean())
    if len(gain) < 2:
        return mean, float("-inf"), float("inf")
    reach = float(stats.t.ppf(1 - 0.025 / pairs, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain)))
    return mean, mean - reach, mean + reach
