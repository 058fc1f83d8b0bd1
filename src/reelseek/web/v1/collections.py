"""`/v1/collections`: moments that are kept, with notes and tags, shared by a link and exported as files."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from reelseek.library import Library
from reelseek.library.tags import clean_tag, set_moment_tags
from reelseek.web.accounts.guard import note
from reelseek.web.collections.rows import tagged
from reelseek.web.collections.store import Collection, Collections, SavedMoment
from reelseek.web.problems import AnyJSON, Problem
from reelseek.web.service import Caller, Reader, ServedLibrary, Service, ServiceOf, require
from reelseek.web.state_services import CollectionsOf
from reelseek.web.v1.answers import problems
from reelseek.web.v1.exports import EXPORTS, Format, Mode, export
from reelseek.web.v1.hits import video_address
from reelseek.web.v1.moments import MOMENT_PATTERN, moment_text, parse_moment, video_name

__all__ = ["collection_json", "router"]

router = APIRouter(prefix="/v1/collections", tags=["collections"], responses=problems(409, 410, 507))
Reviewer = Annotated[Caller, Depends(require("review"))]
Identifier = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="id of the collection")]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Note = Annotated[str, Field(max_length=4000)]
Tags = Annotated[list[Annotated[str, Field(min_length=1, max_length=60)]], Field(max_length=50)]
Moment = Annotated[str, Field(pattern=MOMENT_PATTERN, description="a moment as a hit names it: VIDEO@START-END")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewCollection(_Request):
    """A collection that is begun."""

    library: Annotated[str, Field(max_length=200)] | None = None
    name: Title
    note: Note = ""
    tags: Tags = []


class CollectionChange(_Request):
    """What of a collection is changed."""

    name: Title | None = None
    note: Note | None = None
    tags: Tags | None = None
    order: list[Moment] | None = Field(default=None, max_length=10_000, description="all its moments in a new order")


class NewMoment(_Request):
    """A moment that is kept; of one that is kept already the note is replaced."""

    moment: Moment
    note: Note = ""
    tags: Tags | None = Field(
        default=None, description="all tags that the moment has in its library from now on; null leaves them"
    )


class NewMoments(_Request):
    """Moments that are kept, behind those that are there."""

    moments: list[NewMoment] = Field(min_length=1, max_length=1000)


class MomentNames(_Request):
    """Moments that are taken out."""

    moments: list[Moment] = Field(min_length=1, max_length=1000)


class MomentJSON(BaseModel):
    """A moment that is kept."""

    moment: str
    video: str
    name: str
    start: float
    end: float
    note: str
    tags: list[str]
    by: str
    added: float
    thumbnail: str | None = Field(description="null where the video is no longer in the library")
    play: str | None


class CollectionSummary(BaseModel):
    """A collection without its moments; times are seconds since 1970."""

    id: str
    library: str
    name: str
    note: str
    tags: list[str]
    by: str
    created: float
    changed: float
    shared: bool
    moments: int


class CollectionJSON(CollectionSummary):
    """A collection with its moments."""

    data: list[MomentJSON]


class CollectionList(BaseModel):
    """Collections of the libraries that you may see, the one that was changed last first."""

    data: list[CollectionSummary]


class ShareJSON(BaseModel):
    """A link under which anybody may read a collection; it is shown this once."""

    url: str
    secret: str


@router.get("", operation_id="list_collections", response_model=CollectionList)
async def list_collections(
    collections: CollectionsOf, caller: Reader, library: Annotated[str | None, Query(max_length=200)] = None
) -> AnyJSON:
    """The collections of libraries that you may see."""
    rows = await run_in_threadpool(collections.all)
    shown = [row for row in rows if caller.may_see(row.library) and library in (None, row.library)]
    return AnyJSON({"data": [_summary(row) for row in shown]})


@router.post("", operation_id="add_collection", status_code=201, response_model=CollectionJSON)
async def add_collection(
    request: Request, body: NewCollection, service: ServiceOf, collections: CollectionsOf, caller: Reviewer
) -> AnyJSON:
    """Begin a collection."""
    served = service.library(body.library, caller)
    row = await run_in_threadpool(
        lambda: collections.add(served.name, body.name, note=body.note, tags=body.tags, by=caller.name)
    )
    note(request, collection=row.id, library=row.library)
    return AnyJSON({**_summary(row), "data": []}, 201)


@router.get("/{id}", operation_id="get_collection", response_model=CollectionJSON)
async def get_collection(
    request: Request, id: Identifier, service: ServiceOf, collections: CollectionsOf, caller: Reader
) -> AnyJSON:
    """A collection with its moments, in its order."""
    return AnyJSON(await run_in_threadpool(_whole, request, id, service, collections, caller))


@router.patch("/{id}", operation_id="change_collection", response_model=CollectionJSON)
async def change_collection(
    request: Request, id: Identifier, body: CollectionChange, service: ServiceOf, collections: CollectionsOf,
    caller: Reviewer,
) -> AnyJSON:  # fmt: skip
    """Change a collection's name, note, tags or order."""

    def change() -> dict[str, Any]:
        _visible(collections, id, caller)
        order = None if body.order is None else _ordered(collections.moments(id), body.order)
        collections.change(id, name=body.name, note=body.note, tags=body.tags, order=order)
        return _whole(request, id, service, collections, caller)

    note(request, collection=id)
    return AnyJSON(await run_in_threadpool(change))


