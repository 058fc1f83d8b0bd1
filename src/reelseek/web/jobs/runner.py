"""The one thread that starts jobs when their turn comes, and a thread for each that runs."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from reelseek.errors import LibraryError, ReelseekError
from reelseek.library import Library
from reelseek.web.jobs.commands import Commands, NothingToDo
from reelseek.web.jobs.made import made_by
from reelseek.web.jobs.outcome import outcome
from reelseek.web.jobs.process import CommandProcess, Line, end_process
from reelseek.web.jobs.queue import Job, JobQueue

__all__ = ["JobRunner"]

_LOOK_SECONDS = 0.5  # between two looks at the queue, into which other processes put jobs too
_FLUSH_SECONDS = 0.5
_UNITS = {
    "examining": "files", "reading": "bytes", "extracting": "seconds of video",
    "indexing": "clips", "embedding": "clips", "training": "epochs",
    "comparing": "pairs", "writing": "videos",
}  # fmt: skip
_log = logging.getLogger("reelseek.web")


class JobRunner:
    """Runs the jobs of a queue.

    Args:
        most_running: how many at a time; of those that write to one library always one.
        ended: called with each job that is over.
        environment: variables of the commands beyond those of this process.
    """

    def __init__(
        self,
        queue: JobQueue,
        commands: Commands,
        *,
        most_running: int = 2,
        ended: Callable[[Job], None] = lambda job: None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._queue, self._commands, self._most_running = queue, commands, most_running
        self._ended, self._environment = ended, environment or {}
        self._processes: dict[str, CommandProcess | None] = {}
        self._condition = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Let jobs wait again that an earlier server left, and begin to run what waits."""
        for job in self._queue.running():
            if job.process:
                end_process(job.process)
        for job in self._queue.requeue_interrupted():
            _log.warning("job %s (%s) ran when an earlier server ended", job.id, job.kind)
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look at the queue now."""
        with self._condition:
            self._condition.notify_all()

    def cancel(self, identifier: str) -> Job | None:
        """Cancel a job; one that runs is ended gently, and after a while by force."""
        job = self._queue.cancel(identifier)
        self._end_cancelled()
        return job

    def close(self, seconds: float = 30.0) -> None:
        """Start no more jobs, end those that run so that the next server goes on with them, and wait for that."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        for process in list(self._processes.values()):
            if process is not None:
                process.cancel()
        deadline = time.monotonic() + seconds
        if self._thread is not None:
            self._thread.join(seconds)
        while self._processes and time.monotonic() < deadline:
            time.sleep(0.05)

    # The thread that starts jobs

    def _run(self) -> None:
        while not self._closing:
            try:
                self._end_cancelled()
                started = self._start_next()
            except Exception as error:  # a full disk, say: the queue is looked at again later
                _log.error("the queue of jobs: %s", error)
                started = False
            if not started:
                with self._condition:
                    if not self._closing:
                        self._condition.wait(_LOOK_SECONDS)

    def _start_next(self) -> bool:
        if len(self._processes) >= self._most_running:
            return False
        job = self._queue.claim()
        if job is None:
            return False
        self._processes[job.id] = None
        threading.Thread(target=self._run_job, args=(job,), name=f"job {job.id}", daemon=True).start()
        return True

    def _end_cancelled(self) -> None:
        """End what was cancelled, here or by another process."""
        for job in self._queue.running():
            process = self._processes.get(job.id)
            if job.cancelled and process is not None:
                process.cancel()

    # The thread of a job

    def _run_job(self, job: Job) -> None:
        try:
            try:
                with Library.open(job.folder) as library:
                    arguments = self._commands.command(job, library)
                self._run_command(job, arguments)
            except NothingToDo as nothing:
                self._finish(job, "succeeded", result={"output": str(nothing)})
            except (ReelseekError, OSError) as error:
                self._finish(job, "failed", error=str(error))
            except Exception as error:
                _log.exception("job %s", job.id)
                self._finish(job, "failed", error=f"an error of the server: {type(error).__name__}: {error}")
        finally:
            self._processes.pop(job.id, None)
            self.wake()

    def _run_command(self, job: Job, arguments: list[str]) -> None:
        process = CommandProcess(arguments, environment=self._environment)
        self._processes[job.id] = process
        follower = _Follower(self._queue, job)
        with contextlib.suppress(LibraryError):
            self._queue.note_process(job.id, process.identity)
        if self._closing:
            process.cancel()
        for line in process.lines(_FLUSH_SECONDS):
            follower.add(line)
        follower.flush()
        code = process.wait()
        current = self._queue.get(job.id)
        cancelled = current is not None and current.cancelled
        if self._closing and not cancelled and code != 0:
            return  # it stays marked as running, and the next server goes on with it
        state, error, result = outcome(job, code, list(process.output), list(process.messages), cancelled=cancelled)
        # The folder of a model is named by the user, and may be an earlier training's.
        made = made_by(job, self._commands.state) if state == "succeeded" or job.kind != "train" else {}
        self._finish(job, state, error=error, result={**result, **made})

    def _finish(self, job: Job, state: Any, **facts: Any) -> None:
        """Note the end of a job, again and again while the disk is full; nothing else of it is lost."""
        while True:
            try:
                self._queue.finish(job.id, state, **facts)
                break
            except LibraryError as error:
                _log.error("job %s is over (%s), which cannot be noted: %s", job.id, state, error)
                if self._closing:
                    return
                time.sleep(5.0)
        current = self._queue.get(job.id)
        if current is not None:
            self._ended(current)


class _Follower:
    """Notes what a command says, a few times a second."""

    def __init__(self, queue: JobQueue, job: Job) -> None:
        self._queue, self._job = queue, job
        self._lines: list[tuple[str, str]] = []
        self._progress: dict[str, Any] | None = None
        self._stage, self._stage_began, self._stage_first = "", 0.0, 0
        self._flushed = 0.0

    def add(self, line: Line) -> None:
        """Take a line, and note what was taken if it is time."""
        if line.stream == "progress":
            self._progress = self._describe(line) or self._progress
        elif line.text.strip():
            self._lines.append((line.stream, line.text))
        if time.monotonic() - self._flushed >= _FLUSH_SECONDS or len(self._lines) >= 200:
            self.flush()

    def flush(self) -> None:
        """Note what was taken."""
        self._flushed = time.monotonic()
        with contextlib.suppress(LibraryError):  # the disk is full; what the command does matters more
            if self._lines:
                self._queue.add_lines(self._job.id, self._lines)
            if self._progress is not None:
                self._queue.set_progress(self._job.id, self._progress)
        self._lines, self._progress = [], None

    def _describe(self, line: Line) -> dict[str, Any] | None:
        content = line.as_progress()
        if content is None:
            return None
        stage, done, total = str(content["stage"]), int(content["done"]), int(content["total"])
        moment = time.monotonic()
        if stage != self._stage or done < self._stage_first:
            self._stage, self._stage_began, self._stage_first = stage, moment, done
        advanced, seconds = done - self._stage_first, moment - self._stage_began
        remaining = round(seconds / advanced * (total - done), 1) if advanced > 0 and total > 0 else None
        detail = str(content.get("detail") or "")
        return {
            "done": done, "total": total, "unit": _UNITS.get(stage, "steps"),
            "text": f"{stage} {detail}".strip(), "seconds_left": remaining,
        }  # fmt: skip
