"""What assistants may do with a library: search, look inside a video, read it, see it, add to it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from pydantic import TypeAdapter, ValidationError

from reelseek.errors import ReelseekError, UsageError
from reelseek.library import Library, Video
from reelseek.library.names import printable
from reelseek.media.guard import stream
from reelseek.media.picture import strip
from reelseek.search import Searcher
from reelseek.search.current import IndexPending
from reelseek.web.accounts.audit import AuditLog
from reelseek.web.jobs.queue import Job
from reelseek.web.jobs.requests import JobRequest
from reelseek.web.jobs.service import Jobs
from reelseek.web.media import opaque_id
from reelseek.web.problems import Problem
from reelseek.web.service import ServedLibrary
from reelseek.web.v1.moments import parse_moment

__all__ = ["LibraryTools"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Answer = TypeVar("Answer")
_PENDING_SECONDS = 600.0  # that an index may take to be built
_MOST_LINES = 500
_MOST_FRAMES = 16
_FRAME_SECONDS = 30.0
_FRAME_LINES = 360
_ASSISTANT = "assistant"  # by whom its jobs are
_JOBS: TypeAdapter[Any] = TypeAdapter(JobRequest)


class ToolFailure(Exception):
    """What an assistant is told of a call that cannot be answered."""


def in_words(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Turn every expected error of a call into the sentence that an assistant reads."""

    @wraps(function)
    def call(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        try:
            return function(*arguments, **options)
        except Problem as problem:
            raise ToolFailure(problem.detail or problem.title) from problem
        except (ReelseekError, OSError) as error:
            raise ToolFailure(str(error)) from error

    return call


class LibraryTools:
    """The calls, over one library.

    Args:
        serve: returns the library, what searches it, and its videos by opaque id; may wait until they are loaded.
        jobs: None where nothing may be changed.
        audit: where each job that is asked for is noted first.
    """

    def __init__(
        self, serve: Callable[[], ServedLibrary], jobs: Jobs | None = None, audit: AuditLog | None = None
    ) -> None:
        self._serve, self._jobs, self._audit = serve, jobs, audit
        self._lock = threading.Lock()  # a searcher serves one thread at a time

    @property
    def _served(self) -> ServedLibrary:
        return self._serve()

    @property
    def _searcher(self) -> Searcher:
        return self._served.searcher

    def _ask(self, function: Callable[[Searcher], Answer]) -> Answer:
        """What a function makes of the searcher, once an index that it takes is built."""
        while True:
            try:
                with self._lock:
                    return function(self._searcher)
            except IndexPending as pending:
                pending.future.result(_PENDING_SECONDS)

    @property
    def _library(self) -> Library:
        return self._served.library

    def search(
        self,
        query: str,
        *,
        limit: int = 10,
        group_by: Literal["moment", "video"] = "moment",
        without: Sequence[str] = (),
        filter: str = "",
    ) -> dict[str, Any]:
        """Find moments, the best first, each with reasons in words."""
        hits = self._ask(
            lambda searcher: searcher.search(query, k=limit, group_by=group_by, without=list(without), filter=filter)
        )
        unread = self._ask(lambda searcher: searcher.unread(query))
        rows = [
            {
                "moment": replace(hit, video=opaque_id(hit.video)).moment, "name": printable(hit.video),
                "start": hit.start, "end": hit.end, "rank": hit.rank, "score": round(hit.similarity, 4),
                "confidence": hit.confidence, "strength": hit.strength,
                "why": [f"{why.modality}: {why.matched}" if why.matched else why.modality for why in hit.why],
            }
            for hit in hits
        ]  # fmt: skip
        notes = [f"read word for word only: {unread}"] if unread else []
        return {"hits": rows, "notes": notes}

    def look_inside(self, video: str, query: str, *, limit: int = 5) -> dict[str, Any]:
        """Where in one video a query is answered best, second by second."""
        row = self._video(video)
        inside = self._ask(lambda searcher: searcher.within(query, row.id, k=limit))
        peaks = [
            {
                "moment": replace(hit, video=opaque_id(row.id)).moment, "start": hit.start, "end": hit.end,
                "score": round(hit.similarity, 4),
            }
            for hit in inside.hits
        ]  # fmt: skip
        return {"name": printable(row.id), "duration": row.duration, "peaks": peaks}

    def transcript(
        self, video: str, *, start: float = 0.0, end: float | None = None, sources: Sequence[str] = ()
    ) -> dict[str, Any]:
        """What is said, written on screen and labelled in a video or a span of it, in order of time."""
        row = self._video(video)
        lines = [
            {
                "source": source, "start": text.start_seconds, "end": text.end_seconds,
                "text": text.text.encode("utf-8", "backslashreplace").decode(),
            }
            for owner in row.owners
            for source, text in self._library.texts(owner)
            if text.end_seconds >= start and (end is None or text.start_seconds < end)
            and (not sources or source in sources)
        ]  # fmt: skip
        lines.sort(key=lambda line: (line["start"], line["end"]))
        left_out = max(0, len(lines) - _MOST_LINES)
        notes = [f"{left_out} later lines are left out; ask for a span of the video"] if left_out else []
        return {"name": printable(row.id), "duration": row.duration, "lines": lines[:_MOST_LINES], "notes": notes}

    def frames(self, moment: str, *, count: int = 4) -> list[tuple[float, bytes]]:
        """JPEG pictures of a moment with their times in seconds, evenly spread over it."""
        if not 1 <= count <= _MOST_FRAMES:
            raise UsageError(f"count is {count}; it takes 1 to {_MOST_FRAMES}")
        span = parse_moment(self._served, moment)
        row = self._video(moment.partition("@")[0])
        step = (span.end - span.start) / count
        times = [span.start + step * (place + 0.5) for place in range(count)]
        if isinstance(row.path, Path) and row.path.is_file():
            pictures = list(_pictures(row.path, times))
            if pictures:
                return pictures
        stored = [(second, self._library.thumbnail(row.content, second)) for second in times] if row.content else []
        pictures = [(second, jpeg) for second, jpeg in stored if jpeg is not None]
        if not pictures:
            raise UsageError(f"{printable(row.id)} has no pictures, or its file is not at hand")
        return pictures

    def status(self, job: str | None = None) -> dict[str, Any]:
        """What the library holds and which jobs there are; or one job."""
        if job is not None:
            match = self._jobs.queue.get(job) if self._jobs is not None else None
            if match is None or match.library != self._served.name:
                raise UsageError(f"there is no job {job!r}")
            return _job_json(match)
        videos, _, seconds = self._library.catalog.videos.totals()
        recent = self._jobs.queue.jobs(limit=1000) if self._jobs is not None else []
        return {
            "library": self._served.name, "videos": videos, "seconds": round(seconds, 1),
            "clips": self._searcher.index.live,
            "experts": {name: facts["present"] for name, facts in self._library.experts().items()},
            "failures": len(self._library.failures()),
            "jobs": [_job_json(row) for _, row in recent if row.library == self._served.name][:10],
        }  # fmt: skip

    def add_job(self, kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Put a job into the queue, after a row in the audit log."""
        if self._jobs is None:
            raise UsageError("this server changes nothing; start it without --read-only")
        row = self._audit.begin(_ASSISTANT, "", "mcp add_job", {"kind": str(kind)[:20]}) if self._audit else None
        status, facts = 500, {"kind": str(kind)[:20]}
        try:
            job = self._submit(self._jobs, kind, arguments)
            status, facts = 202, {"job": job.id, "kind": job.kind, "library": job.library}
            return _job_json(job)
        except (ReelseekError, Problem):
            status = 400
            raise
        finally:
            if self._audit is not None and row is not None:
                self._audit.complete(row, status, facts)

    def _submit(self, jobs: Jobs, kind: str, arguments: dict[str, Any]) -> Job:
        if isinstance(arguments.get("videos"), list):
            arguments = {**arguments, "videos": [opaque_id(self._video(str(name)).id) for name in arguments["videos"]]}
        try:
            request = _JOBS.validate_python({"kind": kind, "arguments": arguments})
        except ValidationError as error:
            reasons = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
            raise UsageError(f"no such job: {reasons}") from error
        return jobs.submit(
            request.kind, self._library, self._served.name, request.arguments.model_dump(), by=_ASSISTANT
        )

    def _video(self, name: str) -> Video:
        """The video of an opaque id, an id or a name."""
        opaque = name.partition("@")[0]
        if len(opaque) == 24 and set(opaque) <= set("0123456789abcdef"):
            return self._served.media.video(opaque)
        return self._library.video(name)


def _pictures(path: Path, times: Sequence[float]) -> Iterator[tuple[float, bytes]]:
    """Frames at some times, by a guarded process."""
    tasks = [(path, [second], _FRAME_LINES) for second in times]
    with closing(stream(_strip, tasks, seconds=lambda _: _FRAME_SECONDS, memory_bytes=2 * 2**30)) as results:
        for task, outcome in results:
            if isinstance(outcome, bytes):
                yield task[1][0], outcome


def _strip(task: tuple[Path, list[float], int]) -> Iterator[bytes]:
    yield strip(task)


def _job_json(job: Job) -> dict[str, Any]:
    return {
        "id": job.id, "kind": job.kind, "state": job.state, "progress": job.progress, "error": job.error,
        "result": job.result, "attempts": job.attempts,
    }  # fmt: skip
