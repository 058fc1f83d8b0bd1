"""`/v1/libraries`: what is served, what it holds and costs, what failed, and which folders are watched."""

from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from reelseek.library import Library
from reelseek.library.names import printable
from reelseek.web.accounts.guard import note
from reelseek.web.jobs.queue import Job
from reelseek.web.jobs.requests import AddArguments, JobJSON, Text
from reelseek.web.jobs.watch import WatchedFolder
from reelseek.web.problems import AnyJSON, Problem
from reelseek.web.service import Caller, Reader, ServedLibrary, ServiceOf, require
from reelseek.web.state_services import JobsOf, StateServices, opened_library
from reelseek.web.v1.answers import problems
from reelseek.web.v1.jobs import Writer, job_json

__all__ = ["router"]

router = APIRouter(prefix="/v1/libraries", tags=["libraries"], responses=problems(409, 410, 507))
Admin = Annotated[Caller, Depends(require("admin"))]
LibraryName = Annotated[str, Path(max_length=200, description="name of the library")]
_NEW_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"  # names a folder; pydantic searches where nothing is anchored
_MOST_FAILURES = 1000


class NewLibrary(BaseModel):
    """A library that is begun by adding videos."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(pattern=_NEW_NAME)]
    arguments: AddArguments


class Folders(BaseModel):
    """The folders that are watched, and no others."""

    model_config = ConfigDict(extra="forbid")
    folders: list[Text] = Field(max_length=100)


class LibrarySummary(BaseModel):
    """A library in a list."""

    name: str
    state: str = Field(description="`served`, or `begun` where it holds nothing to search yet")
    videos: int
    seconds: float = Field(description="of all videos")
    clips: int
    failures: int


class LibraryList(BaseModel):
    """The libraries that you may see."""

    data: list[LibrarySummary]


class ExpertJSON(BaseModel):
    """What one expert made, and what it costs."""

    name: str
    modality: str
    dim: int
    tracks: int
    present: int = Field(description="videos in which it found evidence")
    bytes: int = Field(description="on the disk")
    seconds: float | None = Field(description="that it computed; null where that was not measured")


class FailureJSON(BaseModel):
    """What could not be read or extracted."""

    video: str
    expert: str | None = Field(description="null is the file itself")
    reason: str
    attempts: int


class WatchedJSON(BaseModel):
    """A watched folder, and what the last look at it saw."""

    folder: str
    since: float
    by: str
    problem: str = Field(description="why it cannot be watched at the moment; '' where it can")
    waiting: int = Field(description="new files that still change, or wait for another job")
    looked: float | None


class LibraryJSON(LibrarySummary):
    """One library."""

    captions: int
    splits: dict[str, int]
    system: str | None
    experts: list[ExpertJSON]
    failed: list[FailureJSON]
    failed_left_out: int = Field(description="failures beyond those that are listed")
    bytes: dict[str, int] = Field(description="space on the disk by part: database, tracks, index, copies, other")
    folders: list[WatchedJSON]
    notes: list[str]


@router.get("", operation_id="list_libraries", response_model=LibraryList)
async def list_libraries(request: Request, service: ServiceOf, caller: Reader) -> AnyJSON:
    """The libraries that you may see."""
    services: StateServices | None = request.app.state.services

    def summaries() -> list[dict[str, Any]]:
        served = service.libraries(caller)
        names = {library.name for library in service.libraries()}
        begun = services.jobs.begun() if services is not None else {}
        empty = {"state": "begun", "videos": 0, "seconds": 0.0, "clips": 0, "failures": 0}
        return [_summary(library) for library in served] + [
            {"name": name, **empty} for name in begun if name not in names and caller.may_see(name)
        ]

    return AnyJSON({"data": await run_in_threadpool(summaries)})


@router.post("", operation_id="begin_library", status_code=202, response_model=JobJSON)
async def begin_library(request: Request, body: NewLibrary, service: ServiceOf, jobs: JobsOf, caller: Admin) -> AnyJSON:
    """Begin a library by an add job; it is served as soon as that has something to search."""
    if any(served.name == body.name for served in service.libraries()):
        raise Problem(409, "the name is taken", f"a library {body.name!r} is served already")

    def begin() -> Job:
        arguments = body.arguments.model_dump()
        jobs.roots.check([*body.arguments.paths, *filter(None, [body.arguments.captions])], jobs.roots.folders)
        folder = jobs.begin_library(body.name, by=caller.name)
        try:
            with Library.open(folder, create=True) as library:
                return jobs.submit("add", library, body.name, arguments, by=caller.name)
        except BaseException:
            jobs.forget_library(body.name)  # else its name would be taken by a library that nobody can fill
            raise

    job = await run_in_threadpool(begin)
    note(request, library=body.name, job=job.id)
    return AnyJSON(job_json(job, caller), 202)


@router.get("/{name}", operation_id="get_library", response_model=LibraryJSON)
async def get_library(request: Request, name: LibraryName, service: ServiceOf, caller: Reader) -> AnyJSON:
    """One library: videos, clips, experts with cost and space, failures with reasons, watched folders."""
    served = service.library(name, caller)
    services: StateServices | None = request.app.state.services
    watched = await run_in_threadpool(services.jobs.watched, served.library.path) if services is not None else []
    return AnyJSON(await run_in_threadpool(_library_json, served, watched, caller))


@router.put("/{name}/folders", operation_id="watch_folders", response_model=list[WatchedJSON])
async def watch_folders(
    request: Request, name: LibraryName, body: Folders, service: ServiceOf, jobs: JobsOf, caller: Writer
) -> AnyJSON:
    """Watch these folders: new files are added once they have stopped changing, moved ones keep their ids."""
    note(request, library=name, folders=body.folders)

    def watch() -> list[WatchedFolder]:
        with opened_library(service, jobs, name, caller) as (library, _):
            return jobs.watch(library, body.folders, by=caller.name)

    return AnyJSON([_watched_json(row) for row in await run_in_threadpool(watch)])


def _summary(served: ServedLibrary) -> dict[str, Any]:
    videos, _, seconds = served.library.catalog.videos.totals()
    return {
        "name": served.name, "state": "served", "videos": videos, "seconds": round(seconds, 3),
        "clips": served.searcher.index.live, "failures": len(served.library.failures()),
    }  # fmt: skip


def _library_json(served: ServedLibrary, watched: list[WatchedFolder], caller: Caller) -> dict[str, Any]:
    library, failures = served.library, served.library.failures()
    return {
        **_summary(served),
        "captions": sum(library.splits().values()),
        "splits": library.splits(),
        "system": served.searcher.model.system,
        "experts": _experts(library),
        "failed": [
            {
                "video": printable(row["video"]), "expert": row["expert"], "attempts": row["attempts"],
                "reason": _nameless(library, row),
            }
            for row in failures[:_MOST_FAILURES]
        ],
        "failed_left_out": max(0, len(failures) - _MOST_FAILURES),
        "bytes": _space(library.path),
        "folders": [_watched_json(row) for row in watched] if "write" in caller.scopes else [],
        "notes": [note for note in [served.searcher.left_out] if note],
    }  # fmt: skip


def _nameless(library: Library, failure: dict[str, Any]) -> str:
    """A reason without the path: where files lie is nobody's business on a page."""
    video = library.get(failure["video"])
    reason = str(failure["reason"])
    for path in (video.path,) if video is not None and video.path is not None else ():
        for text in (repr(str(path)), str(path)):
            reason = reason.replace(text, printable(failure["video"]))
    return reason


