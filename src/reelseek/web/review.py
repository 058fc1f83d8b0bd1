"""The review page: pairs of videos that may share footage, side by side, and what people say of them."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from reelseek.errors import UsageError
from reelseek.library import Library, Video
from reelseek.overlap.verdicts import SAME, Review, Said, Verdict
from reelseek.web import DEFAULT_COPIES_GB
from reelseek.web.media import library_media, opaque_id
from reelseek.web.shell import STATIC, VideoFile, add_static, new_app, video_file

__all__ = ["create_review"]

Keep = Callable[[int, str], Sequence[int]]
Drop = Callable[[Sequence[int], str], None]


Place = Annotated[int, Field(ge=0, le=10**9)]
_MOST_OPINIONS = 50  # of one pair that are shown
_MOST_AGREEMENTS = 200


class _Who(BaseModel):
    model_config = ConfigDict(extra="forbid")
    who: str = Field(max_length=60)
    token: str = Field(min_length=8, max_length=80)


class _Opinion(_Who):
    places: list[Place] = Field(min_length=1, max_length=200)
    verdict: Verdict
    settles: bool = False


class _Held(_Who):
    places: list[Place] = Field(max_length=500)


class _Next(_Who):
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
    """The application over some pairs.

    Args:
        library: whose videos they are; None where there is nothing to play.
        title: what is compared, in words.
        video: the video of a name; None takes names for the library's ids.
        keep: puts the frames of a pair into the bank of screensavers and returns their numbers.
        drop: takes them out again.
        copies_gb: what copies for browsers may take on the disk, in 10^9 bytes.
    """
    media = library_media(library, copies_gb=copies_gb)
    app = new_app(media, token=token, host=host)
    if video is None:
        video = {each.id: each for each in (library.videos() if library is not None else ())}.get
    cards = _Cards(review, library, video)

    @app.get("/api/review")
    def about() -> dict[str, Any]:
        return {"title": title, "opinions": review.opinions, "counts": review.counts(), "same": list(SAME)}

    @app.post("/api/enter")
    def enter(asked: _Who) -> dict[str, Any]:
        review.enter(asked.who, asked.token)
        return about()

    @app.post("/api/leave")
    def leave(asked: _Who) -> dict[str, bool]:
        review.leave(asked.who, asked.token)
        return {"left": True}

    @app.post("/api/held")
    def held(asked: _Held) -> dict[str, Any]:
        review.enter(asked.who, asked.token)
        review.keep(asked.who, asked.places)
        return {"counts": review.counts()}

    @app.post("/api/queue")
    def queue(asked: _Next) -> dict[str, Any]:
        review.enter(asked.who, asked.token)
        places = review.queue(asked.who, asked.count, asked.after)
        return {"data": [cards.card(place, asked.who) for place in places], "counts": review.counts()}

    @app.post("/api/pairs")
    def pairs(asked: _View) -> dict[str, Any]:
        review.enter(asked.who, asked.token)
        places = [place for place in review.places(asked.view, asked.who) if place > asked.after]
        open_ = asked.view == "disagreements"
        shown = [cards.card(place, asked.who, open_=open_) for place in places[: asked.count]]
        return {"data": shown, "more": max(0, len(places) - asked.count), "counts": review.counts()}

    @app.post("/api/verdicts")
    def say(asked: _Opinion) -> dict[str, Any]:
        review.enter(asked.who, asked.token)
        review.may_say(asked.places, asked.who, settles=asked.settles)  # all of them, or none is kept
        for place in asked.places:
            bank = keep(place, asked.who) if asked.verdict == "screensaver" else ()
            try:
                review.say(place, asked.verdict, asked.who, settles=asked.settles, bank=bank)
            except UsageError:
                drop(bank, asked.who)
                raise
        return {"data": [cards.card(place, asked.who) for place in asked.places], "counts": review.counts()}

    @app.post("/api/undo")
    def undo(asked: _Who) -> dict[str, Any]:
        review.enter(asked.who, asked.token)
        gone = review.verdicts.undo(asked.who)
        if gone is None:
            return {"place": None, "counts": review.counts()}
        drop(gone.bank, asked.who)
        place = review.place_of(gone.key)
        card = None if place is None else cards.card(place, asked.who)
        return {"place": place, "verdict": gone.verdict, "card": card, "counts": review.counts()}

    @app.get("/api/agreement")
    def agreement() -> dict[str, Any]:
        rows = review.verdicts.agreement()
        more = {"more": len(rows) - _MOST_AGREEMENTS} if len(rows) > _MOST_AGREEMENTS else {}
        return {"data": [asdict(row) for row in rows[:_MOST_AGREEMENTS]], **more}

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

    @app.get("/")
    def page() -> Response:
        return FileResponse(STATIC / "review.html")

    add_static(app, html=False)
    return app


class _Cards:
    """What is shown of a pair."""

    def __init__(self, review: Review, library: Library | None, video: Callable[[str], Video | None]) -> None:
        self._review, self._library, self._video = review, library, video
        self._lock = threading.Lock()
        self._sides: dict[str, dict[str, Any]] = {}

    def card(self, place: int, who: str, *, open_: bool = False) -> dict[str, Any]:
        """Args: open_ shows what others said although the pair is still to be settled by this person."""
        pair = self._review.pairs[place]
        said = self._review.verdicts.opinions(self._review.keys[place])
        seen = said if open_ else self._review.may_see(place, who)
        mine = [each.verdict for each in said if each.who == who]
        return {
            "place": place, "score": pair.score, "sound": pair.sound, "window": pair.window,
            "test": {**self._side(pair.test), "start": pair.test_start},
            "train": {**self._side(pair.train), "start": pair.train_start},
            "mine": mine[-1] if mine else None, "said": [_told(each) for each in seen[-_MOST_OPINIONS:]],
            "opinions": len(seen),
        }  # fmt: skip

    def _side(self, name: str) -> dict[str, Any]:
        if name not in self._sides:
            with self._lock:
                self._sides[name] = self._facts(name)
        return self._sides[name]

    def _facts(self, name: str) -> dict[str, Any]:
        video = self._video(name)
        if video is None or self._library is None or video.path is None or not video.path.is_file():
            return {"name": name, "play": None, "strip": None}
        info = self._library.media_info(video.content or "")
        address = f"/api/videos/{opaque_id(video.id)}"
        return {
            "name": name, "play": f"{address}/media", "strip": f"{address}/strip", "duration": video.duration,
            "width": info.get("width"), "height": info.get("height"), "bytes": video.path.stat().st_size,
        }  # fmt: skip


def _told(said: Said) -> dict[str, Any]:
    return {"who": said.who, "verdict": said.verdict, "time": said.time, "settles": said.settles}
