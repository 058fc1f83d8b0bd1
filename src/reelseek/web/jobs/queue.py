"""The queue of jobs in SQLite: what waits, what runs, what became of it, and the events that pages follow.

Several processes may put jobs in; the one that runs them claims them one by one, never two at a time that write to the
same library. A job that ran when its server was killed waits again.
"""

import json
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from reelseek.web.state import Database, now

__all__ = ["WRITING", "Event", "Job", "JobQueue", "JobState", "Kind"]

Kind = Literal["add", "remove", "index", "scan", "caption", "train", "evaluate"]
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
WRITING = frozenset(("add", "remove", "index", "caption"))
"""Kinds of which one at a time runs on a library."""

_MOST_LINES = 1000  # of one job's log
_MOST_INTERRUPTIONS = 3
_MOST_ENDED = 1000  # jobs that are over and stay listed
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL, library TEXT NOT NULL, folder BLOB NOT NULL, arguments TEXT NOT NULL,
  state TEXT NOT NULL, progress TEXT, error TEXT, result TEXT,
  created REAL NOT NULL, started REAL, ended REAL, by TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, interruptions INTEGER NOT NULL DEFAULT 0,
  cancelled INTEGER NOT NULL DEFAULT 0, process TEXT,
  sequence INTEGER NOT NULL DEFAULT 0, lost_lines INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_state ON jobs(state, number);
