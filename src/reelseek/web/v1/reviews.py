"""`/v1/reviews`: pairs of videos that may share footage, judged by people under their accounts' names."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from reelseek.overlap.verdicts import BulkVerdict, Verdict
from reelseek.web.accounts.guard import note
from reelseek.web.problems import AnyJSON, Problem
from reelseek.web.review_desk import Address, ReviewDesk, View
from reelseek.web.reviews import OpenReview, Reviews
from reelseek.web.service import Caller, ServedLibrary, Service, ServiceOf, require
from reelseek.web.state_services import ReviewsOf
from reelseek.web.v1 import schema
from reelseek.web.v1.answers import problems
from reelseek.web.v1.hits import shown, video_address
from reelseek.web.v1.jobs import Writer

__all__ = ["router"]

router = APIRouter(prefix="/v1/reviews", tags=["reviews"], responses=problems(409, 410, 507))
Reviewer = Annotated[Caller, Depends(require("review"))]
Identifier = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="id of the scan")]
LibraryName = Annotated[str | None, Query(max_length=200, description="only reviews of this library")]
Place = Annotated[int, Field(ge=0, le=10**9, description="of a pair in the scan, from 0")]
After = Annotated[int, Field(ge=-1, le=10**9, description="place of the last pair that is at hand")]


class Side(schema.Document):
    """A video of a pair."""

    name: str
    video: str | None = Field(description="its id; null where its file is not at hand")
    start: float = Field(description="second at which the pair's window begins")
    duration: float | None
    width: int | None
    height: int | None
    bytes: int | None
    play: str | None
    strip: str | None


class OpinionJSON(schema.Document):
    """What a reviewer said of a pair."""

    who: str
    verdict: Verdict
    time: str
    settles: bool = Field(description="said in sight of the others' opinions, to end a disagreement")


class PairJSON(schema.Document):
    """A pair of videos, and what may be seen of what was said of it."""

    place: int
    score: float
    sound: float | None = Field(description="how alike it sounds; null where one of them is silent")
    window: float = Field(description="seconds that were compared")
    test: Side
    train: Side
    mine: Verdict | None
    said: list[OpinionJSON] = Field(description="your own opinions; the others' once you or enough people have judged")
    opinions: int


class ReviewSummary(schema.Document):
    """A scan whose pairs are judged."""

    id: str
    library: str
    title: str
    time: float = Field(description="when the scan was written, in seconds since 1970")
    opinions: int = Field(description="how many people judge each pair")
    counts: dict[str, int] = Field(description="pairs, those that were seen, and pairs by what was decided")
    reviewers: dict[str, int] = Field(description="how many pairs each has judged")
    same: list[str] = Field(description="the verdicts that mean shared footage")


class ReviewJSON(ReviewSummary):
    """A review, and under which name you judge."""

    who: str


class ReviewList(schema.Document):
    """The scans of the libraries that you may see, the newest first."""

    data: list[ReviewSummary]


class PairList(schema.Document):
    """Pairs in the order of the scan."""

    data: list[PairJSON]
    more: int = Field(description="how many follow these")
    counts: dict[str, int]


class QueueAnswer(schema.Document):
    """The next pairs to judge; they are yours for five minutes."""

    data: list[PairJSON]
    counts: dict[str, int]


class Undone(schema.Document):
    """The verdict that was taken back; all null where there was none of yours."""

    place: int | None
    verdict: Verdict | None
    card: PairJSON | None
    counts: dict[str, int]


class JudgedBelow(schema.Document):
    """What became of the pairs below a score."""

    judged: int
    before: int = Field(description="of those below it, judged already and left as they were")
    counts: dict[str, int]


class Counts(schema.Document):
    """How far the review is."""

    counts: dict[str, int]


class AgreementJSON(schema.Document):
    """How far two reviewers agree on what both judged without seeing each other's opinions."""

    one: str
    two: str
    pairs: int
    equal: float
    kappa: float


class AgreementList(schema.Document):
    """Every two reviewers."""

    data: list[AgreementJSON]
    more: int = Field(default=0, description="beyond those that are listed")


