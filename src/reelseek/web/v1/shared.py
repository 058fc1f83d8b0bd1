"""`/v1/shared/{secret}`: what somebody shared by a link, for anybody who has it: moments, and nothing around them."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from reelseek.web.accounts.identity import client_address
from reelseek.web.collections.rows import tagged
from reelseek.web.collections.store import Collection, Collections, SavedMoment
from reelseek.web.guesses import Guesses
from reelseek.web.problems import AnyJSON, Problem
from reelseek.web.service import ServedLibrary, Service, ServiceOf
from reelseek.web.state_services import CollectionsOf
from reelseek.web.v1.answers import JPEG, problems
from reelseek.web.v1.collections import collection_json
from reelseek.web.v1.exports import cut_file
from reelseek.web.v1.moments import video_name

__all__ = ["router"]

router = APIRouter(prefix="/v1/shared", tags=["shared"], responses=problems(409, 410, 507))
Secret = Annotated[str, Path(min_length=8, max_length=100, description="the secret of the link")]
Number = Annotated[int, Path(ge=0, lt=10_000, description="of the moment in the collection, from 0")]
_CLIP: dict[int | str, dict[str, Any]] = {
    status: {"description": description, "content": {"video/mp4": {}}}
    for status, description in ((200, "The moment."), (206, "A range of its bytes."))
} | {304: {"description": "The file is the one that If-None-Match names."}}
_guesses = Guesses(tries=30)


class SharedMoment(BaseModel):
    """A moment of a shared collection."""

    name: str
    start: float
    end: float
    note: str
    tags: list[str]
    thumbnail: str | None
    play: str | None


class SharedCollection(BaseModel):
    """A collection as its link shows it."""

    name: str
    note: str
    tags: list[str]
    changed: float
    data: list[SharedMoment]


@router.get("/{secret}", operation_id="get_shared", response_model=SharedCollection)
async def get_shared(request: Request, secret: Secret, service: ServiceOf, collections: CollectionsOf) -> AnyJSON:
    """A shared collection with its moments."""
    row = await _open(request, collections, secret)
    root = f"{request.scope.get('root_path', '')}/v1/shared/{secret}/moments"

    def collection() -> dict[str, Any]:
        served = _library(service, row)
        saved = collections.moments(row.id)
        moments = [
            {
                "name": video_name(moment.video), "start": moment.start, "end": moment.end, "note": moment.note,
                "tags": list(moment.tags), "thumbnail": f"{root}/{number}/thumbnail",
                "play": f"{root}/{number}/media" if _playable(served, moment) else None,
            }
            for number, moment in enumerate(tagged(served.library, saved) if served is not None else saved)
        ]  # fmt: skip
        return collection_json(row, moments)

    return AnyJSON(await run_in_threadpool(collection), headers={"Cache-Control": "no-store"})


@router.get(
    "/{secret}/moments/{number}/thumbnail", operation_id="get_shared_thumbnail", response_class=Response, responses=JPEG
)
async def get_shared_thumbnail(
    request: Request, secret: Secret, number: Number, service: ServiceOf, collections: CollectionsOf
) -> Response:
    """A picture of a shared moment."""
    served, moment = await _moment(request, secret, number, service, collections)

    def picture() -> bytes | None:
        video = served.library.get(moment.video)
        middle = (moment.start + moment.end) / 2
        return served.library.thumbnail(video.content, middle) if video is not None and video.content else None

    jpeg = await run_in_threadpool(picture)
    if jpeg is None:
        raise Problem(404, "no picture", "there is no picture of this moment")
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


@router.get(
    "/{secret}/moments/{number}/media",
    operation_id="get_shared_media",
    response_class=Response,
    responses={**_CLIP, **problems(416)},
)
async def get_shared_media(
    request: Request, secret: Secret, number: Number, service: ServiceOf, collections: CollectionsOf
) -> Response:
    """A shared moment alone as an MP4, cut at its very frames: nothing before or after it is in the file."""
    served, moment = await _moment(request, secret, number, service, collections)
    return await cut_file(request, served, moment)


async def _open(request: Request, collections: Collections, secret: str) -> Collection:
    address = client_address(request)
    wait = _guesses.seconds_to_wait(address)
    if wait > 0:
        raise Problem(429, "too many wrong links", "wait before you try another one", retry_seconds=max(1.0, wait))
    row = await run_in_threadpool(collections.shared, secret)
    if row is None:
        _guesses.add_wrong(address)
        raise Problem(404, "no such link", "it is wrong, or whoever shared it has ended it")
    return row


async def _moment(
    request: Request, secret: str, number: int, service: Service, collections: Collections
) -> tuple[ServedLibrary, SavedMoment]:
    row = await _open(request, collections, secret)
    moments = await run_in_threadpool(collections.moments, row.id)
    served = _library(service, row)
    if number >= len(moments) or served is None:
        raise Problem(404, "no such moment", "the collection has no moment of this number any more")
    return served, moments[number]


def _library(service: Service, row: Collection) -> ServedLibrary | None:
    return next((library for library in service.libraries() if library.name == row.library), None)


def _playable(served: ServedLibrary | None, moment: SavedMoment) -> bool:
    video = served.library.get(moment.video) if served is not None else None
    return video is not None and video.path is not None
