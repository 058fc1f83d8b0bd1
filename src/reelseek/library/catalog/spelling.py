"""What the filters `folder` and `name` compare: functions that SQLite calls for a row."""

import fnmatch
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import PurePosixPath

from reelseek.library.words import fold

__all__ = ["folders_of", "in_folder", "is_named"]


@lru_cache(maxsize=4096)
def _parts(folder: str) -> tuple[str, ...]:
    return tuple(part for part in fold(folder.replace("\\", "/")).split("/") if part)


def folders_of(identifier: str, path: bytes | None) -> Iterator[tuple[str, ...]]:
    """The folders that a video lies in, from the outermost on: as its path names them, and as its id does."""
    for name in (*((os.fsdecode(path),) if path is not None else ()), identifier):
        yield _parts(name.replace("\\", "/").rpartition("/")[0])


def _literal_brackets(pattern: str) -> str:
    """A pattern in which `[` is a letter as any other, as in `Title [id].mp4`."""
    return pattern.replace("[", "[[]")


def in_folder(identifier: str, path: bytes | None, folder: str) -> bool:
    """Whether a video lies in a folder of that name, at any depth.

    Args:
        folder: folded; several are one in another, `*` and `?` stand for any letters. From `/` on it is a whole path.

    >>> in_folder("day1/a.mp4", b"/films/Trip to Rome/day1/a.mp4", "trip to rome/day?")
    True
    """
    pattern = tuple(_literal_brackets(part) for part in folder.split("/") if part)
    for parts in folders_of(identifier, path):
        last = len(parts) - len(pattern)
        places = range(min(1, last + 1) if folder.startswith("/") else last + 1)
        if any(all(map(fnmatch.fnmatchcase, parts[place:], pattern)) for place in places):
            return True
    return False


def is_named(identifier: str, path: bytes | None, name: str) -> bool:
    """Whether a folded text is in the name of a video's file or in its id; with `*` or `?` it is the whole name.

    >>> is_named("flipping_a_pancake.mkv", None, "pancake"), is_named("a.mkv", None, "*.mp4")
    (True, False)
    """
    names = (*((os.fsdecode(path),) if path is not None else ()), identifier)
    pattern = _literal_brackets(name if "*" in name or "?" in name else f"*{name}*")
    return any(fnmatch.fnmatchcase(fold(PurePosixPath(spelling).name), pattern) for spelling in names)
