"""Zorro (Recasens et al. 2023): modality streams stay apart, fusion tokens attend to all of them.

One transformer over a sequence of streams; a stream attends to itself alone, the fusion tokens to everything. So each
modality's output is exactly what it would be without the others, and one model serves any subset.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import Mask
from reelseek.library.tokens import Steps, with_any
from reelseek.models.batch import Batch, Rows, all_rows
from reelseek.models.blocks.arrange import concat_groups, reads
from reelseek.models.blocks.mix import Transformer
from reelseek.models.blocks.pool import QueryPool
from reelseek.models.blocks.project import key, per_expert
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig
from reelseek.models.settings import STRICT

__all__ = ["Zorro", "ZorroConfig"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ZorroConfig(SystemConfig):
    """Args:
    fusion_tokens: number of tokens that attend to all streams.
    between: weight of the terms between streams (fusion with each modality, and modalities with each other), beside
        those of text with each stream.
    """

    width: int = Field(default=512, ge=1)
    depth: int = Field(default=6, ge=1)
    heads: int = 8
    inner: int = 2048
    fusion_tokens: int = Field(default=16, ge=1)
    embedding: int = 512
    dropout: float = Field(default=0.0, ge=0, lt=1)
    between: float = Field(default=1.0, ge=0)
    missing: Literal["mask", "refuse"] = "mask"
    loss: LossConfig = Field(default_factory=lambda: LossConfig("info_nce", {"temperature": 0.08}))


class Zorro(LearnedModel):
    """project (linear) -> arrange (fusion tokens) -> mix (own; fusion reads all) -> pool (query) -> one space."""

    system = "zorro"
    config: ZorroConfig

    def __init__(self, config: ZorroConfig) -> None:
        super().__init__(config)
        self.slots = ("fusion",)
        self.project = per_expert({name: nn.Linear(dim, config.width) for name, dim in config.experts.items()})
        self.fusion = nn.Parameter(torch.randn(config.fusion_tokens, config.width) * 0.02)
        self.mix = Transformer(
            config.depth, config.width, config.heads, config.inner, order="pre", gated=True, dropout=config.dropout
        )
        streams = (*config.experts, "fusion")
        self.norm = nn.LayerNorm(config.width)
        self.pool = per_expert({name: QueryPool(config.width, config.heads) for name in streams})
        self.heads = per_expert({name: nn.Linear(config.width, config.embedding) for name in streams})
        self.text_head = nn.Linear(self.text.width, config.embedding)

    def streams(self, steps: Mapping[str, Steps]) -> dict[str, tuple[Float[Tensor, "video dim"], Tensor]]:
        """The unit embedding of each modality's stream and of the fusion stream, and which videos have it."""
        return {name: (values, mask.tensor) for name, (values, mask) in self._streams(steps).items()}

    def _streams(self, steps: Mapping[str, Steps]) -> dict[str, tuple[Float[Tensor, "video dim"], Mask]]:
        parts = [(self.project[key(name)](tracks.clean), tracks.step_mask) for name, tracks in steps.items()]
        any_present = with_any(steps.values())
        fusion = self.fusion.expand(len(any_present.host), -1, -1)
        parts.append((fusion, Mask.on(fusion.device, torch.ones(fusion.shape[:2], dtype=torch.bool))))
        mixed = self.norm(self.mix(concat_groups(parts), reads(len(parts), len(parts) - 1)))
        streams, start = {}, 0
        for name, (values, mask) in zip((*steps, "fusion"), parts, strict=True):
            pooled = self.pool[key(name)](mixed[:, start : start + values.shape[1]], mask)
            start += values.shape[1]
            streams[name] = (functional.normalize(self.heads[key(name)](pooled), dim=-1), mask.any(1) & any_present)
        return streams

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        values, present = self.streams(steps)["fusion"]
        return Embedding.even(values[:, None], present[:, None])

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        values = functional.normalize(self.text_head(self.text.pooled(texts)), dim=-1)[:, None]
        return Embedding.even(values)

    def parts(self, batch: Batch) -> dict[str, Rows]:
        text = self.encode_texts(batch.texts)
        return {"text": all_rows(text.values[:, 0]), **self._streams(self.inputs(batch.tokens))}

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Contrast of text with every stream, and of streams with each other, where both are present."""
        losses: dict[str, Tensor] = {}
        for one, two in combinations(parts, 2):
            (x, x_mask), (y, y_mask) = parts[one], parts[two]
            both = x_mask & y_mask
            weight = 1.0 if one == "text" else self.config.between
            if both.count > 1 and weight:
                scores = x.index_select(0, both.rows) @ y.index_select(0, both.rows).T
                losses[f"{one}|{two}"] = weight * self.score_loss(scores, negatives=batch.negatives_among(both.rows))
        return losses
