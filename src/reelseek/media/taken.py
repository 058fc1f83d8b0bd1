"""When a file was filmed, as its container says."""

import re
from collections.abc import Iterator
from datetime import datetime

import av

__all__ = ["taken_of"]

# What telephones and cameras write first: the clock of the place; `creation_time` is in UTC. A year alone is no date of
# a recording: it is when a piece of music came out.
_KEYS = ("com.apple.quicktime.creationdate", "date_recorded", "date_digitized", "creation_time", "date")
_DATE = re.compile(r"(\d{4})[-:/.]?(\d{2})[-:/.]?(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2}))?)?(?!\d)")
_FIRST_YEAR = 1971  # before it lie the zeros of clocks: 1904 and 1970


def taken_of(container: av.container.InputContainer) -> str | None:
    """Date and time as `2020-05-17T09:30:00`; None where the container does not say, or a clock was never set."""
    for text in _texts(container):
        match = _DATE.match(text.strip())
        if match is None:
            continue
        try:
            year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
            taken = datetime(year, month, day, hour, minute, second)  # of the place, as written
        except ValueError:
            continue
        if taken.year >= _FIRST_YEAR:
            return taken.isoformat()
    return None


def _texts(container: av.container.InputContainer) -> Iterator[str]:
    tables = [container.metadata, *(stream.metadata for stream in container.streams)]
    for key in _KEYS:
        for table in tables:
            yield from (value for name, value in table.items() if name.lower() == key)
