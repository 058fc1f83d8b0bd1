"""Written by `reelseek.client.generate` from the OpenAPI document; not by hand."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

__all__ = [
    "AccountChange",
    "AccountJSON",
    "AccountList",
    "AddArguments",
    "AddJob",
    "AgreementJSON",
    "AgreementList",
    "AuditPage",
    "AuditRow",
    "BelowRequest",
    "CaptionArguments",
    "CaptionJob",
    "CaptionList",
    "CaptionRow",
    "CollectionChange",
    "CollectionJSON",
    "CollectionList",
    "CollectionSummary",
    "Counts",
    "CreatedToken",
    "Curve",
    "EvaluateArguments",
    "EvaluateJob",
    "ExpertJSON",
    "FailureJSON",
    "FailureRow",
    "FileJSON",
    "Folders",
    "HitJSON",
    "IndexArguments",
    "IndexJob",
    "JobJSON",
    "JobList",
    "JobProgress",
    "JudgeRequest",
    "JudgedBelow",
    "LeasesRequest",
    "LibraryJSON",
    "LibraryList",
    "LibrarySummary",
    "ListPage",
    "ModelList",
    "ModelRow",
    "MomentJSON",
    "MomentNames",
    "MomentTag",
    "NewAccount",
    "NewCollection",
    "NewLibrary",
    "NewMoment",
    "NewMoments",
    "NewToken",
    "NextRequest",
    "OpinionJSON",
    "Page",
    "PairJSON",
    "PairList",
    "Peak",
    "PlacedStep",
    "Problem",
    "QueueAnswer",
    "Reason",
    "RemoveArguments",
    "RemoveJob",
    "ReportJSON",
    "ReportList",
    "ReportSummary",
    "ReviewChange",
    "ReviewJSON",
    "ReviewList",
    "ReviewSummary",
    "RowJSON",
    "ScanArguments",
    "ScanJob",
    "SearchAnswer",
    "SearchRequest",
    "SessionJSON",
    "ShareJSON",
    "SharedCollection",
    "SharedMoment",
    "Side",
    "SignIn",
    "StepsAnswer",
    "StepsRequest",
    "TableJSON",
    "TagCount",
    "TagList",
    "TagsRequest",
    "TextRow",
    "ThenRequest",
    "TokenJSON",
    "TokenList",
    "TrackRow",
    "TrainArguments",
    "TrainJob",
    "Undone",
    "Upload",
    "Video",
    "VideoList",
    "VideoRow",
    "VideoTags",
    "WatchedJSON",
]


class AccountChange(TypedDict):
    """What of an account is changed; it is signed out everywhere."""

    password: NotRequired[str | None]
    scopes: NotRequired[list[Literal["read", "review", "write", "admin"]] | None]
    libraries: NotRequired[list[str] | None]
    all_libraries: NotRequired[bool]
    disabled: NotRequired[bool | None]


class AccountJSON(TypedDict):
    """An account."""

    name: str
    scopes: list[Literal["read", "review", "write", "admin"]]
    libraries: list[str] | None
    created: float
    disabled: bool
    has_password: bool


class AccountList(TypedDict):
    """All accounts."""

    data: list[AccountJSON]


class AddArguments(TypedDict):
    """`reelseek add`: folders, files, lists or tables on the server, below the allowed folders."""

    paths: NotRequired[list[str]]
    captions: NotRequired[str | None]
    experts: NotRequired[list[str] | None]
    preset: NotRequired[Literal["offline", "standard", "best"] | None]
    retry_failed: NotRequired[bool]
    """try again what failed before; without paths all of it"""
    device: NotRequired[str | None]


class AddJob(TypedDict):
    """A AddJob."""

    library: NotRequired[str | None]
    """which library; may be left out where there is one"""
    kind: Literal["add"]
    arguments: AddArguments


class AgreementJSON(TypedDict):
    """How far two reviewers agree on what both judged without seeing each other's opinions."""

    one: str
    two: str
    pairs: int
    equal: float
    kappa: float


class AgreementList(TypedDict):
    """Every two reviewers."""

    data: list[AgreementJSON]
    more: NotRequired[int]
    """beyond those that are listed"""


class AuditPage(TypedDict):
    """Rows of the audit log, newest first."""

    data: list[AuditRow]
    next_token: str | None


