"""A model on a split: both directions, by modality, with what was compared said beside every number."""

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reelseek.errors import UsageError
from reelseek.evaluation.compare import write_run
from reelseek.evaluation.protocols import PROTOCOLS, Protocol
from reelseek.evaluation.ranks import Direction, dual_softmax, metrics, text_to_video_ranks, video_to_text_ranks
from reelseek.library.source import FeatureSource
from reelseek.library.tokens import TokenReader
from reelseek.models.device import resolve_device
from reelseek.models.embed import embed_clips, embed_texts, reader_for, similarity_matrix
from reelseek.models.model import Embedding, RetrievalModel, load_model
from reelseek.training.caveats import seen_in_training
from reelseek.training.combinations import combinations_of
from reelseek.training.data import Split, read_split, split_names

__all__ = [
    "Measured",
    "clips_with",
    "evaluate",
    "evaluate_split",
    "measure_embedded",
    "ranks_under",
    "write_measured",
]

_log = logging.getLogger("reelseek")


@dataclass(frozen=True)
class Measured:
    """Both directions on one gallery.

    Attributes:
        by_modalities: text to video by what the right clip has.
        warnings: what weakens these numbers.
        combinations: the same with some of the experts alone, by their names; empty if that was not asked for.
    """

    text_to_video: Direction
    video_to_text: Direction
    gallery: int
    queries: int
    protocol: str
    says: str
    split: str
    split_hash: str
    experts: tuple[str, ...]
    without_evidence: int
    published_gallery: int | None = None
    normalised: dict[str, Direction] = field(default_factory=dict)
    by_modalities: dict[str, Direction] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    combinations: "dict[str, Measured]" = field(default_factory=dict, repr=False)
    ranks: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), repr=False)
    scores: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32), repr=False)
    scorable: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool), repr=False)
    data: Split | None = field(default=None, repr=False)

    def as_json(self) -> dict[str, Any]:
        """Plain values; recalls are fractions."""
        plain = asdict(replace(self, data=None, combinations={}))
        for name in ("ranks", "scores", "scorable", "data", "combinations"):
            del plain[name]
        if self.combinations:
            plain["combinations"] = {name: part.as_json() for name, part in self.combinations.items()}
        return plain


def evaluate(
    model: "RetrievalModel | str | os.PathLike[str]",
    library: FeatureSource,
    *,
    split: str | None = None,
    experts: Sequence[str] | None = None,
    protocol: str = "strict",
    combinations: str | Sequence[Sequence[str]] | None = None,
    device: "str | torch.device | None" = None,
) -> Measured:
    """Measure a model on a split of a library, or of a data set in memory.

    Args:
        model: a model, its folder, or the name of a system that needs no training.
        split: None takes the protocol's, else `test` if there is one, else every caption.
        experts: use only these of the model's experts.
        protocol: one of PROTOCOLS.
        combinations: measure with these combinations of experts as well; `all` for every one that is there.
        device: where the model is moved to first; None leaves it where it is.

    Raises:
        UsageError: no such protocol, split, expert or device.
        ModelError: there is no such model.
    """
    model = load_model(model)
    if device is not None:
        model.to(resolve_device(device))
    if protocol not in PROTOCOLS:
        raise UsageError(f"no protocol is called {protocol!r}; there are {', '.join(PROTOCOLS)}")
    rule = PROTOCOLS[protocol]
    if split is None:
        split = rule.split or ("test" if "test" in split_names(library) else None)
    data = read_split(library, split)
    if rule.needs:
        data = clips_with(TokenReader(library), data, rule.needs)
    data = data.under(rule)
    caveats = seen_in_training(model.record, library, data)
    for caveat in caveats:
        _log.warning("%s", caveat)

    def measured(subset: Sequence[str] | None) -> Measured:
        reader = reader_for(model, library, subset)
        reader.frames = rule.frames
        return replace(evaluate_split(model, reader, data, rule), warnings=tuple(caveats))

    subsets = combinations_of(combinations, model.experts, library) if combinations is not None else ()
    return replace(measured(experts), combinations={"+".join(subset): measured(subset) for subset in subsets})


def clips_with(reader: TokenReader, split: Split, needs: Sequence[str]) -> Split:
    """The clips that have all of some experts (or an expert of each modality named).

    Raises:
        UsageError: none has, or there is no such expert.
    """
    present = reader.present(split.clips)
    selected = np.ones(len(split.clips), bool)
    for need in needs:
        rows = [clips for name, clips in present.items() if need in (name, reader.modalities[name])]
        if not rows:
            raise UsageError(f"only clips with {need} are asked for, and no expert is called so or of that modality")
        selected &= np.any(rows, axis=0)
    if not selected.any():
        raise UsageError(f"no clip of {split.name!r} has all of {', '.join(needs)}")
    return split.subset(np.flatnonzero(selected).tolist(), split.name, split.set_aside_from)


