"""Progress in a Jupyter notebook, where nobody asked for it in another form: a line and a bar for each stage."""

import html
import sys
import time
from importlib import import_module
from typing import Any

from reelseek.library.report import STAGES_IN_BYTES, STAGES_IN_SECONDS, Progress

__all__ = ["NotebookProgress", "default_progress", "in_notebook"]

_SECONDS_BETWEEN = 0.2


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which shows what is displayed."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", {})


class NotebookProgress:
    """Shows stages below a notebook's cell, each in a place that is written anew as it goes on."""

    def __init__(self) -> None:
        self._places: dict[str, Any] = {}
        self._begun: dict[str, tuple[float, int]] = {}
        self._shown: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        now = time.monotonic()
        began, began_with = self._begun.setdefault(stage, (now, done))
        if stage in self._places and done < total and now - self._shown[stage] < _SECONDS_BETWEEN:
            return
        self._shown[stage] = now
        amount = f"{done} of {total}"
        if stage in STAGES_IN_SECONDS:
            amount = f"{_clock(done)} of {_clock(total)} of video"
        elif stage in STAGES_IN_BYTES:
            amount = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"
        rest = (total - done) * (now - began) / (done - began_with) if began_with < done < total else 0.0
        words = [stage, amount, *([f"{_clock(rest)} left"] if rest else []), *([detail] if detail else [])]
        self._show(stage, f'<progress value="{done}" max="{max(1, total)}"></progress> {html.escape(", ".join(words))}')

    def _show(self, stage: str, content: str) -> None:
        screen = import_module("IPython.display")  # which comes with every notebook, and with nothing else
        picture = screen.HTML(content)
        if stage in self._places:
            self._places[stage].update(picture)
        else:
            self._places[stage] = screen.display(picture, display_id=True)


def default_progress() -> Progress:
    """Return what shows progress where the caller names nothing: a notebook's bars, elsewhere nothing."""
    return NotebookProgress() if in_notebook() else lambda *_: None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
