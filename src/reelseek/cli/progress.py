"""Progress for programs: JSON lines on a pipe whose number stands in REELSEEK_PROGRESS_FD.

A program that starts a command hands it the writing end of a pipe. The command then writes a line for each step,
`{"stage": "extracting", "done": 3, "total": 8, "detail": "holiday.mp4"}`, and stops as at Ctrl-C when it gets SIGTERM
or when nobody reads the pipe any more, by force if it has to, so that no command outlives the server that started it.
"""

import contextlib
import json
import os
import select
import signal
import threading
import time

from reelseek.errors import UsageError
from reelseek.web.jobs.process import FIRM_SECONDS, GENTLE_SECONDS, PROGRESS_VARIABLE

__all__ = ["ProgressPipe", "open_pipe", "pipe"]

_SECONDS_BETWEEN = 0.2
_LONGEST_DETAIL = 300


class ProgressPipe:
    """The writing end of a pipe of progress."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._written: dict[str, float] = {}
        self._lock = threading.Lock()

    def write(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Write a line; of one stage the first, the last, and at most five a second between them."""
        now = time.monotonic()
        if 0 < done < total and now - self._written.get(stage, -1.0) < _SECONDS_BETWEEN:
            return
        self._written[stage] = now
        line = {"stage": stage, "done": done, "total": total, "detail": detail[:_LONGEST_DETAIL]}
        with self._lock, contextlib.suppress(OSError):  # nobody reads any more: `_watch` ends the command
            os.write(self._number, json.dumps(line).encode() + b"\n")

    def watch(self) -> None:
        """Interrupt this process when the reading end is closed; end it by force if it goes on all the same."""
        threading.Thread(target=self._watch, name="progress", daemon=True).start()

    def _watch(self) -> None:
        poller = select.poll()
        poller.register(self._number, 0)  # POLLERR and POLLHUP are reported whatever is asked for
        poller.poll()
        # An interrupt can get lost: Python drops what is raised while it collects garbage, and one that comes between
        # the taking of a lock and the `try` after it leaves the lock taken for ever.
        for seconds in (GENTLE_SECONDS, FIRM_SECONDS):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)


_pipe: ProgressPipe | None = None


def pipe() -> ProgressPipe | None:
    """The pipe that whoever started this command reads, if any."""
    return _pipe


def open_pipe() -> None:
    """Take the pipe over at the start of a command; processes that it starts in its turn do not get it.

    Raises:
        UsageError: the variable names no pipe.
    """
    global _pipe
    text = os.environ.pop(PROGRESS_VARIABLE, None)
    if text is None:
        return
    try:
        number = int(text)
        os.set_inheritable(number, False)
    except (ValueError, OSError) as error:
        raise UsageError(f"{PROGRESS_VARIABLE} is {text!r}; it takes the number of an open pipe") from error
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a server in the background hands it on ignored
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _pipe = ProgressPipe(number)
    _pipe.watch()
