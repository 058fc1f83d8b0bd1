"""`POST /v1/videos` and `DELETE /v1/videos/{id}`: adding and removing videos, as jobs."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.concurrency import run_in_threadpool

from reelseek.web.jobs.requests import AddArguments, JobJSON
from reelseek.web.problems import AnyJSON
from reelseek.web.service import ServiceOf
from reelseek.web.state_services import JobsOf
from reelseek.web.v1.answers import problems
from reelseek.web.v1.jobs import Writer, submit_job

__all__ = ["router"]

router = APIRouter(prefix="/v1/videos", tags=["videos"], responses=problems(409, 410, 507))
LibraryName = Annotated[
    str | None, Query(max_length=200, description="which library; may be left out where there is one")
]


@router.post("", operation_id="add_videos", status_code=202, response_model=JobJSON)
async def add_videos(
    request: Request, body: AddArguments, service: ServiceOf, jobs: JobsOf, caller: Writer, library: LibraryName = None
) -> AnyJSON:
    """Add what lies at some paths of the server: the same as a job of the kind `add`."""
    return await submit_job(request, service, jobs, caller, "add", library, body.model_dump())


@router.delete("/{id}", operation_id="remove_video", status_code=202, response_model=JobJSON)
async def remove_video(
    request: Request,
    id: Annotated[str, Path(max_length=64, description="id of the video, as a hit names it")],
    service: ServiceOf,
    jobs: JobsOf,
    caller: Writer,
    library: LibraryName = None,
) -> AnyJSON:
    """Forget a video and all that was derived from it: the same as a job of the kind `remove`; its file stays."""
    served = service.library(library, caller)
    await run_in_threadpool(served.media.video, id)
    return await submit_job(request, service, jobs, caller, "remove", served.name, {"videos": [id], "expert": None})
