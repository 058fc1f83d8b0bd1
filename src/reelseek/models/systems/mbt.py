"""Multimodal Bottleneck Transformer (Nagrani et al., NeurIPS 2021): modalities exchange through a few tokens alone.

The first layers mix each modality by itself; in the others each reads itself and a few bottleneck tokens, whose copies
are averaged after every layer. The published system classifies; its text side and retrieval loss are ours.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import zero_absent
from reelseek.library.tokens import Steps
from reelseek.models.blocks.arrange import TokenSequence, everything, subsample
from reelseek.models.blocks.mix import Layer, Plan, apply_layers, plan_attention
from reelseek.models.blocks.pool import masked_mean
from reelseek.models.blocks.project import key, per_expert
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig
from reelseek.models.settings import STRICT

__all__ = ["MBT", "MBTConfig"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MBTConfig(SystemConfig):
    """Section 4: ViT-B, fusion from layer 8, four bottlenecks.

    Args:
        bottlenecks: 0 keeps modalities apart up to the pooling; they can also be switched off after training.
        missing: the published system needs every modality (`refuse`); `mask` averages the copies of those present.
    """

    width: int = Field(default=768, ge=1)
    depth: int = Field(default=12, ge=1)
    heads: int = 12
    inner: int = 3072
    fusion_layer: int = Field(default=8, ge=0)
    bottlenecks: int = Field(default=4, ge=0)
    most_steps: int = Field(default=64, ge=1)
    embedding: int = 768
    dropout: float = Field(default=0.0, ge=0, lt=1)
    missing: Literal["mask", "refuse"] = "mask"
    loss: LossConfig = Field(default_factory=lambda: LossConfig("info_nce", {"temperature": 0.05}))


class MBT(LearnedModel):
    """project (linear, positions) -> mix (own modality and bottleneck copies, tied) -> pool (mean) -> one space."""

    system = "mbt"
    config: MBTConfig

    def __init__(self, config: MBTConfig) -> None:
        super().__init__(config)
        self.slots = ("fused",)
        names = list(config.experts)
        self.project = per_expert({name: nn.Linear(config.experts[name], config.width) for name in names})
        self.place = nn.ParameterDict(
            {key(name): nn.Parameter(torch.randn(config.most_steps, config.width) * 0.02) for name in names}
        )
        self.bottleneck = nn.Parameter(torch.randn(config.bottlenecks, config.width) * 0.02)
        self.mix = nn.ModuleList(
            per_expert(
                {
                    name: Layer(config.width, config.heads, config.inner, order="pre", dropout=config.dropout)
                    for name in names
                }
            )
            for _ in range(config.depth)
        )
        self.norm = per_expert({name: nn.LayerNorm(config.width) for name in names})
        self.head = nn.Linear(config.width, config.embedding)
        self.text_head = nn.Linear(self.text.width, config.embedding)

    def encode_tokens(self, steps: Mapping[str, Steps]) -> dict[str, Float[Tensor, "video step dim"]]:
        """Every modality's tokens after all layers; zeros where a video lacks the modality."""
        config = self.config
        plans = {fuse: {n: self._plan(s, fuse=fuse) for n, s in steps.items()} for fuse in (False, True)}
        values = {n: self.project[key(n)](s.clean) + self.place[key(n)][: s.values.shape[1]] for n, s in steps.items()}
        present = {name: tracks.videos.tensor for name, tracks in steps.items()}
        shared = self.bottleneck.expand(len(next(iter(present.values()))), -1, -1)
        for index, layers in enumerate(self.mix):
            assert isinstance(layers, nn.ModuleDict)
            fuse = index >= config.fusion_layer and config.bottlenecks > 0
            copies = []
            for name, tracks in steps.items():
                plan = plans[fuse][name]
                sequence = torch.cat([values[name], shared], 1) if fuse else values[name]
                out = apply_layers([layers[key(name)]], sequence, plan)
                values[name] = out[:, : tracks.values.shape[1]]
                copies.append(out[:, tracks.values.shape[1] :])
            if fuse:
                shared = self._tie(copies, list(present.values()))
        return values

    def _plan(self, steps: Steps, *, fuse: bool) -> Plan:
        """A modality reads itself and its copies of the bottlenecks; one plan serves all layers."""
        cells = self.config.bottlenecks if fuse else 0
        host = torch.cat([steps.mask, steps.videos.host[:, None].expand(-1, cells)], 1)
        present = torch.cat([steps.present, steps.videos.tensor[:, None].expand(-1, cells)], 1)
        group = torch.zeros(host.shape[1], dtype=torch.long)
        return plan_attention(
            TokenSequence(steps.values.new_zeros(*host.shape, 0), present, group, host=host), everything(1)
        )

    @staticmethod
    def _tie(copies: Sequence[Tensor], present: Sequence[Tensor]) -> Tensor:
        """Average the copies of the bottlenecks over the modalities that a video has (equation 9)."""
        weights = torch.stack(list(present)).to(copies[0].dtype)[..., None, None]
        return (torch.stack(list(copies)) * weights).sum(0) / weights.sum(0).clamp(min=1)

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        steps = {name: subsample(tracks, self.config.most_steps) for name, tracks in steps.items()}
        mixed = self.encode_tokens(steps)
        total, count = torch.zeros(()), torch.zeros(())
        for name, tracks in steps.items():
            present = tracks.present.any(1, keepdim=True)
            pooled = masked_mean(self.norm[key(name)](mixed[name]), tracks.present)
            total, count = total + zero_absent(present, pooled), count + present
        values = functional.normalize(self.head(total / count.clamp(min=1)), dim=-1)
        return Embedding.even(values[:, None], count > 0)

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        values = functional.normalize(self.text_head(self.text.pooled(texts)), dim=-1)[:, None]
        return Embedding.even(values)
