"""What was read of a dataset's annotations so far: captions, the videos of its splits, and rows that were lost."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelseek.library.cells import caption_text
from reelseek.library.records import Caption
from reelseek.library.texts import is_unicode
from reelseek.media.notice import Notice

__all__ = ["Annotations"]


@dataclass
class Annotations:
    """Attributes:
    captions: of any video; one that belongs to a single split says so.
    splits: the videos of each split, in the order of its list.
    listed: splits that a list names, which wins over what an annotation file says besides.
    rows: captions and lines of lists that were read.
    problems: what was guessed, and rows that could not be used.
    """

    captions: list[Caption] = field(default_factory=list)
    splits: dict[str, list[str]] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)
    rows: int = 0
    problems: list[Notice] = field(default_factory=list)
    _members: dict[str, dict[tuple[int, str], dict[str, None]]] = field(default_factory=dict, repr=False)
    _file: str = field(default="", repr=False)

    def say(
        self, video: str, text: Any, start: float | None = None, end: float | None = None, split: str | None = None
    ) -> None:
        """One caption; an empty one, or what is none, is a problem and no caption."""
        try:
            words = caption_text("" if text is None else text)
            if start is not None and end is not None and not end > start:
                raise ValueError(f"a caption from {start:g} to {end:g} seconds")
        except ValueError as error:
            self.lose(video, str(error))
            return
        if not words:
            self.problems.append(Notice(video, "an empty caption"))
        elif self._is_name(video):
            self.rows += 1
            self.captions.append(Caption(video, words, start, end, split))

    def member(self, split: str, video: str, rank: int = 0, *, count: bool = True) -> None:
        """One video of a split.

        Args:
            rank: of its file: 0 for annotations, more for lists; of one split the highest counts.
            count: whether this line of a list was not counted yet.
        """
        if self._is_name(video):
            self.rows += count and rank > 0
            self._members.setdefault(split, {}).setdefault((rank, self._file), {})[video] = None

    def lose(self, place: str, message: str) -> None:
        """Note a row that cannot be used."""
        self.problems.append(Notice(ascii(place)[1:-1] if not is_unicode(place) else place, message, lost=True))

    def _is_name(self, video: str) -> bool:
        if video and "\0" not in video and is_unicode(video):
            return True
        self.lose(video or self._file, "a video's name is empty or holds what is no text")
        return False

    def read_file(self, read: "Callable[[Annotations, Path], None]", path: Path) -> None:
        """Add what one file holds."""
        self._file = path.name
        read(self, path)

    def settle_splits(self) -> None:
        """Decide which files name each split, and say so where they differ."""
        for split, files in self._members.items():
            best = max(rank for rank, _ in files)
            winners = {name: videos for (rank, name), videos in files.items() if rank == best}
            videos = dict.fromkeys(video for members in winners.values() for video in members)
            self.splits[split] = list(videos)
            if best:
                self.listed.add(split)
            names = " and ".join(winners)
            others = {name: members for (rank, name), members in files.items() if rank < best}
            if gone := {video for members in others.values() for video in members} - set(videos):
                message = (
                    f"{split} is the {len(videos)} videos of this list; {len(gone)} more that "
                    f"{' and '.join(others)} would put into it are not in it"
                )
                self.problems.append(Notice(names, message))
            if best and any(len(members) < len(videos) for members in winners.values()):
                self.problems.append(Notice(names, f"{split} is put together of these lists: {len(videos)} videos"))
