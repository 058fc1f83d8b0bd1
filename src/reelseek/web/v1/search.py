"""`POST /v1/search`."""

from fastapi import APIRouter, Request

from reelseek.errors import UsageError
from reelseek.web.decoding import OneAtATime
from reelseek.web.problems import AnyJSON, Problem
from reelseek.web.service import Reader, ServedLibrary, ServiceOf
from reelseek.web.v1.hits import hit_json
from reelseek.web.v1.pages import PageToken
from reelseek.web.v1.schema import Page, SearchAnswer, SearchRequest

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["search"])
_WAITING_SEARCHES = 256  # as many as there may be connections
_searching = OneAtATime(_WAITING_SEARCHES)


@router.post("/search", operation_id="search", response_model=SearchAnswer)
async def search(request: Request, body: SearchRequest, service: ServiceOf, caller: Reader) -> AnyJSON:
    """Find moments by words, by examples, or by both."""
    served = service.library(body.library, caller)
    answer = await _searching.result(request, lambda: _answer(request, served, body))
    return AnyJSON(answer.model_dump())


def _answer(request: Request, served: ServedLibrary, body: SearchRequest) -> SearchAnswer:
    searcher = served.searcher
    searcher.refresh()
    generation = served.generation()
    offset = PageToken.offset_of(body, generation)
    if not body.query.strip():
        raise UsageError("the query is empty; say what to look for, such as: dog barking")
    unsupported = [
        name for name in ("image", "clip", "moment", "like", "unlike", "then", "filter") if getattr(body, name)
    ]
    if unsupported:
        raise Problem(422, "not searched by", f"this server does not search by {', '.join(unsupported)}")
    hits = searcher.search(
        body.query,
        k=offset + body.limit + 1,
        group_by=body.group_by,
        without=[*body.without, *_others(served, body)],
        weights=body.weights,
    )
    rows = hits[offset : offset + body.limit]
    more = len(hits) > offset + body.limit
    return SearchAnswer(
        data=[hit_json(request, served, hit, explain=body.explain) for hit in rows],
        page=Page(
            next_token=PageToken.of(body, generation, offset + body.limit) if more else None,
            total_clips=searcher.index.live,
            generation=generation,
        ),
        unread=searcher.unread(body.query),
        notes=served.notes(),
    )


def _others(served: ServedLibrary, body: SearchRequest) -> list[str]:
    """The experts that do not count where `sources` names those that alone shall."""
    if body.sources is None:
        return []
    experts = served.searcher.index.experts
    names = {name for expert in experts for name in (expert, served.modality(expert))}
    for name in body.sources:
        if name not in names:
            raise UsageError(f"unknown modality or expert {name!r}; there are {', '.join(sorted(names))}")
    return [expert for expert in experts if not {expert, served.modality(expert)} & set(body.sources)]
