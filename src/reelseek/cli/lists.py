"""Options that take several names: with commas between them, or the option once for each."""

import re
from collections.abc import Sequence

from reelseek.errors import UsageError

__all__ = ["names_in"]


def names_in(values: Sequence[str] | None) -> list[str] | None:
    """Return the names that the uses of an option hold; None where it was not used.

    Raises:
        UsageError: it was used, and names nothing.

    >>> names_in(["ocr,speech", "audio"])
    ['ocr', 'speech', 'audio']

    A comma before `NAME=` goes on with the options of an expert:

    >>> names_in(["video@folder:frames=16,fps=8,audio"])
    ['video@folder:frames=16,fps=8', 'audio']
    """
    if not values:
        return None
    names = [name for value in values for part in re.split(r",(?!\s*\w+=)", value) if (name := part.strip())]
    if not names:
        raise UsageError(f"{','.join(values)!r} names nothing; leave the option out, or name something")
    return names
