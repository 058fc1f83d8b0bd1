"""Multi-modal Transformer (Gabeur, Sun, Alahari, Schmid, ECCV 2020).

Features of every expert, with their times, form one sequence; each expert has an aggregate token whose output is the
video's embedding for that expert. Captions have one embedding an expert and weights that say which experts matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import Mask, upload
from reelseek.library.tokens import Steps, Tokens
from reelseek.models.blocks.arrange import Arranged, Thinning, everything, in_a_row, thin
from reelseek.models.blocks.heads import ExpertText, side_by_side
from reelseek.models.blocks.linear import LinearSlot
from reelseek.models.blocks.mix import Transformer
from reelseek.models.blocks.pool import masked_max, masked_mean
from reelseek.models.blocks.project import GatedUnit, key, per_expert
from reelseek.models.losses import LossConfig
from reelseek.models.model import STRICT, Embedding, LearnedModel, SystemConfig

__all__ = ["MMT", "MMTConfig"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MMTConfig(SystemConfig):
    """Sizes default to the paper's for MSR-VTT; the text side, its start and the treatment of absence are ours.

    Args:
        positions: seconds that a position embedding tells apart; later steps share the last.
        missing: `keep` scores absent experts too, as the released configurations do.
        longer: which steps of a long track are kept, see `thin`.
        aggregate: whether an aggregate token begins as the maximum of `all` steps or of those `kept`.
        linear: add a slot beside the experts': a ridge regression from mean features to the text encoder's space, in
            closed form, see `blocks.linear`. It is not in the paper; a few hundred clips suffice for it, a transformer
            needs thousands.
        text_start: `isometry` begins the text side as a rotation of the encoder's space, which holds what is known of
            captions that were never seen in training; `random` as the released code.
    """

    width: int = 512
    depth: int = 4
    heads: int = 4
    inner: int = 3072
    positions: int = Field(default=32, ge=2)
    most_steps: int = Field(default=30, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    missing: Literal["mask", "keep", "refuse"] = "mask"
    longer: Thinning = "even"
    aggregate: Literal["all", "kept"] = "all"
    text_start: Literal["isometry", "random"] = "isometry"
    linear: bool = False
    loss: LossConfig = Field(default_factory=lambda: LossConfig("max_margin", {"margin": 0.05}))


class MMT(LearnedModel):
    """project (linear, unit length) -> arrange ([CLS], aggregate and steps a expert) -> mix (full) -> heads."""

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
        for table in (self.position, self.expert):
            nn.init.normal_(table.weight, std=0.02)
        if config.text_start == "isometry":
            for unit in self.captions.heads.values():
                assert isinstance(unit, GatedUnit)
                nn.init.orthogonal_(unit.fc.weight)
                nn.init.zeros_(unit.fc.bias)
                nn.init.normal_(unit.gate.weight, std=0.02)

    # Video side

    def arrange(self, steps: Mapping[str, Steps]) -> tuple[Arranged, Tensor]:
        """[CLS], then for each expert its aggregate and its steps; with each token's position [video, token]."""
        first = next(iter(steps.values()))
        videos = len(first.present)
        zero = first.spans.new_zeros(videos, 1, dtype=torch.long)
        always = Mask.on(first.device, torch.ones(videos, 1, dtype=torch.bool))
        parts = [(first.values.new_zeros(videos, 1, self.config.width), always)]
        positions = [zero]
        for name, every in steps.items():
            kept = thin(every, self.config.most_steps, self.config.longer)
            pooled = every if self.config.aggregate == "all" else kept
            inputs = torch.cat([masked_max(pooled.values, pooled.present)[:, None], kept.clean], dim=1)
            mask = torch.cat([every.videos.host[:, None], kept.mask], 1)
            present = mask if every.videos.local else torch.cat([every.videos.tensor[:, None], kept.present], 1)
            parts.append((functional.normalize(self.project[key(name)](inputs), dim=-1), Mask(present, mask)))
            positions += [zero, self._positions(kept)]
        return in_a_row(parts), torch.cat(positions, 1)

    def _positions(self, steps: Steps) -> Tensor:
        """0 is [CLS] and aggregates, 1 an unknown time, 2 the first second (section 3.2, temporal embeddings)."""
        middle = steps.spans.mean(-1)
        known = steps.present & (middle >= 0)
        position = torch.where(known, middle + 2, middle.new_ones(()))
        return position.clamp(0, self.config.positions - 1).long()

    def mixed(self, row: Arranged, positions: Tensor, also: Tensor | None = None) -> Float[Tensor, "video token dim"]:
        """Outputs of every token that is present, and of those in `also`."""
        group = upload([row.group], row.values.device)[0]
        values = self.norm(row.values + self.position(positions) + self.expert(group))
        values = functional.dropout(values, self.config.dropout, self.training)
        return self.mix(replace(row, values=values), everything(len(self.names) + 1), also)

    def aggregates(self, row: Arranged) -> list[int]:
        """The column of each expert's aggregate token."""
        return torch.searchsorted(row.group, torch.arange(1, len(self.names) + 1)).tolist()

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        row, positions = self.arrange(steps)
        places = self.aggregates(row)
        present, also = torch.stack([each.videos.tensor for each in steps.values()], 1), None
        if self.config.missing == "keep":
            present, also = torch.ones_like(present), torch.zeros_like(row.mask.host)
            also[:, places] = True
        mixed = self.mixed(row, positions, also)
        values = functional.normalize(torch.stack([mixed[:, place] for place in places], 1), dim=-1)
        if self.config.linear:
            linear, there = self.linear(_means(steps))
            values = side_by_side([*values.unbind(1), linear])
            present = torch.cat([present, there[:, None]], 1)
        return Embedding.even(values, present)

    # What is fitted in closed form

    def fit_inputs(self, tokens: Tokens, texts: Sequence[Sequence[str]]) -> None:
        super().fit_inputs(tokens, texts)
        self.refit(tokens, texts)

    @torch.no_grad()
    def refit(self, tokens: Tokens, texts: Sequence[Sequence[str]]) -> None:
        if self.config.linear:
            features = self.text.pooled([text for some in texts for text in some]).clone()
            owner = torch.arange(len(texts)).repeat_interleave(torch.tensor([len(some) for some in texts]))
            self.linear.fit(_means(self.inputs(tokens)), features, owner.to(features.device))

    def choices(self) -> Mapping[str, Sequence[float]]:
        return {"linear.share": (0.0, 0.25, 0.5, 0.75, 1.0)} if self.config.linear else {}

    # Text side

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        return self.encode_pooled(self.text.pooled(texts))

    def encode_pooled(self, features: Float[Tensor, "text width"]) -> Embedding:
        """The text side after its encoder."""
        dropped = functional.dropout(features, self.config.dropout, self.training)
        values, weights = self.captions(dropped)
        if self.config.linear:
            values = side_by_side([*values.unbind(1), self.linear.encode_text(features)])
            # While training the transformer's slots learn alone: on the clips it was fitted to, a closed form is too
            # good to leave them anything.
            share = torch.zeros_like(self.linear.share) if self.training else self.linear.share
            weights = torch.cat([(1 - share) * weights, share.expand(len(weights), 1)], dim=1)
        return Embedding(values, torch.ones_like(weights, dtype=torch.bool), weights)


def _means(steps: Mapping[str, Steps]) -> dict[str, tuple[Tensor, Tensor]]:
    """For each expert the mean of its steps [video, dim], and where there is one [video]."""
    return {name: (masked_mean(each.values, each.present), each.videos.tensor) for name, each in steps.items()}
