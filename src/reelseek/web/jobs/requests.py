"""What a request for a job may say, kind by kind; whatever is not named here is refused."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from reelseek.web.jobs.queue import JobState, Kind

__all__ = [
    "AddArguments",
    "CaptionArguments",
    "EvaluateArguments",
    "IndexArguments",
    "JobJSON",
    "JobList",
    "JobRequest",
    "ModelName",
    "RemoveArguments",
    "ScanArguments",
    "TrainArguments",
]


def _plain(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds a NUL byte")
    return text


Text = Annotated[str, Field(min_length=1, max_length=4000), AfterValidator(_plain)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_plain)]
Opaque = Annotated[str, Field(pattern="^[0-9a-f]{24}$")]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,2})?)$")]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Model = Annotated[ModelName, Field(description="a name of GET /v1/models")]
Expert = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")]
Preset = Literal["offline", "standard", "best"]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AddArguments(_Arguments):
    """`reelseek add`: folders, files, lists or tables on the server, below the allowed folders."""

    paths: list[Text] = Field(default=[], max_length=1000)
    captions: Text | None = None
    experts: list[Expert] | None = Field(default=None, min_length=1, max_length=50)
    preset: Preset | None = None
    retry_failed: bool = Field(default=False, description="try again what failed before; without paths all of it")
    device: Device | None = None

    @model_validator(mode="after")
    def _names_something(self) -> "AddArguments":
        if not self.paths and self.captions is None and not self.retry_failed:
            raise ValueError("name at least one path, captions, or retry_failed")
        return self


class RemoveArguments(_Arguments):
    """`reelseek remove`: videos, or all that an expert made."""

    videos: list[Opaque] = Field(default=[], max_length=1000)
    expert: Expert | None = None

    @model_validator(mode="after")
    def _names_one(self) -> "RemoveArguments":
        if bool(self.videos) == bool(self.expert):
            raise ValueError("name either videos or one expert")
        return self


class IndexArguments(_Arguments):
    """`reelseek index`."""

    action: Literal["build", "rebuild", "merge", "verify"] = "build"
    model: Model = "concepts"
    device: Device | None = None


class ScanArguments(_Arguments):
    """`reelseek overlap scan`: the same footage in two splits."""

    test: Name
    train: Name
    expert: Expert | None = None
    window: int = Field(default=4, ge=1, le=600)
    top: int = Field(default=1000, ge=1, le=100_000)
    device: Device | None = None


class CaptionArguments(_Arguments):
    """`reelseek caption`: a first description of videos."""

    videos: list[Opaque] = Field(min_length=1, max_length=1000)
    model: Model = "concepts"
    beam: int = Field(default=4, ge=1, le=20)
    index: bool = True
    device: Device | None = None


class TrainArguments(_Arguments):
    """`reelseek train`: a recipe as the text of a TOML file, and the name of the model that comes of it."""

    recipe: Annotated[str, Field(min_length=1, max_length=40_000), AfterValidator(_plain)]
    name: ModelName
    set: list[Name] = Field(default=[], max_length=50, description="changes of the recipe, section.key=value")
    device: Device | None = None


class EvaluateArguments(_Arguments):
    """`reelseek evaluate`."""

    model: Model = "concepts"
    split: Name | None = None
    protocol: Name = "strict"
    device: Device | None = None


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")
    library: Name | None = Field(default=None, description="which library; may be left out where there is one")


class AddJob(_Request):
    kind: Literal["add"]
    arguments: AddArguments


class RemoveJob(_Request):
    kind: Literal["remove"]
    arguments: RemoveArguments


class IndexJob(_Request):
    kind: Literal["index"]
    arguments: IndexArguments = IndexArguments()


class ScanJob(_Request):
    kind: Literal["scan"]
    arguments: ScanArguments


class CaptionJob(_Request):
    kind: Literal["caption"]
    arguments: CaptionArguments


class TrainJob(_Request):
    kind: Literal["train"]
    arguments: TrainArguments


class EvaluateJob(_Request):
    kind: Literal["evaluate"]
    arguments: EvaluateArguments = EvaluateArguments()


JobRequest = Annotated[
    AddJob | RemoveJob | IndexJob | ScanJob | CaptionJob | TrainJob | EvaluateJob, Field(discriminator="kind")
]


class JobProgress(BaseModel):
    """How far a job is."""

    done: int
    total: int
    unit: str = Field(description="what is counted, such as files or clips")
    text: str = Field(description="what it does, and on what")
    seconds_left: float | None


class JobJSON(BaseModel):
    """A job; times are seconds since 1970."""

    id: str
    kind: Kind
    library: str
    arguments: dict[str, Any] = Field(description="empty for who may not write")
    state: JobState
    progress: JobProgress | None
    created: float
    started: float | None
    ended: float | None
    by: str
    error: str | None = Field(description="why it failed, in words")
    result: dict[str, Any] | None
    attempts: int


class JobList(BaseModel):
    """Jobs, newest first."""

    data: list[JobJSON]
    next_token: str | None = Field(description="asks for those before these; null where there are none")
