"""What a library remembers, as plain values: no database, no files."""

from dataclasses import dataclass

from reelseek.media.address import FilePath

__all__ = ["GENERATED_CAPTIONS", "Caption", "Failure", "Place", "Tag", "TrackRow", "Video"]

GENERATED_CAPTIONS = "captions"
"""The expert whose texts are captions that a model wrote."""
Place = tuple[int, int]
"""Number of a shard, and a row in it."""


@dataclass(frozen=True)
class Video:
    """One row of the collection; `path` is None where the file is not at hand."""

    id: str
    path: FilePath | None
    content: str | None
    duration: float | None
    split: str | None = None

    @property
    def owners(self) -> tuple[str, ...]:
        """Whose tracks are this video's: its content's, and those imported under its id."""
        return (*((self.content,) if self.content else ()), f"id:{self.id}")


@dataclass(frozen=True)
class Caption:
    """A caption of a video, or of a span of it."""

    video: str
    text: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    split: str | None = None


@dataclass(frozen=True)
class Tag:
    """A word that somebody put on a video, or on a moment of it; without times it is of the whole video."""

    video: str
    text: str
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True)
class TrackRow:
    """Where a track lies and what it is."""

    owner: str
    expert: str
    fingerprint: str
    modality: str
    place: Place
    steps: int
    dim: int
    dtype: str
    note: str


@dataclass(frozen=True)
class Failure:
    """What failed and how often; `expert` is '' where the file itself did."""

    video: str
    expert: str
    reason: str
    attempts: int
