"""How things are shown: tables and JSON on standard output, progress and notes on standard error."""

import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:  # rich is imported where something is shown, since many commands show no more than a line
    from rich.progress import Progress, ProgressColumn

from reelseek.cli.progress import pipe

__all__ = ["Bar", "Bars", "bars", "clock", "counted", "print_json", "print_table", "say"]


_NUMBER = re.compile(r"[-+\[(]?[\d.,:%±\s+\-\]e∞]*$")


def say(text: str) -> None:
    """A line on standard error."""
    print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """One JSON value on one line of standard output."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """A table on standard output; columns of numbers are aligned at their right, columns of words at their left."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numbers = index > 0 and all(_NUMBER.match(str(row[index])) for row in rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    width = None if sys.stdout.isatty() else 1000  # a file has no edge to fold at
    Console(width=width, markup=False, highlight=False).print(table)


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "video"), counted(2, "video")
    ('1 video', '2 videos')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def clock(seconds: float | None) -> str:
    """Seconds as m:ss, as players show them."""
    if seconds is None:
        return "end"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _columns() -> "tuple[ProgressColumn, ...]":
    from rich.progress import BarColumn, TextColumn

    return (
        TextColumn("{task.description:>10}"),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[amount]}"),
        TextColumn("{task.fields[end]}"),
        TextColumn("{task.fields[detail]}", markup=False),
    )


_TOLD_AFTER = 5.0  # seconds, before which a rate says little


def _fields(stage: str, done: int, total: int, elapsed: float, began_with: int = 0) -> dict[str, Any]:
    """What stands beside a bar: how much is done, and when the rest will be.

    Args:
        elapsed: seconds since `began_with` was done.
    """
    from reelseek.library.report import STAGES_IN_BYTES, STAGES_IN_SECONDS

    amount = f"{done}/{total}"
    if stage in STAGES_IN_SECONDS:
        amount = f"{clock(done)} of {clock(total)}"
    elif stage in STAGES_IN_BYTES:
        amount = f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB"
    end = ""
    if began_with < done < total and elapsed >= _TOLD_AFTER:
        rest = (total - done) * elapsed / (done - began_with)
        end = f"{clock(rest)} left, until {time.strftime('%H:%M', time.localtime(time.time() + rest))}"
    return {"amount": amount, "end": end}


class Bar:
    """A progress bar on standard error, shown between the first call and the one that completes it.

    Standard output is left alone meanwhile, and nothing is shown where standard error is no terminal. A program that
    reads progress (`reelseek.cli.progress`) gets it as well.
    """

    def __init__(self, description: str) -> None:
        self._description = description
        self._progress: "Progress | None" = None

    def __call__(self, done: int, total: int) -> None:
        if (lines := pipe()) is not None:
            lines.write(self._description, done, total)
        if self._progress is None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            console = Console(stderr=True)
            self._progress = Progress(*_columns(), console=console, transient=True, redirect_stdout=False)
            self._progress.start()
            self._task = self._progress.add_task(self._description, total=total, detail="", amount="", end="")
            self._started = time.monotonic()
        if self._progress is not None:
            fields: dict[str, Any] = _fields(self._description, done, total, time.monotonic() - self._started)
            self._progress.update(self._task, completed=done, **fields)
        if done >= total:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class Bars:
    """Progress bars, one a stage.

    Attributes:
        latest: stage, done, total and detail of the last call.
    """

    def __init__(self, progress: "Progress") -> None:
        self.latest: tuple[str, int, int, str] | None = None
        self._progress = progress
        self._tasks: dict[str, tuple[Any, float, int]] = {}  # each with when it began, and what was done by then

    def __call__(self, stage: str, done: int, total: int, detail: str) -> None:
        self.latest = stage, done, total, detail
        if (lines := pipe()) is not None:
            lines.write(stage, done, total, detail)
        if stage not in self._tasks:
            task = self._progress.add_task(stage, total=total or None, detail="", amount="", end="")
            self._tasks[stage] = task, time.monotonic(), done
        task, began, began_with = self._tasks[stage]
        fields: dict[str, Any] = _fields(stage, done, total, time.monotonic() - began, began_with)
        self._progress.update(task, completed=done, detail=detail[-40:], **fields)


@contextmanager
def bars() -> Iterator[Bars]:
    """Progress bars on standard error, one a stage, called with stage, done, total and detail."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(*_columns(), console=console, transient=not console.is_terminal) as progress:
        yield Bars(progress)