def _ordered(moments: Sequence[SavedMoment], names: Sequence[str]) -> list[SavedMoment]:
    """Moments in the order of their names.

    Raises:
        Problem: the names are not those of all of them.
    """
    present = {moment_text(moment): moment for moment in moments}
    if sorted(names) != sorted(present):
        raise Problem(422, "not all moments", "`order` has to name every moment of the collection once")
    return [present[name] for name in names]


@router.delete("/{id}", operation_id="remove_collection", status_code=204)
async def remove_collection(request: Request, id: Identifier, collections: CollectionsOf, caller: Reviewer) -> Response:
    """Delete a collection, its moments and its link; videos are not touched."""
    row = await run_in_threadpool(_visible, collections, id, caller)
    note(request, collection=id, name=row.name, moments=row.moments)
    await run_in_threadpool(collections.remove, id)
    return Response(status_code=204)


@router.post("/{id}/moments", operation_id="keep_moments", response_model=CollectionJSON)
async def keep_moments(
    request: Request, id: Identifier, body: NewMoments, service: ServiceOf, collections: CollectionsOf,
    caller: Reviewer,
) -> AnyJSON:  # fmt: skip
    """Keep moments, all or none of them; their tags are written afterwards."""

    def keep() -> dict[str, Any]:
        served = service.library(_visible(collections, id, caller).library, caller)
        moments = [replace(parse_moment(served, entry.moment), note=entry.note) for entry in body.moments]
        tags = {
            moment: [clean_tag(tag) for tag in entry.tags]
            for moment, entry in zip(moments, body.moments, strict=True)
            if entry.tags is not None
        }
        collections.put_moments(id, moments, caller.name)
        if tags:
            with Library.open(served.library.path) as opened:  # the one that is served is read by all threads
                for moment, texts in tags.items():
                    set_moment_tags(opened, moment.video, moment.start, moment.end, texts)
        return _whole(request, id, service, collections, caller)

    note(request, collection=id, moments=len(body.moments))
    return AnyJSON(await run_in_threadpool(keep))


@router.delete("/{id}/moments", operation_id="drop_moments", response_model=CollectionJSON)
async def drop_moments(
    request: Request, id: Identifier, body: MomentNames, service: ServiceOf, collections: CollectionsOf,
    caller: Reviewer,
) -> AnyJSON:  # fmt: skip
    """Take moments out of a collection; also of videos that are no longer in the library."""

    def drop() -> dict[str, Any]:
        _visible(collections, id, caller)
        present = {moment_text(moment): moment for moment in collections.moments(id)}
        unknown = [text for text in body.moments if text not in present]
        if unknown:
            raise Problem(404, "no such moment", f"{unknown[0]} is not in the collection; nothing was taken out")
        collections.remove_moments(id, [present[text] for text in body.moments])
        return _whole(request, id, service, collections, caller)

    note(request, collection=id, moments=len(body.moments))
    return AnyJSON(await run_in_threadpool(drop))


