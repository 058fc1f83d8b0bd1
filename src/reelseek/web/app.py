"""The search page and its interface: search as JSON, pictures of moments."""

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from reelseek.errors import UsageError
from reelseek.search import Hit, Searcher
from reelseek.search.hit import Within
from reelseek.web.media import opaque_id
from reelseek.web.metrics import add_metrics
from reelseek.web.problems import Problem
from reelseek.web.service import ServedLibrary, Service
from reelseek.web.shell import add_static, add_videos, new_app
from reelseek.web.state_services import Opener, StateServices
from reelseek.web.v1 import (
    accounts,
    collections,
    inside,
    jobs,
    libraries,
    models,
    pictures,
    search,
    session,
    shared,
    uploads,
    videos,
)  # fmt: skip
from reelseek.web.v1.answers import describe, problems
from reelseek.web.v1.inside import thin

__all__ = ["create_app"]

_LONGEST_MATCH = 500

Text = Annotated[str, Query(max_length=2000)]
Names = Annotated[list[Annotated[str, Query(max_length=200)]] | None, Query(max_length=100)]
Opaque = Annotated[str, Path(max_length=64)]


_ROUTERS = (
    search.router, videos.router, inside.router, pictures.router, uploads.router, models.router, jobs.router,
    libraries.router, collections.router, shared.router, session.router, accounts.router,
)  # fmt: skip


def create_app(
    service: Service,
    *,
    token: str | None = None,
    host: str = "127.0.0.1",
    services: StateServices | None = None,
    opener: Opener | None = None,
) -> FastAPI:
    """Build the application that serves some libraries.

    Args:
        token: what a request must carry; None where only this machine's own name is asked for.
        host: the name that the server is started with.
        services: jobs, accounts and collections; None keeps nothing.
        opener: see `StateServices.start`.
    """
    served = service.libraries()
    resources = [service] if services is None else [services, service]
    app = new_app(resources, token=token, host=host, services=services)
    app.state.service = service
    if services is not None:
        services.attach(service, opener)
    add_metrics(app, service)
    _add_readiness(app, service)
    app.state.routers = _ROUTERS
    for router in _ROUTERS:
        app.include_router(router)
    describe(app)
    if served:
        _add_api(app, served[0])
    add_static(app, html=True)
    return app


def _add_readiness(app: FastAPI, service: Service) -> None:
    def check() -> None:
        for served in service.libraries():
            served.library.revision()

    @app.get("/readyz", tags=["server"], operation_id="get_readiness", responses=problems(503))
    async def ready() -> dict[str, str]:
        """Whether the server can answer searches: every library can be read."""
        await run_in_threadpool(check)
        return {"status": "ready"}


def _add_api(app: FastAPI, served: ServedLibrary) -> None:
    """What the page of one library asks for."""
    searcher, media = served.searcher, served.media
    add_videos(app, media)
    _add_search(app, served)

    @app.get("/api/library", include_in_schema=False)
    def library() -> dict[str, Any]:
        return {
            "name": searcher.library.path.name,
            "videos": len(searcher.library.videos()),
            "clips": searcher.index.live,
            "slots": list(searcher.index.slots),
            "experts": list(searcher.index.experts),
            "system": searcher.model.system,
        }

    @app.get("/api/videos/{opaque}/thumbnail", include_in_schema=False)
    def thumbnail(opaque: Opaque, at: Annotated[float, Query(ge=0, le=1e7, allow_inf_nan=False)] = 0) -> Response:
        video = media.video(opaque)
        jpeg = searcher.library.thumbnail(video.content, at) if video.content else None
        if jpeg is None:
            raise Problem(404, "no picture", media.why_no_picture(video))
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})


def _add_search(app: FastAPI, served: ServedLibrary) -> None:
    """Search in the library and within one video; searches run one at a time."""
    media = served.media

    @app.get("/api/search", include_in_schema=False)
    async def page_search(
        request: Request,
        q: Text,
        k: Annotated[int, Query(ge=1, le=100)] = 24,
        group_by: Literal["moment", "video"] = "moment",
        without: Names = None,
    ) -> dict[str, Any]:
        def answer(searcher: Searcher) -> list[dict[str, Any]]:
            hits = searcher.search(q, k=k, group_by=group_by, without=without or [])
            return [_hit_json(hit, searcher) for hit in hits]

        return {"data": await served.ask(request, answer)}

    @app.get("/api/videos/{opaque}/curve", include_in_schema=False)
    async def curve(request: Request, opaque: Opaque, q: Text, without: Names = None) -> dict[str, Any]:
        def answer(searcher: Searcher) -> Within:
            video = media.video(opaque)
            try:
                return searcher.within(q, video.id, k=5, without=without or [])
            except UsageError:
                media.video(opaque)  # it may have been removed while other searches were under way
                raise

        inside = await served.ask(request, answer)
        spans, values, merged = thin(inside.spans, inside.curve)
        return {
            "spans": spans.tolist(),
            "curve": values.round(4).tolist(),
            "seconds": len(inside.curve),
            "merged": merged,
            "peaks": [{"start": hit.start, "end": hit.end, "similarity": hit.similarity} for hit in inside.hits],
        }


def _hit_json(hit: Hit, searcher: Searcher) -> dict[str, Any]:
    opaque = opaque_id(hit.video)
    end = hit.end if hit.end is not None else hit.start
    video = searcher.library.get(hit.video)  # None where it was removed since the search
    return {
        **hit.as_json(),
        "path": None,  # where files lie on this machine is nobody's business on the page
        "id": opaque,
        "why": [_why_json(why.modality, why.gave, why.matched) for why in hit.why],
        "thumbnail": f"/api/videos/{opaque}/thumbnail?at={(hit.start + end) / 2:.2f}",
        "play": f"/api/videos/{opaque}/media" if video is not None and video.path is not None else None,
    }


def _why_json(modality: str, gave: float, matched: str) -> dict[str, Any]:
    """A reason, with no more than the beginning of a long line, and how long that is."""
    if len(matched) <= _LONGEST_MATCH:
        return {"modality": modality, "gave": gave, "matched": matched}
    return {"modality": modality, "gave": gave, "matched": f"{matched[:_LONGEST_MATCH]}…", "letters": len(matched)}
