"""What a question is asked of: the clips of a library embedded from some experts, or the seconds of one video."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from reelseek.library.filters import Filter
from reelseek.library.store import Library, Video
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.embed import reader_for
from reelseek.models.model import Embedding, RetrievalModel
from reelseek.search.current import CurrentIndex
from reelseek.search.exact import ExactGallery
from reelseek.search.explain import Evidence
from reelseek.search.fulltext import Line
from reelseek.search.nearest import Run, run_here
from reelseek.search.question import Selection, weigh
from reelseek.search.scoring import background_scores

__all__ = ["Gallery", "Seconds"]

_MOST_SELECTIONS = 8  # filters whose rows are remembered


@dataclass
class Gallery:
    """The clips of a library, embedded from some experts.

    Args:
        exact_on: score every clip there instead of searching nearest neighbours.
        run: reads the segments for a search.
    """

    library: Library
    model: RetrievalModel
    current: CurrentIndex
    exact_on: torch.device | None = None
    run: Run = run_here

    def __post_init__(self) -> None:
        self._backgrounds: dict[bytes, npt.NDArray[np.float64]] = {}
        self._selections: dict[Filter, npt.NDArray[np.bool_]] = {}

    @cached_property
    def reader(self) -> TokenReader:
        experts = [name for name in self.current.index.experts if name in self.library.experts()]
        return reader_for(self.model, self.library, experts)

    @cached_property
    def exact(self) -> ExactGallery | None:
        """Raises UsageError where the clips do not fit into the device's memory."""
        if self.exact_on is None:
            return None
        index = self.current.index
        return ExactGallery(self.model, index, self.current.present_rows(index.live_rows()), self.exact_on)

    @cached_property
    def evidence(self) -> Evidence:
        return Evidence(self.library, self.reader, lambda video: self.current.video(video).owners)

    def selected(self, conditions: Filter) -> npt.NDArray[np.bool_] | None:
        """Rows of the videos that meet a filter [row]; None without one. The last filters' are remembered.

        Raises:
            QueryError: a term names what the library has nothing of.
        """
        if not conditions:
            return None
        if conditions not in self._selections:
            index = self.current.index
            numbers = np.array(self.library.catalog.selection.numbers(conditions), np.int64)
            selected = np.zeros(len(index), bool)
            for base, segment, videos in index.lookup_numbers(numbers):
                selected[base + segment.rows_of(videos[videos >= 0])] = True
            while len(self._selections) >= _MOST_SELECTIONS:
                del self._selections[next(iter(self._selections))]
            self._selections[conditions] = selected
        return self._selections[conditions]

    def background(self, selection: Selection) -> npt.NDArray[np.float64]:
        """The best score that each query of a fixed, unrelated set reaches on this library."""
        index = self.current.index
        if selection.even:
            return index.background
        key = selection.factors.tobytes()
        if key not in self._backgrounds:
            texts = weigh(index.unrelated, selection)
            self._backgrounds[key] = background_scores(self.library, self.model, index, self.current.owners, texts)
        return self._backgrounds[key]


@dataclass(frozen=True)
class Seconds:
    """Embedded seconds of one video, and the spans of each [second, 2]."""

    clips: Sequence[Clip]
    spans: npt.NDArray[np.float64]
    embedding: Embedding

    def rows_of(self, line: Line, video: Video) -> npt.NDArray[np.int64]:
        """Seconds during which a line is said or shown."""
        if line.owner not in video.owners:
            return np.zeros(0, np.int64)
        return np.flatnonzero((self.spans[:, 0] < line.end_seconds) & (self.spans[:, 1] > line.start_seconds))
