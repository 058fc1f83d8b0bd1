"""Every byte of a large index is checked once, in the background of a process that keeps it open."""

import threading
from collections.abc import Sequence

from reelseek.search.index import CHECKED_AT_ONCE, Index, problem_of
from reelseek.search.segment import Segment

__all__ = ["BackgroundCheck"]

_SECONDS = 30.0  # a process that ends sooner has better things to do


class BackgroundCheck:
    """Compares the segments of an index with their checksums, one after another, each once."""

    def __init__(self) -> None:
        self._checked: set[str] = set()
        self._damaged: dict[str, str] = {}
        self._lock = threading.Lock()

    def follow(self, index: Index) -> None:
        """Check what of an index was not checked yet; a small one was when it was opened."""
        segments = [segment for segment in index.segments if segment.record.name not in self._checked]
        self._checked |= {segment.record.name for segment in segments}
        if sum(segment.size for segment in index.segments) > CHECKED_AT_ONCE and segments:
            timer = threading.Timer(_SECONDS, self._check, [segments])
            timer.daemon = True
            timer.start()

    def _check(self, segments: Sequence[Segment]) -> None:
        for segment in segments:
            problem = problem_of(segment)
            if problem is not None:
                with self._lock:
                    self._damaged[segment.record.name] = problem

    def damaged(self) -> dict[str, str]:
        """Why segments are damaged, by their names; a manifest may name them again."""
        with self._lock:
            return dict(self._damaged)
