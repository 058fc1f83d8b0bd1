"""A question: what is looked for as one model sees it, and which evidence counts.

Leaving a modality out means that videos are embedded without it. Where every slot is made of one expert alone, that is
leaving out slots; elsewhere it takes an index of its own, of clips that were embedded from the remaining experts.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from reelseek.errors import UsageError
from reelseek.experts import MODALITIES
from reelseek.models.embed import embed_texts, similarity_matrix
from reelseek.models.embedding import Embedding, similarity
from reelseek.models.model import RetrievalModel
from reelseek.search.fulltext import ABOUT, SOURCES
from reelseek.search.likeness import Likeness
from reelseek.search.query import Query

__all__ = ["Question", "Selection", "ask", "coarse_similarity", "select", "weigh"]


@dataclass(frozen=True)
class Selection:
    """Which evidence counts.

    Args:
        experts: clips are embedded from these alone; None is all that the library has.
        factors: what each slot counts [slot]; none for a pairwise system, which cannot weigh.
        line_factors: what lines of a kind count, where that is not 1: names, captions and machine-written ones any
            factor, what is said or written 0.
    """

    experts: tuple[str, ...] | None
    factors: npt.NDArray[np.float32]
    line_factors: Mapping[str, float] = field(default_factory=dict)

    @property
    def even(self) -> bool:
        """Whether all slots count as the model says."""
        return bool((self.factors == 1).all())


@dataclass(frozen=True)
class Question:
    """A query under one model.

    Args:
        query: as it was parsed.
        texts: the embeddings of its terms, and of examples behind them; their weights hold the factors of the
            selection.
        signs: what each term and example counts in the sum [term]; negative takes away.
        selection: which evidence counts.
        coarse: the coarse embeddings of examples, where the system is pairwise: texts have none of them then, and
            `signs` counts them behind the terms.
        examples: of what is looked for and what is not.
    """

    query: Query
    texts: Embedding
    signs: npt.NDArray[np.float32]
    selection: Selection
    coarse: Embedding | None = None
    examples: tuple[Likeness, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether the model's text side can read any of it, or it has examples."""
        return bool(self.examples) or bool((self.texts.weights * self.texts.present).any())

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """What each slot of the texts counts, the mean over what is looked for [slot]."""
        share = np.maximum(self.signs, 0) / self.signs[self.signs > 0].sum()
        weights: npt.NDArray[np.float32] = share @ (self.texts.weights * self.texts.present).float().numpy()
        return weights

    @property
    def mix(self) -> npt.NDArray[np.float32]:
        """What each term counts, of 1 for what is looked for [1, term]."""
        return (self.signs / self.signs[self.signs > 0].sum())[None]

    def scores(self, model: RetrievalModel, clips: Embedding) -> npt.NDArray[np.float64]:
        """The model's similarity to each clip, the sum over terms and examples."""
        if not len(clips):
            return np.zeros(0)
        similarity = similarity_matrix(model, self.texts, clips).numpy()
        if self.coarse is not None:
            similarity = np.concatenate([similarity, coarse_similarity(model, self.coarse, clips).numpy()])
        scores: npt.NDArray[np.float64] = (self.mix @ similarity.astype(np.float64))[0]
        return scores

    def contributions(self, model: RetrievalModel, clips: Embedding) -> npt.NDArray[np.float64]:
        """What each slot adds to the score [clip, slot], of a system that is not pairwise."""
        with torch.inference_mode():
            each_term = model.contributions(self.texts, clips).numpy().astype(np.float64)
        added: npt.NDArray[np.float64] = np.einsum("t,tcs->cs", self.mix[0], each_term)
        return added


def ask(
    model: RetrievalModel,
    query: Query,
    selection: Selection,
    examples: Sequence[Likeness] = (),
    unrelated: Embedding | None = None,
) -> Question:
    """Embed a query.

    Args:
        examples: of what is looked for and what is not.
        unrelated: texts whose slots' mean weights those of examples have.

    Raises:
        ModelError: the model makes NaN or infinity of it.
    """
    signs = np.array([*(term.weight for term in query.terms), *(e.weight for e in examples)], np.float32)
    if not examples or unrelated is None:
        return Question(
            query, weigh(embed_texts(model, [term.text for term in query.terms]), selection), signs, selection
        )
    likenesses = Embedding.concat([example.embedding for example in examples])
    if model.pairwise:
        texts = embed_texts(model, [term.text for term in query.terms] or ["nothing"])[: len(query.terms)]
        with torch.inference_mode():
            coarse = model.coarse_videos(likenesses)
        return Question(query, texts, signs, selection, coarse, tuple(examples))
    parts = [_as_texts(weigh(likenesses, selection), unrelated)]
    if query.terms:
        parts.insert(0, weigh(embed_texts(model, [term.text for term in query.terms]), selection))
    return Question(query, Embedding.concat(parts), signs, selection, None, tuple(examples))


def _as_texts(videos: Embedding, unrelated: Embedding) -> Embedding:
    """Clips to be compared with clips: slots weigh as they do for texts on average, all that one has together 1."""
    prior = (unrelated.weights * unrelated.present).float().mean(0)
    weights = videos.weights.float() * videos.present * prior
    return Embedding(videos.values, videos.present, weights / weights.sum(1, keepdim=True).clamp(min=1e-12))


