"""The search page and its interface: search as JSON, pictures of moments."""

import threading
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Response
from starlette.staticfiles import StaticFiles

from reelseek.search import Hit, Searcher
from reelseek.web.shell import STATIC, library_media, new_app, opaque_id, problem

__all__ = ["create_app"]


def _shown(hit: Hit, searcher: Searcher) -> dict[str, Any]:
    opaque = opaque_id(hit.video)
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
    media = library_media(searcher.library)
    app = new_app(media, token=token, host=host)
    searching = threading.Lock()

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

    @app.get("/api/videos/{opaque}/curve", response_model=None)
    def curve(
        opaque: str,
        q: Annotated[str, Query(max_length=2000)],
        without: Annotated[list[str] | None, Query()] = None,
    ) -> Response | dict[str, Any]:
        video = media.video(opaque)
        if video is None:
            return problem(404, "no such video")
        with searching:
            found = searcher.within(q, video.id, k=5, without=without or [])
        return {
            "spans": found.spans.tolist(),
            "curve": found.curve.round(4).tolist(),
            "peaks": [{"start": hit.start, "end": hit.end, "similarity": hit.similarity} for hit in found.hits],
        }

    @app.get("/api/videos/{opaque}/thumbnail")
    def thumbnail(opaque: str, at: Annotated[float, Query(ge=0)] = 0) -> Response:
        video = media.video(opaque)
        with searching:
            jpeg = searcher.library.thumbnail(video.content, at) if video and video.content else None
        if jpeg is None:
            return problem(404, "no picture", "there is no such video, or it has no pictures")
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})

    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return app
