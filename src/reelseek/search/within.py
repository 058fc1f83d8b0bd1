"""Inside one video: how near each of its seconds is to some texts, where that peaks, and where ordered steps lie."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import UsageError
from reelseek.evaluation.segments import class_log_probs, decode, decode_by_beam, decode_unordered
from reelseek.evaluation.steps import place_steps, place_unordered
from reelseek.library.store import Library, Video
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.embed import embed_clips, embed_texts, reader_for
from reelseek.models.model import Embedding, RetrievalModel, load_model
from reelseek.models.systems.concepts import background_queries

__all__ = [
    "Curves",
    "Localized",
    "Part",
    "Segmented",
    "Step",
    "curves_of",
    "localize",
    "peaks",
    "second_clips",
    "segment",
]

RADIUS = 1.0  # seconds around each second that are looked at with it
_SURE = 0.9  # a step happens if it scores higher than this share of unrelated texts does anywhere in the video
_UNRELATED = 0.9  # a second is background's where this share of unrelated texts is as near as the steps are
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
        ModelError: a text is empty.
    """
    found, reader = library.video(video), reader_for(model, library)
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


@dataclass(frozen=True)
class Step:
    """Where one step happens; without times where it does not."""

    step: int
    text: str
    start: float | None
    end: float | None
    similarity: float | None
    confidence: float | None


@dataclass(frozen=True)
class Localized:
    """Where the steps of a task happen in one video."""

    video: str
    model: str
    seconds: int
    steps: tuple[Step, ...]
    curves: Curves = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Plain values in the documented order."""
        return {**_plain(self), "steps": [asdict(step) for step in self.steps]}


def _plain(found: Any) -> dict[str, Any]:
    return {"video": found.video, "model": found.model, "seconds": found.seconds}


def localize(
    library: Library,
    video: str,
    steps: Sequence[str],
    *,
    model: RetrievalModel | str | Path = "concepts",
    ordered: bool = True,
    missing: bool = False,
    radius: float = RADIUS,
) -> Localized:
    """Give each step of a task one second of a video, in order, so that they are nearest in sum.

    Source: Zhukov et al. 2019, and EAO's section 4.3.

    Args:
        ordered: False places each step where it is nearest, whatever stands before it.
        missing: a step may happen nowhere: it is placed only where it scores higher than nine of ten unrelated texts
            do anywhere in the video.

    Raises:
        UsageError: no steps, more steps than seconds, or a video without evidence.
    """
    loaded = model if isinstance(model, RetrievalModel) else load_model(model)
    curves = curves_of(library, loaded, video, _texts(steps, "steps"), radius=radius)
    background = float(np.quantile(curves.unrelated.max(0), _SURE)) if missing else 0.0
    place = place_steps if ordered else place_unordered
    try:
        placed = place(curves.similarity, background=background, optional=missing)
    except ValueError as error:
        raise UsageError(f"{curves.video}: {error}; leave steps out, or let them be missing") from error
    return Localized(
        curves.video,
        loaded.system,
        len(curves.spans),
        tuple(_step(curves, number, placed[:, number]) for number in range(len(steps))),
        curves,
    )


def _step(curves: Curves, number: int, where: npt.NDArray[np.bool_]) -> Step:
    if not where.any():
        return Step(number + 1, curves.texts[number], None, None, None, None)
    second = int(where.argmax())
    start, end = curves.spans[second]
    score = float(curves.similarity[second, number])
    return Step(
        number + 1, curves.texts[number], round(float(start), 3), round(float(end), 3), round(score, 6),
        curves.confidence(score),
    )  # fmt: skip


def _texts(texts: Sequence[str], name: str) -> Sequence[str]:
    if not texts:
        raise UsageError(f"there are no {name}; give at least one")
    empty = [number for number, text in enumerate(texts, 1) if not text.strip()]
    if empty:
        raise UsageError(f"number {empty[0]} of the {name} is empty")
    return texts


@dataclass(frozen=True)
class Part:
    """A span of a video and what it shows; `label` is None for background."""

    label: str | None
    start: float
    end: float
    similarity: float | None


@dataclass(frozen=True)
class Segmented:
    """A whole video as parts, in order."""

    video: str
    model: str
    seconds: int
    score: float
    parts: tuple[Part, ...]
    labels: tuple[str | None, ...]
    curves: Curves = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Plain values in the documented order; `labels` has one a second."""
        return {
            **_plain(self),
            "score": round(self.score, 6),
            "parts": [asdict(part) for part in self.parts],
            "labels": list(self.labels),
        }


