"""When two names mean one video: the one rule by which tables, lists, features and queries meet the files."""

import unicodedata

__all__ = ["same_name"]


def same_name(name: str) -> str:
    r"""Return the form of a name by which it is compared; names that are one name have the same form.

    macOS writes `é` as a letter and an accent (NFD), tables have it as one sign (NFC); a table from Windows has
    backslashes between folders. Compare forms only after exact names, so that two files that differ in nothing else
    can still be told apart.

    >>> same_name("cafe\u0301.mp4") == same_name("caf\u00e9.mp4"), same_name(r"day1\a.mp4")
    (True, 'day1/a.mp4')
    """
    return unicodedata.normalize("NFC", name).replace("\\", "/")
