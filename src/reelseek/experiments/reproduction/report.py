"""A reproduced table beside the printed one: two lines a row, and whether they can be compared."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from reelseek.evaluation.figures import curves
from reelseek.evaluation.report import Figure, ReportTable, write_tables
from reelseek.experiments.reproduction.plan import Plan
from reelseek.experiments.reproduction.run import Result
from reelseek.experiments.reproduction.tables import PublishedTable, TableColumn, TableRow

__all__ = ["as_json", "report_table", "verdict", "write_reproduction"]

Results = Mapping[str, Sequence[Result]]


def report_table(plan: Plan, results: Results, seeds: Sequence[int]) -> ReportTable:
    """Each row as it came out here with its interval, and as it is printed.

    Intervals hold 95 %: over the seeds (Student's) where there are several, else over the queries.
    """
    table = plan.table
    columns = table.parsed_columns
    cells: list[list[object]] = []
    planned = {row.row.name for row in plan.rows}
    for row in table.rows:
        if row.is_trained and row.name not in planned:  # others were asked for by name
            continue
        here = ["not trained here" if row.is_trained else row.why or "computed"]
        if row.chance:
            here = [_number(_chance(column, results), column) for column in columns]
        elif row.name in results:
            here = [_measured(results[row.name], column) for column in columns]
        cells.append([row.name, "here", *here, *[""] * (len(columns) - len(here))])
        cells.append(["", "paper", *(_printed(row, place, column) for place, column in enumerate(columns))])
    title = f"{table.title} ({table.paper}, {table.place})"
    return ReportTable(title, ["row", "", *table.columns], cells, _note(plan, results, seeds))


def _note(plan: Plan, results: Results, seeds: Sequence[int]) -> str:
    over = f"the seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else "the queries"
    notes = [f"Recalls in per cent; intervals hold 95 % over {over}."]
    notes += [f"{row.name}: {row.note}." for row in plan.table.rows if row.note]
    warnings = dict.fromkeys(warning for runs in results.values() for run in runs for warning in run.warnings)
    return " ".join([*notes, verdict(plan), *(f"{warning}." for warning in warnings)])


def verdict(plan: Plan) -> str:
    """Whether the numbers can be compared with the printed ones, in one sentence."""
    if not plan.differences:
        return "Comparable: splits, galleries and names of experts are the paper's; that its networks made them is not."
    return f"Not comparable with the paper: {'; '.join(plan.differences)}."


def _value(number: float, column: TableColumn) -> float:
    return 100 * number if column.is_recall else number


def _number(number: float, column: TableColumn) -> str:
    return "" if math.isnan(number) else f"{_value(number, column):.1f}"


def _measured(runs: Sequence[Result], column: TableColumn) -> str:
    """The mean of a row's runs with its interval."""
    values = np.array([run.value(column) for run in runs])
    mean = float(values.mean())
    if math.isnan(mean):
        return ""
    low, high = runs[0].interval(column)
    if len(values) > 1:
        reach = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
        low, high = mean - reach, mean + reach
    if math.isnan(low):
        return _number(mean, column)
    return f"{_number(mean, column)} [{_number(low, column)}, {_number(high, column)}]"


def _printed(row: TableRow, place: int, column: TableColumn) -> str:
    number, spread = row.number(place), row.deviation(place)
    if math.isnan(number):
        return ""
    return f"{number:g}" if math.isnan(spread) else f"{number:g} ± {spread:g}"


def _chance(column: TableColumn, results: Results) -> float:
    """What a random order gives on the gallery that was ranked here; NaN for ranks of the best of several captions."""
    galleries = [
        run.galleries[column.test] for runs in results.values() for run in runs if column.test in run.galleries
    ]
    if not galleries or column.direction != "t2v":
        return math.nan
    if column.is_recall:
        return min(1.0, int(column.metric.rpartition("_")[2]) / galleries[0])
    return (galleries[0] + 1) / 2


def write_reproduction(path: Path, shown: ReportTable, plan: Plan, results: Results) -> list[Path]:
    """Write a table as Markdown, LaTeX and HTML; of a figure the curve too."""
    figures = [_figure(path, plan.table, results)] if plan.table.curve else []
    pictures = [file for figure in figures for file in (figure.png, figure.png.with_suffix(".svg"))]
    return [*pictures, *write_tables(path, shown.title, [shown], figures)]


def _figure(path: Path, table: PublishedTable, results: Results) -> Figure:
    """The columns over the setting that the rows change."""
    rows = sorted((row for row in table.rows if row.x is not None and row.name in results), key=lambda row: row.x or 0)
    panels: dict[str, dict[str, tuple[Sequence[float], Sequence[float]]]] = {}
    for column in table.parsed_columns:
        heights = [float(np.mean([_value(run.value(column), column) for run in results[row.name]])) for row in rows]
        panels[column.title] = {"here": ([row.x or 0 for row in rows], heights)}
    return Figure(table.title, curves(path, panels, table.curve or ""))


def as_json(plan: Plan, results: Results, seeds: Sequence[int]) -> dict[str, Any]:
    """Plain values; recalls in per cent, as papers print them; NaN as null."""
    rows = []
    for row in plan.table.rows:
        here: dict[str, Any] = {}
        for place, column in enumerate(plan.table.parsed_columns):
            runs = [_value(run.value(column), column) for run in results.get(row.name, ())]
            if row.chance:
                runs = [_value(_chance(column, results), column)]
            entry = {"here": runs, "published": row.number(place), "published_spread": row.deviation(place)}
            here[column.title] = {key: _nulls(value) for key, value in entry.items()}
        rows.append({"row": row.name, "columns": here, "why": row.why or None})
    return {
        "table": plan.table.name, "title": plan.table.title, "paper": plan.table.paper, "place": plan.table.place,
        "seeds": list(seeds), "comparable": not plan.differences, "differences": plan.differences,
        "missing": plan.missing, "rows": rows,
    }  # fmt: skip


def _nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_nulls(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
