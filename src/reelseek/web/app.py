"""The application that serves libraries: the interface `/v1`, what tells how the server is, and the page."""

import logging
import sqlite3

from fastapi import Depends, FastAPI
from starlette.concurrency import run_in_threadpool

from reelseek.errors import ReelseekError
from reelseek.web.metrics import add_metrics
from reelseek.web.problems import Problem
from reelseek.web.service import Service
from reelseek.web.shell import Resource, add_static, new_app
from reelseek.web.state_services import Opener, StateServices
from reelseek.web.v1 import (
    accounts,
    collections,
    inside,
    jobs,
    libraries,
    models,
    pictures,
    reports,
    reviews,
    search,
    session,
    shared,
    tags,
    uploads,
    video_jobs,
    videos,
)  # fmt: skip
from reelseek.web.v1.answers import describe, problems
from reelseek.web.v1.queries import refuse_unknown_parameters

__all__ = ["create_app"]

_ROUTERS = (
    search.router, videos.router, tags.router, inside.router, pictures.router, uploads.router, models.router,
    jobs.router, video_jobs.router, libraries.router, collections.router, shared.router, session.router,
    accounts.router, reviews.router, reports.router,
)  # fmt: skip

_log = logging.getLogger("reelseek.web")


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
        opener: see `StateServices.attach`.
    """
    resources: list[Resource] = [service] if services is None else [services, service]
    app = new_app(resources, token=token, host=host, services=services)
    app.state.service = service
    if services is not None:
        services.attach(service, opener)
    add_metrics(app, service)
    _add_readiness(app, service)
    app.state.routers = _ROUTERS
    for router in _ROUTERS:
        app.include_router(router, dependencies=[Depends(refuse_unknown_parameters)])
    describe(app)
    add_static(app, html=True)
    return app


def _add_readiness(app: FastAPI, service: Service) -> None:
    def check() -> None:
        for served in service.libraries():
            served.library.revision()

    @app.get("/readyz", tags=["server"], operation_id="get_readiness", responses=problems(503))
    async def ready() -> dict[str, str]:
        """Whether the server can answer searches: every library can be read."""
        try:
            await run_in_threadpool(check)
        except (OSError, sqlite3.Error, ReelseekError) as error:
            _log.error("a library cannot be read: %s", error)
            raise Problem(503, "not ready", "a library cannot be read; the log says why", retry_seconds=5) from error
        return {"status": "ready"}