class AuditRow(TypedDict):
    """Somebody changed something, or tried to; `status` is null where the server ended before it was done."""

    number: int
    time: float
    who: str
    """'' where nobody was signed in"""
    address: str
    action: str
    status: int | None
    facts: dict[str, Any]


class BelowRequest(TypedDict):
    """The same opinion on every pair below a score that nobody has judged."""

    below: float
    verdict: NotRequired[Literal["not", "looked-at", "unsure"]]


class CaptionArguments(TypedDict):
    """`reelseek caption`: a first description of videos."""

    videos: list[str]
    model: NotRequired[str]
    """a name of GET /v1/models"""
    beam: NotRequired[int]
    index: NotRequired[bool]
    device: NotRequired[str | None]


class CaptionJob(TypedDict):
    """A CaptionJob."""

    library: NotRequired[str | None]
    """which library; may be left out where there is one"""
    kind: Literal["caption"]
    arguments: CaptionArguments


class CaptionList(TypedDict):
    """The captions of a video in their order."""

    data: list[CaptionRow]


class CaptionRow(TypedDict):
    """A caption; without times it is of the whole video."""

    text: str
    start: float | None
    end: float | None
    split: str | None


class CollectionChange(TypedDict):
    """What of a collection is changed."""

    name: NotRequired[str | None]
    note: NotRequired[str | None]
    tags: NotRequired[list[str] | None]
    order: NotRequired[list[str] | None]
    """all its moments in a new order"""


class CollectionJSON(TypedDict):
    """A collection with its moments."""

    id: str
    library: str
    name: str
    note: str
    tags: list[str]
    by: str
    created: float
    changed: float
    shared: bool
    moments: int
    data: list[MomentJSON]


class CollectionList(TypedDict):
    """Collections of the libraries that you may see, the one that was changed last first."""

    data: list[CollectionSummary]


class CollectionSummary(TypedDict):
    """A collection without its moments; times are seconds since 1970."""

    id: str
    library: str
    name: str
    note: str
    tags: list[str]
    by: str
    created: float
    changed: float
    shared: bool
    moments: int


class Counts(TypedDict):
    """How far the review is."""

    counts: dict[str, int]


class CreatedToken(TypedDict):
    """A new token with its secret, which is never shown again."""

    id: str
    account: str
    label: str
    scopes: list[Literal["read", "review", "write", "admin"]]
    created: float
    expires: float | None
    used: float | None
    secret: str


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


class EvaluateArguments(TypedDict):
    """`reelseek evaluate`."""

    model: NotRequired[str]
    """a name of GET /v1/models"""
    split: NotRequired[str | None]
    protocol: NotRequired[str]
    device: NotRequired[str | None]


class EvaluateJob(TypedDict):
    """A EvaluateJob."""

    library: NotRequired[str | None]
    """which library; may be left out where there is one"""
    kind: Literal["evaluate"]
    arguments: NotRequired[EvaluateArguments]


class ExpertJSON(TypedDict):
    """What one expert made, and what it costs."""

    name: str
    modality: str
    dim: int
    tracks: int
    present: int
    """videos in which it found evidence"""
    bytes: int
    """on the disk"""
    seconds: float | None
    """that it computed; null where that was not measured"""


class FailureJSON(TypedDict):
    """What could not be read or extracted."""

    video: str
    expert: str | None
    """null is the file itself"""
    reason: str
    attempts: int


class FailureRow(TypedDict):
    """What went wrong with a video."""

    expert: str | None
    """null where the file itself could not be read"""
    reason: str
    attempts: int


class FileJSON(TypedDict):
    """A file of a report."""

    name: str
    url: str
    bytes: int


class Folders(TypedDict):
    """The folders that are watched, and no others."""

    folders: list[str]


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


class IndexArguments(TypedDict):
    """`reelseek index`."""

    action: NotRequired[Literal["build", "rebuild", "merge", "verify"]]
    model: NotRequired[str]
    """a name of GET /v1/models"""
    device: NotRequired[str | None]


class IndexJob(TypedDict):
    """A IndexJob."""

    library: NotRequired[str | None]
    """which library; may be left out where there is one"""
    kind: Literal["index"]
    arguments: NotRequired[IndexArguments]


class JobJSON(TypedDict):
    """A job; times are seconds since 1970."""

    id: str
    kind: Literal["add", "remove", "index", "scan", "caption", "train", "evaluate"]
    library: str
    arguments: dict[str, Any]
    """empty for who may not write"""
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    progress: JobProgress | None
    created: float
    started: float | None
    ended: float | None
    by: str
    error: str | None
    """why it failed, in words"""
    result: dict[str, Any] | None
    attempts: int