class NextRequest(schema.Request):
    """Which pairs come next."""

    after: After = -1
    count: Annotated[int, Field(ge=1, le=50)] = 10


class JudgeRequest(schema.Request):
    """An opinion on some pairs, which is refused as a whole if one of them may not be judged."""

    places: list[Place] = Field(min_length=1, max_length=200, examples=[[0]])
    verdict: Verdict
    settles: bool = Field(default=False, description="ends a disagreement of others")


class BelowRequest(schema.Request):
    """The same opinion on every pair below a score that nobody has judged."""

    below: Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False, examples=[0.6])]
    verdict: BulkVerdict = "not"


class ReviewChange(schema.Request):
    """How a scan is reviewed."""

    opinions: Annotated[int, Field(ge=1, le=20)] = Field(description="how many people judge each pair, blindly")


class LeasesRequest(schema.Request):
    """Pairs that one still looks at."""

    places: list[Place] = Field(max_length=500)


@router.get("", operation_id="list_reviews", response_model=ReviewList)
async def list_reviews(
    service: ServiceOf, reviews: ReviewsOf, caller: Reviewer, library: LibraryName = None
) -> AnyJSON:
    """The scans of libraries that you may see."""

    def summaries() -> list[dict[str, Any]]:
        return [
            _summary(review)
            for served in service.libraries(caller)
            if library in (None, served.name)
            for review in reviews.of_library(served)
        ]

    return AnyJSON({"data": await run_in_threadpool(summaries)})


@router.get("/{id}", operation_id="get_review", response_model=ReviewJSON)
async def get_review(id: Identifier, service: ServiceOf, reviews: ReviewsOf, caller: Reviewer) -> AnyJSON:
    """A review, how far it is, and who judged."""

    def summary() -> dict[str, Any]:
        return {**_summary(_find(id, service, reviews, caller)[0]), "who": caller.name}

    return AnyJSON(await run_in_threadpool(summary))


@router.patch("/{id}", operation_id="change_review", response_model=ReviewJSON)
async def change_review(
    request: Request, id: Identifier, body: ReviewChange, service: ServiceOf, reviews: ReviewsOf, caller: Writer
) -> AnyJSON:
    """Ask for so many opinions on each pair."""
    note(request, opinions=body.opinions)

    def change() -> dict[str, Any]:
        review = _find(id, service, reviews, caller)[0]
        reviews.set_opinions(review, body.opinions)
        return {**_summary(review), "who": caller.name}

    return AnyJSON(await run_in_threadpool(change))


@router.get("/{id}/pairs", operation_id="list_pairs", response_model=PairList)
async def list_pairs(
    request: Request, id: Identifier, service: ServiceOf, reviews: ReviewsOf, caller: Reviewer,
    view: Annotated[View, Query(description="scrolled past and not judged, judged by you, or disputed")],
    after: Annotated[int, Query(ge=-1, le=10**9)] = -1, count: Annotated[int, Query(ge=1, le=50)] = 10,
) -> AnyJSON:  # fmt: skip
    """Pairs to look at again."""
    return await _answer(
        request, id, service, reviews, caller,
        lambda desk, address: desk.listing(view, caller.name, count, after, address),
    )  # fmt: skip


@router.get("/{id}/agreement", operation_id="get_agreement", response_model=AgreementList)
async def get_agreement(
    request: Request, id: Identifier, service: ServiceOf, reviews: ReviewsOf, caller: Reviewer
) -> AnyJSON:
    """How far every two reviewers agree."""
    return await _answer(
        request, id, service, reviews, caller, lambda desk, address: desk.agreement()
    )  # fmt: skip


@router.post("/{id}/queue", operation_id="next_pairs", response_model=QueueAnswer)
async def next_pairs(
    request: Request, id: Identifier, body: NextRequest, service: ServiceOf, reviews: ReviewsOf, caller: Reviewer
) -> AnyJSON:
    """The next pairs that nobody else judges at the moment."""
    return await _answer(
        request, id, service, reviews, caller,
        lambda desk, address: desk.queue(caller.name, body.count, body.after, address),
    )  # fmt: skip


