"""Similarity of every second of one video to texts, and the peaks of such a curve."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from reelseek.errors import LibraryError, UsageError
from reelseek.library.store import Library, Video
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.embed import embed_clips, embed_texts, reader_for, similarity_matrix
from reelseek.models.embedding import Embedding
from reelseek.models.model import RetrievalModel
from reelseek.models.systems.concepts import background_queries

__all__ = ["RADIUS", "Curves", "check_tracks", "checked_texts", "confidence", "curves_of", "peaks", "second_clips"]

RADIUS = 1.0  # seconds of context on either side of each second
Floats = npt.NDArray[np.float64]


def second_clips(video: Video, reader: TokenReader, radius: float = RADIUS) -> tuple[list[Clip], Floats]:
    """Cut a video into one clip per second, widened by `radius` on either side, and the seconds themselves.

    Returns:
        The clips, and the start and end of each second without the context [second, 2].

    Raises:
        UsageError: the length of the video is unknown.
    """
    duration = video.duration or max(
        (float(spans[:, 1].max()) for name in reader.dims if len(spans := reader.steps(Clip(video.id), name)[1])),
        default=0.0,
    )
    if not duration:
        raise UsageError(
            f"{video.id} has no length and no features of {', '.join(reader.dims)}: there is nothing to look at"
        )
    starts = np.arange(max(1, math.ceil(duration - 0.05)), dtype=np.float64)
    spans = np.stack([starts, np.minimum(starts + 1, duration)], axis=1)
    return [Clip(video.id, max(0.0, start - radius), start + 1 + radius) for start in starts], spans


def check_tracks(library: Library, reader: TokenReader, video: Video) -> None:
    """Verify every byte of a video's tracks.

    Raises:
        LibraryError: a track is missing, or differs from what was written.
    """
    for expert in reader.dims:
        row = reader.row(video.id, expert)
        damage = library.damage(row) if row is not None else None
        if damage is not None:
            raise LibraryError(damage)


@dataclass(frozen=True)
class Curves:
    """Similarity of each second of a video to each text.

    Attributes:
        spans: start and end in seconds [second, 2].
        similarity: [second, text]; a second without evidence has the text's lowest value.
        embedding: of the seconds.
    """

    video: str
    texts: tuple[str, ...]
    spans: Floats
    similarity: Floats
    embedding: Embedding = field(repr=False)
    model: RetrievalModel = field(repr=False)

    @cached_property
    def unrelated(self) -> Floats:
        """Similarity of each second to a fixed set of unrelated everyday texts [second, text]."""
        return _similarity(self.model, background_queries(), self.embedding)

    def confidence(self, similarity: float) -> float:
        """One minus the probability that an unrelated text scores as high anywhere in this video."""
        return confidence(similarity, self.unrelated.max(0))


def confidence(score: float, background: Floats) -> float:
    """One minus the probability that an unrelated text scores as high.

    Args:
        background: the best score that each of the unrelated texts reaches [text].
    """
    return round(1 - (int((background >= score).sum()) + 1) / (len(background) + 1), 4)


def curves_of(
    library: Library, model: RetrievalModel, video: str, texts: Sequence[str], *, radius: float = RADIUS
) -> Curves:
    """Compute the model's similarity of every second of a video to every text.

    Args:
        radius: seconds of context on either side of each second.

    Raises:
        UsageError: no such video, or the model finds no evidence in it.
        LibraryError: one of its tracks is damaged.
        ModelError: a text is empty, or the model's similarity is not finite.
    """
    source, reader = library.video(video), reader_for(model, library)
    check_tracks(library, reader, source)
    clips, spans = second_clips(source, reader, radius)
    embedding = embed_clips(model, reader, clips)
    if not bool(embedding.present.any()):
        raise UsageError(
            f"{source.id} has nothing that {model.system} looks at ({', '.join(reader.dims)}): "
            "its tracks are empty, or were never extracted"
        )
    return Curves(source.id, tuple(texts), spans, _similarity(model, texts, embedding), embedding, model)


def _similarity(model: RetrievalModel, texts: Sequence[str], seconds: Embedding) -> Floats:
    scores = similarity_matrix(model, embed_texts(model, texts), seconds).numpy().T.astype(np.float64)
    present = seconds.present.any(1).numpy()
    scores[~present] = scores[present].min(0)
    return scores


def peaks(curve: Floats, k: int) -> list[tuple[int, int, int]]:
    """Find the `k` highest peaks of a curve, highest first, as (position, first position, position after the last).

    A peak extends as far as the curve stays above half of the peak's prominence.

    >>> peaks(np.array([0.0, 0.9, 1.0, 0.1, 0.0, 0.5, 0.0]), 2)
    [(2, 1, 3), (5, 5, 6)]
    """
    from scipy.signal import find_peaks, peak_widths

    padded = np.concatenate([[curve.min() - 1e-9], curve, [curve.min() - 1e-9]])
    places, _ = find_peaks(padded, prominence=1e-12)
    _, _, begins, ends = peak_widths(padded, places, rel_height=0.5)
    order = np.argsort(-padded[places], kind="stable")[:k]
    return [(int(places[i]) - 1, max(0, math.ceil(begins[i]) - 1), min(len(curve), math.floor(ends[i]))) for i in order]


def checked_texts(texts: Sequence[str], name: str) -> Sequence[str]:
    """Return texts that can be compared with a video.

    Args:
        name: of the texts, for messages.

    Raises:
        UsageError: there are none, or one is empty.
    """
    if not texts:
        raise UsageError(f"there are no {name}; give at least one")
    empty = [number for number, text in enumerate(texts, 1) if not text.strip()]
    if empty:
        raise UsageError(f"number {empty[0]} of the {name} is empty")
    return texts
