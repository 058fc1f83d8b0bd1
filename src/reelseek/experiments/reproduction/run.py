"""Training and measuring the rows of a published table; every result is kept, so that a stopped run goes on.

OUT/TABLE/start-RECIPE-DIGEST/seed-N/   a model that rows start from; DIGEST is of its settings and the library's data
OUT/TABLE/ROW/seed-N/                   a row's model, and result.json
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelseek.errors import ModelError, RecipeError, UsageError
from reelseek.evaluation.protocols import PROTOCOLS
from reelseek.evaluation.ranks import Direction, metrics
from reelseek.experiments.reproduction.plan import Plan, RowPlan
from reelseek.experiments.reproduction.tables import TableColumn, TestSet
from reelseek.library import Library
from reelseek.library.files import write_whole
from reelseek.models.model import RetrievalModel
from reelseek.training import Recipe, evaluate, train
from reelseek.training.loop import predict_seconds
from reelseek.training.measure import Measured, ranks_under

__all__ = ["Result", "predict_table", "train_table"]

_RESAMPLES = 1000
_METRICS = ("recall_at_1", "recall_at_5", "recall_at_10", "median_rank", "mean_rank")
Progress = Callable[[str, int, int, str], None]
Ranks = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """One trained model of a row.

    Attributes:
        numbers: by test set, direction (`t2v`, `v2t`) and metric.
        intervals: of the same, 95 % by resampling the queries; recalls are fractions.
        galleries: clips that each test set ranks.
        warnings: what weakens the numbers.
    """

    numbers: dict[str, dict[str, dict[str, float]]]
    intervals: dict[str, dict[str, dict[str, tuple[float, float]]]]
    galleries: dict[str, int]
    warnings: tuple[str, ...] = ()

    def value(self, column: TableColumn) -> float:
        """The number of a column; NaN where this row has no such test set."""
        if column.test not in self.numbers:
            return float("nan")
        ways = ("t2v", "v2t") if column.direction == "both" else (column.direction,)
        return float(np.mean([self.numbers[column.test][way][column.metric] for way in ways]))

    def interval(self, column: TableColumn) -> tuple[float, float]:
        """The interval of a column; NaN where two directions are averaged."""
        if column.test not in self.numbers or column.direction == "both":
            return float("nan"), float("nan")
        low, high = self.intervals[column.test][column.direction][column.metric]
        return low, high


def predict_table(
    plan: Plan, library: Library, out: Path, seeds: Sequence[int], device: str | None = None
) -> list[tuple[str, float]]:
    """Predict the seconds that each row takes that is not trained yet, by timed steps of each recipe."""
    seconds_by_recipe: dict[str, float] = {}
    rows = []
    for row in plan.rows:
        recipes = [recipe for recipe in (row.recipe, row.start) if recipe is not None]
        todo = [seed for seed in seeds if not (_folder(out, plan, row, seed) / "result.json").is_file()]
        if row.recipe is None or not todo:
            continue
        seconds = 0.0
        for recipe in recipes:
            plain = replace(recipe, train=replace(recipe.train, start=None))
            key = json.dumps(asdict(plain), sort_keys=True, default=str)
            if key not in seconds_by_recipe:
                with _named(row):
                    seconds_by_recipe[key] = predict_seconds(plain, library, device=device)
            seconds += seconds_by_recipe[key]
        rows.append((row.row.name, seconds * len(todo)))
    return rows


@contextmanager
def _named(row: RowPlan) -> Iterator[None]:
    """Say of which row a recipe or model is wrong."""
    try:
        yield
    except (RecipeError, ModelError) as error:
        raise type(error)(f"row {row.row.name!r}: {error}") from error


def train_table(
    plan: Plan,
    library: Library,
    out: Path,
    seeds: Sequence[int],
    *,
    device: str | None = None,
    progress: Progress = lambda *_: None,
) -> dict[str, list[Result]]:
    """Train and measure the rows of a table that lack nothing; those that were finished before are read.

    Returns:
        Results by row, in the order of the seeds.

    Raises:
        UsageError: a folder holds results of other data or settings.
    """
    rows = [row for row in plan.rows if row.recipe is not None]
    results: dict[str, list[Result]] = {}
    total = len(rows) * len(seeds)
    for number, row in enumerate(rows):
        results[row.row.name] = []
        for place, seed in enumerate(seeds):
            progress("training", number * len(seeds) + place, total, f"{row.row.name}, seed {seed}")
            with _named(row):
                results[row.row.name].append(_row_result(plan, row, seed, library, out, device))
    progress("training", total, total, "")
    return results


def _row_result(plan: Plan, row: RowPlan, seed: int, library: Library, out: Path, device: str | None) -> Result:
    assert row.recipe is not None
    folder = _folder(out, plan, row, seed)
    identity = _identity(row, library)
    if (folder / "result.json").is_file():
        stored = json.loads((folder / "result.json").read_text("utf-8"))
        if stored.pop("identity") != identity:
            raise UsageError(f"{folder} holds a result of other data or settings; name another --out, or remove it")
        return Result(**{**stored, "warnings": tuple(stored["warnings"])})
    recipe = _seeded(row.recipe, seed)
    if row.start is not None:
        start = _start_folder(out, plan, row, seed, library)
        if not (start / "config.json").is_file():
            train(_seeded(row.start, seed), library, start, device=device)
        recipe = replace(recipe, train=replace(recipe.train, start=str(start)))
    model = train(recipe, library, folder, device=device)
    result = _measure(model, row.tests, library)
    write_whole(folder / "result.json", json.dumps({"identity": identity, **asdict(result)}, indent=1) + "\n")
    return result


def _folder(out: Path, plan: Plan, row: RowPlan, seed: int) -> Path:
    return out / plan.table.name / _slug(row.row.name) / f"seed-{seed}"


def _start_folder(out: Path, plan: Plan, row: RowPlan, seed: int, library: Library) -> Path:
    """The folder of the model that a row starts from, which is another for other settings and for other data."""
    content = json.dumps([row.start.settings() if row.start else None, library.digest()], sort_keys=True, default=str)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    return out / plan.table.name / f"start-{_slug(row.row.start or '')}-{digest}" / f"seed-{seed}"


def _slug(name: str) -> str:
    """A name as part of a path, different for names that differ."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:4]}"


