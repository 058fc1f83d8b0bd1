"""The index of a library as it is now: built where there is none, and followed while other processes change it."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelseek.errors import LibraryError
from reelseek.library.clips import ClipRule
from reelseek.library.store import Library, Video
from reelseek.models.model import Embedding, RetrievalModel
from reelseek.search.build import build_index, short_content
from reelseek.search.generation import MANIFEST
from reelseek.search.index import Index, index_folder, open_index, state_of
from reelseek.search.scoring import videos_by_owner

__all__ = ["CurrentIndex"]

_QUIET_SECONDS = 2.0  # a library that changed more recently is being written to, and its writer updates the index
_NAMED = 5
_log = logging.getLogger("reelseek")
Rows = npt.NDArray[np.int64]


class CurrentIndex:
    """An index, and which of its clips are still in the library.

    Opened where there is none, or an old one, it is built and written. Where the library cannot be written (it is
    read-only, or another process is writing) an old index answers for what it has, and without one it is built in
    memory; either is said. From then on it never writes.

    Args:
        experts: clips are embedded from these alone; None takes all of the model's that the library has.
        unrelated: the embeddings of the background queries, if they are at hand.
        update: False takes an index that is older than the library as it is.
        progress: called with how many clips are embedded, and of how many.

    Attributes:
        index: what is searched.
        videos: of the library, by id.
        unindexed: videos of the library that the index does not have yet, other than those that are damaged.
    """

    index: Index
    videos: dict[str, Video]
    unindexed: list[str]

    def __init__(
        self,
        library: Library,
        model: RetrievalModel,
        rule: ClipRule | None,
        *,
        experts: Sequence[str] | None = None,
        unrelated: Embedding | None = None,
        update: bool,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._library, self._model, self._update = library, model, update
        self._experts, self._unrelated, self._progress = experts, unrelated, progress
        self._manifest = index_folder(library, model, experts) / MANIFEST
        self._seen = self._stamp()
        self._changed_at = time.monotonic()
        self.index, self._is_old = self._open(rule)
        self._seen = (self._seen[0], self._stamp()[1])
        self._read_library()
        self._say_what_is_missing()

    def _stamp(self) -> tuple[int, tuple[int, ...]]:
        """What changes when the library does, and when its index is replaced."""
        return self._library.revision(), _file_stamp(self._manifest)

    def _open(self, rule: ClipRule | None) -> tuple[Index, bool]:
        """The index, and whether it is older than the library."""
        index = open_index(self._library, self._model, self._experts)
        rule = rule or (index.rule if index else ClipRule())
        usable = index is not None and self._usable(index)
        if index is not None and usable and (not self._update or index.state == state_of(self._library, rule)):
            return index, False
        if self._manifest.exists() and index is None:
            _log.warning("building the index of %s again", self._model.system)
        elif index is None and self._experts is not None:
            _log.warning(
                "%s embeds the clips of %s anew, with %s alone; later searches will find them ready",
                *(self._model.system, self._library.path, ", ".join(self._experts)),
            )
        try:
            return self._build(rule, write=True), False
        except LibraryError as error:
            if index is not None and usable:
                _log.warning("the index is older than the library, and answers for what it has: %s", error)
                return index, True
            _log.warning("the index is built in memory, for this process alone: %s", error)
        return self._build(rule, write=False), False

    def _build(self, rule: ClipRule, *, write: bool) -> Index:
        return build_index(
            self._library, self._model, rule, self._progress,
            experts=self._experts, unrelated=self._unrelated, write=write,
        )  # fmt: skip

    def _usable(self, index: Index) -> bool:
        """Nothing is answered from the tracks of an expert that were erased."""
        return set(index.experts) <= set(self._library.experts())

    def has_changed(self) -> bool:
        """Whether the library or its index is another since `refresh`."""
        return self._stamp() != self._seen

    def refresh(self) -> bool:
        """Follow the library; says whether anything changed. It costs two look-ups where nothing did."""
        now = self._stamp()
        if now == self._seen:
            return self._rebuild_if_quiet()
        replaced = now[1] != self._seen[1]
        self._seen, self._changed_at = now, time.monotonic()
        if replaced:
            self.index = open_index(self._library, self._model, self._experts) or self.index
        if self._usable(self.index):
            self._is_old = self._update and self.index.state != state_of(self._library, self.index.rule)
        else:
            self._rebuild()
        self._read_library()
        return True

    def _rebuild_if_quiet(self) -> bool:
        """Whoever changes a library updates the index that `add` does; another model's is updated here, in memory."""
        if not (self._is_old and self._update and time.monotonic() - self._changed_at > _QUIET_SECONDS):
            return False
        self._rebuild()
        self._read_library()
        return True

    def _rebuild(self) -> None:
        self.index = self._build(self.index.rule, write=False)
        self._is_old = False

    def _read_library(self) -> None:
        videos = self._library.videos()
        self.videos = {video.id: video for video in videos}
        self._owners: dict[str, list[str]] | None = None
        self._present: npt.NDArray[np.bool_] | None = None
        self.unindexed = []
        contents = self.index.contents
        if self._update and not self._is_old and contents.keys() <= self.videos.keys():
            return  # the index has what the library has
        current = {v.id for v in videos if contents.get(v.id) == short_content(v.content)}
        left_out = {video.video for video in self.index.left_out}
        self.unindexed = [v.id for v in videos if v.id not in current and v.id not in left_out]
        if not current >= contents.keys():
            self._present = np.array([clip.video in current for clip in self.index.clips], bool)

    def _say_what_is_missing(self) -> None:
        if self.index.left_out:
            clips = sum(video.clips for video in self.index.left_out)
            names = _names([video.video for video in self.index.left_out])
            _log.warning(
                "%d clips are missing from the index, of %d videos whose tracks are damaged: %s; "
                "make them again with: reelseek add %s VIDEOS, or import their features again",
                *(clips, len(self.index.left_out), names, self._library.path),
            )
        if self.unindexed:
            _log.warning("%d videos are not in the index yet: %s", len(self.unindexed), _names(self.unindexed))

    @property
    def owners(self) -> dict[str, list[str]]:
        """Which videos the tracks and texts of an owner belong to."""
        if self._owners is None:
            self._owners = videos_by_owner(self.videos.values())
        return self._owners

    def present_rows(self, rows: Rows) -> Rows:
        """Those of some rows whose video is in the library, as it was when it was indexed."""
        return rows if self._present is None else rows[self._present[rows]]


def _file_stamp(path: Path) -> tuple[int, ...]:
    """What tells one file at a path from the next; empty where there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _names(videos: list[str]) -> str:
    return ", ".join(videos[:_NAMED]) + (" ..." if len(videos) > _NAMED else "")
