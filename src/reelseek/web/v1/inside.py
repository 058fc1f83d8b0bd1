"""`/v1/videos/{id}/curve` and `/steps`: where in a video something happens."""

from typing import Annotated

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Query, Request

from reelseek.errors import UsageError
from reelseek.moments import Localized, localize
from reelseek.search import Searcher
from reelseek.search.hit import Within
from reelseek.web.jobs.requests import ModelName
from reelseek.web.problems import AnyJSON
from reelseek.web.service import Reader, ServiceOf
from reelseek.web.v1.answers import problems
from reelseek.web.v1.video_schema import Curve, Peak, PlacedStep, StepsAnswer, StepsRequest
from reelseek.web.v1.videos import LibraryName, Opaque

__all__ = ["router"]

router = APIRouter(prefix="/v1/videos", tags=["videos"], responses=problems(409, 410))
_MOST_VALUES = 7200
_PEAKS = 5
Names = Annotated[list[Annotated[str, Query(max_length=200)]] | None, Query(max_length=100)]


@router.get("/{id}/curve", operation_id="get_curve", response_model=Curve)
async def get_curve(
    request: Request,
    id: Opaque,
    service: ServiceOf,
    caller: Reader,
    q: Annotated[str, Query(max_length=2000, description="what to look for, as in a search", examples=["a dog"])],
    without: Annotated[Names, Query(description="modalities or experts that shall not count")] = None,
    library: LibraryName = None,
    model: Annotated[ModelName | None, Query(description="as in a search")] = None,
) -> AnyJSON:
    """How near each second of a video is to a query, and where that peaks."""
    served = await service.by_model(service.library(library, caller), model)

    def look(searcher: Searcher) -> Within:
        video = served.media.video(id)
        try:
            return searcher.within(q, video.id, k=_PEAKS, without=without or [])
        except UsageError:
            served.media.video(id)  # it may have been removed while other searches were under way
            raise

    inside = await served.ask(request, look, long=True)
    spans, values, merged = thin(inside.spans, inside.curve)
    answer = Curve(
        spans=spans.tolist(),
        values=values.round(4).tolist(),
        seconds=len(inside.curve),
        merged=merged,
        peaks=[
            Peak(start=hit.start, end=hit.end or hit.start, score=hit.similarity, confidence=hit.confidence)
            for hit in inside.hits
        ],
    )
    return AnyJSON(answer.model_dump())


def thin(
    spans: npt.NDArray[np.float64], curve: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], int]:
    """A curve of at most two hours' values: the highest of so many seconds each, and how many those are."""
    merged = -(-len(curve) // _MOST_VALUES)
    if merged <= 1:
        return spans, curve, 1
    starts = np.arange(0, len(curve), merged)
    ends = np.minimum(starts + merged, len(curve)) - 1
    return np.stack([spans[starts, 0], spans[ends, 1]], axis=1), np.maximum.reduceat(curve, starts), merged


@router.post("/{id}/steps", operation_id="place_steps", response_model=StepsAnswer)
async def place_steps(
    request: Request, id: Opaque, body: StepsRequest, service: ServiceOf, caller: Reader, library: LibraryName = None
) -> AnyJSON:
    """Assign one second of a video to each step of a task, so that the sum of their similarities is maximal."""
    served = await service.by_model(service.library(library, caller), body.model)

    def place(searcher: Searcher) -> Localized:
        video = served.media.video(id)
        return localize(
            searcher.library, video.id, body.steps, model=searcher.model, ordered=body.ordered, missing=body.missing
        )

    localized = await served.ask(request, place, long=True)
    rows = [
        PlacedStep(step=s.step, text=s.text, start=s.start, end=s.end, score=s.similarity, confidence=s.confidence)
        for s in localized.steps
    ]
    return AnyJSON(StepsAnswer(data=rows).model_dump())
