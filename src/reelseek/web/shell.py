"""What every page needs: refusals, errors in words, and videos by opaque ids in a form that browsers play.

A token is needed off loopback; on loopback the Host header must be this machine's own, and what changes something must
come from a page of this server, so that no other site can reach a library through a visitor's browser.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from fastapi import Depends, FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from reelseek.library import Video
from reelseek.web.accounts.guard import route_path
from reelseek.web.accounts.proxy import BehindProxy
from reelseek.web.gate import Gate
from reelseek.web.head import HeadAsGet
from reelseek.web.media import Media
from reelseek.web.problems import AnyJSON, add_handlers
from reelseek.web.ranges import RangedFile
from reelseek.web.state_services import StateServices

__all__ = ["STATIC", "VIDEO_TYPES", "Resource", "VideoFile", "add_static", "add_videos", "new_app", "video_file"]

STATIC = Path(__file__).parent / "static"
VIDEO_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/mp4",
    ".mp3": "audio/mpeg",
}


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


class Resource(Protocol):
    """What an application starts before it answers, and ends with it."""

    def start(self) -> None: ...

    def close(self) -> None: ...


def new_app(
    resources: Sequence[Resource], *, token: str | None, host: str, services: StateServices | None = None
) -> FastAPI:
    """An application with refusals and errors in words; pages add what is their own.

    Args:
        resources: are closed with the application.
        services: say who may come in, and note what is changed; None has no accounts.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        for resource in resources:
            await run_in_threadpool(resource.close)

    app = FastAPI(
        title="Reelseek", version="1", docs_url=None, redoc_url=None, lifespan=lifespan, default_response_class=AnyJSON
    )
    app.state.resources = list(resources)
    app.state.services = services
    add_handlers(app)
    app.add_middleware(HeadAsGet)
    app.add_middleware(Gate, token=token, host=host, guard=services.guard if services is not None else None)
    if services is not None and (services.prefix or services.proxies):
        app.add_middleware(
            BehindProxy, prefix=services.prefix, proxies=services.proxies, user_header=services.user_header
        )

    @app.get("/healthz", tags=["server"], operation_id="get_health")
    async def health() -> dict[str, str]:  # needs no thread, which others may hold
        """Whether the server answers at all."""
        return {"status": "ok"}

    return app


def add_videos(app: FastAPI, media: Media) -> None:
    """Add the videos' files and clocks for a page."""

    @app.get("/api/videos/{opaque}/clock", include_in_schema=False)
    async def start(request: Request, file: VideoFile = Depends(video_file(media))) -> dict[str, float]:
        return {"start_offset": await media.start_offset(request, *file)}

    @app.get("/api/videos/{opaque}/media", include_in_schema=False)
    async def play(request: Request, file: VideoFile = Depends(video_file(media))) -> Response:
        playable = await media.playable(request, *file)
        return await run_in_threadpool(
            RangedFile, playable, media_type=VIDEO_TYPES.get(playable.suffix.lower(), "video/mp4")
        )


class _Pages(Mount):
    """The pages' files; below `/v1` there are none, so that a wrong method there is answered as one."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.NONE, {}) if route_path(Request(scope)).startswith("/v1/") else super().matches(scope)


def add_static(app: FastAPI, *, html: bool) -> None:
    """Add the pages' files, after all other routes."""
    app.routes.append(_Pages("/", StaticFiles(directory=STATIC, html=html)))
