"""What a question is asked of: the clips of a library embedded from some experts, or the seconds of one video."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

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