def _experts(library: Library) -> list[dict[str, Any]]:
    """Experts in order of the space that their tracks take."""
    space: dict[str, int] = {}
    for row in library.track_rows():
        width = {"float16": 2, "float32": 4}.get(row.dtype, 8)
        space[row.expert] = space.get(row.expert, 0) + row.steps * (row.dim * width + 16)
    seconds = library.catalog.expert_seconds()
    rows = [
        {
            "name": name, "modality": facts["modality"], "dim": facts["dim"], "tracks": facts["tracks"],
            "present": facts["present"], "bytes": space.get(name, 0), "seconds": seconds.get(name),
        }
        for name, facts in library.experts().items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-row["bytes"], row["name"]))


def _space(folder: FilePath) -> dict[str, int]:
    """Bytes on the disk of the parts of a library; a file that goes meanwhile counts as none."""
    parts = {"database": 0, "tracks": 0, "index": 0, "copies": 0, "other": 0}
    kinds = {"tracks": "tracks", "embeddings": "index", "index": "index", "indexes": "index", "copies": "copies"}
    for path in folder.rglob("*"):
        top = path.relative_to(folder).parts[0]
        part = "database" if top.startswith("library.db") else kinds.get(top, "other")
        try:
            status = path.lstat()
        except OSError:
            continue
        if not path.is_dir():
            parts[part] += status.st_blocks * 512
    return parts


def _watched_json(row: WatchedFolder) -> dict[str, Any]:
    return {**vars(row), "folder": printable(row.folder)}
