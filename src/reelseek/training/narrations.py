"""What is said around a clip: windows over narrations that follow each other, and candidates for what a clip shows."""

from collections.abc import Sequence

import numpy as np

from reelseek.errors import UsageError
from reelseek.library.caption_features import join_captions
from reelseek.library.tokens import Clip
from reelseek.training.split import Split

__all__ = ["Narrations", "Windows"]


class Windows:
    """Windows of a length from videos whose captions follow each other, as narrations do.

    A caption takes in its nearest neighbours in time until together they span a window; the window is drawn within
    them, and its text is all of theirs in order, so that every window has words. Source: Shvetsova et al. 2022, section
    4.1, who draw the window first and leave its text empty where nothing is said.

    Args:
        silent: draw as they do, anywhere between a video's first caption and its last.
    """

    def __init__(self, split: Split, seconds: float, *, silent: bool = False) -> None:
        self._split, self._seconds, self._silent = split, seconds, silent
        self._texts = split.captions_by_clip()
        self._of_video: dict[str, list[int]] = {}
        timed = [i for i, clip in enumerate(split.clips) if clip.start_seconds is not None and self._texts[i]]
        for index in sorted(timed, key=lambda i: split.clips[i].start_seconds or 0.0):
            self._of_video.setdefault(split.clips[index].video, []).append(index)
        if not timed:
            raise UsageError(f"data.window_seconds wants captions with times; {split.name!r} has none")

    def draw(self, clip: int, rng: np.random.Generator) -> tuple[Clip, str]:
        """A window around a clip, and its words; a clip without times stays as it is."""
        center = self._split.clips[clip]
        if not self._texts[clip]:
            return center, ""
        if center.start_seconds is None:
            return center, self._split.texts[int(rng.choice(self._texts[clip]))]
        order = self._of_video[center.video]
        if self._silent:
            return self._draw_anywhere(order, rng)
        first = last = order.index(clip)
        begin, end = self._span(order, first, last)
        while end - begin < self._seconds and (first > 0 or last < len(order) - 1):
            before = begin - self._span(order, first - 1, first - 1)[1] if first > 0 else np.inf
            after = self._span(order, last + 1, last + 1)[0] - end if last < len(order) - 1 else np.inf
            first, last = (first - 1, last) if before <= after else (first, last + 1)
            begin, end = self._span(order, first, last)
        start = begin + rng.random() * max(0.0, end - begin - self._seconds)
        words = [self._split.texts[int(rng.choice(self._texts[index]))] for index in order[first : last + 1]]
        return Clip(center.video, start, start + self._seconds), join_captions(words)

    def _draw_anywhere(self, order: Sequence[int], rng: np.random.Generator) -> tuple[Clip, str]:
        """A window of a video, and the words of the captions that overlap it; '' where none does."""
        first, last = self._span(order, 0, len(order) - 1)
        start = first + rng.random() * max(0.0, last - first - self._seconds)
        spans = [(index, *self._span([index], 0, 0)) for index in order]
        spoken = [index for index, begin, end in spans if begin < start + self._seconds and end > start]
        words = [self._split.texts[int(rng.choice(self._texts[index]))] for index in spoken]
        window = Clip(self._split.clips[order[0]].video, start, start + self._seconds)
        return window, join_captions(words) if words else ""

    def _span(self, order: Sequence[int], first: int, last: int) -> tuple[float, float]:
        clips = [self._split.clips[index] for index in order[first : last + 1]]
        starts = [clip.start_seconds or 0.0 for clip in clips]
        ends = [clip.start_seconds or 0.0 if clip.end_seconds is None else clip.end_seconds for clip in clips]
        return min(starts), max(ends)


class Narrations:
    """Captions that may be of a clip as well: its others, then those of the nearest clips of its video in time.

    Args:
        count: how many of them.

    Source: Miech et al. 2020 (MIL-NCE), section 3.1.
    """

    def __init__(self, split: Split, count: int) -> None:
        self._split, self._count = split, count
        self._texts = split.captions_by_clip()
        self._of_video: dict[str, list[int]] = {}
        for index, clip in enumerate(split.clips):
            if self._texts[index]:
                self._of_video.setdefault(clip.video, []).append(index)

    def near(self, clip: int, caption: str) -> list[str]:
        """As many candidates as wanted besides the clip's caption; '' where its video has no more."""
        if not caption:
            return [""] * self._count
        others = self._of_video[self._split.clips[clip].video]
        center = self._center(clip)
        order = sorted(others, key=lambda index: (abs(self._center(index) - center), index != clip))
        texts = [self._split.texts[row] for index in order for row in self._texts[index]]
        if caption in texts:
            texts.remove(caption)
        return [*texts, *[""] * self._count][: self._count]

    def _center(self, index: int) -> float:
        clip = self._split.clips[index]
        start = clip.start_seconds or 0.0
        return start if clip.end_seconds is None else (start + clip.end_seconds) / 2
