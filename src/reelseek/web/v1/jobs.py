"""`/v1/jobs`: what changes or measures a library, queued, followed as it runs, cancelled and run again."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from reelseek.web.accounts.guard import note
from reelseek.web.head import HEAD_ONLY
from reelseek.web.jobs.queue import Event, Job, JobQueue, JobState, Kind
from reelseek.web.jobs.requests import JobJSON, JobList, JobRequest
from reelseek.web.jobs.service import Jobs
from reelseek.web.problems import AnyJSON, Problem
from reelseek.web.service import Caller, Reader, Service, ServiceOf, require
from reelseek.web.state_services import JobsOf, opened_library, still_admitted
from reelseek.web.v1.answers import problems

__all__ = ["Writer", "job_json", "router", "submit_job"]

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=problems(409, 410, 507))
Writer = Annotated[Caller, Depends(require("write"))]
Identifier = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="id of the job")]
_STATES: dict[JobState, str] = {
    "queued": "waits", "running": "runs", "succeeded": "has succeeded", "failed": "has failed",
    "cancelled": "was cancelled",
}  # fmt: skip
_LOOK_SECONDS = 0.4
_HEARTBEAT_SECONDS = 15.0
_MOST_STREAMS = 64


@router.post("", operation_id="add_job", status_code=202, response_model=JobJSON)
async def add_job(request: Request, body: JobRequest, service: ServiceOf, jobs: JobsOf, caller: Writer) -> AnyJSON:
    """Check a job and put it into the queue."""
    return await submit_job(request, service, jobs, caller, body.kind, body.library, body.arguments.model_dump())


@router.get("", operation_id="list_jobs", response_model=JobList)
async def list_jobs(
    jobs: JobsOf,
    caller: Reader,
    library: Annotated[str | None, Query(max_length=200)] = None,
    state: JobState | None = None,
    kind: Kind | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    page_token: Annotated[str | None, Query(pattern="^[0-9]{1,18}$")] = None,
) -> AnyJSON:
    """Jobs on libraries that you may see, newest first."""

    def select() -> dict[str, Any]:
        rows: list[tuple[int, Job]] = []
        before = int(page_token) if page_token else None
        while page := jobs.queue.jobs(before=before, limit=500):
            before = page[-1][0]
            rows += [
                (number, job)
                for number, job in page
                if caller.may_see(job.library)
                and library in (None, job.library)
                and state in (None, job.state)
                and kind in (None, job.kind)
            ]
            if len(rows) > limit:
                break
        token = str(rows[limit - 1][0]) if len(rows) > limit else None
        return {"data": [job_json(job, caller) for _, job in rows[:limit]], "next_token": token}

    return AnyJSON(await run_in_threadpool(select))


@router.get("/{id}", operation_id="get_job", response_model=JobJSON)
async def get_job(id: Identifier, jobs: JobsOf, caller: Reader) -> AnyJSON:
    """One job as it is now."""
    return AnyJSON(job_json(await run_in_threadpool(_visible, jobs.queue, id, caller), caller))


@router.post("/{id}/cancel", operation_id="cancel_job", response_model=JobJSON)
async def cancel_job(request: Request, id: Identifier, jobs: JobsOf, caller: Writer) -> AnyJSON:
    """End a job: at once where it waits, as soon as it has put down what it holds where it runs."""
    job = await run_in_threadpool(_visible, jobs.queue, id, caller)
    if job.is_over:
        raise Problem(409, "the job is over", f"it {_STATES[job.state]} already")
    note(request, job=job.id, kind=job.kind, library=job.library)
    cancelled = await run_in_threadpool(jobs.cancel, id)
    return AnyJSON(job_json(cancelled or job, caller))


@router.post("/{id}/retry", operation_id="retry_job", status_code=202, response_model=JobJSON)
async def retry_job(request: Request, id: Identifier, jobs: JobsOf, caller: Writer) -> AnyJSON:
    """Run a job again that failed or was cancelled; what it finished is not done again."""
    job = await run_in_threadpool(_visible, jobs.queue, id, caller)
    note(request, job=job.id, kind=job.kind, library=job.library)
    again = await run_in_threadpool(jobs.retry, id)
    if again is None:
        job = await run_in_threadpool(_visible, jobs.queue, id, caller)  # somebody else may have done it meanwhile
        message = f"the job {_STATES[job.state]}; only what failed or was cancelled is run again"
        raise Problem(409, "nothing to run again", message)
    return AnyJSON(job_json(again, caller), 202)


@router.get(
    "/{id}/events",
    operation_id="follow_job",
    response_class=StreamingResponse,
    responses={
        200: {"description": "Events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
        204: {"description": "The job is over, and all its events have arrived."},
    },
)
async def follow_job(
    request: Request,
    id: Identifier,
    jobs: JobsOf,
    caller: Writer,
    last_event_id: Annotated[str | None, Header(pattern="^[0-9]{1,18}$")] = None,
) -> Response:
    """Server-sent events: `progress`, `log` and `end`; `Last-Event-ID` goes on after an event that arrived."""
    job = await run_in_threadpool(_visible, jobs.queue, id, caller)
    after = int(last_event_id or 0)
    if job.is_over and not await run_in_threadpool(jobs.queue.events, id, after):
        return Response(status_code=204)  # tells a browser to connect no more
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.scope.get(HEAD_ONLY):
        return Response(media_type="text/event-stream", headers=headers)
    streams: set[Any] = request.app.state.__dict__.setdefault("event_streams", set())
    if len(streams) >= _MOST_STREAMS:
        raise Problem(503, "too many follow jobs", f"{_MOST_STREAMS} pages do at the moment", retry_seconds=10)
    return StreamingResponse(
        _stream(request, jobs, id, after, streams), media_type="text/event-stream", headers=headers
    )


async def submit_job(
    request: Request, service: Service, jobs: Jobs, caller: Caller, kind: Kind, name: str | None,
    arguments: dict[str, Any],
) -> AnyJSON:  # fmt: skip
    """Check a job, put it into the queue, and answer with it.

    Raises:
        ReelseekError, Problem: it cannot succeed, or there is no such library for this caller.
    """

    def submit() -> Job:
        with opened_library(service, jobs, name, caller) as (library, served_name):
            return jobs.submit(kind, library, served_name, arguments, by=caller.name)

    job = await run_in_threadpool(submit)
    note(request, job=job.id, kind=job.kind, library=job.library)
    location = f"{request.scope.get('root_path', '')}/v1/jobs/{job.id}"
    return AnyJSON(job_json(job, caller), 202, {"Location": location})


async def _stream(request: Request, jobs: Jobs, id: str, after: int, streams: set[Any]) -> AsyncIterator[str]:
    """Events until the job is over, and a heartbeat where there are none for a while."""
    key, silent = object(), 0.0
    streams.add(key)
    try:
        yield "retry: 2000\n\n"
        while True:
            job = await run_in_threadpool(jobs.queue.get, id)
            for event in await run_in_threadpool(jobs.queue.events, id, after):
                yield _sse(event)
                after, silent = max(after, event.sequence), 0.0
            if job is None or job.is_over:
                return
            await asyncio.sleep(_LOOK_SECONDS)
            silent += _LOOK_SECONDS
            if silent >= _HEARTBEAT_SECONDS:
                if not await still_admitted(request, "write"):
                    return
                yield ": still here\n\n"
                silent = 0.0
    finally:
        streams.discard(key)


def _sse(event: Event) -> str:
    identifier = f"id: {event.sequence}\n" if event.sequence else ""
    return f"{identifier}event: {event.kind}\ndata: {json.dumps(event.content)}\n\n"


def _visible(queue: JobQueue, identifier: str, caller: Caller) -> Job:
    job = queue.get(identifier)
    if job is None or not caller.may_see(job.library):
        raise Problem(404, "no such job", "there is no job of this id")
    return job


def job_json(job: Job, caller: Caller) -> dict[str, Any]:
    """A job on the wire; folders, reasons and results are for who may write."""
    writes = "write" in caller.scopes
    progress = job.progress
    if progress is not None and not writes:
        progress = {**progress, "text": str(progress["text"]).partition(" ")[0]}
    return {
        "id": job.id, "kind": job.kind, "library": job.library, "arguments": job.arguments if writes else {},
        "state": job.state, "progress": progress, "created": job.created, "started": job.started, "ended": job.ended,
        "by": job.by, "error": job.error if writes or job.error is None else "who may write sees why",
        "result": job.result if writes else None, "attempts": job.attempts,
    }  # fmt: skip
