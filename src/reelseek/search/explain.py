"""Why a clip scores as it does: what each modality gave, and the label or line in it that is nearest to the query.

Where slots are experts, what each gives adds up to the score. A system that fuses its modalities is asked again without
each of them: what the score loses is what that one gave.
"""

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch

from reelseek.errors import ModelError, ReelseekError
from reelseek.experts import load_expert
from reelseek.experts.expert import Text
from reelseek.experts.sentence import SENTENCE_DIM, sentence_encoder
from reelseek.library.store import Library
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.embed import embed_tokens
from reelseek.models.embedding import Embedding
from reelseek.models.model import RetrievalModel
from reelseek.search.fulltext import SOURCES, Line
from reelseek.search.hit import Why
from reelseek.search.question import Question
from reelseek.search.scoring import LITERAL

__all__ = ["Evidence", "contributions", "explains_by_slot", "reasons"]

_LABELS = 5
_LINES = 8
_LONGEST_LINE = 300
_KEPT_FLOATS = 2**25  # of the embeddings of clips without each of their experts
_log = logging.getLogger("reelseek")


@dataclass(frozen=True)
class _Variants:
    """A clip without each of its experts in turn: which of these it has [expert], and the embeddings [expert]."""

    present: tuple[bool, ...]
    embedding: Embedding


