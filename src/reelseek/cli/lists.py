"""Options that take several names: with commas between them, or the option once for each."""

from collections.abc import Sequence

__all__ = ["names_in"]


def names_in(values: Sequence[str] | None) -> list[str] | None:
    """Return the names that the uses of an option hold; None where it was not used.

    >>> names_in(["ocr,speech", "audio"])
    ['ocr', 'speech', 'audio']
    """
    if not values:
        return None
    return [name for value in values for part in value.split(",") if (name := part.strip())]
