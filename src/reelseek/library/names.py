"""What videos and files are called: how names are written down, and which video a name means."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

from reelseek.library.records import Video
from reelseek.library.words import tokens
from reelseek.media.address import Address, FilePath, absolute
from reelseek.media.suffixes import MEDIA_SUFFIXES, without_media_suffix

__all__ = [
    "Names",
    "bare_parts",
    "free_name",
    "name_key",
    "name_keys",
    "name_some",
    "name_words",
    "printable",
    "same_name",
    "shown_name",
    "video_names",
]

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NAMED = 5  # candidates that a message lists
_NO_NUMBERS = frozenset(suffix for suffix in MEDIA_SUFFIXES if not suffix[1:].isdigit())  # ids may end in `.264`
Key = TypeVar("Key", bound=Hashable)


def printable(path: str | os.PathLike[str] | Address) -> str:
    """A path or an address as text: bytes that are not UTF-8 become escapes such as \\xff."""
    return os.fsencode(str(path) if isinstance(path, Address) else path).decode("utf-8", "backslashreplace")


def free_name(identifier: str, path: FilePath, is_free: Callable[[str], bool]) -> str:
    """An id for a file: this one, with as many of its path's folders in front as it takes to be free.

    >>> free_name("a.mp4", Path("/films/day1/a.mp4"), lambda name: name != "a.mp4")
    'day1/a.mp4'
    """
    parts = [printable(part) if part != "/" else "" for part in path.parts]
    longer = ("/".join(parts[-count:]) for count in range(identifier.count("/") + 2, len(parts) + 1))
    name = identifier
    while not is_free(name):
        try:
            name = next(longer)
        except StopIteration:
            break
    return name


def shown_name(video: str, path: str | None) -> str:
    """Return what a video is called now: its id, or the name of its file where that was renamed since.

    >>> shown_name("day1/a.mp4", "/films/day1/a.mp4"), shown_name("day1/a.mp4", "/films/day1/beach.mp4")
    ('day1/a.mp4', 'beach.mp4')
    """
    name = printable(Path(path).name) if path is not None else ""
    is_file_name = without_media_suffix(video) != video
    return name if name and is_file_name and same_name(name) != same_name(video).rpartition("/")[2] else video


def same_name(name: str) -> str:
    r"""Return the form of a name by which it is compared; names that are one name have the same form.

    macOS writes `é` as a letter and an accent (NFD), tables have it as one sign (NFC); a table from Windows has
    backslashes between folders. Compare forms only after exact names, so that two files that differ in nothing else
    can still be told apart.

    >>> same_name("cafe\u0301.mp4") == same_name("caf\u00e9.mp4"), same_name(r"day1\a.mp4")
    (True, 'day1/a.mp4')
    """
    return unicodedata.normalize("NFC", name).replace("\\", "/")


def bare_parts(name: str) -> tuple[str, ...]:
    """Folders and name without the ending of a media file.

    >>> bare_parts("b/v2.avi")
    ('b', 'v2')
    """
    path = PurePosixPath(name)
    bare = path.stem if path.suffix.lower() in _NO_NUMBERS else path.name
    return (*path.parts[:-1], bare) if path.parts else (name,)


def name_some(names: Sequence[str]) -> str:
    """The first of some names, for a message."""
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


class Names(Generic[Key]):
    """Which of some videos a name means; the one rule for the command line, tables, lists and features.

    Where a name matches several, all of them are returned; the caller refuses the name and lists them.

    Args:
        videos: a key of each video, its id and, where its file is at hand, the file's path.
        any_suffix: a file may also be called without an ending that no known format has; else `clip` is not `clip.5`.
    """

    def __init__(self, videos: Iterable[tuple[Key, str, FilePath | None]], *, any_suffix: bool = False) -> None:
        self._videos, self._any_suffix = list(videos), any_suffix
        self._by_id: dict[str, dict[Key, None]] = {}
        self._by_form: dict[str, dict[Key, None]] = {}
        self._by_path: dict[FilePath, Key] = {}
        for key, identifier, path in self._videos:
            self._by_id.setdefault(identifier, {})[key] = None
            self._by_form.setdefault(same_name(identifier), {})[key] = None
            if path is not None:
                self._by_path[absolute(path)] = key

    @cached_property
    def _by_ending(self) -> dict[str, list[tuple[str, Key]]]:
        """Ids and paths, with and without what a file ends in, by the form of their last part."""
        endings: dict[str, list[tuple[str, Key]]] = {}
        for key, identifier, path in self._videos:
            spellings = {identifier, without_media_suffix(identifier)}
            if path is not None:
                spellings |= {str(path), without_media_suffix(str(path))}
                spellings |= {os.path.splitext(str(path))[0]} if self._any_suffix else set()
            for spelling in sorted(spellings):
                endings.setdefault(same_name(spelling).rpartition("/")[2], []).append((spelling, key))
        return endings

    @cached_property
    def _by_bare_name(self) -> dict[str, list[tuple[tuple[str, ...], Key]]]:
        bare_names: dict[str, list[tuple[tuple[str, ...], Key]]] = {}
        for key, identifier, _ in self._videos:
            bare = bare_parts(same_name(identifier))
            bare_names.setdefault(bare[-1], []).append((bare, key))
        return bare_names

    def __contains__(self, name: str) -> bool:
        """Whether a video has exactly this id."""
        return name in self._by_id

    def at(self, path: FilePath) -> Key | None:
        """The video whose file is at this path."""
        return self._by_path.get(absolute(path))

    def same(self, name: str) -> tuple[Key, ...]:
        """The video of exactly this id, else those whose id is the same in another form of its letters."""
        return tuple(self._by_id[name] if name in self._by_id else self._by_form.get(same_name(name), ()))

    def matches(self, name: str) -> tuple[Key, ...]:
        """The videos that a name may mean.

        Those of `same`; else those whose id or path ends in the name from some folder on, with or without the ending
        of a media file; of these, where one is spelled letter for letter alike, it alone.

        >>> names = Names([(1, "day1/a.mp4", None), (2, "day2/a.mp4", None), (3, "day2/b.mp4", None)])
        >>> names.matches("day1/a"), names.matches("b.mp4"), names.matches("a")
        ((1,), (3,), (1, 2))
        """
        if same := self.same(name):
            return same
        form = same_name(name)
        spellings = self._by_ending.get(form.rpartition("/")[2], ()) if form else ()
        alike = [(spelling, key) for spelling, key in spellings if _ends_in(same_name(spelling), form)]
        exact = dict.fromkeys(key for spelling, key in alike if _ends_in(spelling, name))
        return tuple(exact or dict.fromkeys(key for _, key in alike))

    def from_elsewhere(self, name: str) -> tuple[Key, ...]:
        r"""The video that an absolute path of another machine ends in (`D:\v\a.mp4`); none where several do."""
        parts = PurePosixPath(same_name(name)).parts
        for start in range(1, len(parts)):
            matches = self.matches("/".join(parts[start:]))
            if len(matches) == 1:
                return matches
        return ()

    def nearest(self, name: str) -> tuple[Key, ...]:
        """The videos that a line of another collection's list may mean, whose files may end otherwise.

        That of exactly this id; else those that are called so without the ending of a media file, in any form of the
        letters, and whose folders do not contradict the name's as far as both tell them: those that tell most.
        """
        if name in self._by_id:
            return tuple(self._by_id[name])
        parts = bare_parts(same_name(name))
        alike = [
            (min(len(parts), len(bare)), key)
            for bare, key in self._by_bare_name.get(parts[-1], ())
            if all(one == other for one, other in zip(parts[::-1], bare[::-1], strict=False))
        ]
        most = max((shared for shared, _ in alike), default=0)
        return tuple(key for shared, key in alike if shared == most)


def name_keys(identifier: str, path: FilePath | None = None) -> list[int]:
    """Numbers under which a video is looked up; a video that a name may mean has the name's number among its own.

    >>> set(name_keys("cafe\u0301")) <= set(name_keys("day1/caf\u00e9.mp4", PurePosixPath("/films/a.avi")))
    True
    """
    names = (identifier, str(path)) if path is not None else (identifier,)
    spellings = {spelling for name in names for spelling in (name, without_media_suffix(name))}
    return sorted({_name_key(same_name(spelling).rpartition("/")[2]) for spelling in spellings})


def name_words(identifier: str, path: FilePath | None = None) -> list[str]:
    """Folded words of folders and file of an id, and of the file's own name and folder, each once.

    >>> name_words("day1/MyDog_2.mp4", PurePosixPath("/films/beach/b.avi"))
    ['day1', 'my', 'dog', '2', 'beach', 'b']
    """
    parts = [*PurePosixPath(identifier.replace("\\", "/")).parts]
    if path is not None:
        parts += PurePosixPath(str(path)).parts[-2:]
    spelled = " ".join(_CAMEL.sub(" ", without_media_suffix(part)) for part in dict.fromkeys(parts))
    return list(dict.fromkeys(tokens(spelled)))


def name_key(name: str) -> int:
    """The number under which videos are kept that a name may mean."""
    return _name_key(same_name(name).rpartition("/")[2])


def _name_key(part: str) -> int:
    digest = hashlib.blake2b(part.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def video_names(videos: Iterable[Video]) -> Names[Video]:
    """The names of a library's videos."""
    return Names((video, video.id, video.path) for video in videos)


def _ends_in(full: str, end: str) -> bool:
    return full == end or full.endswith(f"/{end}")