def _seeded(recipe: Recipe, seed: int) -> Recipe:
    return replace(recipe, train=replace(recipe.train, seed=seed))


def _identity(row: RowPlan, library: Library) -> str:
    """What a result must share with the run that goes on: settings, tests, and the content of the library."""
    parts = [recipe.settings() if recipe else None for recipe in (row.recipe, row.start)]
    tests = {name: asdict(test) for name, test in row.tests.items()}
    text = json.dumps([*parts, tests, library.digest()], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _measure(model: RetrievalModel, tests: Mapping[str, TestSet], library: Library) -> Result:
    numbers: dict[str, dict[str, dict[str, float]]] = {}
    intervals: dict[str, dict[str, dict[str, tuple[float, float]]]] = {}
    galleries: dict[str, int] = {}
    warnings: dict[str, None] = {}
    for name, test in tests.items():
        experts = None if test.experts is None else [e for e in test.experts if e in model.experts]
        measured = evaluate(model, library, split=test.split, experts=experts, protocol=test.protocol)
        ranks = _ranks(measured)
        directions = {"t2v": measured.text_to_video, "v2t": measured.video_to_text}
        numbers[name] = {way: _plain(direction) for way, direction in directions.items()}
        intervals[name] = {way: _intervals(ranks[way]) for way in directions}
        galleries[name] = measured.gallery
        warnings |= dict.fromkeys(measured.warnings)
    return Result(numbers, intervals, galleries, tuple(warnings))


def _ranks(measured: Measured) -> dict[str, Ranks]:
    """Ranks of every query in both directions; none where the scores were too many to be held."""
    reverse = np.zeros(0)
    if measured.scores.size and measured.data is not None:
        rule = PROTOCOLS[measured.protocol]
        reverse = ranks_under(rule, measured.scores, measured.data, measured.scorable)[1]
    return {"t2v": measured.ranks, "v2t": reverse}


def _plain(direction: Direction) -> dict[str, float]:
    return {name: float(getattr(direction, name)) for name in _METRICS}


def _intervals(ranks: Ranks) -> dict[str, tuple[float, float]]:
    """Where 95 % of the metrics lie if as many queries are drawn again from these."""
    if not len(ranks):
        return dict.fromkeys(_METRICS, (float("nan"), float("nan")))
    rng = np.random.default_rng(0)
    samples = [_plain(metrics(ranks[rng.integers(len(ranks), size=len(ranks))])) for _ in range(_RESAMPLES)]
    low, high = np.percentile([[sample[name] for name in _METRICS] for sample in samples], [2.5, 97.5], axis=0)
    return {name: (float(low[place]), float(high[place])) for place, name in enumerate(_METRICS)}
