"""Written by `reelseek.client.generate` from the OpenAPI document; not by hand."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

__all__ = [
    "CaptionList",
    "CaptionRow",
    "Curve",
    "FailureRow",
    "HitJSON",
    "ListPage",
    "ModelList",
    "ModelRow",
    "Page",
    "Peak",
    "PlacedStep",
    "Problem",
    "Reason",
    "SearchAnswer",
    "SearchRequest",
    "StepsAnswer",
    "StepsRequest",
    "TextRow",
    "ThenRequest",
    "TrackRow",
    "Upload",
    "Video",
    "VideoList",
    "VideoRow",
]


class CaptionList(TypedDict):
    """The captions of a video in their order."""

    data: list[CaptionRow]


class CaptionRow(TypedDict):
    """A caption; without times it is of the whole video."""

    text: str
    start: float | None
    end: float | None
    split: str | None


class Curve(TypedDict):
    """How near each second of a video is to a query."""

    spans: list[list[float]]
    """start and end of each value in seconds"""
    values: list[float]
    seconds: int
    """how many seconds were looked at"""
    merged: int
    """how many seconds stand behind each value; the highest of them is taken"""
    peaks: list[Peak]


class FailureRow(TypedDict):
    """What went wrong with a video."""

    expert: str | None
    """null where the file itself could not be read"""
    reason: str
    attempts: int


class HitJSON(TypedDict):
    """A moment that answers a query."""

    moment: str
    """names the moment in other requests: VIDEO@START-END"""
    video: str
    """id of the video"""
    name: str
    """name of the video, for people"""
    start: float
    """seconds"""
    end: float | None
    """seconds; null is the end of the video"""
    score: float
    """the model's similarity; higher is nearer"""
    confidence: float | None
    """the share of unrelated queries that score lower anywhere in the library; null where the model cannot read
    the query
    """
    strength: Literal["strong", "likely", "weak"] | None
    """the confidence in a word; null where that is null"""
    rank: int
    """from 1"""
    thumbnail: str
    """address of a picture"""
    strip: str | None
    """address of frames of the moment side by side; null where no file is at hand"""
    play: str | None
    """address of the video; null where no file is at hand"""
    why: list[Reason]


class ListPage(TypedDict):
    """Where a part of a list ends."""

    next_token: str | None
    """asks for the rows after these; null where there are none"""


class ModelList(TypedDict):
    """The models that searches use."""

    data: list[ModelRow]


class ModelRow(TypedDict):
    """A model that searches a library."""

    library: str
    system: str
    fingerprint: str
    experts: list[str]
    """whose features it compares with queries"""
    modalities: dict[str, str]
    """of each of these experts"""
    slots: list[str]
    """what can be weighed; empty where it fuses its modalities"""
    clips: int
    """that are searched"""
    note: str
    """what of the library it does not search; '' where it searches all"""


class Page(TypedDict):
    """Where the hits of an answer stand among all."""

    next_token: str | None
    """asks for the hits after these; null where there are none"""
    total_clips: int
    """clips that were searched"""
    generation: str
    """names the state of the library that was searched"""


class Peak(TypedDict):
    """A span of a video around a maximum of its curve."""

    start: float
    """seconds"""
    end: float
    """seconds"""
    score: float
    confidence: float | None


class PlacedStep(TypedDict):
    """Where a step happens; every number is null where it does not."""

    step: int
    """from 1"""
    text: str
    start: float | None
    end: float | None
    score: float | None
    confidence: float | None


class Problem(TypedDict):
    """An error, as RFC 9457 has it (`application/problem+json`)."""

    type: str
    """what kind of error it is; about:blank where the status says it all"""
    title: str
    """the same for every error of a kind"""
    status: int
    detail: str
    """what is wrong with this request, and what to do"""
    errors: NotRequired[list[dict[str, str]] | None]
    """each field that is wrong, by `field` (a path) and `detail`"""


class Reason(TypedDict):
    """Why a moment scores as it does."""

    modality: str
    gave: float
    """what it added to the score"""
    matched: str
    """the label, word or line that is nearest to the query; '' where there is none"""
    sentence: str
    """the same for people"""


