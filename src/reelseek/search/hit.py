"""What answers a query, and why."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Hit", "Miss", "Strength", "Why", "Within"]


Strength = Literal["strong", "likely", "weak"]


@dataclass(frozen=True)
class Why:
    """One reason: how much a modality gave to the score, and the label, word or line that matched best."""

    modality: str
    gave: float
    matched: str = ""


@dataclass(frozen=True)
class Hit:
    """A moment that answers a query; `strength` is its confidence in a word, None where nothing is known of it."""

    query_id: str
    query: str
    rank: int
    video: str
    path: str | None
    start: float
    end: float | None
    similarity: float
    confidence: float | None
    why: tuple[Why, ...] = ()
    strength: Strength | None = None

    @property
    def moment(self) -> str:
        """What names it for good, `VIDEO@START-END` in seconds; `Moment.parse` reads it."""
        return f"{self.video}@{self.start:.3f}-{'end' if self.end is None else f'{self.end:.3f}'}"

    def as_json(self) -> dict[str, Any]:
        """Plain values in the documented order."""
        return asdict(self)


@dataclass(frozen=True)
class Miss:
    """Why a video is not higher: its rank among videos, and for each modality what it had and what it gave."""

    query: str
    video: str
    rank: int | None
    videos: int
    similarity: float | None
    best_similarity: float | None
    modalities: tuple[dict[str, Any], ...]
    note: str = ""


@dataclass(frozen=True)
class Within:
    """One video against a query: a score for every second, its spans [second, 2], and the peaks, highest first."""

    video: str
    query: str
    spans: npt.NDArray[np.float64]
    curve: npt.NDArray[np.float64]
    hits: tuple[Hit, ...]
