"""Inside one video: how near each of its seconds is to some texts, and where that peaks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from reelseek.errors import LibraryError, UsageError
from reelseek.library.store import Library, Video
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.embed import embed_clips, embed_texts, reader_for
from reelseek.models.model import Embedding, RetrievalModel
from reelseek.models.systems.concepts import background_queries

__all__ = ["RADIUS", "Curves", "check_tracks", "checked_texts", "curves_of", "peaks", "second_clips"]

RADIUS = 1.0  # seconds around each second that are looked at with it
Floats = npt.NDArray[np.float64]


def second_clips(video: Video, reader: TokenReader, radius: float = RADIUS) -> tuple[list[Clip], Floats]:
    """A clip a second, each reaching so far beyond its second, and the spans of the seconds themselves [second, 2].

    Raises:
        UsageError: nothing tells how long the video is.
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
    """Read every byte of a video's tracks.

    Raises:
        LibraryError: one is not what was written, or is gone.
    """
    for expert in reader.dims:
        row = reader.row(video.id, expert)
        damage = library.damage(row) if row is not None else None
        if damage is not None:
            raise LibraryError(damage)


@dataclass(frozen=True)
class Curves:
    """How near each second of a video is to each text.

    Attributes:
        spans: [second, 2]; similarity: [second, text], the lowest of its text where a second has no evidence.
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
        """Similarity of everyday texts that are about nothing in particular [second, text]."""
        return _similarity(self.model, background_queries(), self.embedding)

    def confidence(self, similarity: float) -> float:
        """One minus the chance that an unrelated text scores as high anywhere in this video."""
        best = self.unrelated.max(0)
        return round(1 - (int((best >= similarity).sum()) + 1) / (len(best) + 1), 4)


def curves_of(
    library: Library, model: RetrievalModel, video: str, texts: Sequence[str], *, radius: float = RADIUS
) -> Curves:
    """Similarity of any model between every second of a video and some texts.

    Args:
        radius: seconds around each second that are looked at with it.

    Raises:
        UsageError: no such video, or the model finds no evidence in it.
        LibraryError: one of its tracks is damaged.
        ModelError: a text is empty.
    """
    found, reader = library.video(video), reader_for(model, library)
    check_tracks(library, reader, found)
    clips, spans = second_clips(found, reader, radius)
    embedding = embed_clips(model, reader, clips)
    if not bool(embedding.present.any()):
        raise UsageError(
            f"{found.id} has nothing that {model.system} looks at ({', '.join(reader.dims)}): "
            "its tracks are empty, or were never extracted"
        )
    return Curves(found.id, tuple(texts), spans, _similarity(model, texts, embedding), embedding, model)


def _similarity(model: RetrievalModel, texts: Sequence[str], embedding: Embedding) -> Floats:
    scores = model.similarity(embed_texts(model, texts), embedding).numpy().T.astype(np.float64)
    there = embedding.present.any(1).numpy()
    scores[~there] = scores[there].min(0)
    return scores


def peaks(curve: Floats, k: int) -> list[tuple[int, int, int]]:
    """The highest peaks of a curve, each as its place, its first place and the place after its last, highest first.

    A peak reaches as far as the curve stays above half of what the peak rises over the ground around it.
    """
    from scipy.signal import find_peaks, peak_widths

    padded = np.concatenate([[curve.min() - 1e-9], curve, [curve.min() - 1e-9]])
    places, _ = find_peaks(padded, prominence=1e-12)
    _, _, left, right = peak_widths(padded, places, rel_height=0.5)
    order = np.argsort(-padded[places], kind="stable")[:k]
    return [(int(places[i]) - 1, max(0, math.ceil(left[i]) - 1), min(len(curve), math.floor(right[i]))) for i in order]


def checked_texts(texts: Sequence[str], name: str) -> Sequence[str]:
    """Texts that can be asked for.

    Raises:
        UsageError: there are none, or one is empty.
    """
    if not texts:
        raise UsageError(f"there are no {name}; give at least one")
    empty = [number for number, text in enumerate(texts, 1) if not text.strip()]
    if empty:
        raise UsageError(f"number {empty[0]} of the {name} is empty")
    return texts
