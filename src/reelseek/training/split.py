"""A gallery of clips with its captions, and what a protocol or a model makes of it."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reelseek.errors import UsageError
from reelseek.evaluation.protocols import Protocol
from reelseek.library.caption_features import first_words, join_captions
from reelseek.library.tokens import Clip
from reelseek.models.model import RetrievalModel

__all__ = ["Split"]

_log = logging.getLogger("reelseek")


@dataclass(frozen=True)
class Split:
    """A gallery of clips and its captions; `clip_of_text[i]` is the clip that caption i describes."""

    name: str
    clips: tuple[Clip, ...]
    texts: tuple[str, ...]
    clip_of_text: tuple[int, ...]
    set_aside_from: str = ""

    @property
    def hash(self) -> str:
        """Twelve digits that name the exact gallery and queries."""
        digest = hashlib.sha256()
        for clip in self.clips:
            digest.update(repr((clip.video, clip.start_seconds, clip.end_seconds)).encode())
        for text, clip_index in zip(self.texts, self.clip_of_text, strict=True):
            digest.update(repr((text, clip_index)).encode())
        return digest.hexdigest()[:12]

    def under(self, protocol: Protocol) -> "Split":
        """The clips and queries that a protocol asks with.

        Raises:
            UsageError: it leaves no query.
        """
        split = self
        if protocol.captions == "first":
            split = split._texts([rows[0] for rows in self.captions_by_clip() if rows])
        elif protocol.captions == "paragraph":
            split = split._by_video(lambda rows: join_captions([self.texts[row] for row in rows]))
        elif protocol.captions == "random":
            split = split._segment_of_each_video()
        if protocol.words is not None:
            cut = tuple(first_words(text, protocol.words) for text in split.texts)
            split = replace(split, texts=cut)
        if not split.texts:
            raise UsageError(f"{self.name!r} has no caption to ask with under the protocol {protocol.name}")
        return split

    def read_by(self, model: RetrievalModel) -> "Split":
        """Without the captions that a model's text side cannot read, whose vectors would say nothing.

        Raises:
            UsageError: it can read none.
        """
        rows = model.reads(self.texts).nonzero()[:, 0].tolist()
        unread = len(self.texts) - len(rows)
        if unread and not rows:
            raise UsageError(
                f"the text side can read none of the {unread} captions of {self.name!r}; set model.text.encoder to one "
                "that reads their language, or model.text.trained"
            )
        if unread:
            _log.warning("the text side cannot read %d of %d captions, which are left out", unread, len(self.texts))
        return self._texts(rows) if unread else self

    def _texts(self, rows: Sequence[int]) -> "Split":
        return replace(
            self,
            texts=tuple(self.texts[row] for row in rows),
            clip_of_text=tuple(self.clip_of_text[row] for row in rows),
        )

    def _by_video(self, joined: Callable[[list[int]], str]) -> "Split":
        """Whole videos, each with one text made of its captions in order of time."""
        videos = list(dict.fromkeys(clip.video for clip in self.clips))
        rows: dict[str, list[int]] = {video: [] for video in videos}
        for row in sorted(range(len(self.texts)), key=lambda r: self.clips[self.clip_of_text[r]].start_seconds or 0.0):
            rows[self.clips[self.clip_of_text[row]].video].append(row)
        captioned = [video for video in videos if rows[video]]
        places = tuple(videos.index(video) for video in captioned)
        return replace(
            self,
            clips=tuple(map(Clip, videos)),
            texts=tuple(joined(rows[video]) for video in captioned),
            clip_of_text=places,
        )

    def _segment_of_each_video(self) -> "Split":
        """One caption and its clip of each video, drawn from a generator seeded with 42 for each, as MDMMT does."""
        rows: dict[str, list[int]] = {}
        for row, clip in enumerate(self.clip_of_text):
            rows.setdefault(self.clips[clip].video, []).append(row)
        sample = [int(np.random.RandomState(42).choice(of_video)) for of_video in rows.values()]
        return self.subset([self.clip_of_text[row] for row in sample], self.name)._texts_as(
            [self.texts[row] for row in sample]
        )

    def _texts_as(self, texts: Sequence[str]) -> "Split":
        return replace(self, texts=tuple(texts), clip_of_text=tuple(range(len(texts))))

    def captions_by_clip(self) -> list[list[int]]:
        """Indexes of the captions of each clip."""
        rows: list[list[int]] = [[] for _ in self.clips]
        for index, clip in enumerate(self.clip_of_text):
            rows[clip].append(index)
        return rows

    def subset(self, keep: Sequence[int], name: str, set_aside_from: str = "") -> "Split":
        """The split with some of its clips, and their captions."""
        place = {clip: index for index, clip in enumerate(keep)}
        texts = [index for index, clip in enumerate(self.clip_of_text) if clip in place]
        return Split(
            name,
            tuple(self.clips[clip] for clip in keep),
            tuple(self.texts[index] for index in texts),
            tuple(place[self.clip_of_text[index]] for index in texts),
            set_aside_from,
        )
