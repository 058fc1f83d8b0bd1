"""What the server does, in Prometheus' format."""

import time

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reelseek.web.service import Service

__all__ = ["Measure", "Metrics", "add_metrics"]

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The counters of one application.

    Labels are templates of routes, never addresses, so that nobody can make there be many of them.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ["method", "route"]
        self.requests = Counter(
            "reelseek_http_requests", "Requests that were answered.", [*labels, "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "reelseek_http_request_seconds", "From the head of a request to the end of its answer.", labels,
            registry=self.registry, buckets=_BUCKETS,
        )  # fmt: skip
        self.under_way = Gauge("reelseek_http_requests_under_way", "Requests not answered yet.", registry=self.registry)
        self._videos = self._gauge("videos", "Videos of a library.")
        self._clips = self._gauge("clips", "Clips that are searched.")
        self._searches = self._gauge("searches_under_way", "Searches that run or wait for their turn.")

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"reelseek_{name}", text, ["library"], registry=self.registry)

    def text(self) -> bytes:
        """All of them as text."""
        for served in self._service.libraries():
            self._videos.labels(served.name).set(served.library.catalog.videos.totals()[0])
            self._clips.labels(served.name).set(served.searcher.index.live)
            self._searches.labels(served.name).set(served.turns.callers)
        return generate_latest(self.registry)


class Measure:
    """Middleware that counts and times requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, begin = 500, time.perf_counter()

        async def count(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.under_way.inc()
        try:
            await self._app(scope, receive, count)
        finally:
            self._metrics.under_way.dec()
            method, route = _method(scope["method"]), _route(scope)
            self._metrics.requests.labels(method, route, status).inc()
            self._metrics.seconds.labels(method, route).observe(time.perf_counter() - begin)


def _method(method: str) -> str:
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE") else "other"


def _route(scope: Scope) -> str:
    """The template of the route that answered, such as /v1/videos/{id}."""
    route = scope.get("route")
    return getattr(route, "path_format", "") or getattr(route, "path", "") or "other"


def add_metrics(app: FastAPI, service: Service) -> None:
    """Let an application count its requests, and show what it counted."""
    metrics = Metrics(service)
    app.add_middleware(Measure, metrics=metrics)

    @app.get(
        "/metrics", tags=["server"], operation_id="get_metrics", response_class=Response,
        responses={200: {"description": "Prometheus' text format.", "content": {"text/plain": {}}}},
    )  # fmt: skip
    async def get_metrics() -> Response:
        """Counters of requests, searches and libraries for Prometheus."""
        return Response(await run_in_threadpool(metrics.text), media_type=CONTENT_TYPE_LATEST)