CREATE TABLE IF NOT EXISTS events (
  job INTEGER NOT NULL REFERENCES jobs(number) ON DELETE CASCADE, sequence INTEGER NOT NULL,
  kind TEXT NOT NULL, content TEXT NOT NULL,
  PRIMARY KEY (job, sequence)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Job:
    """One job as it is now; times are seconds since 1970.

    Args:
        library: the name by which the server serves it, and `folder` where it lies.
        arguments: as they were asked for, checked.
        by: whose it is.
        error: why it failed, in words.
        attempts: how often it was started.
        process: identifies the process that runs it (`process.identity`).
    """

    id: str
    kind: Kind
    library: str
    folder: Path
    arguments: dict[str, Any]
    state: JobState
    progress: dict[str, Any] | None
    error: str | None
    result: dict[str, Any] | None
    created: float
    started: float | None
    ended: float | None
    by: str
    attempts: int
    interruptions: int = field(default=0, repr=False)
    cancelled: bool = field(default=False, repr=False)
    process: str | None = field(default=None, repr=False)

    @property
    def is_over(self) -> bool:
        return self.state in ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Event:
    """Something that happened to a job; `sequence` rises, also over attempts and restarts."""

    sequence: int
    kind: Literal["progress", "log", "end"]
    content: dict[str, Any]


class JobQueue:
    """The table of jobs.

    Args:
        path: of the database.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA)

    def close(self) -> None:
        self._database.close()

    # Reading

    def get(self, identifier: str) -> Job | None:
        """The job of an id."""
        row = self._database.row("SELECT * FROM jobs WHERE id = ?", (identifier,))
        return _job(row) if row is not None else None

    def jobs(self, *, before: int | None = None, limit: int = 100) -> list[tuple[int, Job]]:
        """Jobs with their numbers, newest first; those before a number where one is named."""
        query = "SELECT * FROM jobs WHERE number < ? ORDER BY number DESC LIMIT ?"
        return [(row["number"], _job(row)) for row in self._database.rows(query, (before or 2**62, limit))]

    def running(self) -> list[Job]:
        return [_job(row) for row in self._database.rows("SELECT * FROM jobs WHERE state = 'running'")]

    def has_open(self, kind: Kind, folder: Path, by: str) -> bool:
        """Whether a job of a kind waits or runs for a library already, asked for by the same one."""
        query = "SELECT 1 FROM jobs WHERE kind = ? AND folder = ? AND by = ? AND state IN ('queued', 'running')"
        return self._database.row(query, (kind, bytes(folder), by)) is not None

    def events(self, identifier: str, after: int = 0) -> list[Event]:
        """What happened after an event; lines that are no longer kept are counted in a line of their own."""
        row = self._database.row("SELECT number, lost_lines FROM jobs WHERE id = ?", (identifier,))
        if row is None:
            return []
        query = "SELECT * FROM events WHERE job = ? AND sequence > ? ORDER BY sequence"
        events = [
            Event(event["sequence"], event["kind"], json.loads(event["content"]))
            for event in self._database.rows(query, (row["number"], after))
        ]
        if after == 0 and row["lost_lines"] and events:
            line = {"line": f"({row['lost_lines']} earlier lines are no longer kept)", "stream": "server"}
            events.insert(0, Event(0, "log", line))
        return events

    # Putting in and taking out

    def add(self, kind: Kind, library: str, folder: Path, arguments: Mapping[str, Any], *, by: str) -> Job:
        """Put a job at the end of the queue.

        Raises:
            LibraryError: the queue cannot be written.
        """
        identifier = secrets.token_hex(8)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO jobs(id, kind, library, folder, arguments, state, created, by)"
                " VALUES (?, ?, ?, ?, ?, 'queued', ?, ?)",
                (identifier, kind, library, bytes(folder), json.dumps(arguments), now(), by),
            )
            connection.execute(
                "DELETE FROM jobs WHERE number IN (SELECT number FROM jobs WHERE ended IS NOT NULL"
                " ORDER BY number DESC LIMIT -1 OFFSET ?)",
                (_MOST_ENDED,),
            )
        return self._require(identifier)

    def claim(self) -> Job | None:
        """Start the first job that may run now: no other one writes to its library."""
        with self._database.transaction() as connection:
            running = connection.execute("SELECT kind, folder FROM jobs WHERE state = 'running'").fetchall()
            busy = {row["folder"] for row in running if row["kind"] in WRITING}
            for row in connection.execute("SELECT * FROM jobs WHERE state = 'queued' ORDER BY number"):
                if row["kind"] in WRITING and row["folder"] in busy:
                    continue
                connection.execute(
                    "UPDATE jobs SET state = 'running', started = ?, ended = NULL, attempts = attempts + 1,"
                    " progress = NULL, error = NULL, result = NULL, process = NULL WHERE number = ?",
                    (now(), row["number"]),
                )
                identifier = row["id"]
                break
            else:
                return None
        return self._require(identifier)

    def note_process(self, identifier: str, process: str) -> None:
        """Note which process runs a job, so that a later server can end it."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE jobs SET process = ? WHERE id = ?", (process, identifier))

    def cancel(self, identifier: str) -> Job | None:
        """Cancel a job that waits; mark one that runs, whose runner then ends it."""
        with self._database.transaction() as connection:
            waits = connection.execute(
                "UPDATE jobs SET state = 'cancelled', ended = ?, error = 'cancelled before it began'"
                " WHERE id = ? AND state = 'queued' RETURNING number",
                (now(), identifier),
            ).fetchone()
            if waits is not None:
                _append(
                    connection, waits["number"], "end", {"state": "cancelled", "error": "cancelled before it began"}
                )
            connection.execute("UPDATE jobs SET cancelled = 1 WHERE id = ? AND state = 'running'", (identifier,))
        return self.get(identifier)

    def retry(self, identifier: str) -> Job | None:
        """Let a job that failed or was cancelled wait again; None where it did neither."""
        with self._database.transaction() as connection:
            row = connection.execute(
                "UPDATE jobs SET state = 'queued', ended = NULL, error = NULL, result = NULL, progress = NULL,"
                " cancelled = 0, interruptions = 0 WHERE id = ? AND state IN ('failed', 'cancelled') RETURNING number",
                (identifier,),
            ).fetchone()
            if row is None:
                return None
            _append(connection, row["number"], "log", {"line": "it waits to be run again", "stream": "server"})
        return self.get(identifier)

    def finish(
        self, identifier: str, state: JobState, *, error: str | None = None, result: Mapping[str, Any] | None = None
    ) -> None:
        """Note what became of a job."""
        with self._database.transaction() as connection:
            row = connection.execute(
                "UPDATE jobs SET state = ?, ended = ?, error = ?, result = ?, process = NULL WHERE id = ?"
                " RETURNING number",
                (state, now(), error, json.dumps(result) if result is not None else None, identifier),
            ).fetchone()
            if row is not None:
                _append(connection, row["number"], "end", {"state": state, "error": error, "result": result})

    def requeue_interrupted(self) -> list[Job]:
        """Let every job wait again that ran when its server ended; returns them as they were.

        One that was interrupted too often has failed: it may be what ends the server.
        """
        interrupted = self.running()
        for job in interrupted:
            if job.cancelled:
                self.finish(job.id, "cancelled", error="cancelled; the server ended before it did")
            elif job.interruptions + 1 >= _MOST_INTERRUPTIONS:
                message = f"the server ended {job.interruptions + 1} times while it ran; retry it when you know why"
                self.finish(job.id, "failed", error=message)
            else:
                self._requeue(job.id)
        return interrupted

    def _requeue(self, identifier: str) -> None:
        with self._database.transaction() as connection:
            row = connection.execute(
                "UPDATE jobs SET state = 'queued', process = NULL, interruptions = interruptions + 1 WHERE id = ?"
                " RETURNING number",
                (identifier,),
            ).fetchone()
            line = "the server ended while this ran; it goes on from what was finished"
            _append(connection, row["number"], "log", {"line": line, "stream": "server"})

    # Events

    def set_progress(self, identifier: str, progress: Mapping[str, Any]) -> None:
        """Replace what is known of a job's progress, as one event."""
        with self._database.transaction() as connection:
            row = connection.execute(
                "UPDATE jobs SET progress = ? WHERE id = ? RETURNING number", (json.dumps(progress), identifier)
            ).fetchone()
            if row is not None:
                connection.execute("DELETE FROM events WHERE job = ? AND kind = 'progress'", (row["number"],))
                _append(connection, row["number"], "progress", progress)

    def add_lines(self, identifier: str, lines: list[tuple[str, str]]) -> None:
        """Append (stream, line) to a job's log, of which the newest lines are kept."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT number FROM jobs WHERE id = ?", (identifier,)).fetchone()
            if row is None:
                return
            for stream, line in lines:
                _append(connection, row["number"], "log", {"line": line, "stream": stream})
            lost = connection.execute(
                "DELETE FROM events WHERE job = ?1 AND kind = 'log' AND sequence <= (SELECT sequence FROM events"
                " WHERE job = ?1 AND kind = 'log' ORDER BY sequence DESC LIMIT 1 OFFSET ?2)",
                (row["number"], _MOST_LINES),
            ).rowcount
            connection.execute(
                "UPDATE jobs SET lost_lines = lost_lines + ? WHERE number = ?", (max(0, lost), row["number"])
            )

    def _require(self, identifier: str) -> Job:
        job = self.get(identifier)
        assert job is not None
        return job


def _append(connection: sqlite3.Connection, number: int, kind: str, content: Mapping[str, Any]) -> None:
    sequence = connection.execute(
        "UPDATE jobs SET sequence = sequence + 1 WHERE number = ? RETURNING sequence", (number,)
    ).fetchone()[0]
    connection.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (number, sequence, kind, json.dumps(content)))


def _job(row: sqlite3.Row) -> Job:
    return Job(
        id=row["id"], kind=row["kind"], library=row["library"], folder=Path(_text(row["folder"])),
        arguments=json.loads(row["arguments"]), state=row["state"], progress=_json(row["progress"]),
        error=row["error"], result=_json(row["result"]), created=row["created"], started=row["started"],
        ended=row["ended"], by=row["by"], attempts=row["attempts"], interruptions=row["interruptions"],
        cancelled=bool(row["cancelled"]), process=row["process"],
    )  # fmt: skip


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _json(text: str | None) -> dict[str, Any] | None:
    return json.loads(text) if text is not None else None