def segment(
    library: Library,
    video: str,
    transcript: Sequence[str],
    *,
    labels: Sequence[str] | None = None,
    model: RetrievalModel | str | Path = "concepts",
    ordered: bool = True,
    background: bool = False,
    mean_seconds: float | None = None,
    temperature: float = 0.05,
    public_decoder: bool = False,
    radius: float = RADIUS,
) -> Segmented:
    """Say of every second of a video which step of a transcript it shows.

    Source: Kuehne et al. 2019; EAO's supplement, A.2: probabilities of all labels, then decoding along the transcript.

    Args:
        labels: everything a second could show (EAO: the labels of all videos); None takes the transcript's.
        ordered: False takes the transcript as a set of steps, each of which happens once or not at all.
        background: seconds may show none of them: where unrelated texts are as near.
        mean_seconds: how long a part lasts on average; None takes the video's length divided by the parts, 0 lets
            lengths say nothing.
        public_decoder: the published decoder with its quirks, see `decode_by_beam`; ordered and without background.

    Raises:
        UsageError: the transcript names an unknown label, has more parts than the video has seconds, or the switches
            do not go together.
    """
    names = list(dict.fromkeys(labels if labels is not None else transcript))
    _check_transcript(transcript, names, ordered=ordered)
    if public_decoder and (background or not ordered):
        raise UsageError("the published decoder knows neither background nor steps without an order")
    loaded = model if isinstance(model, RetrievalModel) else load_model(model)
    curves = curves_of(library, loaded, video, _texts(names, "labels"), radius=radius)
    scores, seconds = curves.similarity, len(curves.spans)
    if background:
        unrelated = np.quantile(curves.unrelated, _UNRELATED, axis=1)
        scores = np.concatenate([scores, unrelated[:, None]], axis=1)
    nothing = len(names) if background else None
    probs = class_log_probs(scores, temperature)
    asked = [names.index(each) for each in transcript]
    lengths = seconds / len(asked) if mean_seconds is None else mean_seconds or None
    try:
        if public_decoder:
            found = decode_by_beam(probs, asked, lengths or 150.0, chunk=1)
        elif not ordered:
            found = decode_unordered(probs, asked, background=nothing, mean_lengths=_means(lengths, nothing))
        elif nothing is not None:
            parts = [nothing, *(each for step in asked for each in (step, nothing))]
            may_miss = [place % 2 == 0 for place in range(len(parts))]
            found = decode(probs, parts, mean_lengths=_means(lengths, nothing), optional=may_miss)
        else:
            found = decode(probs, asked, mean_lengths=lengths)
    except ValueError as error:
        raise UsageError(f"{curves.video}: {error}") from error
    told = [names[label] if label != nothing else None for label in found.labels]
    return Segmented(
        curves.video,
        loaded.system,
        seconds,
        found.score,
        tuple(_part(curves, names, each) for each in found.parts),
        tuple(told),
        curves,
    )


def _check_transcript(transcript: Sequence[str], names: Sequence[str], *, ordered: bool) -> None:
    _texts(transcript, "parts of the transcript")
    unknown = [each for each in transcript if each not in names]
    if unknown:
        raise UsageError(f"the transcript names {unknown[0]!r}, which is none of the {len(names)} labels")
    if not ordered and len(set(transcript)) < len(transcript):
        raise UsageError("a set of steps without an order names one twice")


def _means(length: float | None, background: int | None) -> float | list[float | None] | None:
    """Lengths by label; background lasts as long as it likes."""
    if length is None or background is None:
        return length
    return [*[length] * background, None]


def _part(curves: Curves, names: Sequence[str], part: tuple[int, int, int]) -> Part:
    label, begin, end = part
    start, stop = round(float(curves.spans[begin, 0]), 3), round(float(curves.spans[end - 1, 1]), 3)
    if label == len(names):
        return Part(None, start, stop, None)
    return Part(names[label], start, stop, round(float(curves.similarity[begin:end, label].mean()), 6))