class Evidence:
    """What the tracks of a library's videos hold, in words.

    Args:
        reader: of the model's experts.
        owners: of a video, whose tracks and texts are its own.
    """

    def __init__(self, library: Library, reader: TokenReader, owners: Callable[[str], Sequence[str]]) -> None:
        self.reader = reader
        self._library, self._owners = library, owners
        self._specs = {spec.partition("@")[0]: spec for spec in json.loads(library.meta("experts") or "[]")}
        self._damage: dict[tuple[str, str], str | None] = {}
        self._variants: OrderedDict[Clip, _Variants] = OrderedDict()

    def labels(self, clip: Clip, expert: str) -> list[tuple[str, float]]:
        """What an expert calls what a clip has, likeliest first, with how sure it is; none of one without names."""
        values, _ = self.reader.steps(clip, expert)
        labeller = _labeller(self._specs.get(expert, expert), self.reader.dims[expert])
        return labeller(values) if labeller is not None and len(values) else []

    def lines(self, clip: Clip, expert: str) -> list[Text]:
        """What an expert read or heard during a clip, in order of time."""
        start = clip.start_seconds or 0.0
        end = np.inf if clip.end_seconds is None else clip.end_seconds
        texts = [text for owner in self._owners(clip.video) for name, text in self._library.texts(owner)
                 if name == expert]  # fmt: skip
        return [text for text in texts if text.start_seconds < end and text.end_seconds >= start]

    def match(self, clip: Clip, expert: str, query: str) -> str:
        """The label or line of an expert that is nearest to a query, the surest to one without words; '' for none."""
        if expert not in self.reader.dims or self.damage(clip.video, expert):
            return ""
        if not query:
            likeliest = [label for label, _ in self.labels(clip, expert)[:1]]
            return next(iter([*likeliest, *(line.text for line in self.lines(clip, expert))]), "")
        encoder = sentence_encoder()
        sentence = encoder.encode([query])[0]
        if labels := self.labels(clip, expert):
            vectors = encoder.encode([label for label, _ in labels])
            return labels[int(np.argmax((vectors @ sentence) * [chance for _, chance in labels]))][0]
        lines = self.lines(clip, expert)
        if not lines:
            return ""
        values, spans = self.reader.steps(clip, expert)
        if self.reader.dims[expert] == SENTENCE_DIM and len(values):  # the vectors of these very lines
            start, _ = spans[int(np.argmax(values @ sentence))]
            return next((line.text for line in lines if line.start_seconds == start), "")
        surest = sorted(lines, key=lambda line: -line.score)[:_LINES]
        vectors = encoder.encode([line.text for line in surest])
        return surest[int(np.argmax(vectors @ sentence))].text

    def describe(self, clip: Clip, expert: str) -> str:
        """All that an expert has of a clip, for people."""
        if damage := self.damage(clip.video, expert):
            return damage
        if labels := self.labels(clip, expert):
            return ", ".join(label for label, _ in labels)
        return " / ".join(line.text for line in self.lines(clip, expert))[:_LONGEST_LINE] or "present"

    def variants(self, model: RetrievalModel, clips: Sequence[Clip]) -> list[_Variants]:
        """Each clip embedded without each expert in turn; those of the clips asked for last are kept, for any query.

        Raises:
            ModelError: the system refuses to do without an expert.
        """
        fresh = [clip for clip in clips if clip not in self._variants]
        if fresh:
            self._variants.update(zip(fresh, self._embed_variants(model, fresh), strict=True))
        variants = [self._variants[clip] for clip in clips]
        for clip in clips:
            self._variants.move_to_end(clip)
        most = max(len(clips), _KEPT_FLOATS // max(1, variants[0].embedding.values.numel())) if variants else 0
        while len(self._variants) > most:
            self._variants.popitem(last=False)
        return variants

    def _embed_variants(self, model: RetrievalModel, clips: Sequence[Clip]) -> list[_Variants]:
        tokens = self.reader.batch(clips)
        present = np.stack([steps.videos.host.numpy() for steps in tokens.values()], 1)
        without = []
        for name in tokens:
            rest = {other: steps for other, steps in tokens.items() if other != name}
            without.append(embed_tokens(model, rest) if rest else _nothing(embed_tokens(model, tokens)))
        return [
            _Variants(tuple(present[row].tolist()), Embedding.concat([e[row : row + 1] for e in without]))
            for row in range(len(clips))
        ]

    def damage(self, video: str, expert: str) -> str | None:
        """What is wrong with a track, so that nothing is read out of it; said once."""
        key = (video, expert)
        if key not in self._damage:
            row = self.reader.row(video, expert)
            self._damage[key] = self._library.damage(row) if row is not None else None
            if self._damage[key]:
                _log.warning("%s: %s; its label or line is not shown", video, self._damage[key])
        return self._damage[key]


def _nothing(embedding: Embedding) -> Embedding:
    """The same items, none of whose slots is present."""
    return Embedding(embedding.values, torch.zeros_like(embedding.present), embedding.weights)


@cache
def _labeller(spec: str, dim: int) -> Callable[[npt.NDArray[np.float32]], list[tuple[str, float]]] | None:
    """What names the values of an expert; None where it cannot be asked here, or its values are others."""
    try:
        expert = load_expert(spec)
    except ReelseekError:
        return None
    labels = getattr(expert, "labels", None)
    if labels is None or expert.dim != dim:
        return None
    return lambda values: list(labels(values))[:_LABELS]


def explains_by_slot(model: RetrievalModel) -> bool:
    """Whether what slots give to a score explains it; else clips have to be embedded again.

    A slot that several experts are summed in, such as a closed form, does not say which of them it was.
    """
    return not model.pairwise and all(name in model.experts for name in model.slots)


def contributions(
    model: RetrievalModel, evidence: Evidence, question: Question, clips: Sequence[Clip], embedding: Embedding
) -> list[dict[str, float]]:
    """For each clip what its slots, or its experts where slots are none, gave to its score.

    Args:
        embedding: of the clips.
    """
    if explains_by_slot(model):
        shares = question.contributions(model, embedding)
        return [
            {name: float(shares[row, place]) for place, name in enumerate(model.slots) if counts[place]}
            for row, counts in enumerate(embedding.present.numpy() & (question.weights > 0))
        ]
    return _score_drops(model, evidence, question, clips, embedding)


def _score_drops(
    model: RetrievalModel, evidence: Evidence, question: Question, clips: Sequence[Clip], embedding: Embedding
) -> list[dict[str, float]]:
    """What the score of each clip loses without each of its experts; all of it without its only one."""
    if not clips:
        return []
    scores = question.scores(model, embedding)
    try:
        variants = evidence.variants(model, clips)
    except ModelError:  # a system that refuses to do without
        return [{"+".join(evidence.reader.dims): float(score)} for score in scores]
    drops: list[dict[str, float]] = [{} for _ in clips]
    for place, name in enumerate(evidence.reader.dims):
        rest = Embedding.concat([variant.embedding[place : place + 1] for variant in variants])
        rest_scores = np.where(rest.present.any(1).numpy(), question.scores(model, rest), 0.0)
        for row, variant in enumerate(variants):
            if variant.present[place]:
                drops[row][name] = float(scores[row] - rest_scores[row])
    return drops


def reasons(
    evidence: Evidence, question: Question, clip: Clip, gave: Mapping[str, float], lines: Sequence[Line]
) -> tuple[Why, ...]:
    """What each modality gave, the most first; lines that hold words of the query come as reasons of their own.

    Args:
        gave: see `contributions`.
    """
    words = question.query.words
    all_reasons = [Why(name, round(share, 4), evidence.match(clip, name, words)) for name, share in gave.items()]
    for line in lines:
        all_reasons.append(Why(SOURCES.get(line.kind, line.kind), round(LITERAL * line.coverage, 4), line.text))
    return tuple(sorted(all_reasons, key=lambda why: -why.gave))
