"""Reports of an experiment: its tables next to the papers' figures, verdicts with intervals, files and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.evaluation.figures import heat_map
from reelseek.evaluation.report import Figure, Part, Prose, ReportTable, mean_and_spread, write_tables
from reelseek.experiments.experiment import (
    LOWER_IS_BETTER,
    Arm,
    Column,
    Experiment,
    Judged,
    Result,
    Table,
    judge,
    value,
)
from reelseek.experiments.run import home_of
from reelseek.studio.redundant_worlds import RedundantConfig, redundant_generator_hash
from reelseek.studio.worlds import generator_hash

__all__ = ["TableReport", "as_json", "generator_of", "report_tables", "write_report"]

_PER_CENT = (
    "recall_at_1",
    "recall_at_5",
    "recall_at_10",
    "accuracy",
    "recall",
    "even",
    "optional",
    "unordered",
    "precision_optional",
    "frame_accuracy",
    "bleu_4",
)
_FORMS = {"seconds": ".3g", "loss": ".3g", "cider_d": ".3f"}


@dataclass(frozen=True)
class TableReport:
    """One table with its numbers, and its claims with their verdicts."""

    table: Table
    shown: ReportTable
    judged: tuple[Judged, ...]


def generator_of(experiment: Experiment) -> str:
    """Return the hash of the generator of an experiment's worlds."""
    redundant = any(isinstance(arm.world, RedundantConfig) for arm in experiment.arms)
    return redundant_generator_hash() if redundant else generator_hash()


def report_tables(
    experiment: Experiment, results: Mapping[str, Sequence[Result]], out: Path, source: str, on: str
) -> list[TableReport]:
    """Fill the tables of an experiment and judge its claims.

    Args:
        results: of every arm by its key.
        out, source: where the runs are; tables link to them.
        on: what it was run on, in words.
    """
    reports = []
    for table in experiment.tables:
        by_name = {arm.name: results[arm.key] for arm in table.arms}
        judged = tuple(judge(claim, by_name) for claim in table.claims)
        reports.append(TableReport(table, _filled(table, results, out, source, on), judged))
    return reports


def _filled(table: Table, results: Mapping[str, Sequence[Result]], out: Path, source: str, on: str) -> ReportTable:
    published = [column for column in table.columns if any(column.title in row for row in table.published.values())]
    titles = [*(_title(column) for column in table.columns), *(f"paper's {_title(column)}*" for column in published)]
    rows: list[list[object]] = []
    for arm in table.arms:
        runs = results[arm.key]
        cells: list[object] = [arm.name]
        cells += [_cell(runs, column) for column in table.columns]
        cells += [_paper(table, arm, column) for column in published]
        cells += [f"{runs[0]['parameters']:,}" if "parameters" in runs[0] else "", str(runs[0].get("steps", ""))]
        cells += [f"{runs[0]['rate']:g}", str(len(runs)), _link(arm, out, source)]
        rows.append(cells)
    note = f"Mean ± standard deviation over seeds. {on}. {table.note}".strip()
    if published:
        note += " *The paper's own figures, on its own data: not comparable."
    return ReportTable(
        f"{table.name}: {table.title}", ["", *titles, "parameters", "steps", "rate", "seeds", "runs"], rows, note
    )


def _title(column: Column) -> str:
    return f"{column.title} (%)" if column.metric in _PER_CENT else column.title


def _cell(runs: Sequence[Result], column: Column) -> str:
    numbers = np.array([value(run, column) for run in runs])
    if column.metric in _PER_CENT:
        numbers = 100 * numbers
    return mean_and_spread(numbers.tolist(), _FORMS.get(column.metric, ".1f"))


def _paper(table: Table, arm: Arm, column: Column) -> str:
    figure = table.published.get(arm.name, {}).get(column.title)
    return "" if figure is None else f"{figure:g}"


def _link(arm: Arm, out: Path, source: str) -> object:
    folder = home_of(out, source, arm)
    return (arm.key, f"{folder.relative_to(out)}/") if any(folder.glob("seed-*/*.run")) else ""


def write_report(
    experiment: Experiment, reports: Sequence[TableReport], results: Mapping[str, Sequence[Result]], stem: Path
) -> list[Path]:
    """Write `STEM.md`, `.html`, and `.tex` of the tables alone; and heat maps as PNG and SVG."""
    verdicts = [(judged.verdict, _in_words(judged)) for report in reports for judged in report.judged]
    more: list[Part] = [Prose("Verdicts", verdicts)]
    for report in reports:
        png = _draw_heat_map(report.table, results, stem)
        if png is not None:
            more.append(Figure(report.table.title, png))
    again = f"A run is scored again by: reelseek score RUN. The generator of worlds is {generator_of(experiment)}"
    more.append(Prose("How to score a run again", [("", again)]))
    return write_tables(stem, experiment.paper, [report.shown for report in reports], more)


def _draw_heat_map(table: Table, results: Mapping[str, Sequence[Result]], stem: Path) -> Path | None:
    """Draw a table with many views of one metric: rows are combinations of modalities, columns are systems."""
    columns = [column for column in table.columns if isinstance(column.view, str)]
    if len({column.view for column in columns}) < 4 or len({column.metric for column in columns}) > 1:
        return None
    values = np.array([[np.mean([value(r, c) for r in results[arm.key]]) for arm in table.arms] for c in columns])
    path = stem.with_name(f"{stem.name}-{table.name}.png")
    lower = columns[0].metric in LOWER_IS_BETTER
    names = [arm.name for arm in table.arms]
    return heat_map(path, values, [c.title for c in columns], names, table.title, lower_is_better=lower)


def _in_words(judged: Judged) -> str:
    """A claim with its comparisons, or why it was not tried, in words."""
    if not judged.rows:
        reason = f"{judged.reason[:1].upper()}{judged.reason[1:]}"  # names in it stay as they are
        return f"{judged.claim.says} ({judged.claim.source}). {reason}."
    rows = "; ".join(
        f"{first} against {second}: {mean:+.3g} in its favour [{low:+.3g}, {high:+.3g}]"
        for first, second, mean, low, high in judged.rows
    )
    return f"{judged.claim.says} ({judged.claim.source}). {rows}."


def as_json(
    experiment: Experiment,
    reports: Sequence[TableReport],
    results: Mapping[str, Sequence[Result]],
    seeds: Sequence[int],
    command: str,
) -> dict[str, Any]:
    """Return everything as plain values.

    Args:
        command: what repeats it.
    """
    return {
        "experiment": experiment.name,
        "command": command,
        "paper": experiment.paper,
        "seeds": list(seeds),
        "generator": generator_of(experiment),
        "tables": [
            {
                "name": report.table.name,
                "title": report.table.title,
                "note": report.table.note,
                "arms": {arm.name: list(results[arm.key]) for arm in report.table.arms},
                "claims": [_judged_as_json(judged) for judged in report.judged],
            }
            for report in reports
        ],
    }


def _judged_as_json(judged: Judged) -> dict[str, Any]:
    names = ("first", "second", "difference", "low", "high")
    return {
        "says": judged.claim.says,
        "source": judged.claim.source,
        "quote": judged.claim.quote,
        "verdict": judged.verdict,
        "reason": judged.reason,
        "helps": judged.claim.helps,
        "comparisons": [dict(zip(names, _finite(row), strict=True)) for row in judged.rows],
    }


def _finite(row: tuple[str, str, float, float, float]) -> list[object]:
    """Replace infinity, which JSON cannot hold: an interval of one seed has no ends."""
    return [None if isinstance(cell, float) and not np.isfinite(cell) else cell for cell in row]
