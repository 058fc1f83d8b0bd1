"""Any system beside what few clips teach in closed form (ours).

The system inside learns as it always does. Its slots are joined by one more, the `Anchor`: linear maps to frozen
caption features, in closed form and learnt on from there, less the clip's hubness. How much of the score each has is
chosen on validation clips after every epoch, and epoch 0 is the closed form: where learning adds nothing, nothing is
added.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional

from reelseek.errors import ModelError
from reelseek.library.mask import zero_absent
from reelseek.library.tokens import Tokens
from reelseek.models.batch import Batch, all_rows, compared_parts
from reelseek.models.blocks.anchor import Anchor
from reelseek.models.blocks.heads import stack_padded
from reelseek.models.blocks.project import Inputs
from reelseek.models.embed import embed_texts, similarity_matrix
from reelseek.models.embedding import Embedding, similarity
from reelseek.models.learned import LearnedModel
from reelseek.models.losses import soft_nce
from reelseek.models.model import RetrievalModel
from reelseek.models.settings import STRICT
from reelseek.models.text import TextEncoder

__all__ = ["Anchored", "AnchoredConfig", "AnchoredPairs", "create"]

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995, 1.0)
LEARNT = (0.0, 0.3, 0.5, 0.7, 1.0)
HUBNESS = (0.0, 0.5, 1.0, 1.5)


def _late_fusion() -> dict[str, Any]:
    return {"system": "late_fusion"}


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AnchoredConfig:
    """The system inside, and its anchor.

    Args:
        experts: width of each expert's features, in the order of the slots.
        inner: `system`, its name in the registry, and its settings.
        bank: how many training captions are kept to tell hubs by.
        temperature: of the mean over the bank.
        dropout: of the features from which the anchor's maps are learnt on.
    """

    experts: dict[str, int] = Field(min_length=1)
    inner: dict[str, Any] = Field(default_factory=_late_fusion)
    bank: int = Field(default=2048, ge=1)
    temperature: float = Field(default=0.1, gt=0)
    dropout: float = Field(default=0.3, ge=0, lt=1)


def create(config: AnchoredConfig) -> "Anchored":
    """Build the system inside, and around it the class that fits how it compares.

    Raises:
        ModelError: no such system, one without training, or one that is anchored already; or it would select factors
            of its experts, which an anchor does not ask it for.
    """
    from reelseek.models.systems import SYSTEMS

    settings = dict(config.inner)
    name = str(settings.pop("system", None))
    if name not in SYSTEMS or not SYSTEMS[name].trained or name == Anchored.system:
        names = ", ".join(key for key, system in SYSTEMS.items() if system.trained and key != Anchored.system)
        raise ModelError(f"inner.system is {name!r}; systems that can be anchored are: {names}")
    inner = SYSTEMS[name].build({**settings, "experts": config.experts})
    if getattr(inner.config, "expert_factors", False):
        raise ModelError(
            f"inner.expert_factors: the factors of {name} are not selected beside an anchor, and would stay at 1; "
            "leave expert_factors out, or the anchor"
        )
    return (AnchoredPairs if inner.pairwise else Anchored)(config, inner)


class Anchored(RetrievalModel):
    """inner system -> its slots; mean features -> ridge -> anchor slot; a share of each."""

    system = "anchored"
    config: AnchoredConfig

    def __init__(self, config: AnchoredConfig, inner: RetrievalModel) -> None:
        super().__init__()
        if not isinstance(inner, LearnedModel):
            raise ModelError(f"{inner.system} has no text encoder whose features could be its anchors")
        self.config, self.inner = config, inner
        self.slots = (*inner.slots, "anchor")
        self.renormalise, self.candidates, self.joins_clips = inner.renormalise, inner.candidates, inner.joins_clips
        self.text_side = ("anchor.text_map", *(f"inner.{name}" for name in inner.text_side))
        self.unused = tuple(f"inner.{name}" for name in inner.unused)
        self.text = TextEncoder(replace(inner.config.text, trained=False))
        self.inputs = Inputs(config.experts)
        self.anchor = Anchor(
            config.experts, self.text.width, bank=config.bank, temperature=config.temperature, dropout=config.dropout
        )

    @property
    def experts(self) -> Mapping[str, int]:
        return self.config.experts

    @property
    def step_by_step(self) -> Mapping[str, int]:
        return self.inner.step_by_step

    @property
    def shifts(self) -> Mapping[str, float]:
        return self.inner.shifts

    @property
    def share(self) -> Tensor:
        """How much of the score is the anchor's, 0 to 1."""
        return self.anchor.linear.share

    # Fitting and learning

    def fit_inputs(self, tokens: Tokens, texts: Sequence[Sequence[str]]) -> None:
        self.inner.fit_inputs(tokens, texts)
        self._fit_anchor(tokens, texts)

    def refit(self, tokens: Tokens, texts: Sequence[Sequence[str]]) -> None:
        """Fit the closed form to all clips; what was learnt on from it stays, with the inputs that it was learnt on."""
        self.inner.refit(tokens, texts)
        self._fit_anchor(tokens, texts, again=True)

    @torch.no_grad()
    def _fit_anchor(self, tokens: Tokens, texts: Sequence[Sequence[str]], *, again: bool = False) -> None:
        fit = self.anchor.refit if again else self.anchor.fit
        features = self.text.pooled([text for captions in texts for text in captions]).clone()
        owner = torch.arange(len(texts)).repeat_interleave(torch.tensor([len(captions) for captions in texts]))
        fit(self.inputs.filled(tokens), features, owner.to(features.device))

    def loss(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The inner system's, which learns alone, and the anchor's."""
        losses = dict(self.inner.loss(batch))
        shared = self.inner.shares(batch)
        batch = batch.with_evidence(at_least=int(shared))
        if self.inner.any_evidence(batch) and len(batch):  # apart, others may have some where this process has none
            features = self.text.pooled(batch.texts)
            parts = {"features": all_rows(features), "text": all_rows(self.anchor.learnt_texts(features))}
            parts["video"] = all_rows(self.anchor.learnt_videos_of(self.inputs.filled(batch.tokens)))
            parts, batch = compared_parts(parts, batch, shared=shared)
            rows = {name: values for name, (values, _) in parts.items()}
            captions = functional.normalize(rows["features"], dim=-1)
            loss = soft_nce(rows["text"] @ rows["video"].T, captions, temperature=0.1, negatives=batch.negatives)
            losses["anchor"] = loss / 2
        return losses

    @property
    def compares_only(self) -> bool:
        return self.inner.compares_only

    # Embeddings

    def encode_videos(self, tokens: Tokens) -> Embedding:
        self.check(tokens)
        return self._join(self.inner.encode_videos(tokens), *self.anchor(self.inputs.filled(tokens)), share=1.0)

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        inner, share = self.inner.encode_texts(texts), self.share
        if self.renormalise:
            total = (inner.weights * inner.present).sum(1, keepdim=True).clamp(min=1e-12)
            inner = Embedding(inner.values, inner.present, inner.weights / total)
        inner = Embedding(inner.values, inner.present, inner.weights * (1 - share))
        anchor = self.anchor.encode_text(self.text.pooled(texts))
        return self._join(inner, anchor, torch.ones_like(anchor[:, 0]) > 0, share=share)

    def _join(
        self,
        inner: Embedding,
        anchor: Float[Tensor, "item width"],
        present: Bool[Tensor, " item"],
        *,
        share: "Tensor | float",
    ) -> Embedding:
        """The inner slots and the anchor behind them, with its weight."""
        values = stack_padded([*inner.values.unbind(1), anchor])
        weights = torch.cat([inner.weights, torch.ones_like(inner.weights[:, :1]) * share], 1)
        return Embedding(values, torch.cat([inner.present, present[:, None]], 1), weights)

    # What is chosen on validation clips

    def choices(self) -> Mapping[str, Sequence[float]]:
        """The inner system's, which are taken after the shares."""
        return {f"inner.{name}": values for name, values in self.inner.choices().items()}

    @torch.no_grad()
    def calibrate(
        self, texts: Sequence[str], videos: Embedding, owner: Int[Tensor, " text"]
    ) -> Mapping[str, float | Tensor]:
        """The shares and the hubness under which the clips of captions rank best, by the mean logarithm of the rank."""
        self.share.fill_(0.5)
        self.anchor.learnt.fill_(0.5)
        self.anchor.hubness.fill_(1)
        pairs = self._pairs(embed_texts(self, texts), videos)

        def rank(trial: tuple[float, float, float]) -> tuple[float, float, float, float]:
            share, learnt, hubness = trial  # of equal trials the one with the least that is learnt
            return round(mean_log_rank(pairs.mixed(*trial), owner), 9), -share, learnt, hubness

        _, learnt, hubness = min(product([1.0], LEARNT, HUBNESS), key=rank)  # the anchor alone, then its share
        share, learnt, hubness = min(product(SHARES, [learnt], [0.0, hubness]), key=rank)
        return {"anchor.linear.share": share, "anchor.learnt": learnt, "anchor.hubness": hubness}

    def _pairs(self, texts: Embedding, videos: Embedding) -> "_Pairs":
        """What the similarity of captions and clips is mixed from; embedded at shares of one half."""
        inner_texts = Embedding(texts.values[:, :-1], texts.present[:, :-1], 2 * texts.weights[:, :-1])
        inner_videos = Embedding(*(part[:, :-1] for part in (videos.values, videos.present, videos.weights)))
        weights = (inner_texts.weights * inner_texts.present) @ (inner_videos.present * inner_videos.weights).T
        return _Pairs(
            similarity(inner_texts, inner_videos, renormalise=False),
            weights if self.renormalise else None,
            *self._anchor_pairs(texts.values[:, -1], videos.values[:, -1], videos.present[:, -1]),
        )

    def _anchor_pairs(
        self, texts: Float[Tensor, "text _"], videos: Float[Tensor, "video _"], present: Bool[Tensor, " video"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Cosines [text, video] and hubness [video] of the anchor's two maps; and which clips it has."""
        half = self.anchor.width // 2
        parts: list[Tensor] = []
        for begin in (0, half):
            place = slice(begin, begin + half - 1)
            parts += [2 * texts[:, place].float() @ videos[:, place].float().T, videos[:, begin + half - 1].float()]
        closed, hubs, learnt, learnt_hubs = parts
        return closed, hubs, learnt, learnt_hubs, present


@dataclasses.dataclass(frozen=True)
class _Pairs:
    """What `similarity` is mixed from.

    Attributes:
        inner: of the inner system, before it is divided by `weights`; None there divides by nothing.
        closed, learnt: cosines of the anchor's maps; hubs, learnt_hubs: how much of a hub each clip is to them.
        present: which clips the anchor has.
    """

    inner: Float[Tensor, "text video"]
    weights: Float[Tensor, "text video"] | None
    closed: Float[Tensor, "text video"]
    hubs: Float[Tensor, " video"]
    learnt: Float[Tensor, "text video"]
    learnt_hubs: Float[Tensor, " video"]
    present: Bool[Tensor, " video"]

    def mixed(self, share: float, learnt: float, hubness: float) -> Float[Tensor, "text video"]:
        """The similarity under these shares."""
        cosines = (1 - learnt) * self.closed + learnt * self.learnt
        hubs = (1 - learnt) * self.hubs + learnt * self.learnt_hubs
        anchor = zero_absent(self.present[None, :], cosines - hubness * hubs)
        mixed = (1 - share) * self.inner + share * anchor
        if self.weights is None:
            return mixed
        total = (1 - share) * self.weights + share * self.present.float()
        return zero_absent(total > 0, mixed / total.clamp(min=1e-12))


def mean_log_rank(scores: Float[Tensor, "text video"], owner: Int[Tensor, " text"]) -> float:
    """The mean logarithm of the rank of each text's video; equal scores take the mean of their ranks."""
    target = scores.gather(1, owner[:, None])
    ranks = 1 + (scores > target).sum(1) + ((scores == target).sum(1) - 1) / 2
    return float(ranks.double().log().mean())


class AnchoredPairs(Anchored):
    """Around a system with a similarity of its own: the anchor's vector is cut into slots of the inner width."""

    def _join(self, inner: Embedding, anchor: Tensor, present: Tensor, *, share: "Tensor | float") -> Embedding:
        width = inner.values.shape[2]
        count = math.ceil(anchor.shape[1] / width)
        pieces = functional.pad(anchor, (0, count * width - anchor.shape[1])).unflatten(1, (count, width))
        weights = torch.ones_like(pieces[..., 0]) * share
        return Embedding(
            torch.cat([inner.values, pieces.to(inner.values.dtype)], 1),
            torch.cat([inner.present, present[:, None].expand(-1, count)], 1),
            torch.cat([inner.weights, weights], 1),
        )

    def _split(self, embedding: Embedding) -> tuple[Embedding, Embedding]:
        """The inner system's embedding, and the anchor's in one slot."""
        count = math.ceil(self.anchor.width / embedding.values.shape[2])
        parts = (embedding.values, embedding.present, embedding.weights)
        values, present, weights = (part[:, -count:] for part in parts)
        anchor = values.flatten(1)[:, None, : self.anchor.width].float()
        return Embedding(*(part[:, :-count] for part in parts)), Embedding(anchor, present[:, :1], weights[:, :1])

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        """Inner weights stay as they are: what the inner similarity makes of them is its own."""
        anchor = self.anchor.encode_text(self.text.pooled(texts))
        return self._join(self.inner.encode_texts(texts), anchor, torch.ones_like(anchor[:, 0]) > 0, share=1.0)

    def similarity(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "text video"]:
        (inner_texts, anchor_texts), (inner_videos, anchor_videos) = self._split(texts), self._split(videos)
        anchor = similarity(anchor_texts, anchor_videos, renormalise=False)
        return (1 - self.share) * self.inner.similarity(inner_texts, inner_videos) + self.share * anchor

    def _pairs(self, texts: Embedding, videos: Embedding) -> _Pairs:
        (inner_texts, one), (inner_videos, two) = self._split(texts), self._split(videos)
        scores = similarity_matrix(self.inner, inner_texts, inner_videos).float()
        return _Pairs(scores, None, *self._anchor_pairs(one.values[:, 0], two.values[:, 0], two.present[:, 0]))

    def coarse_texts(self, texts: Embedding) -> Embedding:
        return self._coarse(self.inner.coarse_texts(self._split(texts)[0]), self._split(texts)[1], self.share)

    def coarse_videos(self, videos: Embedding) -> Embedding:
        return self._coarse(self.inner.coarse_videos(self._split(videos)[0]), self._split(videos)[1], 1.0)

    def _coarse(self, inner: Embedding, anchor: Embedding, share: "Tensor | float") -> Embedding:
        values = stack_padded([*inner.values.float().unbind(1), anchor.values[:, 0]])
        inner_share = 1 - share if isinstance(share, Tensor) else 1.0
        weights = torch.cat([inner.weights * inner_share, anchor.weights * share], 1)
        return Embedding(values, torch.cat([inner.present, anchor.present], 1), weights)