class JobList(TypedDict):
    """Jobs, newest first."""

    data: list[JobJSON]
    next_token: str | None
    """asks for those before these; null where there are none"""


class JobProgress(TypedDict):
    """How far a job is."""

    done: int
    total: int
    unit: str
    """what is counted, such as files or clips"""
    text: str
    """what it does, and on what"""
    seconds_left: float | None


class JudgeRequest(TypedDict):
    """An opinion on some pairs, which is refused as a whole if one of them may not be judged."""

    places: list[int]
    verdict: Literal["duplicate", "near-duplicate", "not", "unsure", "screensaver", "looked-at"]
    settles: NotRequired[bool]
    """ends a disagreement of others"""


class JudgedBelow(TypedDict):
    """What became of the pairs below a score."""

    judged: int
    before: int
    """of those below it, judged already and left as they were"""
    counts: dict[str, int]


class LeasesRequest(TypedDict):
    """Pairs that one still looks at."""

    places: list[int]


class LibraryJSON(TypedDict):
    """One library."""

    name: str
    state: str
    """`served`, or `begun` where it holds nothing to search yet"""
    videos: int
    seconds: float
    """of all videos"""
    clips: int
    failures: int
    captions: int
    splits: dict[str, int]
    system: str | None
    experts: list[ExpertJSON]
    failed: list[FailureJSON]
    failed_left_out: int
    """failures beyond those that are listed"""
    bytes: dict[str, int]
    """space on the disk by part: database, tracks, index, copies, other"""
    folders: list[WatchedJSON]
    notes: list[str]


class LibraryList(TypedDict):
    """The libraries that you may see."""

    data: list[LibrarySummary]


class LibrarySummary(TypedDict):
    """A library in a list."""

    name: str
    state: str
    """`served`, or `begun` where it holds nothing to search yet"""
    videos: int
    seconds: float
    """of all videos"""
    clips: int
    failures: int


class ListPage(TypedDict):
    """Where a part of a list ends."""

    next_token: str | None
    """asks for the rows after these; null where there are none"""


class ModelList(TypedDict):
    """The models that searches use, and those that `train` jobs wrote."""

    data: list[ModelRow]


class ModelRow(TypedDict):
    """A model that searches a library, or may do so once it is indexed."""

    library: str
    name: str
    """by which searches and jobs name it"""
    default: bool
    """whether searches that name none use it"""
    searchable: bool
    """whether the library is indexed by it; a job of the kind `index` does that"""
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
    """what of the library it does not search, or why it searches nothing; '' where it searches all"""


class MomentJSON(TypedDict):
    """A moment that is kept."""

    moment: str
    video: str
    name: str
    start: float
    end: float
    note: str
    tags: list[str]
    by: str
    added: float
    thumbnail: str | None
    """null where the video is no longer in the library"""
    play: str | None


class MomentNames(TypedDict):
    """Moments that are taken out."""

    moments: list[str]


class MomentTag(TypedDict):
    """A tag of a moment."""

    tag: str
    start: float
    """seconds"""
    end: float
    """seconds"""


class NewAccount(TypedDict):
    """An account that is begun."""

    name: str
    password: NotRequired[str | None]
    """null for programs, and for who signs in at a proxy"""
    scopes: NotRequired[list[Literal["read", "review", "write", "admin"]]]
    libraries: NotRequired[list[str] | None]
    """names of those that they may see; null is all"""


class NewCollection(TypedDict):
    """A collection that is begun."""

    library: NotRequired[str | None]
    name: str
    note: NotRequired[str]
    tags: NotRequired[list[str]]


class NewLibrary(TypedDict):
    """A library that is begun by adding videos."""

    name: str
    arguments: AddArguments


class NewMoment(TypedDict):
    """A moment that is kept; of one that is kept already the note is replaced."""

    moment: str
    """a moment as a hit names it: VIDEO@START-END"""
    note: NotRequired[str]
    tags: NotRequired[list[str] | None]
    """all tags that the moment has in its library from now on; null leaves them"""


class NewMoments(TypedDict):
    """Moments that are kept, behind those that are there."""

    moments: list[NewMoment]


class NewToken(TypedDict):
    """A token that is begun."""

    account: str
    label: NotRequired[str]
    scopes: NotRequired[list[Literal["read", "review", "write", "admin"]] | None]
    """null takes those of the account"""
    days: NotRequired[float | None]


