"""The review page: pairs of videos that may share footage, side by side, and the verdicts on them."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from reelseek.library import Library, Video
from reelseek.overlap.verdicts import BulkVerdict, Review, Verdict
from reelseek.web import DEFAULT_COPIES_GB
from reelseek.web.media import Media, library_media
from reelseek.web.review_desk import Drop, Keep, ReviewDesk, View
from reelseek.web.shell import STATIC, VideoFile, add_static, add_videos, new_app, video_file

__all__ = ["create_review"]

Place = Annotated[int, Field(ge=0, le=10**9)]


class _Reviewer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    who: str = Field(max_length=64)
    token: str = Field(min_length=8, max_length=80)


class _Judgement(_Reviewer):
    places: list[Place] = Field(min_length=1, max_length=200)
    verdict: Verdict
    settles: bool = False


class _Below(_Reviewer):
    below: float = Field(ge=-1e6, le=1e6, allow_inf_nan=False)
    verdict: BulkVerdict = "not"


class _Leases(_Reviewer):
    places: list[Place] = Field(max_length=500)


class _Next(_Reviewer):
    after: int = Field(default=-1, ge=-1, le=10**9)
    count: int = Field(default=10, ge=1, le=50)


class _View(_Next):
    view: View


def create_review(
    review: Review,
    library: Library | None,
    *,
    title: str,
    video: Callable[[str], Video | None] | None = None,
    keep: Keep = lambda place, who: (),
    drop: Drop = lambda numbers, who: None,
    token: str | None = None,
    host: str = "127.0.0.1",
    copies_gb: float = DEFAULT_COPIES_GB,
) -> FastAPI:
    """Build the application that serves the review of some pairs.

    Args:
        library: whose videos they are; None where there is nothing to play.
        title: what is compared, in words.
        video: the video of a name; None takes names for the library's ids.
        keep: adds the frames of a pair to the bank of screensavers and returns their numbers.
        drop: removes them again.
        copies_gb: disk space for copies that browsers can play, in 10^9 bytes.
    """
    media = library_media(library, copies_gb=copies_gb)
    app = new_app([media], token=token, host=host)
    add_videos(app, media)
    if video is None:
        video = {row.id: row for row in (library.videos() if library is not None else ())}.get
    desk = ReviewDesk(review, library, title=title, video=video, keep=keep, drop=drop)
    _add_reviewers(app, desk)
    _add_pairs(app, desk)
    _add_strip(app, media)

    @app.get("/")
    def page() -> Response:
        return FileResponse(STATIC / "review.html")

    add_static(app, html=False)
    return app


def _address(opaque: str, part: str) -> str:
    return f"/api/videos/{opaque}/{part}"


def _add_reviewers(app: FastAPI, desk: ReviewDesk) -> None:
    """What is reviewed, and who is reviewing."""
    review = desk.review
    app.get("/api/review")(desk.summary)

    @app.post("/api/enter")
    def enter(body: _Reviewer) -> dict[str, Any]:
        review.enter(body.who, body.token)
        return desk.summary()

    @app.post("/api/leave")
    def leave(body: _Reviewer) -> dict[str, bool]:
        review.leave(body.who, body.token)
        return {"left": True}

    @app.post("/api/leases")
    def renew(body: _Leases) -> dict[str, Any]:
        review.enter(body.who, body.token)
        review.renew_leases(body.who, body.places)
        return {"counts": review.counts()}

    app.get("/api/agreement")(desk.agreement)


def _add_pairs(app: FastAPI, desk: ReviewDesk) -> None:
    """Pairs to judge, pairs to look at again, and the verdicts on them."""
    review = desk.review

    @app.post("/api/queue")
    def queue(body: _Next) -> dict[str, Any]:
        review.enter(body.who, body.token)
        return desk.queue(body.who, body.count, body.after, _address)

    @app.post("/api/pairs")
    def pairs(body: _View) -> dict[str, Any]:
        review.enter(body.who, body.token)
        return desk.listing(body.view, body.who, body.count, body.after, _address)

    @app.post("/api/verdicts")
    def record(body: _Judgement) -> dict[str, Any]:
        review.enter(body.who, body.token)
        return desk.record(body.places, body.verdict, body.who, _address, settles=body.settles)

    @app.post("/api/below")
    def below(body: _Below) -> dict[str, Any]:
        review.enter(body.who, body.token)
        return desk.judge_below(body.below, body.verdict, body.who)

    @app.post("/api/undo")
    def undo(body: _Reviewer) -> dict[str, Any]:
        review.enter(body.who, body.token)
        return desk.undo(body.who, _address)


def _add_strip(app: FastAPI, media: Media) -> None:
    """Frames of a video's span, side by side in one picture."""

    @app.get("/api/videos/{opaque}/strip")
    async def strip(
        request: Request,
        start: Annotated[float, Query(ge=0, le=1e6)] = 0,
        seconds: Annotated[float, Query(gt=0, le=3600)] = 4,
        frames: Annotated[int, Query(ge=1, le=12)] = 6,
        height: Annotated[int, Query(ge=24, le=360)] = 108,
        file: VideoFile = Depends(video_file(media)),
    ) -> Response:
        times = [start + (place + 0.5) * seconds / frames for place in range(frames)]
        picture = await media.strip(request, *file, times, height)
        return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})
