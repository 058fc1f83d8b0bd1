"""What a search by example is given: a moment of the library, a picture, or a piece of footage."""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from reelseek.errors import QueryError
from reelseek.library.store import Library
from reelseek.media.suffixes import MEDIA_SUFFIXES

__all__ = ["NO_EXAMPLES", "Example", "Examples", "Footage", "Moment", "Picture", "Then", "parse_example"]

_ANIMATED = (".gif", ".apng")  # pictures, of which the first one counts
_MOMENT = re.compile(r"(?P<video>.+)@(?P<start>\d+(?:\.\d+)?)-(?P<end>\d+(?:\.\d+)?|end)(?::(?P<modality>[\w-]+))?")


@dataclass(frozen=True)
class Moment:
    """A span of a video of the library.

    Args:
        video: its id, or any name that means it alone.
        start, end: in seconds; an end of None is the video's.
        modality: only what clips have of this modality (or expert) is compared; None compares all.

    Raises:
        QueryError: the span is empty or no span of time.
    """

    video: str
    start: float
    end: float | None
    modality: str | None = None

    def __post_init__(self) -> None:
        _check_span(self.video, self.start, self.end)

    @classmethod
    def parse(cls, text: str) -> "Moment":
        """Read `VIDEO@START-END`, seconds or `end`, as `Hit.moment` writes it; `:MODALITY` may follow.

        >>> Moment.parse("day1/trip.mp4@12.000-18.500")
        Moment(video='day1/trip.mp4', start=12.0, end=18.5, modality=None)

        Raises:
            QueryError: it is no moment.
        """
        match = _MOMENT.fullmatch(text.strip())
        if match is None:
            raise QueryError(f"{text!r} is no moment; wanted VIDEO@START-END in seconds, such as trip.mp4@12-18")
        end = None if match["end"] == "end" else float(match["end"])
        return cls(match["video"], float(match["start"]), end, match["modality"])


@dataclass(frozen=True)
class Picture:
    """A file with a picture, such as a JPEG."""

    path: str | os.PathLike[str]


@dataclass(frozen=True)
class Footage:
    """A file with video or sound, or a span of it in seconds; an end of None is the file's.

    Raises:
        QueryError: the span is empty or no span of time.
    """

    path: str | os.PathLike[str]
    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        _check_span(str(self.path), self.start or 0.0, self.end)


Example = Moment | Picture | Footage


@dataclass(frozen=True)
class Examples:
    """Examples of what is looked for, and of what is taken away."""

    like: tuple[Example, ...] = ()
    unlike: tuple[Example, ...] = ()


NO_EXAMPLES = Examples()


@dataclass(frozen=True)
class Then:
    """A second query, whose moment must follow that of the first in the same video.

    Args:
        query: in the same grammar.
        within: seconds, from the end of the first moment to the start of the second.

    Raises:
        QueryError: it is no length of time.
    """

    query: str
    within: float = 30.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.within) and self.within > 0):
            raise QueryError(f"the second moment is to follow within {self.within:g} s; wanted more than 0 seconds")


def parse_example(text: str, library: Library) -> Example:
    """Read an example as it is typed: a moment where a video of the library is so called, else a file.

    `trip.mp4@12-18` is a span, of a video of the library or of a file; a file without a span is a picture, or all of
    its footage.

    Raises:
        QueryError: it is neither, or no span.
        UsageError: a name that several videos have.
    """
    if _is_file(Path(text)):
        suffix = Path(text).suffix.lower()
        return Footage(text) if suffix in MEDIA_SUFFIXES and suffix not in _ANIMATED else Picture(text)
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise QueryError(f"the example {text!r} is neither a moment of the library, such as trip.mp4@12-18, nor a file")
    path = Path(match["video"])
    if match["modality"] is None and _is_file(path) and not library.names().matches(match["video"]):
        return Footage(path, float(match["start"]), None if match["end"] == "end" else float(match["end"]))
    library.video(match["video"])
    return Moment.parse(text)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def _check_span(name: str, start: float, end: float | None) -> None:
    if not (math.isfinite(start) and start >= 0) or (end is not None and not math.isfinite(end)):
        raise QueryError(f"{name} from {start} s to {end} s is no span of time; wanted seconds from 0 on")
    if end is not None and end <= start:
        raise QueryError(f"{name} from {start:g} s to {end:g} s lasts {end - start:g} s; wanted more than 0 seconds")