class SearchAnswer(TypedDict):
    """Hits, the best first."""

    data: list[HitJSON]
    page: Page
    unread: str
    """words of the query that were looked for word for word only; '' where none were"""
    notes: list[str]
    """what else a user should know of this answer"""


class SearchRequest(TypedDict):
    """What to look for: words, examples, or both; everything that is given must hold."""

    library: NotRequired[str | None]
    """which library; may be left out where there is one"""
    query: NotRequired[str]
    """words, `-without`, `word^2`, `"must occur"`, and filters such as `before:2020`"""
    image: NotRequired[str | None]
    """an upload of a picture to look like"""
    clip: NotRequired[str | None]
    """an upload of a video to be like"""
    moment: NotRequired[str | None]
    """a moment to be like, as a hit names it"""
    like: NotRequired[list[str]]
    """moments or uploads to be like"""
    unlike: NotRequired[list[str]]
    """moments or uploads to be unlike"""
    then: NotRequired[ThenRequest | None]
    sources: NotRequired[list[str] | None]
    """modalities or experts that alone shall count"""
    weights: NotRequired[dict[str, float]]
    """factors for modalities or experts; 0 leaves one out"""
    without: NotRequired[list[str]]
    """modalities or experts that shall not count"""
    filter: NotRequired[str]
    """filters alone, such as `folder:holiday has:speech`"""
    group_by: NotRequired[Literal["moment", "video"]]
    """`video`: only the best moment of each video"""
    limit: NotRequired[int]
    page_token: NotRequired[str | None]
    """`page.next_token` of the answer before, with the same request otherwise"""
    explain: NotRequired[bool]
    """false leaves `why` empty"""


class StepsAnswer(TypedDict):
    """Steps with the seconds at which they happen."""

    data: list[PlacedStep]


class StepsRequest(TypedDict):
    """Steps of a task in the order in which they happen."""

    steps: list[str]
    ordered: NotRequired[bool]
    """false: they may happen in any order"""
    missing: NotRequired[bool]
    """true: they may happen nowhere"""


class TextRow(TypedDict):
    """Words that were said, shown or recognised."""

    source: str
    """the expert that read or heard them"""
    start: float
    """seconds"""
    end: float
    """seconds"""
    text: str


class ThenRequest(TypedDict):
    """A second query, which must follow the first in the same video."""

    query: str
    within: NotRequired[float]
    """seconds"""


class TrackRow(TypedDict):
    """What an expert extracted from a video."""

    expert: str
    modality: str
    steps: int
    dim: int
    note: str
    """why there are no steps; '' where there are"""


class Upload(TypedDict):
    """A picture or a clip that searches may name for a while."""

    id: str
    kind: Literal["image", "video"]
    seconds: float | None
    """length of a clip; null of a picture"""
    expires: str
    """when it is deleted (ISO 8601)"""


class Video(TypedDict):
    """All about a video."""

    id: str
    name: str
    """for people"""
    duration: float | None
    size: int | None
    """bytes of its file when it was read"""
    split: str | None
    failed: int
    """how many of its failures there are"""
    thumbnail: str
    """address of a picture"""
    play: str | None
    """address of the video; null where no file is at hand"""
    taken: str | None
    """when it was recorded, as its file says (ISO 8601); null where it does not"""
    format: str | None
    width: int | None
    height: int | None
    fps: float | None
    start_offset: float
    """the time at which a player of `play` shows second 0"""
    tracks: list[TrackRow]
    texts: list[TextRow]
    texts_left_out: int
    """texts beyond those that are listed"""
    shots: list[list[float]]
    """start and end of each shot in seconds"""
    captions: list[CaptionRow]
    failures: list[FailureRow]
    strip: str | None
    """address of frames of the video side by side; null where no file is at hand"""


class VideoList(TypedDict):
    """Videos in order of their names."""

    data: list[VideoRow]
    page: ListPage


class VideoRow(TypedDict):
    """A video in a list."""

    id: str
    name: str
    """for people"""
    duration: float | None
    size: int | None
    """bytes of its file when it was read"""
    split: str | None
    failed: int
    """how many of its failures there are"""
    thumbnail: str
    """address of a picture"""
    play: str | None
    """address of the video; null where no file is at hand"""
