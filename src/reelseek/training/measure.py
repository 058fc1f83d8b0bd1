"""A model on a split: both directions, by modality, with what was compared said beside every number."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reelseek.cluster import Cluster, Shared
from reelseek.errors import UsageError, suggest
from reelseek.evaluation.block_ranks import ScoreBlocks, ranks_in_blocks
from reelseek.evaluation.compare import write_query_texts, write_run
from reelseek.evaluation.protocols import PROTOCOLS, Protocol
from reelseek.evaluation.ranks import (
    DUAL_TEMPERATURE,
    Direction,
    dual_softmax,
    metrics,
    text_to_video_ranks,
    video_to_text_ranks,
)
from reelseek.library import Library
from reelseek.library.cluster_work import require_library, threads_of
from reelseek.library.source import FeatureSource
from reelseek.library.tokens import TokenReader
from reelseek.models.device import device_of, resolve_device
from reelseek.models.embed import embed_clips, embed_texts, reader_for, similarity_blocks, similarity_matrix
from reelseek.models.embedding import Embedding
from reelseek.models.model import RetrievalModel, load_model
from reelseek.models.text import caption_features_of
from reelseek.training.caveats import seen_in_training
from reelseek.training.combinations import combinations_of
from reelseek.training.data import read_features, read_split, split_names
from reelseek.training.split import Split

__all__ = [
    "Measured",
    "clips_with",
    "evaluate",
    "evaluate_split",
    "measure_embedded",
    "rank_options",
    "ranks_under",
    "write_measured",
]

_log = logging.getLogger("reelseek")
_MOST_SCORES = 2**28  # that are held in memory at once
Matrix = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Measured:
    """Both directions on one gallery.

    Attributes:
        by_modalities: text to video by what the right clip has.
        warnings: what weakens these numbers.
        combinations: the same with some of the experts alone, by their names; empty if that was not asked for.
        scores: [text, clip]; empty where they were too many, see `all_scores`.
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

    def all_scores(self) -> npt.NDArray[np.float32]:
        """The scores of every text and clip [text, clip].

        Raises:
            UsageError: they were too many to be held in memory.
        """
        if self.scores.shape != (self.queries, self.gallery):
            raise UsageError(
                f"the scores of {self.queries} captions by {self.gallery} clips are ranked in blocks and not held in "
                "memory, so that no run, example or part of the split can be made of them; name a smaller split"
            )
        return self.scores

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
    cluster: Cluster | None = None,
) -> Measured:
    """Measure a model on a split of a library, or of a data set in memory.

    Args:
        model: a model, its folder, or the name of a system that needs no training.
        split: None takes the protocol's, else `test` if there is one, else every caption.
        experts: use only these of the model's experts.
        protocol: one of PROTOCOLS.
        combinations: measure with these combinations of experts as well; `all` for every one that is there.
        device: where the model is moved to first; None leaves it where it is.
        cluster: whose nodes measure the combinations; each reads the library at its path.

    Raises:
        UsageError: no such protocol, split, expert or device.
        ClusterError: a node reads another library, or none.
        ModelError: there is no such model.
    """
    model = load_model(model)
    if device is not None:
        model.to(resolve_device(device))
    rule = _named_protocol(protocol)
    if split is None:
        split = rule.split or ("test" if "test" in split_names(library) else None)
    data = read_split(library, split)
    if rule.needs:
        data = clips_with(TokenReader(library), data, rule.needs)
    name = caption_features_of(model)
    data, missing = read_features(data, library, name)
    data = data.under(rule)
    caveats = seen_in_training(model.record, library, data)
    if missing:
        caveats = [*caveats, f"{missing} captions of {data.name!r} have no features {name!r}, and were not asked with"]
    for caveat in caveats:
        _log.warning("%s", caveat)

    def measured(subset: Sequence[str] | None) -> Measured:
        reader = reader_for(model, library, subset)
        reader.frames = rule.frames
        return replace(evaluate_split(model, reader, data, rule), warnings=tuple(caveats))

    subsets = combinations_of(combinations, model.experts, library) if combinations is not None else ()
    with_all = measured(experts)
    if cluster is not None and subsets:
        parts = _measure_on(cluster, model, library, data, rule, subsets)
        parts = {name: replace(part, warnings=with_all.warnings) for name, part in parts.items()}
        return replace(with_all, combinations=parts)
    return replace(with_all, combinations={"+".join(subset): measured(subset) for subset in subsets})


