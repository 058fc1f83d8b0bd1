"""Late fusion: one model per modality, each in its own space; the predictions of the present ones are averaged."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.tokens import Steps
from reelseek.models.batch import Batch, Rows, all_rows
from reelseek.models.blocks.arrange import concat_groups, own
from reelseek.models.blocks.mix import Transformer
from reelseek.models.blocks.pool import masked_mean
from reelseek.models.blocks.project import key, per_expert
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig
from reelseek.models.settings import STRICT

__all__ = ["LateFusion", "LateFusionConfig"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class LateFusionConfig(SystemConfig):
    """Sizes are those of UMI's experiments for every system: six layers of eight heads, 256 wide."""

    width: int = Field(default=256, ge=1)
    depth: int = Field(default=6, ge=0)
    heads: int = 8
    inner: int = 512
    dropout: float = Field(default=0.0, ge=0, lt=1)
    embedding: int = 256
    missing: Literal["mask", "refuse"] = "mask"
    loss: LossConfig = Field(default_factory=lambda: LossConfig("info_nce", {"temperature": 0.05}))


class LateFusion(LearnedModel):
    """project (linear) -> mix (own modality, own weights) -> pool (mean) -> heads (one space each) -> mean cosine."""

    system = "late_fusion"
    config: LateFusionConfig

    def __init__(self, config: LateFusionConfig) -> None:
        super().__init__(config)
        self.slots_apart = config.missing == "mask"
        self.project = per_expert({name: nn.Linear(dim, config.width) for name, dim in config.experts.items()})
        self.mix = per_expert({name: self._transformer(config) for name in config.experts})
        self.heads = per_expert({name: nn.Linear(config.width, config.embedding) for name in config.experts})
        self.text_heads = per_expert({name: nn.Linear(self.text.width, config.embedding) for name in config.experts})

    @staticmethod
    def _transformer(config: LateFusionConfig) -> Transformer:
        return Transformer(config.depth, config.width, config.heads, config.inner, order="pre", dropout=config.dropout)

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        rows = []
        for name, tracks in steps.items():
            sequence = concat_groups([(self.project[key(name)](tracks.clean), tracks.step_mask)])
            pooled = masked_mean(self.mix[key(name)](sequence, own(1)), tracks.present)
            rows.append(functional.normalize(self.heads[key(name)](pooled), dim=-1))
        values = torch.stack(rows, 1)
        present = torch.stack([tracks.present.any(1) for tracks in steps.values()], 1)
        return Embedding.even(values, present)

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        pooled = self.text.pooled(texts)
        values = functional.normalize(torch.stack([head(pooled) for head in self.text_heads.values()], 1), dim=-1)
        return Embedding.even(values)

    def parts(self, batch: Batch) -> dict[str, Rows]:
        texts, videos = self.encode_texts(batch.texts), self.encode_videos(batch.tokens)
        sides = {name: (videos.values[:, slot], batch.videos(name)) for slot, name in enumerate(self.slots)}
        return {"text": all_rows(texts.values), **{f"video {name}": rows for name, rows in sides.items()}}

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Each modality learns alone, from the clips that have it."""
        losses: dict[str, Tensor] = {}
        for slot, name in enumerate(self.slots):
            values, mask = parts[f"video {name}"]
            if mask.count > 1:
                rows = mask.rows
                text, video = (side.index_select(0, rows) for side in (parts["text"][0][:, slot], values))
                losses[name] = self.score_loss(text @ video.T, negatives=batch.negatives_among(rows))
        return losses
