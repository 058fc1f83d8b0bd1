"""Perceiver IO (Jaegle et al., ICLR 2022): a small array of latents reads the tokens of all modalities.

What the latents hold is mixed among themselves, at a cost that does not depend on the number of tokens, and a query
reads the answer off them. The retrieval side (text, loss) is ours.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import Mask
from reelseek.library.tokens import Steps, with_any
from reelseek.models.blocks.arrange import concat_groups, everything
from reelseek.models.blocks.mix import Attention, FeedForward, Transformer
from reelseek.models.blocks.project import key, per_expert
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig
from reelseek.models.settings import STRICT

__all__ = ["PerceiverIO", "PerceiverIOConfig"]

_LONGEST_SECONDS = 3600.0  # period of the slowest position code


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PerceiverIOConfig(SystemConfig):
    """Args:
    width, latents: of the latent array.
    depth, heads, inner, dropout: of the transformer over latents.
    bands: frequencies by which a step tells its time; 0 tells none.
    embedding: width of the space.
    """

    width: int = Field(default=256, ge=1)
    latents: int = Field(default=32, ge=1)
    depth: int = Field(default=6, ge=0)
    heads: int = 8
    inner: int = 512
    dropout: float = Field(default=0.0, ge=0, lt=1)
    bands: int = Field(default=8, ge=0)
    embedding: int = 256
    missing: Literal["mask", "refuse"] = "mask"
    loss: LossConfig = Field(default_factory=lambda: LossConfig("info_nce", {"temperature": 0.05}))


class CrossLayer(nn.Module):
    """Queries read tokens: attention and a feed-forward net, normalised before each.

    Args:
        residual: add the queries to what they read; the decoder's are positions alone, and are not added.
    """

    def __init__(self, width: int, heads: int, inner: int, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.norm_queries, self.norm_tokens, self.norm_feed = (nn.LayerNorm(width) for _ in range(3))
        self.attention, self.feed = Attention(width, heads), FeedForward(width, inner)

    def forward(
        self, queries: Float[Tensor, "video query dim"], tokens: Float[Tensor, "video token dim"], present: Mask
    ) -> Float[Tensor, "video query dim"]:
        read = self.attention.cross(self.norm_queries(queries), self.norm_tokens(tokens), present)
        rows = queries + read if self.residual else read
        mixed: Tensor = rows + self.feed(self.norm_feed(rows))
        return mixed


class PerceiverIO(LearnedModel):
    """project (linear of values and time, + modality) -> latents read all -> mix (latents) -> a query reads -> head."""

    system = "perceiver_io"
    config: PerceiverIOConfig

    def __init__(self, config: PerceiverIOConfig) -> None:
        super().__init__(config)
        self.slots = ("latents",)
        times = 2 * config.bands
        self.project = per_expert({name: nn.Linear(dim + times, config.width) for name, dim in config.experts.items()})
        self.modality = nn.Parameter(torch.randn(len(config.experts), config.width) * 0.02)
        self.latents = nn.Parameter(torch.randn(config.latents, config.width) * 0.02)
        self.query = nn.Parameter(torch.randn(1, config.width) * 0.02)
        self.encode_cross = CrossLayer(config.width, config.heads, config.inner, residual=True)
        self.mix = Transformer(
            config.depth, config.width, config.heads, config.inner, order="pre", dropout=config.dropout
        )
        self.decode_cross = CrossLayer(config.width, config.heads, config.inner, residual=False)
        self.head = nn.Linear(config.width, config.embedding)
        self.text_head = nn.Linear(self.text.width, config.embedding)

    def tokens(self, steps: Mapping[str, Steps]) -> tuple[Float[Tensor, "video token dim"], Mask]:
        """Steps of all modalities side by side, each with its time and its modality."""
        parts = []
        for name, modality in zip(steps, self.modality, strict=True):
            track = steps[name]
            values = torch.cat([track.clean, fourier_times(track.spans, self.config.bands)], 2)
            parts.append((self.project[key(name)](values) + modality, track.step_mask))
        sequence = concat_groups(parts)
        return sequence.values, sequence.mask

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        any_present = with_any(steps.values())
        latents = self.encode_cross(self.latents.expand(len(any_present.host), -1, -1), *self.tokens(steps))
        all_present = Mask.on(latents.device, torch.ones(latents.shape[:2], dtype=torch.bool))
        mixed = self.mix(concat_groups([(latents, all_present)]), everything(1))
        read = self.decode_cross(self.query.expand(len(latents), -1, -1), mixed, all_present)
        return Embedding.even(functional.normalize(self.head(read), dim=-1), any_present.tensor[:, None])

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        return Embedding.even(functional.normalize(self.text_head(self.text.pooled(texts)), dim=-1)[:, None])


def fourier_times(spans: Float[Tensor, "video step 2"], bands: int) -> Float[Tensor, "video step code"]:
    """Sines and cosines of the middle of each step, with periods from 2 s to an hour at equal ratios.

    The released code has frequencies at equal distances, and the position itself beside them; its inputs have a fixed
    length, and videos have none.

    Args:
        spans: in seconds.
        bands: how many periods; 0 gives no column.
    """
    ratios = torch.linspace(0, 1, bands, device=spans.device)
    periods = 2 * (_LONGEST_SECONDS / 2) ** ratios
    angles = spans.mean(2, keepdim=True).float() * (2 * math.pi / periods)
    return torch.cat([angles.sin(), angles.cos()], 2)