@router.post("/{id}/leases", operation_id="renew_leases", response_model=Counts)
async def renew_leases(
    request: Request, id: Identifier, body: LeasesRequest, service: ServiceOf, reviews: ReviewsOf, caller: Reviewer
) -> AnyJSON:
    """Keep pairs for five more minutes."""

    def renew(desk: ReviewDesk, address: Address) -> dict[str, Any]:
        desk.review.renew_leases(caller.name, body.places)
        return {"counts": desk.review.counts()}

    return await _answer(request, id, service, reviews, caller, renew)


@router.post("/{id}/leave", operation_id="leave_review", response_model=Counts)
async def leave_review(
    request: Request, id: Identifier, service: ServiceOf, reviews: ReviewsOf, caller: Reviewer
) -> AnyJSON:
    """Let others judge the pairs that were yours."""

    def leave(desk: ReviewDesk, address: Address) -> dict[str, Any]:
        desk.review.leave(caller.name, _window(caller))
        return {"counts": desk.review.counts()}

    return await _answer(request, id, service, reviews, caller, leave)


@router.post("/{id}/verdicts", operation_id="judge_pairs", response_model=QueueAnswer)
async def judge_pairs(
    request: Request, id: Identifier, body: JudgeRequest, service: ServiceOf, reviews: ReviewsOf, caller: Reviewer
) -> AnyJSON:
    """Judge pairs; no video is ever changed."""
    note(request, verdict=body.verdict, pairs=len(body.places))
    return await _answer(
        request, id, service, reviews, caller,
        lambda desk, address: desk.record(body.places, body.verdict, caller.name, address, settles=body.settles),
    )  # fmt: skip


@router.post("/{id}/below", operation_id="judge_pairs_below", response_model=JudgedBelow)
async def judge_pairs_below(
    request: Request, id: Identifier, body: BelowRequest, service: ServiceOf, reviews: ReviewsOf, caller: Reviewer
) -> AnyJSON:
    """Judge every pair below a score that nobody has judged, as `reelseek overlap judge` does."""
    note(request, verdict=body.verdict, below=body.below)
    return await _answer(
        request, id, service, reviews, caller,
        lambda desk, address: desk.judge_below(body.below, body.verdict, caller.name),
    )  # fmt: skip


@router.post("/{id}/undo", operation_id="undo_verdict", response_model=Undone)
async def undo_verdict(
    request: Request, id: Identifier, service: ServiceOf, reviews: ReviewsOf, caller: Reviewer
) -> AnyJSON:
    """Take back your last verdict."""
    return await _answer(
        request, id, service, reviews, caller, lambda desk, address: desk.undo(caller.name, address)
    )  # fmt: skip


def _summary(review: OpenReview) -> dict[str, Any]:
    facts = review.desk.summary()
    return {"id": review.id, "library": review.library, "time": review.time, **facts, "title": shown(facts["title"])}


def _find(identifier: str, service: Service, reviews: Reviews, caller: Caller) -> tuple[OpenReview, ServedLibrary]:
    """The review of an id in a library that the caller may see.

    Raises:
        Problem: there is none.
    """
    for served in service.libraries(caller):
        review = reviews.get(identifier, served)
        if review is not None:
            return review, served
    raise Problem(404, "no such review", "there is no scan of this id; GET /v1/reviews lists those that there are")


def _window(caller: Caller) -> str:
    """All windows of an account are one reviewer's."""
    return f"account {caller.name}"


async def _answer(
    request: Request,
    identifier: str,
    service: Service,
    reviews: Reviews,
    caller: Caller,
    function: Callable[[ReviewDesk, Address], dict[str, Any]],
) -> AnyJSON:
    """What a function makes of a review, under the caller's name."""

    def call() -> dict[str, Any]:
        review, served = _find(identifier, service, reviews, caller)
        review.desk.review.enter(caller.name, _window(caller))
        return function(review.desk, lambda opaque, part: video_address(request, served, opaque, f"/{part}"))

    return AnyJSON(await run_in_threadpool(call))
