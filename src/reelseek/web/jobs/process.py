"""A command as a process: its progress, its lines, and its end; gentle first, hard after a while."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

__all__ = [
    "COMMAND",
    "FIRM_SECONDS",
    "GENTLE_SECONDS",
    "PROGRESS_VARIABLE",
    "CommandProcess",
    "Line",
    "end_process",
    "identity",
]

COMMAND = (sys.executable, "-m", "reelseek.cli.main")
PROGRESS_VARIABLE = "REELSEEK_PROGRESS_FD"
_LONGEST_LINE = 2000
_MOST_OUTPUT_LINES = 2000  # of standard output that a result is made of
GENTLE_SECONDS = 20.0  # from an interrupt to the next signal
FIRM_SECONDS = 5.0  # from that to SIGKILL


@dataclass(frozen=True)
class Line:
    """What a command says: a line of its output, or of its progress."""

    stream: Literal["output", "message", "progress"]
    text: str

    def as_progress(self) -> dict[str, Any] | None:
        """A line of progress as a table; None where it is none."""
        try:
            content = json.loads(self.text)
        except ValueError:
            return None
        return content if isinstance(content, dict) else None


class CommandProcess:
    """A running command of the command line, in a process group of its own.

    Args:
        arguments: after `reelseek`.
        environment: variables beyond those of this process.
    """

    def __init__(self, arguments: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        reading, writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*COMMAND, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                pass_fds=[writing], start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {}), PROGRESS_VARIABLE: str(writing)},
            )  # fmt: skip
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self.output: deque[str] = deque(maxlen=_MOST_OUTPUT_LINES)
        self.messages: deque[str] = deque(maxlen=50)
        self._lines: queue.Queue[Line] = queue.Queue(maxsize=1000)
        self._cancelling: threading.Thread | None = None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        pipes: tuple[tuple[Literal["output", "message", "progress"], IO[bytes]], ...] = (
            ("output", self._process.stdout), ("message", self._process.stderr), ("progress", os.fdopen(reading, "rb")),
        )  # fmt: skip
        self._readers = [threading.Thread(target=self._read, args=pair, daemon=True) for pair in pipes]
        for reader in self._readers:
            reader.start()

    @property
    def identity(self) -> str:
        return identity(self._process.pid)

    def lines(self, seconds: float) -> Iterator[Line]:
        """What it says, until it has ended and all is read; returns now and then without a line.

        Yields:
            at least an empty line of the stream `message` every so many seconds.
        """
        while True:
            try:
                yield self._lines.get(timeout=seconds)
            except queue.Empty:
                if self._process.poll() is not None and not any(reader.is_alive() for reader in self._readers[:2]):
                    return
                if self._process.poll() is not None and self._silent_after_end():
                    return
                yield Line("message", "")

    def _silent_after_end(self) -> bool:
        """Whether what it started still holds its pipes though it has ended; those processes are ended as well."""
        self._signal_group(signal.SIGKILL)
        for reader in self._readers:
            reader.join(1.0)
        return self._lines.empty()

    def wait(self) -> int:
        """Its exit status; below 0 the number of the signal that ended it."""
        return self._process.wait()

    def cancel(self) -> None:
        """End it as Ctrl-C would, and by force if it does not end; returns at once."""
        if self._cancelling is None:
            self._cancelling = threading.Thread(target=self._cancel, daemon=True)
            self._cancelling.start()

    def kill(self) -> None:
        """End it and all that it started at once."""
        self._signal_group(signal.SIGKILL)

    def _cancel(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGINT)
        for seconds, number in ((GENTLE_SECONDS, signal.SIGTERM), (FIRM_SECONDS, signal.SIGKILL)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
                return
            self._signal_group(number)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _read(self, stream: Literal["output", "message", "progress"], pipe: IO[bytes]) -> None:
        with pipe:
            while raw := pipe.readline(1 << 20):
                text = raw.decode("utf-8", "replace").rstrip("\r\n")
                if stream == "output":
                    self.output.append(text)
                if stream == "message" and text:
                    self.messages.append(text)
                shown = text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}… ({len(text)} letters)"
                self._lines.put(Line(stream, shown))


def identity(pid: int) -> str:
    """What tells a process from a later one with the same number: the number and when it began."""
    return f"{pid}:{_start_ticks(pid)}"


def end_process(process: str, seconds: float = GENTLE_SECONDS) -> None:
    """End a process that an earlier server started, if it still runs."""
    pid_text, _, ticks = process.partition(":")
    pid, deadline = int(pid_text), time.monotonic() + seconds
    if ticks and _start_ticks(pid) == ticks:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
    while ticks and _start_ticks(pid) == ticks and time.monotonic() < deadline:
        time.sleep(0.1)
    if ticks and _start_ticks(pid) == ticks:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _start_ticks(pid: int) -> str:
    """When a process began, in the kernel's ticks; '' where there is none, it is over, or the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