class NextRequest(TypedDict):
    """Which pairs come next."""

    after: NotRequired[int]
    """place of the last pair that is at hand"""
    count: NotRequired[int]


class OpinionJSON(TypedDict):
    """What a reviewer said of a pair."""

    who: str
    verdict: Literal["duplicate", "near-duplicate", "not", "unsure", "screensaver", "looked-at"]
    time: str
    settles: bool
    """said in sight of the others' opinions, to end a disagreement"""


class Page(TypedDict):
    """Where the hits of an answer stand among all."""

    next_token: str | None
    """asks for the hits after these; null where there are none"""
    total_clips: int
    """clips that were searched"""
    generation: str
    """names the state of the library that was searched"""


class PairJSON(TypedDict):
    """A pair of videos, and what may be seen of what was said of it."""

    place: int
    score: float
    sound: float | None
    """how alike it sounds; null where one of them is silent"""
    window: float
    """seconds that were compared"""
    test: Side
    train: Side
    mine: Literal["duplicate", "near-duplicate", "not", "unsure", "screensaver", "looked-at"] | None
    said: list[OpinionJSON]
    """your own opinions; the others' once you or enough people have judged"""
    opinions: int


class PairList(TypedDict):
    """Pairs in the order of the scan."""

    data: list[PairJSON]
    more: int
    """how many follow these"""
    counts: dict[str, int]


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


class QueueAnswer(TypedDict):
    """The next pairs to judge; they are yours for five minutes."""

    data: list[PairJSON]
    counts: dict[str, int]


class Reason(TypedDict):
    """Why a moment scores as it does."""

    modality: str
    gave: float
    """what it added to the score"""
    matched: str
    """the label, word or line that is nearest to the query; '' where there is none"""
    sentence: str
    """the same for people"""


class RemoveArguments(TypedDict):
    """`reelseek remove`: videos, or all that an expert made."""

    videos: NotRequired[list[str]]
    expert: NotRequired[str | None]


class RemoveJob(TypedDict):
    """A RemoveJob."""

    library: NotRequired[str | None]
    """which library; may be left out where there is one"""
    kind: Literal["remove"]
    arguments: RemoveArguments


class ReportJSON(TypedDict):
    """A report."""

    id: str
    kind: Literal["evaluation", "training", "page"]
    title: str
    library: str | None
    """whose videos were measured; null of pages, which do not say"""
    time: float
    """when it was made, in seconds since 1970"""
    summary: str
    """the figure that matters most; '' where there is none"""
    tables: list[TableJSON]
    notes: list[str]
    page: str | None
    """address of the page that it is; it runs no program"""
    files: list[FileJSON]


class ReportList(TypedDict):
    """What was measured on libraries that you may see, the newest first."""

    data: list[ReportSummary]


class ReportSummary(TypedDict):
    """A report in a list."""

    id: str
    kind: Literal["evaluation", "training", "page"]
    title: str
    library: str | None
    """whose videos were measured; null of pages, which do not say"""
    time: float
    """when it was made, in seconds since 1970"""
    summary: str
    """the figure that matters most; '' where there is none"""


class ReviewChange(TypedDict):
    """How a scan is reviewed."""

    opinions: int
    """how many people judge each pair, blindly"""


class ReviewJSON(TypedDict):
    """A review, and under which name you judge."""

    id: str
    library: str
    title: str
    time: float
    """when the scan was written, in seconds since 1970"""
    opinions: int
    """how many people judge each pair"""
    counts: dict[str, int]
    """pairs, those that were seen, and pairs by what was decided"""
    reviewers: dict[str, int]
    """how many pairs each has judged"""
    same: list[str]
    """the verdicts that mean shared footage"""
    who: str


class ReviewList(TypedDict):
    """The scans of the libraries that you may see, the newest first."""

    data: list[ReviewSummary]


class ReviewSummary(TypedDict):
    """A scan whose pairs are judged."""

    id: str
    library: str
    title: str
    time: float
    """when the scan was written, in seconds since 1970"""
    opinions: int
    """how many people judge each pair"""
    counts: dict[str, int]
    """pairs, those that were seen, and pairs by what was decided"""
    reviewers: dict[str, int]
    """how many pairs each has judged"""
    same: list[str]
    """the verdicts that mean shared footage"""


