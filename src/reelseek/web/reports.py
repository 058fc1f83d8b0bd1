"""What a server's state folder holds of measurements: evaluations and trainings that jobs made, and pages that
`reelseek report` wrote, as tables and files."""

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from scipy.stats import binomtest

from reelseek.errors import UsageError
from reelseek.training.log import read_log
from reelseek.web.jobs.queue import Job, JobQueue
from reelseek.web.service import Caller

__all__ = ["Report", "ReportFile", "ReportTable", "Reports", "TableRow"]

ReportKind = Literal["evaluation", "training", "page"]
_RECALLS = ("recall_at_1", "recall_at_5", "recall_at_10", "recall_at_50")
_COLUMNS = ("", "R@1", "R@5", "R@10", "R@50", "median rank", "mean rank", "queries")
_DIRECTIONS = {"text_to_video": "text to video", "video_to_text": "video to text"}
_NOTE = "Recalls in per cent, with 95 % intervals over the queries (Wilson 1927)."
_SUFFIXES = (".html", ".md", ".tex", ".csv", ".json", ".png", ".svg", ".run", ".qrels", ".txt")
_MOST_FILES = 1000
_TITLE = re.compile(r"<title>([^<]{1,300})</title>")


@dataclass(frozen=True)
class TableRow:
    """A row; `report` is the id of the report that it is about, if that is another one."""

    cells: Sequence[str]
    report: str | None = None


@dataclass(frozen=True)
class ReportTable:
    """A table with what is to be known of it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[TableRow]
    note: str = ""


@dataclass(frozen=True)
class ReportFile:
    """A file of a report, by its path below the report's own address."""

    name: str
    path: Path


@dataclass(frozen=True)
class Report:
    """A measurement to look at.

    Args:
        library: name of the library that was measured; None of pages, which do not say.
        time: when it was made, in seconds since 1970.
        summary: the figure that matters most, in words.
        page: the name of the file that is a page of its own.
    """

    id: str
    kind: ReportKind
    title: str
    library: str | None
    time: float
    summary: str = ""
    tables: Sequence[ReportTable] = ()
    notes: Sequence[str] = ()
    files: Sequence[ReportFile] = ()
    page: str | None = None


class Reports:
    """The reports of a state folder.

    Args:
        state: `models/NAME` are trained models; `reports/NAME.html` pages, with their files beside them.
        queue: of the jobs.
    """

    def __init__(self, state: Path, queue: JobQueue) -> None:
        self._state, self._queue = state, queue

    def all(self, caller: Caller) -> list[Report]:
        """What a caller may see, the newest first."""
        jobs = list(self._jobs(caller))
        reports = [report for report in map(_of_job, jobs) if report is not None]
        return sorted([*reports, *self._pages(caller)], key=lambda report: -report.time)

    def get(self, identifier: str, caller: Caller) -> Report | None:
        """The report of an id with all its tables; None where there is none that the caller may see."""
        kind, _, name = identifier.partition("-")
        if kind == "page":
            return next(self._pages(caller, name), None)
        jobs = list(self._jobs(caller))
        job = next((job for job in jobs if job.id == name), None)
        report = _of_job(job) if job is not None else None
        if job is None or report is None or report.id != identifier:
            return None
        return _with_tables(report, job, jobs, self._state)

    def _jobs(self, caller: Caller) -> Iterator[Job]:
        """Evaluations and trainings that succeeded, the newest first."""
        before: int | None = None
        while page := self._queue.jobs(before=before, limit=500):
            before = page[-1][0]
            for _, job in page:
                if job.kind in ("evaluate", "train") and job.state == "succeeded" and caller.may_see(job.library):
                    yield job

    def _pages(self, caller: Caller, only: str | None = None) -> Iterator[Report]:
        """Pages, or one of them with its files; they do not say of which library they are, and are for who may see all.

        Args:
            only: name of the page without its ending.
        """
        folder = self._state / "reports"
        if caller.libraries is not None or not folder.is_dir():
            return
        for path in folder.glob("*.html"):
            if path.is_file() and not path.is_symlink() and only in (None, path.stem):
                files = () if only is None else _files(path)
                yield Report(
                    f"page-{path.stem}", "page", _title(path), None, path.stat().st_mtime, files=files, page=path.name
                )


def _files(page: Path) -> list[ReportFile]:
    """A page, and what was written with it: files of the same name, and those of the folder `NAME-runs`."""
    beside = [path for path in sorted(page.parent.iterdir()) if path.stem == page.stem]
    runs = page.with_name(f"{page.stem}-runs")
    beside += sorted(runs.iterdir()) if runs.is_dir() and not runs.is_symlink() else []
    allowed = [p for p in beside if p.suffix in _SUFFIXES and p.is_file() and not p.is_symlink()]
    return [ReportFile(path.relative_to(page.parent).as_posix(), path) for path in allowed[:_MOST_FILES]]


def _title(page: Path) -> str:
    with page.open(encoding="utf-8", errors="replace") as file:
        match = _TITLE.search(file.read(4000))
    return html.unescape(match[1]).strip() if match else page.stem


def _of_job(job: Job) -> Report | None:
    """A job's report without its tables; None where its result is not at hand."""
    time = job.ended or job.created
    if job.kind == "train":
        name = str(job.arguments.get("name"))
        return Report(f"training-{job.id}", "training", f"Training of {name}", job.library, time)
    measured = _measured(job)
    if measured is None:
        return None
    model = str(job.arguments.get("model", "concepts"))
    recall = _recall(measured["text_to_video"], "recall_at_1")
    split = str(measured.get("split"))
    return Report(
        f"evaluation-{job.id}", "evaluation", f"{model} on {split}", job.library, time, f"R@1 {recall} text to video"
    )


