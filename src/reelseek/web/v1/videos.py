"""`/v1/videos/{id}`: one video."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from reelseek.web.problems import AnyJSON, Problem
from reelseek.web.service import Reader, ServedLibrary, ServiceOf
from reelseek.web.v1.hits import video_address

__all__ = ["router"]

router = APIRouter(prefix="/v1/videos", tags=["videos"])
Opaque = Annotated[str, Path(max_length=64, description="id of the video, as a hit names it")]
LibraryName = Annotated[
    str | None, Query(max_length=200, description="which library; may be left out where there is one")
]


@router.get("/{id}", operation_id="get_video")
async def get_video(
    request: Request, id: Opaque, service: ServiceOf, caller: Reader, library: LibraryName = None
) -> AnyJSON:
    """One video: what it is, what was extracted from it, and what went wrong."""
    served = service.library(library, caller)
    return AnyJSON(await run_in_threadpool(_video_json, request, served, id))


def _video_json(request: Request, served: ServedLibrary, opaque: str) -> dict[str, Any]:
    library = served.library
    video = served.media.video(opaque)
    playable = video.path is not None
    content = video.content
    return {
        "id": opaque,
        "name": video.id.encode("utf-8", "backslashreplace").decode(),
        "duration": video.duration,
        "split": video.split,
        "tracks": sorted({row.expert for row in library.catalog.tracks.of_owners(video.owners)}),
        "texts": [
            {"source": source, "start": text.start_seconds, "end": text.end_seconds, "text": text.text}
            for owner in video.owners
            for source, text in library.texts(owner)
        ],
        "shots": library.cuts(content) if content else [],
        "captions": [
            {"text": row.text, "start": row.start_seconds, "end": row.end_seconds}
            for row in library.captions()
            if row.video == video.id
        ],
        "failures": [
            {"expert": row["expert"], "reason": served.media.nameless(row["reason"], video)}
            for row in library.failures()
            if row["video"] == video.id
        ],
        "thumbnail": video_address(request, served, opaque, "/thumbnail", at=0),
        "strip": video_address(request, served, opaque, "/strip", start=0, end=video.duration or 0, frames=10)
        if playable
        else None,
        "play": video_address(request, served, opaque, "/media") if playable else None,
    }


@router.get("/{id}/thumbnail", operation_id="get_thumbnail", response_class=Response)
async def get_thumbnail(
    id: Opaque,
    service: ServiceOf,
    caller: Reader,
    at: Annotated[float, Query(ge=0, le=1e7, allow_inf_nan=False, description="seconds")] = 0,
    library: LibraryName = None,
) -> Response:
    """The stored picture nearest to a time."""
    served = service.library(library, caller)

    def picture() -> bytes:
        video = served.media.video(id)
        jpeg = served.library.thumbnail(video.content, at) if video.content else None
        if jpeg is None:
            raise Problem(404, "no picture", served.media.why_no_picture(video))
        return jpeg

    jpeg = await run_in_threadpool(picture)
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})
