"""Moments as a timeline for editors: OpenTimelineIO's own format, and CMX 3600 edit lists; right to the frame."""

import importlib.util
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from reelseek.errors import UsageError
from reelseek.web.collections.rows import ExportRow, one_line

__all__ = ["edit_rate", "to_edl", "to_otio"]

_RATES = (24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60000 / 1001, 60.0)
_DEFAULT_RATE = 25.0
_REEL_LETTERS = 8
_MOST_EVENTS = 999  # CMX 3600 numbers events by three digits


def to_otio(title: str, rows: Sequence[ExportRow], *, rate: float | None = None) -> str:
    """A timeline of clips one after the other, each at its video's own rate unless one is named.

    Raises:
        UsageError: OpenTimelineIO is not installed.
    """
    otio = _opentimelineio()
    clips = [_clip(otio, row, rate or row.fps or _DEFAULT_RATE) for row in rows]
    return str(otio.adapters.write_to_string(_timeline(otio, title, clips), "otio_json"))


def to_edl(title: str, rows: Sequence[ExportRow], *, rate: float | None = None) -> str:
    """A CMX 3600 edit list at one rate.

    Args:
        rate: frames a second; None takes the one that most of the videos have.

    Raises:
        UsageError: there are more than 999 moments, the rate is none of an edit list, or the package is missing.
    """
    if len(rows) > _MOST_EVENTS:
        raise UsageError(f"an edit list holds at most {_MOST_EVENTS} events, and these are {len(rows)}; export otio")
    otio = _opentimelineio()
    frames = edit_rate(rows, rate)
    clips = [_clip(otio, row, frames) for row in rows]
    for number, clip in enumerate(clips, 1):
        clip.metadata["cmx_3600"] = {"reel": f"V{number:03}", "comments": [f"MOMENT: {rows[number - 1].id}"]}
    timeline = _timeline(otio, title, clips)
    try:
        return str(otio.adapters.write_to_string(timeline, "cmx_3600", rate=frames, reelname_len=_REEL_LETTERS))
    except ValueError as error:
        raise UsageError(f"timecode cannot name these moments: {error}; export otio instead") from error


def edit_rate(rows: Sequence[ExportRow], rate: float | None = None) -> float:
    """The rate of an edit list: one that timecode knows, into which the videos' own divides where it can.

    Raises:
        UsageError: the named rate is none that timecode knows.
    """
    if rate is not None:
        standard = _nearest(rate)
        if standard is None:
            raise UsageError(f"rate={rate:g} is none of timecode; take 23.976, 24, 25, 29.97, 30, 50, 59.94 or 60")
        return standard
    counted = Counter(row.fps for row in rows if row.fps)
    usual = counted.most_common(1)[0][0] if counted else _DEFAULT_RATE
    nearest = _nearest(usual)
    if nearest is not None:
        return nearest
    multiples = [candidate for candidate in _RATES if abs(candidate / usual - round(candidate / usual)) < 1e-3]
    return multiples[0] if multiples else _DEFAULT_RATE


def _nearest(rate: float) -> float | None:
    near = min(_RATES, key=lambda candidate: abs(candidate - rate))
    return near if abs(near - rate) < 0.005 else None


def _clip(otio: Any, row: ExportRow, rate: float) -> Any:
    """A clip of whole frames of a rate: from the frame nearest to the start to the one before that of the end."""
    first = round(row.moment.start * rate)
    count = max(1, round(row.moment.end * rate) - first)
    name = one_line(row.name)
    source = otio.opentime.TimeRange(otio.opentime.RationalTime(first, rate), otio.opentime.RationalTime(count, rate))
    reference = otio.schema.ExternalReference(target_url=quote(name))
    if row.duration:
        duration = otio.opentime.RationalTime(max(first + count, round(row.duration * rate)), rate)
        reference.available_range = otio.opentime.TimeRange(otio.opentime.RationalTime(0, rate), duration)
    clip = otio.schema.Clip(name=name, media_reference=reference, source_range=source)
    clip.metadata["reelseek"] = {
        "moment": row.id, "note": row.moment.note, "tags": list(row.moment.tags), "start": row.moment.start,
        "end": row.moment.end,
    }  # fmt: skip
    return clip


def _timeline(otio: Any, title: str, clips: Sequence[Any]) -> Any:
    timeline = otio.schema.Timeline(name=one_line(title) or "moments")
    track = otio.schema.Track(name="V", kind=otio.schema.TrackKind.Video)
    track.extend(clips)
    timeline.tracks.append(track)
    return timeline


def _opentimelineio() -> Any:
    if any(importlib.util.find_spec(name) is None for name in ("opentimelineio", "otio_cmx3600_adapter")):
        raise UsageError("edl and otio need OpenTimelineIO; install it with: pip install 'reelseek[edit]'")
    import opentimelineio

    return opentimelineio