def coarse_similarity(model: RetrievalModel, examples: Embedding, clips: Embedding) -> Float[Tensor, "example video"]:
    """How near clips are to examples of a pairwise system: the cosine of coarse embeddings, 0 without evidence."""
    with torch.inference_mode():
        return similarity(examples, model.coarse_videos(clips))


def weigh(texts: Embedding, selection: Selection) -> Embedding:
    """Texts whose slots count as a selection says."""
    if selection.even:
        return texts
    return Embedding(texts.values, texts.present, texts.weights * torch.from_numpy(selection.factors))


def select(
    model: RetrievalModel,
    modalities: Mapping[str, str],
    used: Sequence[str],
    without: Sequence[str],
    weights: Mapping[str, float],
) -> Selection:
    """What `without` and `weights` mean to a model.

    Args:
        modalities: of each expert of the library.
        used: those of the model's experts that the library has.
        without: modalities, experts or slots that shall not count, or `name`, `captions` or `machine-written`; words
            that were said go with speech, those on screen with ocr.
        weights: factors for them; 0 leaves one out.

    Raises:
        UsageError: an unknown modality, one both weighed and left out, a weight that the model cannot give, or nothing
            is left.
    """
    _check(model, modalities, without, weights)
    outside = {**dict(zip(ABOUT, ABOUT, strict=True)), "told": SOURCES["told"]}  # what no expert made: name by kind
    excluded = {*without, *(name for name, weight in weights.items() if weight == 0)}
    line_factors = {kind: weights.get(name, 1.0) * (name not in without) for kind, name in outside.items()}
    line_factors |= {kind: 0.0 for kind in ("said", "written") if _leaves_out(SOURCES[kind], excluded, modalities)}
    names = set(outside.values())
    weights = {name: weight for name, weight in weights.items() if name not in names}
    selection = _select(model, modalities, used, [name for name in without if name not in names], weights)
    return replace(selection, line_factors={kind: factor for kind, factor in line_factors.items() if factor != 1})


def _leaves_out(modality: str, excluded: Collection[str], modalities: Mapping[str, str]) -> bool:
    """Whether a modality is left out, by its name or by all experts that the library has of it."""
    experts = [name for name, of in modalities.items() if of == modality]
    return modality in excluded or (bool(experts) and all(name in excluded for name in experts))


def _select(
    model: RetrievalModel,
    modalities: Mapping[str, str],
    used: Sequence[str],
    without: Sequence[str],
    weights: Mapping[str, float],
) -> Selection:
    excluded = {*without, *(name for name, weight in weights.items() if weight == 0)}

    def names_of(expert: str) -> set[str]:
        return {expert, modalities.get(expert, expert)}

    slots = () if model.pairwise else model.slots
    factors = []
    for slot in slots:
        matching = [weights[name] for name in names_of(slot) if name in weights]
        factors.append(0.0 if names_of(slot) & excluded else float(np.prod(matching)))
    remaining = tuple(expert for expert in used if not names_of(expert) & excluded)
    for name, weight in weights.items():
        if weight in (0, 1):
            continue
        weighable = len(factors) > 1 and any(name in names_of(slot) for slot in slots)
        if not weighable:
            users = [expert for expert in used if name in names_of(expert)]
            raise UsageError(_cannot_weigh(model, name, weight) if users else _has_none_of(model, name))
    if not remaining or (factors and not any(factors)):
        raise UsageError(f"nothing is left to search by: {model.system} has {', '.join(used)}")
    if model.slots_apart:
        return Selection(None, np.array(factors, np.float32))
    # What was left out with its expert has no evidence in such an index, so that its slots need no factor of 0.
    weighed = [factor if factor or slot in excluded - set(used) - set(modalities.values()) else 1.0
               for slot, factor in zip(slots, factors, strict=True)]  # fmt: skip
    return Selection(None if len(remaining) == len(used) else remaining, np.array(weighed, np.float32))


def _check(
    model: RetrievalModel, modalities: Mapping[str, str], without: Sequence[str], weights: Mapping[str, float]
) -> None:
    names = {
        *ABOUT,
        *SOURCES.values(),
        *MODALITIES,
        *modalities,
        *model.experts,
        *(() if model.pairwise else model.slots),
    }
    for name in (*without, *weights):
        if name not in names:
            raise UsageError(f"unknown modality or expert {name!r}; there are {', '.join(sorted(names))}")
    for name, weight in weights.items():
        if name in without:
            raise UsageError(f"{name!r} is both left out and weighed; choose one")
        if not (np.isfinite(weight) and weight >= 0):
            raise UsageError(f"the weight of {name!r} is {weight}; wanted a number of at least 0")


def _cannot_weigh(model: RetrievalModel, name: str, weight: float) -> str:
    return (
        f"{model.system} fuses its modalities into one embedding, and cannot weigh {name} by {weight:g}; "
        "leave it out with a weight of 0, or keep it with 1"
    )


def _has_none_of(model: RetrievalModel, name: str) -> str:
    return f"{model.system} looks at nothing of {name!r} here, so that its weight changes nothing; leave it away"
