"""What videos are called and captioned, by word: names of files and folders and captions are evidence like lines."""

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from reelseek.library.records import Video
from reelseek.library.store import Library
from reelseek.library.words import tokens
from reelseek.media.suffixes import without_media_suffix
from reelseek.search.fulltext import ABOUT, Line, Word, covered, stems_of

__all__ = ["Names"]

_LINES = 100
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class _Entry:
    """A name or a caption: whose it is, and when it holds."""

    video: str
    kind: Literal["name", "captions"]
    text: str
    words: str
    start_seconds: float = 0.0
    end_seconds: float = float("inf")


class Names:
    """Names and captions of a library as it is now, looked up by word.

    It holds them in memory; what changed since the last answer is read again.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._revision = -1
        self._names: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._captions: dict[str, tuple[int, ...]] = {}
        self._entries: dict[int, _Entry] = {}
        self._by_stem: dict[str, set[int]] = {}
        self._next = 0

    def refresh(self) -> None:
        """Read what changed since the last time."""
        catalog = self._library.catalog
        revision = catalog.revision()
        if revision == self._revision:
            return
        self._read_names()
        if self._revision < 0 or revision < self._revision:  # the first time, or an earlier copy was put in its place
            changed, captions = list(self._captions), catalog.captions.pages()
        else:
            changed = [change.video for change in catalog.changed_since(self._revision, "words") if change.video]
            captions = catalog.captions.of_videos(changed)
        for video in changed:
            self._drop(self._captions.pop(video, ()))
        fresh: dict[str, list[_Entry]] = {}
        for caption in captions:
            end = float("inf") if caption.end_seconds is None else caption.end_seconds
            words = " ".join(tokens(caption.text))
            entry = _Entry(caption.video, "captions", caption.text, words, caption.start_seconds or 0.0, end)
            fresh.setdefault(caption.video, []).append(entry)
        self._captions.update({video: self._add(entries) for video, entries in fresh.items()})
        self._revision = revision

    def _read_names(self) -> None:
        """Names as they are; those of before that no video has any more are dropped."""
        current = {}
        for video in self._library.catalog.videos.pages():
            name = _shown_name(video)
            before = self._names.pop(video.id, None)
            if before is not None and before[0] == name:
                current[video.id] = before
                continue
            if before is not None:
                self._drop(before[1])
            current[video.id] = name, self._add([_Entry(video.id, "name", name, _name_words(video))])
        for video_id, (_, numbers) in self._names.items():
            self._drop(numbers)
            self._drop(self._captions.pop(video_id, ()))
        self._names = current

    def _add(self, entries: Sequence[_Entry]) -> tuple[int, ...]:
        numbers = tuple(range(self._next, self._next + len(entries)))
        self._next += len(entries)
        for number, entry, stems in zip(numbers, entries, stems_of([e.words for e in entries]), strict=True):
            self._entries[number] = entry
            for stem in stems:
                self._by_stem.setdefault(stem, set()).add(number)
        return numbers

    def _drop(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            (stems,) = stems_of([self._entries.pop(number).words])
            for stem in stems:
                self._by_stem[stem].discard(number)
                if not self._by_stem[stem]:
                    del self._by_stem[stem]

    # Questions

    def other_terms(self, word: str, beginning: str) -> list[str] | None:
        """The words that begin with some letters; None where one of them is the word itself."""
        if self._holding(word):
            return None
        return [stem for stem in self._by_stem if stem.startswith(beginning)]

    def _holding(self, spelling: str) -> set[int]:
        """The names and captions that hold a word, or all characters of a pair."""
        (stems,) = stems_of([spelling])
        return set.intersection(*(self._by_stem.get(stem, set()) for stem in stems)) if stems else set()

    def some_captions(self, most: int) -> list[tuple[str, str]]:
        """Some captions, evenly spread, each with its video; of several with the same words one."""
        by_words: dict[str, tuple[str, str]] = {}
        for video, numbers in sorted(self._captions.items()):
            for entry in (self._entries[number] for number in numbers[:1]):
                by_words.setdefault(entry.words, (video, entry.text))
        captions = [pair for words, pair in by_words.items() if words]
        places = np.linspace(0, len(captions), min(most, len(captions)), endpoint=False).astype(int)
        return [captions[place] for place in places.tolist()]

    def lines(
        self, words: Sequence[Word], *, kinds: Collection[str], videos: Collection[str] | None = None
    ) -> list[Line]:
        """The names and captions that hold most of a query, best first, of each kind.

        Args:
            kinds: `name`, `captions` or both.
            videos: only of these; None is all.
        """
        numbers = {
            number
            for word in words
            for spelling, _ in word.spellings
            for number in self._holding(spelling)
            if self._entries[number].kind in kinds and (videos is None or self._entries[number].video in videos)
        }
        entries = [self._entries[number] for number in sorted(numbers)]
        shares = covered(words, [entry.words for entry in entries])
        lines = [
            Line(f"id:{e.video}", e.kind, e.text, e.start_seconds, e.end_seconds, coverage, held)
            for e, (coverage, held) in zip(entries, shares, strict=True)
            if held
        ]
        lines.sort(key=lambda line: (-line.coverage, line.owner, line.start_seconds, line.text))
        return [line for kind in ABOUT for line in [line for line in lines if line.kind == kind][:_LINES]]


def _shown_name(video: Video) -> str:
    return PurePosixPath(os.fspath(video.id) if video.path is None else str(video.path)).name


def _name_words(video: Video) -> str:
    """Folders and file of the id, and the file's own name and folder, apart: `MyDog_2.mp4` is my, dog and 2."""
    parts = [*PurePosixPath(video.id.replace("\\", "/")).parts]
    if video.path is not None:
        parts += PurePosixPath(str(video.path)).parts[-2:]
    spelled = " ".join(_CAMEL.sub(" ", without_media_suffix(part)) for part in dict.fromkeys(parts))
    return " ".join(dict.fromkeys(tokens(spelled)))
