"""The index of a library as it is now: built where there is none, and followed while other processes change it."""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.errors import LibraryError
from reelseek.library.clips import ClipRule
from reelseek.library.store import Library, Video
from reelseek.models.embedding import Embedding
from reelseek.models.model import RetrievalModel
from reelseek.search.build import update_index
from reelseek.search.changes import Source, find_stale
from reelseek.search.check import BackgroundCheck
from reelseek.search.generation import MANIFEST
from reelseek.search.index import Index, index_folder, open_index
from reelseek.search.merge import due, is_few
from reelseek.search.merging import merge_due
from reelseek.search.scoring import Owners
from reelseek.search.vectors import Rows

__all__ = ["CurrentIndex", "IndexPending"]

_QUIET_SECONDS = 2.0  # a library that changed more recently is being written to, and its writer updates the index
_NAMED = 5
_log = logging.getLogger("reelseek")


class IndexPending(LibraryError):
    """What is asked takes an index that is being built or opened.

    Attributes:
        future: is done when it can be asked again.
    """

    def __init__(self, message: str, future: "Future[Any]") -> None:
        super().__init__(message)
        self.future = future


class CurrentIndex:
    """An index, and which of its clips are still in the library.

    Opened where there is none, or an old one, it is built or brought up to date, and written. Where the library cannot
    be written (it is read-only, or another process is writing) an old index answers for what it has, and without one it
    is built for this process alone; either is said. From then on it never writes.

    Damaged segments of few clips are built again like that, too; of large ones it is said that they are missing.

    Args:
        experts: clips are embedded from these alone; None takes all of the model's that the library has.
        unrelated: the embeddings of the background queries, if they are at hand.
        update: False takes an index that is older than the library as it is.
        progress: called with how many clips are embedded, and of how many.

    Attributes:
        index: what is searched.
        owners: which videos tracks and texts belong to.
        unindexed: videos of the library that the index does not have yet, other than those that are damaged.
        lock: to be held by whoever follows the library, where several threads do.
        library: whose connection it reads by.
        state: a number that is another one whenever any of this is another.
    """

    index: Index
    owners: Owners
    unindexed: list[str]

    @property
    def library(self) -> Library:
        return self._library

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
        self.lock, self.state = threading.RLock(), 0
        self._builder: ThreadPoolExecutor | None = None
        self._merger: ThreadPoolExecutor | None = None
        self._merging: Future[object] | None = None
        self._stop = threading.Event()
        self._building: tuple[Index, Future[Index]] | None = None  # from which index, and what comes of it
        self._failed_at: tuple[object, ...] | None = None
        self._followed = self._stamp()
        self._changed_at = time.monotonic()
        self.index = self._open(rule)
        self._is_usable = True
        self._followed = (self._followed[0], self._stamp()[1])
        self._read_library()
        self._say_what_is_missing()
        self._check = BackgroundCheck()
        self._check.follow(self.index)

    def _stamp(self) -> tuple[int, tuple[int, ...]]:
        """What changes when the library does, and when its index is replaced."""
        return self._library.revision(), _file_stamp(self._manifest)

    def _open(self, rule: ClipRule | None) -> Index:
        index = open_index(self._library, self._model, self._experts)
        rule = rule or (index.rule if index else ClipRule())
        usable = index is not None and self._usable(index)
        if index is not None and usable and (not self._update or self._is_current(index, rule)):
            return index
        self._say_why(index)
        try:
            return self._bring_up_to_date(index, rule, write=True)
        except LibraryError as error:
            if index is not None and usable:
                _log.warning("the index is older than the library, and answers for what it has: %s", error)
                return index
            _log.warning("the index is built in memory and temporary files, for this process alone: %s", error)
        return self._bring_up_to_date(None, rule, write=False)

    def _is_current(self, index: Index, rule: ClipRule) -> bool:
        damaged = sum(segment.clips for segment in index.damaged)
        return (damaged == 0 or not is_few(damaged)) and not find_stale(self._source(rule), replace(index, damaged=()))

    def _say_why(self, index: Index | None) -> None:
        if index is None and self._manifest.exists():
            _log.warning("building the index of %s again", self._model.system)
        elif index is None and self._experts is not None:
            _log.warning(
                "%s embeds the clips of %s anew, with %s alone; later searches will find them ready",
                *(self._model.system, self._library.path, ", ".join(self._experts)),
            )
        for segment in index.damaged if index is not None else ():
            _log.warning(
                "building the index of %s again for %d clips: %s", self._model.system, segment.clips, segment.reason
            )

    def _source(self, rule: ClipRule) -> Source:
        return Source(self._library, self._model, rule, self._experts)

    def _bring_up_to_date(self, index: Index | None, rule: ClipRule, *, write: bool) -> Index:
        return update_index(
            self._library, self._model, rule, self._progress,
            experts=self._experts, unrelated=self._unrelated, index=index, quiet=True, write=write, merge=False,
        )  # fmt: skip

    def _usable(self, index: Index) -> bool:
        """Nothing is answered from the tracks of an expert that were erased."""
        return set(index.experts) <= set(self._library.experts())

    @property
    def followed(self) -> tuple[int, tuple[int, ...]]:
        """The library's revision and the stamp of the index on disk when they were last looked at."""
        return self._followed

    @property
    def hidden(self) -> Rows:
        """Rows of clips whose videos are gone, ascending by segment."""
        return self._hidden

    def build_in_background(self) -> None:
        """From now on build and merge in threads of its own; until it is done the index as it was is searched."""
        self._builder = self._builder or ThreadPoolExecutor(1, "index")
        self._merger = self._merger or ThreadPoolExecutor(1, "merge")
        self._merge_if_due()

    def close(self) -> None:
        """End building and merging; what is being made is waited for and dropped."""
        self._stop.set()
        for threads in (self._builder, self._merger):
            if threads is not None:
                threads.shutdown(cancel_futures=True)
        self._builder = self._building = self._merger = None

    def has_changed(self) -> bool:
        """Whether the library or its index is another since `refresh`."""
        return self._stamp() != self._followed

    def refresh(self) -> bool:
        """Follow the library; says whether anything changed. It costs two look-ups where nothing did.

        Raises:
            IndexPending: it is being built in the background, and nothing may be answered from the one before.
        """
        before = self.state
        self._take_what_was_built()
        self._drop_damaged()
        now = self._stamp()
        if now == self._followed:
            self._rebuild_if_quiet()
        else:
            self._read_change(now)
        if not self._is_usable:
            if self._building is None:
                raise LibraryError(f"the index of {self._library.path} cannot be built; its log says why")
            message = "the index is built again without what was removed from the library; ask again"
            raise IndexPending(message, self._building[1])
        return self.state != before

    def _read_change(self, now: tuple[int, tuple[int, ...]]) -> None:
        replaced = now[1] != self._followed[1]
        self._followed, self._changed_at = now, time.monotonic()
        if replaced:
            opened = open_index(self._library, self._model, self._experts, previous=self.index)
            said = {segment.name for segment in self.index.damaged}
            self.index = opened or self.index
            self._check.follow(self.index)
            self._drop_damaged()
            if not said >= {segment.name for segment in self.index.damaged}:
                self._say_what_is_damaged()
            self._merge_if_due()
        self._is_usable = self._usable(self.index)
        if self._is_usable:
            self._read_library()
        else:
            self._rebuild(None)

    def _rebuild_if_quiet(self) -> None:
        """Whoever changes a library updates the index that `add` does; another model's is updated here, in memory."""
        if not self._is_usable:
            self._rebuild(None)
        elif self._is_old and time.monotonic() - self._changed_at > _QUIET_SECONDS:
            self._rebuild(self.index)

    def _rebuild(self, index: Index | None) -> None:
        damaged = self.index.damaged if index is not None else ()  # not to be embedded again in the middle of an answer
        intact = replace(index, damaged=()) if index is not None else None
        if self._builder is None:
            built = self._bring_up_to_date(intact, self.index.rule, write=False)
            self._take(replace(built, damaged=damaged))
        elif self._building is None and self._failed_at != self._followed:
            future = self._builder.submit(self._build_apart, intact, self.index.rule)
            self._building = self.index, future

    def _merge_if_due(self) -> None:
        """Merge segments of the index on disk in the background; it is followed like any other change."""
        if self._merger is None or not self._update or (self._merging is not None and not self._merging.done()):
            return
        if self._merging is not None and (error := self._merging.exception()) is not None:
            _log.warning("segments of the index could not be merged: %s", error)
            self._merging = None
        if due([segment for segment in self.index.segments if segment.folder == self.index.folder]):
            self._merging = self._merger.submit(self._merge_apart)

    def _merge_apart(self) -> None:
        """Merge with a connection to the database of its own."""
        with type(self._library).open(self._library.path) as library:
            merge_due(library, self._model, self._experts, stop=self._stop)

    def _build_apart(self, index: Index | None, rule: ClipRule) -> Index:
        """Build with a connection to the database of its own."""
        with type(self._library).open(self._library.path) as library:
            return update_index(
                library, self._model, rule, self._progress,
                experts=self._experts, unrelated=self._unrelated, index=index, quiet=True, write=False,
            )  # fmt: skip

    def _take_what_was_built(self) -> None:
        """Search what was built in the background, unless another index came in the meantime."""
        if self._building is None or not self._building[1].done():
            return
        (source, future), self._building = self._building, None
        error = future.exception()
        if error is not None:
            self._failed_at = self._followed  # the same would come of the same
            _log.warning("the index could not be brought up to date, and answers for what it has: %s", error)
        elif source is self.index:
            self._take(replace(future.result(), damaged=source.damaged if self._is_usable else ()))

    def _take(self, index: Index) -> None:
        self.index = index
        self._is_usable = self._usable(index)
        self._read_library()

    def drop(self, name: str, reason: str) -> bool:
        """Search no more in a segment that turned out to be damaged, and say so; whether the index had it."""
        segment = next((segment for segment in self.index.segments if segment.record.name == name), None)
        if segment is None:
            return False
        self.index = self.index.without(segment, reason)
        self._read_library()
        self._say_what_is_damaged()
        return True

    def _drop_damaged(self) -> None:
        """Search no more in segments that the check in the background found damaged."""
        for name, reason in self._check.damaged().items():
            self.drop(name, reason)

    def _read_library(self) -> None:
        """Note which videos of the index are gone, and which ones it lacks; that costs what has changed."""
        stale = find_stale(self._source(self.index.rule), replace(self.index, damaged=()))
        self.state += 1
        self.owners = Owners(self._library)
        self._is_old = self._update and bool(stale)
        self._hidden = np.concatenate([np.zeros(0, np.int64), *stale.hidden])
        left_out = {video.video for video in self.index.left_out}
        self.unindexed = sorted(video for video in stale.unindexed if video not in left_out)

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
        self._say_what_is_damaged()

    def _say_what_is_damaged(self) -> None:
        for segment in self.index.damaged:
            _log.warning(
                "%d clips are not searched, since their segment %s of the index is damaged: %s; "
                "build it again with: reelseek index build %s [MODEL]",
                *(segment.clips, segment.name, segment.reason, self._library.path),
            )

    def video(self, identifier: str) -> Video:
        """A video of the library.

        Raises:
            KeyError: it was removed.
        """
        video = self._library.get(identifier)
        if video is None:
            raise KeyError(identifier)
        return video

    def present_rows(self, rows: Rows) -> Rows:
        """Those of some rows whose video is in the library, as it was when it was indexed."""
        return rows[~np.isin(rows, self._hidden)] if len(self._hidden) else rows


def _file_stamp(path: Path) -> tuple[int, ...]:
    """What tells one file at a path from the next; empty where there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _names(videos: list[str]) -> str:
    return ", ".join(videos[:_NAMED]) + (" ..." if len(videos) > _NAMED else "")