def evaluate_split(model: RetrievalModel, reader: TokenReader, split: Split, rule: Protocol | None = None) -> Measured:
    """Measure a model on a split that was read before."""
    return measure_embedded(model, reader, split, embed_clips(model, reader, split.clips), rule)


def measure_embedded(
    model: RetrievalModel,
    reader: TokenReader,
    split: Split,
    videos: Embedding,
    rule: Protocol | None = None,
    *,
    divided: bool = False,
) -> Measured:
    """Measure a model on a split whose clips were embedded before.

    Args:
        divided: processes that train together share the work; all of them call this, and get the same numbers.
    """
    rule = rule or PROTOCOLS["strict"]
    texts = embed_texts(model, split.texts, divided=divided)
    if unread := int((~texts.present.any(1)).sum()):
        _log.warning("the text side cannot read %d of %d captions; they score 0 everywhere", unread, len(split.texts))
    scores = similarity_matrix(model, texts, videos, divided=divided).numpy()
    scorable = videos.present.any(1).numpy()
    ranks, reverse = ranks_under(rule, scores, split, scorable)
    normalised = ranks_under(rule, dual_softmax(scores), split, scorable)
    present = reader.present(split.clips)
    patterns = [_pattern(present, index) for index in range(len(split.clips))]
    of_query = np.array([patterns[clip] for clip in split.clip_of_text])
    return Measured(
        text_to_video=metrics(ranks),
        video_to_text=metrics(reverse),
        gallery=len(split.clips),
        queries=len(split.texts),
        protocol=rule.name,
        says=rule.says,
        split=split.name,
        split_hash=split.hash,
        experts=tuple(reader.dims),
        without_evidence=int((~scorable).sum()),
        published_gallery=rule.gallery,
        normalised={
            "text_to_video_dual_softmax": metrics(normalised[0]),
            "video_to_text_dual_softmax": metrics(normalised[1]),
        },
        by_modalities={
            name: metrics(ranks[of_query == name]) for name in sorted(set(patterns) & set(of_query.tolist()))
        },
        ranks=ranks,
        scores=scores,
        scorable=scorable,
        data=split,
    )


def ranks_under(
    rule: Protocol, scores: npt.NDArray[np.floating], split: Split, scorable: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Ranks of every query, text to video and video to text, as a protocol counts them.

    Args:
        scores: [text, clip].
        scorable: which clips have evidence.
    """
    words = None
    if rule.identical == "tolerant":
        words = np.unique([" ".join(text.lower().split()) for text in split.texts], return_inverse=True)[1].tolist()
    options: dict[str, Any] = {"ties": rule.ties, "same_words": words}
    return (
        text_to_video_ranks(scores, split.clip_of_text, scorable, **options),
        video_to_text_ranks(scores, split.clip_of_text, scorable, each=rule.reverse == "each", **options),
    )


def _pattern(present: dict[str, npt.NDArray[np.bool_]], index: int) -> str:
    return "+".join(name for name, clips in present.items() if clips[index]) or "nothing"


def write_measured(path: Path, measured: Measured, tag: str) -> None:
    """TREC runs of both directions, with their qrels beside them: `path`, whose documents are `video` or
    `video@start-end`, and the same with `.v2t` before its ending, whose queries are clips and whose documents captions.

    A clip without evidence stands below all that have some, and last where it is the right one, as it was measured.
    """
    data = measured.data
    assert data is not None
    clips = [
        clip.video if clip.start_seconds is None else f"{clip.video}@{clip.start_seconds:g}-{clip.end_seconds or 0:g}"
        for clip in data.clips
    ]
    scores, none = measured.scores.copy(), ~measured.scorable
    floor = float(scores.min()) - 1 if scores.size else 0.0
    scores[:, none] = floor
    owners = np.array(data.clip_of_text)
    missed = np.flatnonzero(none[owners])
    scores[missed, owners[missed]] = floor - 1
    write_run(path, scores, {row: [clip] for row, clip in enumerate(data.clip_of_text)}, clips, tag)
    captions = {clip: rows for clip, rows in enumerate(data.captions_by_clip()) if rows}
    texts = [f"q{row}" for row in range(len(data.texts))]
    reverse = path.with_name(f"{path.stem}.v2t{path.suffix}")
    write_run(reverse, scores.T, captions, texts, tag, query="v")
