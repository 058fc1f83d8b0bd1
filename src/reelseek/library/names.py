"""Names of videos and files: how they are written down, and when two of them mean one video."""

import os
import unicodedata

__all__ = ["printable", "same_name"]


def printable(path: str | os.PathLike[str]) -> str:
    """A path as text: bytes that are not UTF-8 become escapes such as \\xff."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def same_name(name: str) -> str:
    r"""Return the form of a name by which it is compared; names that are one name have the same form.

    macOS writes `é` as a letter and an accent (NFD), tables have it as one sign (NFC); a table from Windows has
    backslashes between folders. Compare forms only after exact names, so that two files that differ in nothing else
    can still be told apart.

    >>> same_name("cafe\u0301.mp4") == same_name("caf\u00e9.mp4"), same_name(r"day1\a.mp4")
    (True, 'day1/a.mp4')
    """
    return unicodedata.normalize("NFC", name).replace("\\", "/")
