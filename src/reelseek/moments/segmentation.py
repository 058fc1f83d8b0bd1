"""Segmentation: which step of a transcript every second of a video shows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelseek.errors import UsageError
from reelseek.library.store import Library
from reelseek.models.joint import load_for
from reelseek.models.model import RetrievalModel
from reelseek.moments.beam import decode_by_beam
from reelseek.moments.curves import RADIUS, Curves, checked_texts, curves_of
from reelseek.moments.decoding import Floats, Segmentation, class_log_probs, decode, decode_unordered
from reelseek.moments.timeline import Timeline

__all__ = ["Part", "Segmented", "segment"]

_BACKGROUND_QUANTILE = 0.9  # background scores as high as this quantile of the unrelated texts


@dataclass(frozen=True)
class Part:
    """A span of a video in seconds and its label; `label` and `similarity` are None for background."""

    label: str | None
    start: float
    end: float
    similarity: float | None


@dataclass(frozen=True)
class Segmented:
    """A video as consecutive parts; `labels` has one per second, `score` is the log-probability of the decoding."""

    video: str
    model: str
    seconds: int
    score: float
    parts: tuple[Part, ...]
    labels: tuple[str | None, ...]
    curves: Curves = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return plain values in the documented order."""
        return {
            "video": self.video, "model": self.model, "seconds": self.seconds, "score": round(self.score, 6),
            "parts": [asdict(part) for part in self.parts], "labels": list(self.labels),
        }  # fmt: skip

    def timeline(self, truth: Sequence[str | None] | None = None) -> Timeline:
        """Return a picture of the parts, with the annotated label of each second `truth`."""
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
    device: str | torch.device | None = None,
) -> Segmented:
    """Label every second of a video with a step of a transcript.

    Source: Kuehne et al. 2019; EAO's supplement, A.2: probabilities of all labels, then decoding along the transcript.

    Args:
        labels: all classes that a second may show (EAO: the labels of all videos); None takes the transcript's.
        ordered: False takes the transcript as a set of steps, each of which happens once or not at all.
        background: seconds may show no step: those at which unrelated texts are as similar.
        mean_seconds: mean of the Poisson model of lengths; 0 switches it off. None takes the video's length over
            the number of parts if they fill it in order, else 0.
        temperature: of the softmax over labels.
        public_decoder: the published decoder with its quirks, see `decode_by_beam`; ordered and without background.
        radius: seconds of context on either side of each second.
        device: where the model computes, see `load_on_device`.

    Raises:
        UsageError: the transcript names an unknown label, has more parts than the video has seconds, or options
            exclude each other.
    """
    names = list(dict.fromkeys(labels if labels is not None else transcript))
    _check_transcript(transcript, names, ordered=ordered)
    if public_decoder and (background or not ordered or mean_seconds == 0):
        raise UsageError(
            "the published decoder knows neither background nor steps without an order, nor lengths that say nothing"
        )
    loaded = load_for(library, model, device).model
    curves = curves_of(library, loaded, video, checked_texts(names, "labels"), radius=radius)
    background_label = len(names) if background else None
    probs = class_log_probs(_class_scores(curves, background=background), temperature)
    steps = [names.index(text) for text in transcript]
    if mean_seconds is None:
        fills_video = ordered and not background
        mean_seconds = len(curves.spans) / len(steps) if fills_video else 0.0
    try:
        if public_decoder:
            decoded = decode_by_beam(probs, steps, mean_seconds, chunk=1)
        else:
            decoded = _decode(probs, steps, background_label, mean_seconds or None, ordered=ordered)
    except ValueError as error:
        raise UsageError(f"{curves.video}: {error}") from error
    return _segmented(curves, loaded.system, names, decoded)


def _check_transcript(transcript: Sequence[str], names: Sequence[str], *, ordered: bool) -> None:
    checked_texts(transcript, "parts of the transcript")
    unknown = [text for text in transcript if text not in names]
    if unknown:
        raise UsageError(f"the transcript names {unknown[0]!r}, which is none of the {len(names)} labels")
    if not ordered and len(set(transcript)) < len(transcript):
        raise UsageError("a set of steps without an order names one twice")


def _class_scores(curves: Curves, *, background: bool) -> Floats:
    """Similarity of each second to each label [second, label]; background is the last label."""
    if not background:
        return curves.similarity
    unrelated = np.quantile(curves.unrelated, _BACKGROUND_QUANTILE, axis=1)
    return np.concatenate([curves.similarity, unrelated[:, None]], axis=1)


def _decode(
    probs: Floats, steps: Sequence[int], background: int | None, mean_length: float | None, *, ordered: bool
) -> Segmentation:
    if background is None:
        return (decode if ordered else decode_unordered)(probs, steps, mean_lengths=mean_length)
    mean_lengths = [mean_length] * background + [None]  # the length of background is free
    if not ordered:
        return decode_unordered(probs, steps, background=background, mean_lengths=mean_lengths)
    parts = [background, *(label for step in steps for label in (step, background))]
    optional = [part % 2 == 0 for part in range(len(parts))]
    return decode(probs, parts, mean_lengths=mean_lengths, optional=optional)


def _segmented(curves: Curves, system: str, names: Sequence[str], decoded: Segmentation) -> Segmented:
    return Segmented(
        curves.video,
        system,
        len(curves.spans),
        decoded.score,
        tuple(_part(curves, names, part) for part in decoded.parts),
        tuple(names[label] if label < len(names) else None for label in decoded.labels),
        curves,
    )


def _part(curves: Curves, names: Sequence[str], part: tuple[int, int, int]) -> Part:
    label, begin, end = part
    start, stop = round(float(curves.spans[begin, 0]), 3), round(float(curves.spans[end - 1, 1]), 3)
    if label == len(names):
        return Part(None, start, stop, None)
    return Part(names[label], start, stop, round(float(curves.similarity[begin:end, label].mean()), 6))