@router.post("/{id}/share", operation_id="share_collection", status_code=201, response_model=ShareJSON)
async def share_collection(request: Request, id: Identifier, collections: CollectionsOf, caller: Reviewer) -> AnyJSON:
    """Make a link under which anybody may look at this collection's moments, and nothing else; an earlier one ends."""
    await run_in_threadpool(_visible, collections, id, caller)
    note(request, collection=id)
    secret = await run_in_threadpool(collections.share, id)
    url = f"{str(request.base_url).rstrip('/')}/v1/shared/{secret}"
    return AnyJSON({"url": url, "secret": secret}, 201, {"Cache-Control": "no-store"})


@router.delete("/{id}/share", operation_id="unshare_collection", status_code=204)
async def unshare_collection(
    request: Request, id: Identifier, collections: CollectionsOf, caller: Reviewer
) -> Response:
    """End the link of a collection."""
    await run_in_threadpool(_visible, collections, id, caller)
    note(request, collection=id)
    if not await run_in_threadpool(collections.unshare, id):
        raise Problem(404, "not shared", "the collection has no link")
    return Response(status_code=204)


@router.get("/{id}/export", operation_id="export_collection", response_class=Response, responses=EXPORTS)
async def export_collection(
    request: Request,
    id: Identifier,
    service: ServiceOf,
    collections: CollectionsOf,
    caller: Reader,
    format: Format,
    mode: Annotated[
        Mode, Query(description="of zip: `copy` cuts at key frames without loss, `exact` at the very frames")
    ] = "copy",
    rate: Annotated[
        float | None, Query(gt=0, le=240, description="frames a second of edl and otio; default: the videos' own")
    ] = None,
) -> Response:
    """The moments of a collection as a file."""
    row = await run_in_threadpool(_visible, collections, id, caller)
    served = service.library(row.library, caller)
    moments = await run_in_threadpool(collections.moments, id)
    return await export(request, served, row, moments, format, mode=mode, rate=rate)


def _visible(collections: Collections, identifier: str, caller: Caller) -> Collection:
    row = collections.get(identifier)
    if row is None or not caller.may_see(row.library):
        raise Problem(404, "no such collection", "there is no collection of this id")
    return row


def _summary(row: Collection) -> dict[str, Any]:
    return {**vars(row), "tags": list(row.tags)}


def _whole(
    request: Request, identifier: str, service: Service, collections: Collections, caller: Caller
) -> dict[str, Any]:
    row = _visible(collections, identifier, caller)
    served = next((library for library in service.libraries(caller) if library.name == row.library), None)
    moments = collections.moments(identifier)
    if served is not None:
        moments = tagged(served.library, moments)
    return {**_summary(row), "data": [_moment_json(request, served, moment) for moment in moments]}


def _moment_json(request: Request, served: ServedLibrary | None, moment: SavedMoment) -> dict[str, Any]:
    video = served.library.get(moment.video) if served is not None else None
    text = moment_text(moment)
    opaque = text.partition("@")[0]
    thumbnail = play = None
    if served is not None and video is not None:
        middle = f"{(moment.start + moment.end) / 2:.2f}"
        thumbnail = video_address(request, served, opaque, "/thumbnail", at=middle)
        play = video_address(request, served, opaque, "/media") if video.path is not None else None
    return {
        "moment": text, "video": opaque, "name": video_name(moment.video), "start": moment.start, "end": moment.end,
        "note": moment.note, "tags": list(moment.tags), "by": moment.by, "added": moment.added,
        "thumbnail": thumbnail, "play": play,
    }  # fmt: skip


def collection_json(row: Collection, moments: list[dict[str, Any]]) -> dict[str, Any]:
    """A collection for who has its link: what it is, and not whose."""
    return {"name": row.name, "note": row.note, "tags": list(row.tags), "changed": row.changed, "data": moments}