class RowJSON(TypedDict):
    """A row of a table."""

    cells: list[str]
    report: str | None
    """id of the report that the row is about, if that is another one"""


class ScanArguments(TypedDict):
    """`reelseek overlap scan`: the same footage in two splits."""

    test: str
    train: str
    expert: NotRequired[str | None]
    window: NotRequired[int]
    top: NotRequired[int]
    device: NotRequired[str | None]


class ScanJob(TypedDict):
    """A ScanJob."""

    library: NotRequired[str | None]
    """which library; may be left out where there is one"""
    kind: Literal["scan"]
    arguments: ScanArguments


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
    model: NotRequired[str | None]
    """a searchable one of GET /v1/models; null is the one that the server was started with"""
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


class SessionJSON(TypedDict):
    """Who asks, and what they may do."""

    name: str
    scopes: list[Literal["read", "review", "write", "admin"]]
    libraries: list[str] | None
    """those that they may see; null is all"""


class ShareJSON(TypedDict):
    """A link under which anybody may read a collection; it is shown this once."""

    url: str
    secret: str


class SharedCollection(TypedDict):
    """A collection as its link shows it."""

    name: str
    note: str
    tags: list[str]
    changed: float
    data: list[SharedMoment]


class SharedMoment(TypedDict):
    """A moment of a shared collection."""

    name: str
    start: float
    end: float
    note: str
    tags: list[str]
    thumbnail: str | None
    play: str | None


class Side(TypedDict):
    """A video of a pair."""

    name: str
    video: str | None
    """its id; null where its file is not at hand"""
    start: float
    """second at which the pair's window begins"""
    duration: float | None
    width: int | None
    height: int | None
    bytes: int | None
    play: str | None
    strip: str | None


class SignIn(TypedDict):
    """A name and its password."""

    name: str
    password: str


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
    model: NotRequired[str | None]
    """as in a search"""


class TableJSON(TypedDict):
    """A table; its first column names the rows."""

    title: str
    columns: list[str]
    rows: list[RowJSON]
    note: str


class TagCount(TypedDict):
    """A tag of a library."""

    tag: str
    videos: int
    """that have it as a whole"""
    moments: int
    """of videos that have it"""


class TagList(TypedDict):
    """The tags of a library in order."""

    data: list[TagCount]


class TagsRequest(TypedDict):
    """Tags of a video, or with `start` and `end` of a moment of it."""

    tags: list[str]
    start: NotRequired[float | None]
    end: NotRequired[float | None]


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


class TokenJSON(TypedDict):
    """A token without its secret; times are seconds since 1970."""

    id: str
    account: str
    label: str
    scopes: list[Literal["read", "review", "write", "admin"]]
    created: float
    expires: float | None
    used: float | None


class TokenList(TypedDict):
    """All tokens."""

    data: list[TokenJSON]


class TrackRow(TypedDict):
    """What an expert extracted from a video."""

    expert: str
    modality: str
    steps: int
    dim: int
    note: str
    """why there are no steps; '' where there are"""


class TrainArguments(TypedDict):
    """`reelseek train`: a recipe as the text of a TOML file, and the name of the model that comes of it."""

    recipe: str
    name: str
    set: NotRequired[list[str]]
    """changes of the recipe, section.key=value"""
    device: NotRequired[str | None]


class TrainJob(TypedDict):
    """A TrainJob."""

    library: NotRequired[str | None]
    """which library; may be left out where there is one"""
    kind: Literal["train"]
    arguments: TrainArguments


class Undone(TypedDict):
    """The verdict that was taken back; all null where there was none of yours."""

    place: int | None
    verdict: Literal["duplicate", "near-duplicate", "not", "unsure", "screensaver", "looked-at"] | None
    card: PairJSON | None
    counts: dict[str, int]


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
    tags: list[str]
    """of the whole video"""
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
    moment_tags: list[MomentTag]
    """tags of moments of it, in order of time"""
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
    tags: list[str]
    """of the whole video"""
    thumbnail: str
    """address of a picture"""
    play: str | None
    """address of the video; null where no file is at hand"""


class VideoTags(TypedDict):
    """The tags of a video and of its moments."""

    tags: list[str]
    moments: list[MomentTag]


class WatchedJSON(TypedDict):
    """A watched folder, and what the last look at it saw."""

    folder: str
    since: float
    by: str
    problem: str
    """why it cannot be watched at the moment; '' where it can"""
    waiting: int
    """new files that still change, or wait for another job"""
    looked: float | None