def _measured(job: Job) -> dict[str, Any] | None:
    """The JSON that `evaluate` printed."""
    documents = (job.result or {}).get("documents") or []
    is_complete = documents and isinstance(documents[0], dict) and all(name in documents[0] for name in _DIRECTIONS)
    return documents[0] if job.kind == "evaluate" and is_complete else None


def _with_tables(report: Report, job: Job, jobs: Iterable[Job], state: Path) -> Report:
    if report.kind == "training":
        tables, notes = _training_tables(state / "models" / str(job.arguments.get("name")), job, jobs)
    else:
        tables, notes = _evaluation_tables(job, jobs)
    return replace(report, tables=tables, notes=notes)


def _recall(direction: Mapping[str, Any], name: str) -> str:
    """A recall in per cent with its interval.

    >>> _recall({"recall_at_1": 0.5, "queries": 10}, "recall_at_1")
    '50.0 [23.7, 76.3]'
    """
    value, queries = float(direction[name]), int(direction.get("queries") or 0)
    if not queries:
        return f"{100 * value:.1f}"
    interval = binomtest(min(queries, round(value * queries)), queries).proportion_ci(0.95, "wilson")
    return f"{100 * value:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _metric_row(name: str, direction: Mapping[str, Any], report: str | None = None) -> TableRow:
    recalls = [_recall(direction, recall) for recall in _RECALLS]
    ranks = [f"{direction['median_rank']:g}", f"{direction['mean_rank']:.1f}", f"{direction.get('queries', '')}"]
    return TableRow([name, *recalls, *ranks], report)


def _evaluation_tables(job: Job, jobs: Iterable[Job]) -> tuple[list[ReportTable], list[str]]:
    measured = _measured(job) or {}
    gallery = f"Split {measured.get('split')} ({measured.get('split_hash')}): gallery of {measured.get('gallery')}"
    rows = [_metric_row(words, measured[name]) for name, words in _DIRECTIONS.items()]
    tables = [ReportTable("Both directions", _COLUMNS, rows, f"{gallery}. {_NOTE}")]
    parts = {
        "Text to video by what the right clip has": measured.get("by_modalities") or {},
        "With some of the experts alone": {
            name: part["text_to_video"] for name, part in (measured.get("combinations") or {}).items()
        },
        "Scores normalised": measured.get("normalised") or {},
    }
    for title, directions in parts.items():
        if directions:
            tables.append(
                ReportTable(
                    title,
                    _COLUMNS,
                    [_metric_row(name.replace("_", " "), part) for name, part in directions.items()],
                )
            )
    tables.append(_comparison(job, measured, jobs))
    notes = [f"Protocol {measured.get('protocol')}: {measured.get('says')}.", *measured.get("warnings", ())]
    published = measured.get("published_gallery")
    if published not in (None, measured.get("gallery")):
        notes.append(f"Not comparable with published figures, whose gallery has {published} videos.")
    return tables, notes


def _comparison(job: Job, measured: Mapping[str, Any], jobs: Iterable[Job]) -> ReportTable:
    """Text to video of this evaluation and of all others of the same queries."""
    same = ("split_hash", "protocol", "gallery", "queries")
    rows = []
    for other in jobs:
        result = _measured(other)
        if result is None or other.library != job.library or any(result.get(k) != measured.get(k) for k in same):
            continue
        name = str(other.arguments.get("model", "concepts"))
        link = None if other.id == job.id else f"evaluation-{other.id}"
        rows.append(_metric_row(f"{name} (this one)" if link is None else name, result["text_to_video"], link))
    note = "The queries are the same, so that differences are surer than the intervals: reelseek compare pairs them."
    return ReportTable("Models side by side, text to video", _COLUMNS, rows, note if len(rows) > 1 else "")


def _training_tables(folder: Path, job: Job, jobs: Iterable[Job]) -> tuple[list[ReportTable], list[str]]:
    """Epochs of a training as its log has them, and evaluations of the model since."""
    name = folder.name
    tables, notes = [], []
    try:
        epochs = read_log(folder)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        notes += [f"System {config.get('system')}, {config.get('steps')} steps.", *map(str, config.get("warnings", ()))]
        rows = [TableRow(_epoch_cells(epoch)) for epoch in epochs]
        columns = ("epoch", "loss", "R@1", "R@5", "R@10", "median rank", "mean rank", "")
        tables.append(ReportTable("Epochs", columns, rows, "On the validation split, text to video."))
    except (OSError, ValueError, KeyError, TypeError, UsageError):
        notes.append(f"The model {name} is no longer in the state folder, or its log cannot be read.")
    evaluations = [
        _metric_row(str(measured.get("split")), measured["text_to_video"], f"evaluation-{other.id}")
        for other in jobs
        if other.library == job.library
        and other.arguments.get("model") == name
        and (measured := _measured(other)) is not None
    ]
    if evaluations:
        tables.append(ReportTable("Evaluations of this model, text to video", _COLUMNS, evaluations, _NOTE))
    return tables, notes


def _epoch_cells(epoch: Mapping[str, str]) -> list[str]:
    recalls = [f"{100 * float(epoch[name]):.1f}" for name in _RECALLS[:3]]
    loss = float(epoch["loss"])
    ranks = [f"{float(epoch['median_rank']):g}", f"{float(epoch['mean_rank']):.1f}"]
    best = "best" if epoch.get("best") == "True" else ""
    return [epoch["epoch"], "" if loss != loss else f"{loss:.4f}", *recalls, *ranks, best]
