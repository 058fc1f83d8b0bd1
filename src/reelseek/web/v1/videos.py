"""`/v1/videos` and `/v1/videos/{id}`: what is in a library, and what was extracted from a video."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi import Path as PathParameter
from starlette.concurrency import run_in_threadpool

from reelseek.errors import MediaError
from reelseek.library import Tag, Video
from reelseek.library.filters import parse_filter
from reelseek.library.names import printable
from reelseek.web.media import opaque_id
from reelseek.web.problems import AnyJSON, Problem
from reelseek.web.service import Reader, ServedLibrary, ServiceOf
from reelseek.web.v1 import video_schema
from reelseek.web.v1.answers import problems
from reelseek.web.v1.hits import STRIP_FRAMES, shown, video_address
from reelseek.web.v1.pages import encode_token, name_after
from reelseek.web.v1.video_schema import CaptionList, CaptionRow, MomentTag, VideoList, VideoRow

__all__ = ["LibraryName", "Opaque", "moment_tags", "router"]

router = APIRouter(prefix="/v1/videos", tags=["videos"])
_MOST_TEXTS = 20_000
Opaque = Annotated[str, PathParameter(max_length=64, description="id of the video, as hits and lists name it")]
LibraryName = Annotated[
    str | None, Query(max_length=200, description="which library; may be left out where there is one")
]


@router.get("", operation_id="list_videos", response_model=VideoList)
async def list_videos(
    request: Request,
    service: ServiceOf,
    caller: Reader,
    library: LibraryName = None,
    filter: Annotated[
        str, Query(max_length=2000, description="filters, as in a search", examples=["folder:holiday has:speech"])
    ] = "",
    failed: Annotated[bool, Query(description="only videos of which something could not be read or extracted")] = False,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    page_token: Annotated[
        str | None, Query(max_length=8000, description="`page.next_token` of the part before")
    ] = None,
) -> AnyJSON:
    """List videos in order of their names."""
    served = service.library(library, caller)
    after = name_after(page_token)
    answer = await run_in_threadpool(_list, request, served, after, limit, filter, failed)
    return AnyJSON(answer.model_dump())


def _list(request: Request, served: ServedLibrary, after: str, limit: int, filter: str, failed: bool) -> VideoList:
    catalog = served.library.catalog
    conditions = parse_filter(filter)
    if failed and conditions:
        raise Problem(422, "a parameter is wrong", "what failed is not filtered; leave out `filter` or `failed`")
    if failed:
        ids = catalog.failures.videos_after(after, limit + 1)
        present = {video.id: video for video in catalog.videos.with_ids(ids)}
        videos = [present.get(name, Video(name, None, None, None)) for name in ids]  # of some not even a row was made
    else:
        videos = catalog.videos.after(after, limit + 1, *catalog.selection.where(conditions))
    rows = videos[:limit]
    counts = Counter(failure.video for failure in catalog.failures.of_videos(video.id for video in rows))
    tags: dict[str, list[Tag]] = {}
    for tag in catalog.tags.of_videos(video.id for video in rows):
        tags.setdefault(tag.video, []).append(tag)
    return VideoList(
        data=[_row(request, served, video, counts[video.id], tags.get(video.id, [])) for video in rows],
        page=video_schema.ListPage(next_token=encode_token(rows[-1].id) if len(videos) > limit else None),
    )


def _row(request: Request, served: ServedLibrary, video: Video, failed: int, tags: list[Tag]) -> VideoRow:
    """What a list and the video itself have in common."""
    opaque = opaque_id(video.id)
    state = served.library.catalog.videos.file_state(video.id)
    return VideoRow(
        id=opaque,
        name=printable(video.id),
        duration=video.duration,
        size=state[0] if state else None,
        split=video.split,
        failed=failed,
        tags=[tag.text for tag in tags if tag.start_seconds is None],
        thumbnail=video_address(request, served, opaque, "/thumbnail", at=0),
        play=video_address(request, served, opaque, "/media") if video.path is not None else None,
    )


@router.get("/{id}", operation_id="get_video", response_model=video_schema.Video, responses=problems(410))
async def get_video(
    request: Request, id: Opaque, service: ServiceOf, caller: Reader, library: LibraryName = None
) -> AnyJSON:
    """One video: what it is, what was extracted from it, and what went wrong."""
    served = service.library(library, caller)
    answer = await run_in_threadpool(_video, request, served, id)
    if answer.start_offset:  # else it is 0 in whatever form it is played
        answer.start_offset = await _start_offset(request, served, id)
    return AnyJSON(answer.model_dump())


async def _start_offset(request: Request, served: ServedLibrary, opaque: str) -> float:
    """What the player shows as second 0; 0 of a file that cannot be played, too."""

    def file() -> tuple[Video, Path]:
        video = served.media.video(opaque)
        return video, served.media.file(video)

    try:
        return await served.media.start_offset(request, *await run_in_threadpool(file))
    except (Problem, MediaError):
        return 0.0


def _video(request: Request, served: ServedLibrary, opaque: str) -> video_schema.Video:
    library, video = served.library, served.media.video(opaque)
    catalog = library.catalog
    info = library.media_info(video.content) if video.content else {}
    failures = catalog.failures.of_videos([video.id])
    texts = [text for owner in video.owners for text in library.texts(owner)]
    tags = library.tags(video.id)
    strip = {"start": 0, "end": video.duration or 0, "frames": STRIP_FRAMES}
    return video_schema.Video(
        **_row(request, served, video, len(failures), tags).model_dump(),
        taken=info.get("taken"),
        format=info.get("format"),
        width=info.get("width"),
        height=info.get("height"),
        fps=info.get("fps"),
        start_offset=float(info.get("start") or 0),
        tracks=[
            video_schema.TrackRow(expert=t.expert, modality=t.modality, steps=t.steps, dim=t.dim, note=t.note)
            for t in sorted(catalog.tracks.of_owners(video.owners), key=lambda track: track.expert)
        ],
        texts=[
            video_schema.TextRow(source=source, start=t.start_seconds, end=t.end_seconds, text=shown(t.text))
            for source, t in texts[:_MOST_TEXTS]
        ],
        texts_left_out=max(0, len(texts) - _MOST_TEXTS),
        shots=_shots(library.cuts(video.content) if video.content else [], video.duration),
        captions=_captions(served, video),
        moment_tags=moment_tags(tags),
        failures=[
            video_schema.FailureRow(
                expert=f.expert or None, reason=served.media.nameless(f.reason, video), attempts=f.attempts
            )
            for f in failures
        ],
        strip=video_address(request, served, opaque, "/strip", **strip) if video.path is not None else None,
    )


def _shots(cuts: list[float], duration: float | None) -> list[list[float]]:
    """The spans between cuts; none of a video whose length is unknown."""
    if not duration:
        return []
    edges = [0.0, *(cut for cut in cuts if 0 < cut < duration), duration]
    return [[start, end] for start, end in pairwise(edges)]


def moment_tags(tags: Sequence[Tag]) -> list[MomentTag]:
    """Those of some tags that moments have."""
    return [
        MomentTag(tag=tag.text, start=tag.start_seconds, end=tag.end_seconds)
        for tag in tags
        if tag.start_seconds is not None and tag.end_seconds is not None
    ]


def _captions(served: ServedLibrary, video: Video) -> list[CaptionRow]:
    return [
        CaptionRow(text=shown(row.text), start=row.start_seconds, end=row.end_seconds, split=row.split)
        for row in served.library.catalog.captions.of_video(video.id)
    ]


@router.get("/{id}/captions", operation_id="get_captions", response_model=CaptionList, responses=problems(410))
async def get_captions(id: Opaque, service: ServiceOf, caller: Reader, library: LibraryName = None) -> AnyJSON:
    """The captions of a video."""
    served = service.library(library, caller)
    rows = await run_in_threadpool(lambda: _captions(served, served.media.video(id)))
    return AnyJSON(CaptionList(data=rows).model_dump())
