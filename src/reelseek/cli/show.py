"""Printing: tables and JSON on standard output, progress and notes on standard error."""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["bars", "clock", "print_json", "print_table", "say"]


_NUMBER = re.compile(r"[-+\[(]?[\d.,:%±\s+\-\]e∞]*$")


def say(text: str) -> None:
    """Print a line on standard error."""
    print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print one JSON value on one line of standard output."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """Print a table on standard output: columns of numbers aligned right, columns of words left."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numbers = index > 0 and all(_NUMBER.match(str(row[index])) for row in rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    width = None if sys.stdout.isatty() else 1000  # a file has no edge to fold at
    Console(width=width, markup=False, highlight=False).print(table)


def clock(seconds: float | None) -> str:
    """Format seconds as m:ss, as players show them."""
    if seconds is None:
        return "end"
    minutes, full_seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{full_seconds:02}" if hours else f"{minutes}:{full_seconds:02}"


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int, detail: str) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total or None, detail="")
        self._progress.update(self._tasks[stage], completed=done, detail=detail[-40:])


@contextmanager
def bars() -> Iterator[_Bars]:
    """Show progress on standard error, one bar a stage; what it yields is called with stage, done, total, detail."""
    columns = (
        TextColumn("{task.description:>10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
        yield _Bars(progress)