def _named_protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise UsageError(f"no protocol is called {name!r}{suggest(name, PROTOCOLS)}; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


@dataclass(frozen=True)
class _Combination:
    """What a node measures."""

    model: Shared[RetrievalModel]
    library: Path
    split: Shared[Split]
    protocol: str
    device: str
    experts: tuple[str, ...]


def _measure_on(
    cluster: Cluster,
    model: RetrievalModel,
    library: FeatureSource,
    split: Split,
    rule: Protocol,
    subsets: Sequence[Sequence[str]],
) -> dict[str, Measured]:
    """Measure combinations on the nodes of a cluster, in the order in which they are named."""
    if not isinstance(library, Library):
        raise UsageError("a data set in memory is measured here; nodes of a cluster read a library")
    require_library(cluster, library.path)
    device = device_of(model)
    resources, prepare = threads_of(torch.get_num_threads(), str(device))
    model.to("cpu")  # where every node can take it from
    shared, data, path = Shared(model), Shared(split), library.path.absolute()
    model.to(device)
    items = [_Combination(shared, path, data, rule.name, device.type, tuple(subset)) for subset in subsets]
    outcomes = cluster.map(_measure_combination, items, resources=resources, prepare=prepare)
    parts = {item.experts: replace(measured, data=split) for item, measured in outcomes}
    return {"+".join(item.experts): parts[item.experts] for item in items}


def _measure_combination(item: _Combination) -> Measured:
    rule = PROTOCOLS[item.protocol]
    model = item.model.get().to(item.device)
    with Library.open(item.library) as library:
        reader = reader_for(model, library, item.experts)
        reader.frames = rule.frames
        return replace(evaluate_split(model, reader, item.split.get(), rule), data=None)


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
    scorable = videos.present.any(1).numpy()
    if len(texts) * len(videos) <= _MOST_SCORES:
        scores = similarity_matrix(model, texts, videos, divided=divided).numpy()
        ranks, reverse = ranks_under(rule, scores, split, scorable)
        normalised = ranks_under(rule, dual_softmax(scores), split, scorable)
    else:
        scores = np.zeros((0, 0), np.float32)
        blocks = partial(_score_blocks, model, texts, videos)
        ranks, reverse = _ranks_in_blocks(rule, blocks, split, scorable)
        normalised = _ranks_in_blocks(rule, blocks, split, scorable, temperature=DUAL_TEMPERATURE)
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
    options = rank_options(rule, split)
    return (
        text_to_video_ranks(scores, split.clip_of_text, scorable, **options),
        video_to_text_ranks(scores, split.clip_of_text, scorable, each=rule.reverse == "each", **options),
    )


def rank_options(rule: Protocol, split: Split) -> dict[str, Any]:
    """Return the options of the rank functions under a protocol: `ties`, and `same_words` where words are compared."""
    words = None
    if rule.identical == "tolerant":
        words = np.unique([" ".join(text.lower().split()) for text in split.texts], return_inverse=True)[1].tolist()
    return {"ties": rule.ties, "same_words": words}


def _score_blocks(model: RetrievalModel, texts: Embedding, videos: Embedding) -> Iterator[tuple[int, Matrix]]:
    for top, block in similarity_blocks(model, texts, videos):
        yield top, block.numpy()


def _ranks_in_blocks(
    rule: Protocol,
    blocks: ScoreBlocks,
    split: Split,
    scorable: npt.NDArray[np.bool_],
    temperature: float | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """As `ranks_under`, of scores that are computed again at each pass over them."""
    ranks = ranks_in_blocks(
        blocks, split.clip_of_text, len(split.clips), scorable, each=rule.reverse == "each", temperature=temperature,
        **rank_options(rule, split),
    )  # fmt: skip
    return ranks.text_to_video, ranks.video_to_text


def _pattern(present: dict[str, npt.NDArray[np.bool_]], index: int) -> str:
    return "+".join(name for name, clips in present.items() if clips[index]) or "nothing"


def write_measured(path: Path, measured: Measured, tag: str) -> None:
    """TREC runs of both directions, with their qrels beside them: `path`, whose documents are `video` or
    `video@start-end`, with the words of its queries in a third file, and the same with `.v2t` before its ending, whose
    queries are clips and whose documents captions.

    A clip without evidence stands below all that have some, and last where it is the right one, as it was measured.
    """
    data = measured.data
    assert data is not None
    clips = [
        clip.video if clip.start_seconds is None else f"{clip.video}@{clip.start_seconds:g}-{clip.end_seconds or 0:g}"
        for clip in data.clips
    ]
    scores, none = measured.all_scores().copy(), ~measured.scorable
    floor = float(scores.min()) - 1 if scores.size else 0.0
    scores[:, none] = floor
    owners = np.array(data.clip_of_text)
    missed = np.flatnonzero(none[owners])
    scores[missed, owners[missed]] = floor - 1
    write_run(path, scores, {row: [clip] for row, clip in enumerate(data.clip_of_text)}, clips, tag)
    write_query_texts(path, dict(enumerate(data.texts)))
    captions = {clip: rows for clip, rows in enumerate(data.captions_by_clip()) if rows}
    texts = [f"q{row}" for row in range(len(data.texts))]
    reverse = path.with_name(f"{path.stem}.v2t{path.suffix}")
    write_run(reverse, scores.T, captions, texts, tag, query="v")
