"""`/v1/videos/{id}/thumbnail`, `/strip` and `/media`: what a page shows of a video."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from reelseek.web.problems import Problem
from reelseek.web.ranges import RangedFile
from reelseek.web.service import Reader, ServedLibrary, ServiceOf
from reelseek.web.shell import VIDEO_TYPES, VideoFile
from reelseek.web.v1.answers import JPEG, VIDEO, problems
from reelseek.web.v1.videos import LibraryName, Opaque

__all__ = ["router"]

router = APIRouter(prefix="/v1/videos", tags=["videos"], responses=problems(410))
_CACHED = {"Cache-Control": "private, max-age=86400"}
Seconds = Annotated[float, Query(ge=0, le=1e7, allow_inf_nan=False, description="seconds")]


@router.get("/{id}/thumbnail", operation_id="get_thumbnail", response_class=Response, responses=JPEG)
async def get_thumbnail(
    id: Opaque, service: ServiceOf, caller: Reader, at: Seconds = 0, library: LibraryName = None
) -> Response:
    """The stored picture nearest to a time."""
    served = service.library(library, caller)

    def picture() -> bytes:
        video = served.media.video(id)
        jpeg = served.library.thumbnail(video.content, at) if video.content else None
        if jpeg is None:
            raise Problem(404, "no picture", served.media.why_no_picture(video))
        return jpeg

    return Response(await run_in_threadpool(picture), media_type="image/jpeg", headers=_CACHED)


@router.get("/{id}/strip", operation_id="get_strip", response_class=Response, responses=JPEG)
async def get_strip(
    request: Request,
    id: Opaque,
    service: ServiceOf,
    caller: Reader,
    start: Seconds = 0,
    end: Annotated[float | None, Query(ge=0, le=1e7, allow_inf_nan=False, description="null: the video's end")] = None,
    frames: Annotated[int, Query(ge=1, le=30, description="how many frames stand side by side")] = 10,
    height: Annotated[int, Query(ge=24, le=360, description="of the picture in pixels")] = 120,
    library: LibraryName = None,
) -> Response:
    """Frames at even distances from a span of a video, side by side in one picture."""
    served = service.library(library, caller)
    file = await _file(served, id)
    last = end if end is not None else file.video.duration or start
    if last < start:
        raise Problem(422, "a parameter is wrong", f"end is {last:g} s, before start, which is {start:g} s")
    times = [start + (number + 0.5) * (last - start) / frames for number in range(frames)]
    jpeg = await served.media.strip(request, file.video, file.path, times, height)
    return Response(jpeg, media_type="image/jpeg", headers=_CACHED)


@router.get("/{id}/media", operation_id="get_media", response_class=Response, responses={**VIDEO, **problems(416)})
async def get_media(
    request: Request, id: Opaque, service: ServiceOf, caller: Reader, library: LibraryName = None
) -> Response:
    """The video as a file that browsers play, whole or in ranges of bytes."""
    served = service.library(library, caller)
    playable = await served.media.playable(request, *await _file(served, id))
    media_type = VIDEO_TYPES.get(playable.suffix.lower(), "video/mp4")
    return await run_in_threadpool(RangedFile, playable, media_type=media_type)


async def _file(served: ServedLibrary, opaque: str) -> VideoFile:
    def find() -> VideoFile:
        video = served.media.video(opaque)
        return VideoFile(video, served.media.file(video))

    return await run_in_threadpool(find)
