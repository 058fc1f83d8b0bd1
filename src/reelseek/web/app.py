"""The HTTP face: a page, search as JSON, thumbnails and videos by opaque ids with byte ranges.

A token is needed off loopback; on loopback the Host header must be this machine's own, so that no other site can
reach the library through a visitor's browser.
"""

import hashlib
import hmac
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.staticfiles import StaticFiles

from reelseek.errors import MediaError, QueryError, ReelseekError, UsageError
from reelseek.library import Video
from reelseek.media.guard import guarded
from reelseek.media.picture import browser_plays, make_proxy
from reelseek.search import Hit, Searcher

__all__ = ["create_app"]

_STATIC = Path(__file__).parent / "static"
_COOKIE = "reelseek_token"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm", ".mov": "video/mp4", ".mp3": "audio/mpeg"}


def _problem(status: int, title: str, detail: str = "") -> JSONResponse:
    """An error as RFC 9457 has it."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json")


class _Media:
    """Videos by opaque id, and copies that browsers play, made when asked for."""

    def __init__(self, searcher: Searcher) -> None:
        self._library = searcher.library
        self._videos = {_opaque(video.id): video for video in self._library.videos()}
        self._making = threading.Lock()
        self._plays: dict[str, bool] = {}

    def video(self, opaque: str) -> Video | None:
        return self._videos.get(opaque)

    def playable(self, video: Video) -> Path:
        """The file itself if browsers play it, else its copy.

        Raises:
            MediaError: the file is gone, or cannot be decoded.
        """
        if video.path is None or video.content is None or not video.path.is_file():
            raise MediaError("the video's file is not at hand; it was moved or deleted since it was added")
        if video.content not in self._plays:
            self._plays[video.content] = guarded(browser_plays, video.path, seconds=60)
        if self._plays[video.content]:
            return video.path
        copy = self._library.path / "copies" / f"{video.content}.mp4"
        with self._making:  # one at a time: a copy takes all the cores it can get
            if not copy.is_file():
                copy.parent.mkdir(exist_ok=True)
                guarded(make_proxy, (video.path, copy), seconds=120 + 5 * (video.duration or 3600))
        return copy


def _opaque(identifier: str) -> str:
    return hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _shown(hit: Hit, searcher: Searcher) -> dict[str, Any]:
    opaque = _opaque(hit.video)
    end = hit.end if hit.end is not None else hit.start
    playable = searcher.library.video(hit.video).path is not None
    return {
        **hit.as_json(),
        "path": None,  # where files lie on this machine is nobody's business on the page
        "id": opaque,
        "thumbnail": f"/api/videos/{opaque}/thumbnail?at={(hit.start + end) / 2:.2f}",
        "play": f"/api/videos/{opaque}/media" if playable else None,
    }


def create_app(searcher: Searcher, *, token: str | None = None, host: str = "127.0.0.1") -> FastAPI:
    """The application over one searcher."""
    app = FastAPI(title="Reelseek", version="1", docs_url=None, redoc_url=None)
    media = _Media(searcher)
    searching = threading.Lock()

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        refused = _refusal(request, token, host)
        response = refused if refused is not None else await call_next(request)
        response.headers.update(_HEADERS)
        given = request.query_params.get("token")
        if token and refused is None and given:
            response.set_cookie(_COOKIE, given, httponly=True, samesite="strict")
        return response

    @app.exception_handler(ReelseekError)
    async def failed(request: Request, error: ReelseekError) -> JSONResponse:
        wrong = isinstance(error, QueryError | UsageError)
        return _problem(400 if wrong else 422, "the query cannot be answered" if wrong else "failed", str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _problem(400, "a parameter is wrong", "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors()))

    @app.get("/healthz")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/api/library")
    def library() -> dict[str, Any]:
        return {
            "name": searcher.library.path.name,
            "videos": len(searcher.library.videos()),
            "clips": len(searcher.index.clips),
            "slots": list(searcher.index.slots),
            "system": searcher.model.system,
        }

    @app.get("/api/search")
    def search(
        q: Annotated[str, Query(max_length=2000)],
        k: Annotated[int, Query(ge=1, le=100)] = 24,
        group_by: Literal["moment", "video"] = "moment",
        without: Annotated[list[str] | None, Query()] = None,
    ) -> dict[str, Any]:
        with searching:
            hits = searcher.search(q, k=k, group_by=group_by, without=without or [])
        return {"data": [_shown(hit, searcher) for hit in hits]}

    @app.get("/api/videos/{opaque}/thumbnail")
    def thumbnail(opaque: str, at: Annotated[float, Query(ge=0)] = 0) -> Response:
        video = media.video(opaque)
        with searching:
            jpeg = searcher.library.thumbnail(video.content, at) if video and video.content else None
        if jpeg is None:
            return _problem(404, "no picture", "there is no such video, or it has no pictures")
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})

    @app.get("/api/videos/{opaque}/media")
    def play(opaque: str) -> Response:
        video = media.video(opaque)
        if video is None:
            return _problem(404, "no such video")
        path = media.playable(video)
        return FileResponse(path, media_type=_TYPES.get(path.suffix.lower(), "video/mp4"))

    app.mount("/", StaticFiles(directory=_STATIC, html=True))
    return app


def _refusal(request: Request, token: str | None, host: str) -> JSONResponse | None:
    """Why a request may not come in, or None."""
    if token:
        given = (
            request.headers.get("authorization", "").removeprefix("Bearer ").strip()
            or request.query_params.get("token", "")
            or request.cookies.get(_COOKIE, "")
        )
        if not hmac.compare_digest(given.encode(), token.encode()):
            return _problem(401, "a token is needed", "open the address that the server printed when it started")
        return None
    name = request.headers.get("host", "").rsplit(":", 1)[0]
    if name not in {"127.0.0.1", "localhost", "[::1]", host}:
        return _problem(421, "wrong host", "this server answers to its own address only")
    return None
