"""What every page needs: refusals, errors in words, and videos by opaque ids in a form that browsers play.

A token is needed off loopback; on loopback the Host header must be this machine's own, and what changes something must
come from a page of this server, so that no other site can reach a library through a visitor's browser.
"""

import hashlib
import hmac
import ipaddress
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse

from reelseek.errors import MediaError, QueryError, ReelseekError, UsageError
from reelseek.library import Library, Video
from reelseek.media.guard import Workers
from reelseek.media.picture import browser_plays, make_proxy, played_start, strip

__all__ = ["STATIC", "Media", "library_media", "new_app", "opaque_id", "problem", "serve_app"]

STATIC = Path(__file__).parent / "static"
_COOKIE = "reelseek_token"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm", ".mov": "video/mp4", ".mp3": "audio/mpeg"}


def problem(status: int, title: str, detail: str = "") -> JSONResponse:
    """An error as RFC 9457 has it."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json")


def opaque_id(identifier: str) -> str:
    """What stands for a video in addresses, which tell nothing of names and paths."""
    return hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _work(task: tuple[Callable[[Any], Any], Any]) -> Any:
    function, item = task
    return function(item)


class Media:
    """Videos by opaque id, and copies that browsers play, made when asked for.

    Args:
        videos: those that may be seen.
        copies: folder for the copies.
    """

    def __init__(self, videos: Iterable[Video], copies: Path) -> None:
        self._videos = {opaque_id(video.id): video for video in videos}
        self._copies = copies
        self._making = threading.Lock()
        self._plays: dict[str, bool] = {}
        self._strips: dict[tuple[object, ...], bytes] = {}
        # Workers die with the thread that started them; threads of an executor stay, those that answer requests do not.
        self._threads = ThreadPoolExecutor(2, "media")
        self._workers: Workers[Any, Any] | None = None
        self._beginning = threading.Lock()

    def video(self, opaque: str) -> Video | None:
        return self._videos.get(opaque)

    def playable(self, video: Video) -> Path:
        """The file itself if browsers play it, else its copy.

        Raises:
            MediaError: the file is gone, or cannot be decoded.
        """
        path = _file(video)
        content = str(video.content)
        if content not in self._plays:
            self._plays[content] = self._guarded(browser_plays, path, 60)
        if self._plays[content]:
            return path
        copy = self._copies / f"{content}.mp4"
        with self._making:  # one at a time: a copy takes all the cores it can get
            if not copy.is_file():
                copy.parent.mkdir(parents=True, exist_ok=True)
                self._guarded(make_proxy, (path, copy), 120 + 5 * (video.duration or 3600))
        return copy

    def start_offset(self, video: Video) -> float:
        """Seconds at which the file that is played shows second 0 of a video.

        Raises:
            MediaError: as above.
        """
        return float(self._guarded(played_start, _file(video), 60))

    def strip(self, video: Video, start: float, seconds: float, count: int, height: int) -> bytes:
        """A JPEG of so many frames of a place, side by side, of a height in pixels.

        Raises:
            MediaError: as above.
        """
        key = (video.content, round(start, 2), round(seconds, 2), count, height)
        if key not in self._strips:
            times = [start + (place + 0.5) * seconds / count for place in range(count)]
            picture = self._guarded(strip, (_file(video), times, height), 60)
            if len(self._strips) > 2000:
                self._strips.clear()
            self._strips[key] = picture
        return self._strips[key]

    def _guarded(self, function: Callable[[Any], Any], item: Any, seconds: float) -> Any:
        """In worker processes that stay, since starting one takes longer than most of what they do."""
        outcome = self._threads.submit(self._asked, function, item, seconds).result()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _asked(self, function: Callable[[Any], Any], item: Any, seconds: float) -> Any:
        with self._beginning:
            if self._workers is None:
                self._workers = Workers(_work, workers=2, memory_bytes=2 * 2**30)
                weakref.finalize(self, self._workers.__exit__, None, None, None)
        return next(self._workers.map([(function, item)], lambda _: seconds))[1]


def _file(video: Video) -> Path:
    if video.path is None or video.content is None or not video.path.is_file():
        raise MediaError("the video's file is not at hand; it was moved or deleted since it was added")
    return video.path


def library_media(library: Library) -> Media:
    """The videos of a library."""
    return Media(library.videos(), library.path / "copies")


def new_app(media: Media, *, token: str | None, host: str) -> FastAPI:
    """An application with refusals, errors in words, and the videos; pages add what is their own."""
    app = FastAPI(title="Reelseek", version="1", docs_url=None, redoc_url=None)

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
        return problem(400 if wrong else 422, "what was asked cannot be done" if wrong else "failed", str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(400, "a parameter is wrong", "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors()))

    @app.get("/healthz")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/api/videos/{opaque}/clock", response_model=None)
    def start(opaque: str) -> Response | dict[str, float]:
        video = media.video(opaque)
        if video is None:
            return problem(404, "no such video")
        return {"start_offset": media.start_offset(video)}

    @app.get("/api/videos/{opaque}/media")
    def play(opaque: str) -> Response:
        video = media.video(opaque)
        if video is None:
            return problem(404, "no such video")
        path = media.playable(video)
        return FileResponse(path, media_type=_TYPES.get(path.suffix.lower(), "video/mp4"))

    return app


def _refusal(request: Request, token: str | None, host: str) -> JSONResponse | None:
    """Why a request may not come in, or None."""
    origin = request.headers.get("origin")
    if request.method not in ("GET", "HEAD") and origin and origin.partition("//")[2] != request.headers.get("host"):
        return problem(403, "wrong origin", "only a page of this server may change something")
    if token:
        given = (
            request.headers.get("authorization", "").removeprefix("Bearer ").strip()
            or request.query_params.get("token", "")
            or request.cookies.get(_COOKIE, "")
        )
        if not hmac.compare_digest(given.encode(), token.encode()):
            return problem(401, "a token is needed", "open the address that the server printed when it started")
        return None
    name = request.headers.get("host", "").rsplit(":", 1)[0]
    if name not in {"127.0.0.1", "localhost", "[::1]", host}:
        return problem(421, "wrong host", "this server answers to its own address only")
    return None


def serve_app(make: Callable[[], FastAPI], *, host: str, port: int, token: str | None) -> None:
    """Serve what `make` makes until it is interrupted; says the address on standard error.

    Raises:
        UsageError: other machines could reach it and there is no secret, or a short one; nothing was made then.
    """
    import uvicorn

    if not _loopback(host) and not token:
        raise UsageError(
            f"{host} can be reached from other machines; choose a secret with --token, or leave --host out"
        )
    if token is not None and len(token) < 8:
        raise UsageError("--token needs at least 8 characters")
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise UsageError(
            "--token takes letters, digits and signs of plain ASCII, without blanks: it goes into addresses"
        )
    app = make()
    print(f"http://{host}:{port}/{f'?token={token}' if token else ''}  (Ctrl-C ends it)", file=sys.stderr, flush=True)
    uvicorn.run(app, host=host, port=port, log_level="warning", server_header=False)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
