"""`POST /v1/search`."""

from typing import Annotated

from fastapi import APIRouter, Body, Request
from starlette.concurrency import run_in_threadpool

from reelseek.errors import QueryError, UsageError, suggest
from reelseek.search import Moment, Searcher, Then, parse_query
from reelseek.search.fulltext import ABOUT, SOURCES
from reelseek.web.problems import AnyJSON
from reelseek.web.service import Reader, ServedLibrary, ServiceOf
from reelseek.web.v1.answers import problems
from reelseek.web.v1.examples import Examples, read_examples
from reelseek.web.v1.hits import hit_json
from reelseek.web.v1.pages import offset_of, page_token
from reelseek.web.v1.schema import Page, SearchAnswer, SearchRequest

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["search"])
_EXAMPLES = {
    "words": {"summary": "Words", "value": {"query": "a dog on a beach"}},
    "videos": {
        "summary": "The best moment of each video, by what is said and written alone",
        "value": {"query": '"happy birthday" cake', "group_by": "video", "sources": ["speech", "ocr"], "limit": 12},
    },
    "filters": {"summary": "Only some videos", "value": {"query": "a dog", "filter": "folder:holiday before:2020"}},
}


@router.post("/search", operation_id="search", response_model=SearchAnswer, responses=problems(409))
async def search(
    request: Request,
    body: Annotated[SearchRequest, Body(openapi_examples=_EXAMPLES)],
    service: ServiceOf,
    caller: Reader,
) -> AnyJSON:
    """Find moments by words, by examples, or by both."""
    served = await service.by_model(service.library(body.library, caller), body.model)
    examples = await run_in_threadpool(read_examples, service, served, caller, body)
    parsed = parse_query(body.query, filter=body.filter, words_required=not examples.like)
    try:
        answer = await served.ask(
            request,
            lambda searcher: _answer(request, served, searcher, body, examples),
            text=parsed.terms[0].text if len(parsed.terms) == 1 else "",
            long=any(not isinstance(example, Moment) for example in (*examples.like, *examples.unlike)),
        )
    except (QueryError, UsageError) as error:
        raise type(error)(examples.nameless(str(error))) from error
    return AnyJSON(answer.model_dump())


def _answer(
    request: Request, served: ServedLibrary, searcher: Searcher, body: SearchRequest, examples: Examples
) -> SearchAnswer:
    offset = offset_of(body, served.generation(searcher))
    then = Then(body.then.query, body.then.within) if body.then else None
    hits = searcher.search(
        body.query,
        k=body.limit + 1,  # one more, which tells whether there is a next page
        offset=offset,
        group_by=body.group_by,
        without=[*body.without, *_others(served, searcher, body)],
        weights=body.weights,
        filter=body.filter,
        like=examples.like,
        unlike=examples.unlike,
        then=then,
    )
    of_query = searcher.notes(body.query, filter=body.filter, like=examples.like, unlike=examples.unlike, then=then)
    answered = served.generation(searcher)  # another one where the library changed in the middle
    offset_of(body, answered)
    more = len(hits) > body.limit
    return SearchAnswer(
        data=[hit_json(request, served, hit, explain=body.explain) for hit in hits[: body.limit]],
        page=Page(
            next_token=page_token(body, answered, offset + body.limit) if more else None,
            total_clips=searcher.index.live,
            generation=answered,
        ),
        unread=searcher.unread(body.query) if body.query.strip() else "",
        notes=[*served.notes(searcher), *of_query],
    )


def _others(served: ServedLibrary, searcher: Searcher, body: SearchRequest) -> list[str]:
    """What does not count where `sources` names what alone shall: other experts, names, captions."""
    if body.sources is None:
        return []
    experts = searcher.index.experts
    words = (*ABOUT, *SOURCES.values())  # they count also where the model has no expert of that modality
    names = {*words, *(name for expert in experts for name in (expert, served.modality(expert)))}
    for name in body.sources:
        if name not in names:
            raise UsageError(
                f"unknown modality or expert {name!r}{suggest(name, names)}; there are {', '.join(sorted(names))}"
            )
    others = [expert for expert in experts if not {expert, served.modality(expert)} & set(body.sources)]
    selected = {*body.sources, *(served.modality(expert) for expert in experts if expert in body.sources)}
    return [*others, *(name for name in words if name not in selected)]
