"""Moments on the wire, `VIDEO@START-END` with an opaque id and seconds, and what a library knows of them."""

import math
import re

from reelseek.library.names import printable
from reelseek.web.collections.store import SavedMoment
from reelseek.web.media import opaque_id
from reelseek.web.problems import Problem
from reelseek.web.service import ServedLibrary

__all__ = ["MOMENT_PATTERN", "moment_text", "parse_moment", "video_name"]

MOMENT_PATTERN = r"^[0-9a-f]{24}@[0-9]{1,7}(\.[0-9]{1,6})?-([0-9]{1,7}(\.[0-9]{1,6})?|end)?$"
_MOMENT = re.compile(r"([0-9a-f]{24})@([0-9.]+)-(?:([0-9.]+)|end|)")


def parse_moment(served: ServedLibrary, text: str) -> SavedMoment:
    """The moment of an id; one without an end goes on to the end of its video.

    Raises:
        Problem: it is no id of a moment, its video is not in this library, or it lies outside of the video.
    """
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise Problem(422, "no moment", f"{text[:100]!r} is no moment; name it as a hit does: VIDEO@START-END")
    video = served.media.video(match[1])
    start = float(match[2])
    end = float(match[3]) if match[3] else video.duration
    if end is None:
        raise Problem(422, "no end", "the length of the video is unknown; name the end of the moment")
    if not (math.isfinite(end) and start < end):
        raise Problem(
            422, "no moment", f"it starts at {start:g} s and ends at {end:g} s; a moment ends after it starts"
        )
    if video.duration is not None and start >= video.duration:
        raise Problem(422, "no moment", f"it starts at {start:g} s, and the video lasts {video.duration:g} s")
    return SavedMoment(video.id, round(start, 3), round(end, 3))


def moment_text(moment: SavedMoment) -> str:
    """The id of a moment."""
    return f"{opaque_id(moment.video)}@{moment.start:.3f}-{moment.end:.3f}"


def video_name(identifier: str) -> str:
    """The name of a video for people."""
    return printable(identifier)
