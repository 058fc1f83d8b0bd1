"""`/v1/tags` and `/v1/videos/{id}/tags`: words that people put on videos and on moments of them."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from reelseek.library import Library, Tag
from reelseek.library.words import fold
from reelseek.web.accounts.guard import note
from reelseek.web.problems import AnyJSON, Problem
from reelseek.web.service import Reader, ServiceOf
from reelseek.web.v1 import schema
from reelseek.web.v1.answers import problems
from reelseek.web.v1.jobs import Writer
from reelseek.web.v1.video_schema import MomentTag
from reelseek.web.v1.videos import LibraryName, Opaque, moment_tags

__all__ = ["router"]

router = APIRouter(tags=["videos"])


class TagsRequest(schema.Request):
    """Tags of a video, or with `start` and `end` of a moment of it."""

    tags: list[Annotated[str, Field(min_length=1, max_length=600)]] = Field(
        min_length=1, max_length=50, examples=[["holiday"]]
    )
    start: Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)] | None = None
    end: Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)] | None = None


class VideoTags(schema.Document):
    """The tags of a video and of its moments."""

    tags: list[str]
    moments: list[MomentTag]


class TagCount(schema.Document):
    """A tag of a library."""

    tag: str
    videos: int = Field(description="that have it as a whole")
    moments: int = Field(description="of videos that have it")


class TagList(schema.Document):
    """The tags of a library in order."""

    data: list[TagCount]


@router.get("/v1/tags", operation_id="list_tags", response_model=TagList)
async def list_tags(service: ServiceOf, caller: Reader, library: LibraryName = None) -> AnyJSON:
    """The tags of a library, which `tag:NAME` in a filter selects by."""
    served = service.library(library, caller)
    counts = await run_in_threadpool(served.library.catalog.tags.counts)
    return AnyJSON({"data": [{"tag": row.text, "videos": row.videos, "moments": row.moments} for row in counts]})


@router.post(
    "/v1/videos/{id}/tags", operation_id="add_tags", response_model=VideoTags, responses=problems(409, 410, 507)
)
async def add_tags(
    request: Request, id: Opaque, body: TagsRequest, service: ServiceOf, caller: Writer, library: LibraryName = None
) -> AnyJSON:
    """Put tags on a video, or on a moment of it; one that it has already stays."""
    return await _change(request, id, body, service, caller, library, lambda opened, tags: opened.add_tags(tags))


@router.delete(
    "/v1/videos/{id}/tags", operation_id="remove_tags", response_model=VideoTags, responses=problems(409, 410, 507)
)
async def remove_tags(
    request: Request, id: Opaque, body: TagsRequest, service: ServiceOf, caller: Writer, library: LibraryName = None
) -> AnyJSON:
    """Take tags off a video, or off a moment of it, all or none."""

    def remove(opened: Library, tags: Sequence[Tag]) -> None:
        existing = {(fold(tag.text), tag.start_seconds, tag.end_seconds) for tag in opened.tags(tags[0].video)}
        missing = [tag.text for tag in tags if (fold(tag.text), tag.start_seconds, tag.end_seconds) not in existing]
        if missing:
            raise Problem(404, "no such tag", f"it has no tag {missing[0]!r}; nothing was taken off")
        opened.remove_tags(tags)

    return await _change(request, id, body, service, caller, library, remove)


async def _change(
    request: Request,
    opaque: str,
    body: TagsRequest,
    service: ServiceOf,
    caller: Writer,
    name: str | None,
    change: Callable[[Library, Sequence[Tag]], Any],
) -> AnyJSON:
    served = service.library(name, caller)

    def changed() -> VideoTags:
        video = served.media.video(opaque)
        start, end = (None if second is None else round(second, 3) for second in (body.start, body.end))
        if start is not None and video.duration is not None and start >= video.duration:
            raise Problem(422, "no moment", f"it starts at {start:g} s, and the video lasts {video.duration:g} s")
        with Library.open(served.library.path) as opened:  # the one that is served is read by all threads
            change(opened, [Tag(video.id, text, start, end) for text in body.tags])
            return video_tags(opened.tags(video.id))

    note(request, library=served.name, tags=len(body.tags))  # not the words: they leave with the video
    return AnyJSON((await run_in_threadpool(changed)).model_dump())


def video_tags(tags: Sequence[Tag]) -> VideoTags:
    """Tags on the wire."""
    return VideoTags(
        tags=[tag.text for tag in tags if tag.start_seconds is None],
        moments=moment_tags(tags),
    )
