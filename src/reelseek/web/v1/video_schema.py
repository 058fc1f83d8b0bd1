"""What `/v1/videos`, `/v1/uploads` and `/v1/models` take and answer, as OpenAPI describes it."""

from typing import Annotated, Literal

from pydantic import Field

from reelseek.web.jobs.requests import ModelName
from reelseek.web.v1.schema import Document, Request

__all__ = [
    "CaptionList",
    "CaptionRow",
    "Curve",
    "FailureRow",
    "ListPage",
    "ModelList",
    "ModelRow",
    "MomentTag",
    "Peak",
    "PlacedStep",
    "StepsAnswer",
    "StepsRequest",
    "TextRow",
    "TrackRow",
    "Upload",
    "Video",
    "VideoList",
    "VideoRow",
]

Seconds = Annotated[float, Field(description="seconds")]


class ListPage(Document):
    """Where a part of a list ends."""

    next_token: str | None = Field(description="asks for the rows after these; null where there are none")


class VideoRow(Document):
    """A video in a list."""

    id: str
    name: str = Field(description="for people")
    duration: Seconds | None
    size: int | None = Field(description="bytes of its file when it was read")
    split: str | None
    failed: int = Field(description="how many of its failures there are")
    tags: list[str] = Field(description="of the whole video")
    thumbnail: str = Field(description="address of a picture")
    play: str | None = Field(description="address of the video; null where no file is at hand")


class VideoList(Document):
    """Videos in order of their names."""

    data: list[VideoRow]
    page: ListPage


class TrackRow(Document):
    """What an expert extracted from a video."""

    expert: str
    modality: str
    steps: int
    dim: int
    note: str = Field(description="why there are no steps; '' where there are")


class TextRow(Document):
    """Words that were said, shown or recognised."""

    source: str = Field(description="the expert that read or heard them")
    start: Seconds
    end: Seconds
    text: str


class CaptionRow(Document):
    """A caption; without times it is of the whole video."""

    text: str
    start: Seconds | None
    end: Seconds | None
    split: str | None


class CaptionList(Document):
    """The captions of a video in their order."""

    data: list[CaptionRow]


class FailureRow(Document):
    """What went wrong with a video."""

    expert: str | None = Field(description="null where the file itself could not be read")
    reason: str
    attempts: int


class MomentTag(Document):
    """A tag of a moment."""

    tag: str
    start: Seconds
    end: Seconds


class Video(VideoRow):
    """All about a video."""

    taken: str | None = Field(description="when it was recorded, as its file says (ISO 8601); null where it does not")
    format: str | None
    width: int | None
    height: int | None
    fps: float | None
    start_offset: Seconds = Field(description="the time at which a player of `play` shows second 0")
    tracks: list[TrackRow]
    texts: list[TextRow]
    texts_left_out: int = Field(description="texts beyond those that are listed")
    shots: list[list[float]] = Field(description="start and end of each shot in seconds")
    captions: list[CaptionRow]
    moment_tags: list[MomentTag] = Field(description="tags of moments of it, in order of time")
    failures: list[FailureRow]
    strip: str | None = Field(description="address of frames of the video side by side; null where no file is at hand")


class Peak(Document):
    """A span of a video around a maximum of its curve."""

    start: Seconds
    end: Seconds
    score: float
    confidence: float | None


class Curve(Document):
    """How near each second of a video is to a query."""

    spans: list[list[float]] = Field(description="start and end of each value in seconds")
    values: list[float]
    seconds: int = Field(description="how many seconds were looked at")
    merged: int = Field(description="how many seconds stand behind each value; the highest of them is taken")
    peaks: list[Peak]


class StepsRequest(Request):
    """Steps of a task in the order in which they happen."""

    steps: list[Annotated[str, Field(min_length=1, max_length=2000)]] = Field(
        min_length=1, max_length=100, examples=[["crack the eggs", "whisk", "fry in butter"]]
    )
    ordered: bool = Field(default=True, description="false: they may happen in any order")
    missing: bool = Field(default=False, description="true: they may happen nowhere")
    model: ModelName | None = Field(default=None, description="as in a search")


class PlacedStep(Document):
    """Where a step happens; every number is null where it does not."""

    step: int = Field(description="from 1")
    text: str
    start: Seconds | None
    end: Seconds | None
    score: float | None
    confidence: float | None


class StepsAnswer(Document):
    """Steps with the seconds at which they happen."""

    data: list[PlacedStep]


class Upload(Document):
    """A picture or a clip that searches may name for a while."""

    id: str
    kind: Literal["image", "video"]
    seconds: Seconds | None = Field(description="length of a clip; null of a picture")
    expires: str = Field(description="when it is deleted (ISO 8601)")


class ModelRow(Document):
    """A model that searches a library, or may do so once it is indexed."""

    library: str
    name: str = Field(description="by which searches and jobs name it")
    default: bool = Field(description="whether searches that name none use it")
    searchable: bool = Field(description="whether the library is indexed by it; a job of the kind `index` does that")
    system: str
    fingerprint: str
    experts: list[str] = Field(description="whose features it compares with queries")
    modalities: dict[str, str] = Field(description="of each of these experts")
    slots: list[str] = Field(description="what can be weighed; empty where it fuses its modalities")
    clips: int = Field(description="that are searched")
    note: str = Field(
        description="what of the library it does not search, or why it searches nothing; '' where it searches all"
    )


class ModelList(Document):
    """The models that searches use, and those that `train` jobs wrote."""

    data: list[ModelRow]
