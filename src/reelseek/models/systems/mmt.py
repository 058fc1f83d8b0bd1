"""Multi-modal Transformer (Gabeur, Sun, Alahari, Schmid, ECCV 2020).

Features of every expert, with their times, form one sequence; each expert has an aggregate token whose output is the
video's embedding for that expert. Captions have one embedding per expert, and weights of the experts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import Mask, upload
from reelseek.library.tokens import Steps, Tokens
from reelseek.models.blocks.arrange import Subsampling, TokenSequence, concat_groups, everything, subsample
from reelseek.models.blocks.expert_factors import select_factors
from reelseek.models.blocks.heads import ExpertText, stack_padded
from reelseek.models.blocks.linear import LinearSlot
from reelseek.models.blocks.mix import Transformer
from reelseek.models.blocks.pool import masked_max, masked_mean
from reelseek.models.blocks.project import GatedUnit, key, per_expert
from reelseek.models.embed import embed_texts
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig
from reelseek.models.settings import STRICT

__all__ = ["MMT", "MMTConfig"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MMTConfig(SystemConfig):
    """Sizes default to the paper's for MSR-VTT; the text side, its start and the treatment of absence are ours.

    Args:
        positions: number of position embeddings, one per second; later steps share the last.
        missing: `keep` scores absent experts too, as the released configurations do.
        longer: which steps of a long track are kept, see `subsample`.
        aggregate: an aggregate token starts from the maximum over `all` steps, or over those `kept`.
        linear: add a slot beside the experts': a ridge regression from mean features to the text encoder's space, in
            closed form, see `blocks.linear`. It is not in the paper; a few hundred clips suffice for it, a transformer
            needs thousands.
        expert_factors: after every epoch select on validation clips how much each expert counts, see
            `blocks.expert_factors`. It is not in the paper; a mixture that learns from few clips cannot tell.
        text_start: `isometry` starts the text side as a rotation of the encoder's space, which also generalises to
            captions outside the training set; `random` as the released code.
    """

    width: int = Field(default=512, ge=1)
    depth: int = 4
    heads: int = 4
    inner: int = 3072
    positions: int = Field(default=32, ge=2)
    most_steps: int = Field(default=30, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    missing: Literal["mask", "keep", "refuse"] = "mask"
    longer: Subsampling = "even"
    aggregate: Literal["all", "kept"] = "all"
    text_start: Literal["isometry", "random"] = "isometry"
    linear: bool = False
    expert_factors: bool = False
    loss: LossConfig = Field(default_factory=lambda: LossConfig("max_margin", {"margin": 0.05}))


class MMT(LearnedModel):
    """project (linear, unit length) -> arrange ([CLS], aggregate and steps per expert) -> mix (full) -> heads."""

    system = "mmt"
    config: MMTConfig

    def __init__(self, config: MMTConfig) -> None:
        super().__init__(config)
        self.names = tuple(config.experts)
        self.slots = (*self.names, "linear") if config.linear else self.names
        self.project = per_expert({e: nn.Linear(dim, config.width) for e, dim in config.experts.items()})
        self.position = nn.Embedding(config.positions, config.width)
        self.expert = nn.Embedding(len(self.names) + 1, config.width)  # 0 is [CLS]
        self.norm = nn.LayerNorm(config.width, 1e-12)
        self.mix = Transformer(
            config.depth, config.width, config.heads, config.inner,
            order="post", norm=lambda width: nn.LayerNorm(width, 1e-12), dropout=config.dropout,
        )  # fmt: skip
        self.captions = ExpertText(self.text.width, dict.fromkeys(self.names, config.width))
        if config.linear:
            self.linear = LinearSlot(config.experts, self.text.width)
        if config.expert_factors:
            self.register_buffer("factors", torch.ones(len(self.names)))
            self.factors: Tensor
        for table in (self.position, self.expert):
            nn.init.normal_(table.weight, std=0.02)
        if config.text_start == "isometry":
            for unit in self.captions.heads.values():
                assert isinstance(unit, GatedUnit)
                nn.init.orthogonal_(unit.fc.weight)
                nn.init.zeros_(unit.fc.bias)
                nn.init.normal_(unit.gate.weight, std=0.02)

    # Video side

    def arrange(self, steps: Mapping[str, Steps]) -> tuple[TokenSequence, Tensor]:
        """[CLS], then for each expert its aggregate and its steps; with each token's position [video, token]."""
        first = next(iter(steps.values()))
        videos = len(first.present)
        zero = first.spans.new_zeros(videos, 1, dtype=torch.long)
        always = Mask.on(first.device, torch.ones(videos, 1, dtype=torch.bool))
        parts = [(first.values.new_zeros(videos, 1, self.config.width), always)]
        positions = [zero]
        for name, tracks in steps.items():
            selected = subsample(tracks, self.config.most_steps, self.config.longer)
            pooled = tracks if self.config.aggregate == "all" else selected
            inputs = torch.cat([masked_max(pooled.values, pooled.present)[:, None], selected.clean], dim=1)
            mask = torch.cat([tracks.videos.host[:, None], selected.mask], 1)
            present = mask if tracks.videos.local else torch.cat([tracks.videos.tensor[:, None], selected.present], 1)
            parts.append((functional.normalize(self.project[key(name)](inputs), dim=-1), Mask(present, mask)))
            positions += [zero, self._positions(selected)]
        return concat_groups(parts), torch.cat(positions, 1)

    def _positions(self, steps: Steps) -> Tensor:
        """Position indices: 0 is [CLS] and aggregates, 1 an unknown time, 2 the first second (section 3.2)."""
        middle = steps.spans.mean(-1)
        has_time = steps.present & (middle >= 0)
        position = torch.where(has_time, middle + 2, middle.new_ones(()))
        return position.clamp(0, self.config.positions - 1).long()

    def encode_tokens(
        self, sequence: TokenSequence, positions: Tensor, also_compute: Tensor | None = None
    ) -> Float[Tensor, "video token dim"]:
        """Outputs of every present token, and of those in `also_compute`."""
        group = upload([sequence.group], sequence.values.device)[0]
        values = self.norm(sequence.values + self.position(positions) + self.expert(group))
        values = functional.dropout(values, self.config.dropout, self.training)
        return self.mix(replace(sequence, values=values), everything(len(self.names) + 1), also_compute)

    def aggregates(self, sequence: TokenSequence) -> list[int]:
        """The column of each expert's aggregate token."""
        return torch.searchsorted(sequence.group, torch.arange(1, len(self.names) + 1)).tolist()

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        sequence, positions = self.arrange(steps)
        places = self.aggregates(sequence)
        present, also_compute = torch.stack([tracks.videos.tensor for tracks in steps.values()], 1), None
        if self.config.missing == "keep":
            present, also_compute = torch.ones_like(present), torch.zeros_like(sequence.mask.host)
            also_compute[:, places] = True
        mixed = self.encode_tokens(sequence, positions, also_compute)
        values = functional.normalize(torch.stack([mixed[:, place] for place in places], 1), dim=-1)
        if self.config.linear:
            linear, linear_present = self.linear(_means(steps))
            values = stack_padded([*values.unbind(1), linear])
            present = torch.cat([present, linear_present[:, None]], 1)
        return Embedding.even(values, present)

    # The slot in closed form

    def fit_inputs(self, tokens: Tokens, texts: Sequence[Sequence[str]]) -> None:
        super().fit_inputs(tokens, texts)
        self.refit(tokens, texts)

    @torch.no_grad()
    def refit(self, tokens: Tokens, texts: Sequence[Sequence[str]]) -> None:
        if self.config.linear:
            features = self.text.pooled([text for captions in texts for text in captions]).clone()
            owner = torch.arange(len(texts)).repeat_interleave(torch.tensor([len(captions) for captions in texts]))
            self.linear.fit(_means(self.inputs(tokens)), features, owner.to(features.device))

    def choices(self) -> Mapping[str, Sequence[float]]:
        return {"linear.share": (0.0, 0.25, 0.5, 0.75, 1.0)} if self.config.linear else {}

    def calibrate(
        self, texts: Sequence[str], videos: Embedding, owner: Int[Tensor, " text"]
    ) -> Mapping[str, float | Tensor]:
        if not self.config.expert_factors:
            return {}
        self.factors.fill_(1)
        if self.config.linear:
            self.linear.share.fill_(0)
        count = len(self.names)
        captions, clips = (
            Embedding(part.values[:, :count], part.present[:, :count], part.weights[:, :count])
            for part in (embed_texts(self, texts), videos)
        )
        return {"factors": select_factors(captions, clips, owner)}

    # Text side

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        return self.encode_pooled(self.text.pooled(texts))

    def encode_pooled(self, features: Float[Tensor, "text width"]) -> Embedding:
        """The text side after its encoder."""
        dropped = functional.dropout(features, self.config.dropout, self.training)
        values, weights = self.captions(dropped)
        if self.config.expert_factors and not self.training:  # while it learns, every expert does
            weights = weights * self.factors
            weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-12)
        if self.config.linear:
            values = stack_padded([*values.unbind(1), self.linear.encode_text(features)])
            # In training the transformer's slots learn alone: the closed form fits its own training clips so well
            # that little would be left to learn.
            share = torch.zeros_like(self.linear.share) if self.training else self.linear.share
            weights = torch.cat([(1 - share) * weights, share.expand(len(weights), 1)], dim=1)
        return Embedding(values, torch.ones_like(weights, dtype=torch.bool), weights)


def _means(steps: Mapping[str, Steps]) -> dict[str, tuple[Tensor, Tensor]]:
    """For each expert the mean of its steps [video, dim], and which videos have one [video]."""
    return {name: (masked_mean(tracks.values, tracks.present), tracks.videos.tensor) for name, tracks in steps.items()}
