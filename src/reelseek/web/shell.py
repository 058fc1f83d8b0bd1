"""What every page needs: refusals, errors in words, and videos by opaque ids in a form that browsers play.

A token is needed off loopback; on loopback the Host header must be this machine's own, and what changes something must
come from a page of this server, so that no other site can reach a library through a visitor's browser.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from fastapi import Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from reelseek.library import Video
from reelseek.web.accounts.proxy import BehindProxy
from reelseek.web.gate import Gate
from reelseek.web.media import Media
from reelseek.web.problems import AnyJSON, add_handlers
from reelseek.web.ranges import RangedFile
from reelseek.web.state_services import StateServices

__all__ = ["STATIC", "VideoFile", "add_static", "add_videos", "new_app", "video_file"]

STATIC = Path(__file__).parent / "static"
_TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm", ".mov": "video/mp4", ".mp3": "audio/mpeg"}


class VideoFile(NamedTuple):
    """A video that an address names, and its file, which is there."""

    video: Video
    path: Path


def video_file(media: Media) -> Callable[[str], VideoFile]:
    """What a route depends on: the video of its address's `opaque` id, looked for in a thread."""

    def find(opaque: str) -> VideoFile:
        video = media.video(opaque)
        return VideoFile(video, media.file(video))

    return find


def new_app(media: Sequence[Media], *, token: str | None, host: str, services: StateServices | None = None) -> FastAPI:
    """An application with refusals and errors in words; pages add what is their own.

    Args:
        media: is closed with the application.
        services: what outlives the server, closed with it too; None keeps nothing.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        for videos in app.state.media:
            await run_in_threadpool(videos.close)
        if services is not None:
            await run_in_threadpool(services.close)

    app = FastAPI(
        title="Reelseek", version="1", docs_url=None, redoc_url=None, lifespan=lifespan, default_response_class=AnyJSON
    )
    app.state.media = list(media)
    app.state.services = services
    add_handlers(app)
    app.add_middleware(Gate, token=token, host=host, guard=services.guard if services is not None else None)
    if services is not None and (services.prefix or services.proxies):
        app.add_middleware(
            BehindProxy, prefix=services.prefix, proxies=services.proxies, user_header=services.user_header
        )

    @app.get("/healthz")
    async def health() -> dict[str, str]:  # needs no thread, which others may hold
        return {"status": "ok"}

    return app


def add_videos(app: FastAPI, media: Media) -> None:
    """Add the videos' files and clocks for a page."""

    @app.get("/api/videos/{opaque}/clock")
    async def start(request: Request, file: VideoFile = Depends(video_file(media))) -> dict[str, float]:
        return {"start_offset": await media.start_offset(request, *file)}

    @app.get("/api/videos/{opaque}/media")
    async def play(request: Request, file: VideoFile = Depends(video_file(media))) -> Response:
        playable = await media.playable(request, *file)
        return await run_in_threadpool(
            RangedFile, playable, media_type=_TYPES.get(playable.suffix.lower(), "video/mp4")
        )


def add_static(app: FastAPI, *, html: bool) -> None:
    """Add the pages' files, after all other routes; and let HEAD be answered wherever GET is."""
    app.openapi()  # made before, lest each route stands there twice
    for route in app.routes:
        if isinstance(route, APIRoute) and route.methods and "GET" in route.methods:
            route.methods.add("HEAD")
    app.routes.append(Mount("/", StaticFiles(directory=STATIC, html=html)))
