"""What `/v1` takes and answers, as OpenAPI describes it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from reelseek.search.hit import Strength
from reelseek.web.jobs.requests import ModelName

__all__ = [
    "Document",
    "HitJSON",
    "Page",
    "ProblemDocument",
    "Reason",
    "Request",
    "SearchAnswer",
    "SearchRequest",
    "ThenRequest",
]

Name = Annotated[str, Field(max_length=200)]
Identifier = Annotated[str, Field(max_length=200)]


class Request(BaseModel):
    """A body of a request; a key that is unknown is refused, so that none is misspelt in silence."""

    model_config = ConfigDict(extra="forbid")


class Document(BaseModel):
    """A body of an answer."""


class ProblemDocument(Document):
    """An error, as RFC 9457 has it (`application/problem+json`)."""

    type: str = Field(description="what kind of error it is; about:blank where the status says it all")
    title: str = Field(description="the same for every error of a kind")
    status: int
    detail: str = Field(description="what is wrong with this request, and what to do")
    errors: list[dict[str, str]] | None = Field(
        default=None, description="each field that is wrong, by `field` (a path) and `detail`"
    )


class ThenRequest(Request):
    """A second query, which must follow the first in the same video."""

    query: Annotated[str, Field(max_length=2000)]
    within: Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False, description="seconds")] = 30.0


class SearchRequest(Request):
    """What to look for: words, examples, or both; everything that is given must hold."""

    library: Name | None = Field(default=None, description="which library; may be left out where there is one")
    query: Annotated[str, Field(max_length=2000)] = Field(
        default="", description='words, `-without`, `word^2`, `"must occur"`, and filters such as `before:2020`'
    )
    image: Identifier | None = Field(default=None, description="an upload of a picture to look like")
    clip: Identifier | None = Field(default=None, description="an upload of a video to be like")
    moment: Identifier | None = Field(default=None, description="a moment to be like, as a hit names it")
    like: list[Identifier] = Field(default=[], max_length=20, description="moments or uploads to be like")
    unlike: list[Identifier] = Field(default=[], max_length=20, description="moments or uploads to be unlike")
    then: ThenRequest | None = None
    model: ModelName | None = Field(
        default=None, description="a searchable one of GET /v1/models; null is the one that the server was started with"
    )
    sources: list[Name] | None = Field(
        default=None, max_length=100, description="modalities or experts that alone shall count"
    )
    weights: dict[Name, Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]] = Field(
        default={}, max_length=100, description="factors for modalities or experts; 0 leaves one out"
    )
    without: list[Name] = Field(default=[], max_length=100, description="modalities or experts that shall not count")
    filter: Annotated[str, Field(max_length=2000)] = Field(
        default="", description="filters alone, such as `folder:holiday has:speech`"
    )
    group_by: Literal["moment", "video"] = Field(
        default="moment", description="`video`: only the best moment of each video"
    )
    limit: Annotated[int, Field(ge=1, le=100)] = 24
    page_token: Annotated[str, Field(max_length=500)] | None = Field(
        default=None, description="`page.next_token` of the answer before, with the same request otherwise"
    )
    explain: bool = Field(default=True, description="false leaves `why` empty")


class Reason(Document):
    """Why a moment scores as it does."""

    modality: str
    gave: float = Field(description="what it added to the score")
    matched: str = Field(description="the label, word or line that is nearest to the query; '' where there is none")
    sentence: str = Field(description="the same for people")


class HitJSON(Document):
    """A moment that answers a query."""

    moment: str = Field(description="names the moment in other requests: VIDEO@START-END")
    video: str = Field(description="id of the video")
    name: str = Field(description="name of the video, for people")
    start: float = Field(description="seconds")
    end: float | None = Field(description="seconds; null is the end of the video")
    score: float = Field(description="the model's similarity; higher is nearer")
    confidence: float | None = Field(
        description="the share of unrelated queries that score lower anywhere in the library; null where the model "
        "cannot read the query"
    )
    strength: Strength | None = Field(description="the confidence in a word; null where that is null")
    rank: int = Field(description="from 1")
    thumbnail: str = Field(description="address of a picture")
    strip: str | None = Field(description="address of frames of the moment side by side; null where no file is at hand")
    play: str | None = Field(description="address of the video; null where no file is at hand")
    why: list[Reason]


class Page(Document):
    """Where the hits of an answer stand among all."""

    next_token: str | None = Field(description="asks for the hits after these; null where there are none")
    total_clips: int = Field(description="clips that were searched")
    generation: str = Field(description="names the state of the library that was searched")


class SearchAnswer(Document):
    """Hits, the best first."""

    data: list[HitJSON]
    page: Page
    unread: str = Field(description="words of the query that were looked for word for word only; '' where none were")
    notes: list[str] = Field(description="what else a user should know of this answer")
