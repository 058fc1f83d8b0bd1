"""The review page: pairs of videos that may share footage, side by side, and the verdicts on them."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from reelseek.errors import UsageError
from reelseek.library import Library, Video
from reelseek.media.store import file_numbers, is_file
from reelseek.overlap.verdicts import SAME, Opinion, Review, Verdict
from reelseek.web import DEFAULT_COPIES_GB
from reelseek.web.media import Media, library_media, opaque_id
from reelseek.web.shell import STATIC, VideoFile, add_static, add_videos, new_app, video_file

__all__ = ["create_review"]

Keep = Callable[[int, str], Sequence[int]]
Drop = Callable[[Sequence[int], str], None]


Place = Annotated[int, Field(ge=0, le=10**9)]
_MOST_OPINIONS = 50  # of one pair that are shown
_MOST_AGREEMENTS = 200


class _Reviewer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    who: str = Field(max_length=60)
    token: str = Field(min_length=8, max_length=80)


class _Judgement(_Reviewer):
    places: list[Place] = Field(min_length=1, max_length=200)
    verdict: Verdict
    settles: bool = False


class _Leases(_Reviewer):
    places: list[Place] = Field(max_length=500)


class _Next(_Reviewer):
    after: int = Field(default=-1, ge=-1, le=10**9)
    count: int = Field(default=10, ge=1, le=50)


class _View(_Next):
    view: Literal["looked-at", "mine", "disagreements"]


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
    cards = _Cards(review, library, video)
    _add_reviewers(app, review, title)
    _add_lists(app, review, cards)
    _add_verdicts(app, review, cards, keep, drop)
    _add_strip(app, media)

    @app.get("/")
    def page() -> Response:
        return FileResponse(STATIC / "review.html")

    add_static(app, html=False)
    return app


def _add_reviewers(app: FastAPI, review: Review, title: str) -> None:
    """What is reviewed, and who is reviewing."""

    def summary() -> dict[str, Any]:
        return {"title": title, "opinions": review.judges_per_pair, "counts": review.counts(), "same": list(SAME)}

    app.get("/api/review")(summary)

    @app.post("/api/enter")
    def enter(body: _Reviewer) -> dict[str, Any]:
        review.enter(body.who, body.token)
        return summary()

    @app.post("/api/leave")
    def leave(body: _Reviewer) -> dict[str, bool]:
        review.leave(body.who, body.token)
        return {"left": True}

    @app.post("/api/held")
    def renew(body: _Leases) -> dict[str, Any]:
        review.enter(body.who, body.token)
        review.renew_leases(body.who, body.places)
        return {"counts": review.counts()}

    @app.get("/api/agreement")
    def agreement() -> dict[str, Any]:
        rows = review.verdicts.agreement()
        more = {"more": len(rows) - _MOST_AGREEMENTS} if len(rows) > _MOST_AGREEMENTS else {}
        return {"data": [asdict(row) for row in rows[:_MOST_AGREEMENTS]], **more}


def _add_lists(app: FastAPI, review: Review, cards: "_Cards") -> None:
    """Pairs to judge, and pairs to look at again."""

    @app.post("/api/queue")
    def queue(body: _Next) -> dict[str, Any]:
        review.enter(body.who, body.token)
        places = review.queue(body.who, body.count, body.after)
        return {"data": [cards.card(place, body.who) for place in places], "counts": review.counts()}

    @app.post("/api/pairs")
    def pairs(body: _View) -> dict[str, Any]:
        review.enter(body.who, body.token)
        places = [place for place in review.places(body.view, body.who) if place > body.after]
        open_ = body.view == "disagreements"
        page = [cards.card(place, body.who, open_=open_) for place in places[: body.count]]
        return {"data": page, "more": max(0, len(places) - body.count), "counts": review.counts()}


def _add_verdicts(app: FastAPI, review: Review, cards: "_Cards", keep: Keep, drop: Drop) -> None:
    """Recording and undoing of verdicts."""

    @app.post("/api/verdicts")
    def record(body: _Judgement) -> dict[str, Any]:
        review.enter(body.who, body.token)
        review.check_can_judge(body.places, body.who, settles=body.settles)  # all of them, or none is recorded
        for place in body.places:
            bank = keep(place, body.who) if body.verdict == "screensaver" else ()
            try:
                review.record(place, body.verdict, body.who, settles=body.settles, bank=bank)
            except UsageError:
                drop(bank, body.who)
                raise
        return {"data": [cards.card(place, body.who) for place in body.places], "counts": review.counts()}

    @app.post("/api/undo")
    def undo(body: _Reviewer) -> dict[str, Any]:
        review.enter(body.who, body.token)
        undone = review.verdicts.undo(body.who)
        if undone is None:
            return {"place": None, "counts": review.counts()}
        drop(undone.bank, body.who)
        place = review.place_of(undone.key)
        card = None if place is None else cards.card(place, body.who)
        return {"place": place, "verdict": undone.verdict, "card": card, "counts": review.counts()}


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


class _Cards:
    """The JSON of a pair on the page."""

    def __init__(self, review: Review, library: Library | None, video: Callable[[str], Video | None]) -> None:
        self._review, self._library, self._video = review, library, video
        self._lock = threading.Lock()
        self._sides: dict[str, dict[str, Any]] = {}

    def card(self, place: int, who: str, *, open_: bool = False) -> dict[str, Any]:
        """Build it. Args: open_ includes the others' opinions although this reviewer has yet to settle the pair."""
        pair = self._review.pairs[place]
        opinions = self._review.verdicts.opinions_on(self._review.keys[place])
        visible = opinions if open_ else self._review.visible_opinions(place, who)
        mine = [opinion.verdict for opinion in opinions if opinion.who == who]
        return {
            "place": place, "score": pair.score, "sound": pair.sound, "window": pair.window,
            "test": {**self._side(pair.test), "start": pair.test_start},
            "train": {**self._side(pair.train), "start": pair.train_start},
            "mine": mine[-1] if mine else None, "said": [_opinion_json(o) for o in visible[-_MOST_OPINIONS:]],
            "opinions": len(visible),
        }  # fmt: skip

    def _side(self, name: str) -> dict[str, Any]:
        if name not in self._sides:
            with self._lock:
                self._sides[name] = self._facts(name)
        return self._sides[name]

    def _facts(self, name: str) -> dict[str, Any]:
        video = self._video(name)
        if video is None or self._library is None or video.path is None or not is_file(video.path):
            return {"name": name, "play": None, "strip": None}
        info = self._library.media_info(video.content or "")
        address = f"/api/videos/{opaque_id(video.id)}"
        return {
            "name": name, "play": f"{address}/media", "strip": f"{address}/strip", "duration": video.duration,
            "width": info.get("width"), "height": info.get("height"), "bytes": max(0, file_numbers(video.path)[0]),
        }  # fmt: skip


def _opinion_json(opinion: Opinion) -> dict[str, Any]:
    return {"who": opinion.who, "verdict": opinion.verdict, "time": opinion.time, "settles": opinion.settles}
