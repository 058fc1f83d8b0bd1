"""Which step every second of a video shows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.errors import UsageError
from reelseek.library.store import Library
from reelseek.models.model import RetrievalModel, load_model
from reelseek.moments.beam import decode_by_beam
from reelseek.moments.curves import RADIUS, Curves, checked_texts, curves_of
from reelseek.moments.decoding import class_log_probs, decode, decode_unordered
from reelseek.moments.timeline import Timeline

__all__ = ["Part", "Segmented", "segment"]

_UNRELATED = 0.9  # a second is background's where this share of unrelated texts is as near as the steps are


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
            "video": self.video, "model": self.model, "seconds": self.seconds, "score": round(self.score, 6),
            "parts": [asdict(part) for part in self.parts], "labels": list(self.labels),
        }  # fmt: skip

    def timeline(self, truth: Sequence[str | None] | None = None) -> Timeline:
        """To be drawn; `truth` has a label a second."""
        rows = {text: row for row, text in enumerate(self.curves.texts)}
        spans = {"prediction": [(rows[p.label], p.start, p.end) for p in self.parts if p.label is not None]}
        if truth is not None:
            seconds = [(rows[t], float(at), at + 1.0) for at, t in enumerate(truth[: self.seconds]) if t in rows]
            spans["ground truth"] = seconds
        return Timeline(f"{self.video}: parts by {self.model}", self.curves.texts, self.curves.similarity, spans)


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
        mean_seconds: how long a part lasts on average; 0 lets lengths say nothing. None takes the video's length over
            the number of parts if they fill it in order, else 0.
        public_decoder: the published decoder with its quirks, see `decode_by_beam`; ordered and without background.

    Raises:
        UsageError: the transcript names an unknown label, has more parts than the video has seconds, or the switches
            do not go together.
    """
    names = list(dict.fromkeys(labels if labels is not None else transcript))
    _check_transcript(transcript, names, ordered=ordered)
    if public_decoder and (background or not ordered or mean_seconds == 0):
        raise UsageError(
            "the published decoder knows neither background nor steps without an order, nor lengths that say nothing"
        )
    loaded = load_model(model)
    curves = curves_of(library, loaded, video, checked_texts(names, "labels"), radius=radius)
    scores, seconds = curves.similarity, len(curves.spans)
    if background:
        unrelated = np.quantile(curves.unrelated, _UNRELATED, axis=1)
        scores = np.concatenate([scores, unrelated[:, None]], axis=1)
    nothing = len(names) if background else None
    probs = class_log_probs(scores, temperature)
    asked = [names.index(each) for each in transcript]
    fills = ordered and not background
    lengths = (seconds / len(asked) if fills else None) if mean_seconds is None else mean_seconds or None
    try:
        if public_decoder:
            found = decode_by_beam(probs, asked, lengths or 1.0, chunk=1)
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
    checked_texts(transcript, "parts of the transcript")
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
