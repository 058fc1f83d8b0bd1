"""X-Pool (Gorti et al., CVPR 2022): the text decides which frames of a video count.

A text attends to the frames of each video, so that a video has another vector for every text, and no index of vectors
orders videos by the score. Search finds candidates by the vectors that even attention gives, and scores those again.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import zero_absent
from reelseek.library.tokens import Steps, Tokens
from reelseek.models.blocks.arrange import exactly
from reelseek.models.blocks.pool import masked_mean
from reelseek.models.blocks.project import key, per_expert
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig
from reelseek.models.settings import STRICT

__all__ = ["TextConditionedPool", "XPool", "XPoolConfig"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class XPoolConfig(SystemConfig):
    """Sizes default to the paper's for CLIP ViT-B/32.

    Args:
        width: of the space of texts and frames. Features of this width are taken as they are, so that CLIP's stay in
            CLIP's space; others are standardised and projected into it.
        heads: of the attention.
        most_steps: steps of each expert, at equal distances; a video has so many slots for each expert.
        dropout: on the linear layer after the attention; .3 or .4 in the paper, depending on the data.
        candidates: clips that a search scores again; None takes as many as recall needs.
        loss: a `temperature` in its settings is where the learned one begins; CLIP's own, and so X-Pool's, is .01.
    """

    width: int = Field(default=512, ge=1)
    heads: int = Field(default=1, ge=1)
    most_steps: int = Field(default=12, ge=1)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    candidates: int | None = Field(default=None, ge=1)
    missing: Literal["mask", "refuse"] = "mask"
    loss: LossConfig = Field(default_factory=lambda: LossConfig("info_nce", {"temperature": 0.01}))


class TextConditionedPool(nn.Module):
    """`LN(x + dropout(FC(x)))` with `x = LN(attention(LN(text), LN(frames)))`.

    Every linear layer begins as the identity; one LayerNorm serves texts and frames, as released.

    Source: Gorti et al. 2022, section 4.2.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be divided among {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out, self.fc = (nn.Linear(width, width) for _ in range(5))
        self.norm_inputs, self.norm_read, self.norm_pooled = (nn.LayerNorm(width) for _ in range(3))
        for linear in (self.query, self.key, self.value, self.out, self.fc):
            nn.init.eye_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        texts: Float[Tensor, "text dim"],
        frames: Float[Tensor, "video frame dim"],
        present: Bool[Tensor, "video frame"],
    ) -> Float[Tensor, "text video dim"]:
        """Pool the frames of every video for every text. Of a video without frames it says nothing."""
        frames = self.norm_inputs(frames)
        queries = self.query(self.norm_inputs(texts)).unflatten(1, (self.heads, -1))
        keys, values = (linear(frames).unflatten(2, (self.heads, -1)) for linear in (self.key, self.value))
        logits = torch.einsum("thd,vfhd->tvhf", queries, keys) / math.sqrt(queries.shape[-1])
        logits = logits.masked_fill(~present[None, :, None], torch.finfo(logits.dtype).min)
        read = torch.einsum("tvhf,vfhd->tvhd", logits.softmax(-1).to(values.dtype), values)
        return self._pooled(read.flatten(2))

    def evenly(
        self, frames: Float[Tensor, "video frame dim"], present: Bool[Tensor, "video frame"]
    ) -> Float[Tensor, "video dim"]:
        """Pool as if every frame mattered to the text alike."""
        return self._pooled(masked_mean(self.value(self.norm_inputs(frames)), present))

    def _pooled(self, read: Float[Tensor, "*video dim"]) -> Float[Tensor, "*video dim"]:
        read = self.norm_read(self.out(read))
        return self.norm_pooled(read + functional.dropout(self.fc(read), self.dropout, self.training))


class XPool(LearnedModel):
    """project (identity where widths agree) -> frames of all experts side by side; a text pools them; cosine."""

    system = "xpool"
    config: XPoolConfig

    def __init__(self, config: XPoolConfig) -> None:
        super().__init__(config)
        self.slots = ("frames",)
        self.candidates = config.candidates
        self.project = per_expert({name: _projection(dim, config.width) for name, dim in config.experts.items()})
        self.project_text = _projection(self.text.width, config.width)
        self.pool = TextConditionedPool(config.width, config.heads, config.dropout)
        self.score_loss = config.loss.build_learned()

    def fit_inputs(self, tokens: Tokens, texts: Sequence[Sequence[str]]) -> None:
        width = self.config.width
        self.inputs.fit({name: steps for name, steps in tokens.items() if self.config.experts[name] != width})

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        """Frames as they stand in the common space: what a text makes of them is for `similarity`."""
        values, present = [], []
        for name, track in steps.items():
            frames = exactly(track, self.config.most_steps)
            values.append(zero_absent(frames.present[..., None], self.project[key(name)](frames.values)))
            present.append(frames.present)
        return Embedding.even(torch.cat(values, 1), torch.cat(present, 1))

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        return Embedding.even(self.project_text(self.text.pooled(texts))[:, None])

    def similarity(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "text video"]:
        """The cosine of each text and of each video as that text pools it; 0 where a video has no frame."""
        values = texts.values[:, 0].float()
        pooled = self.pool(values, videos.values.float(), videos.present).float()
        # Not by a matrix product, which autocast would round.
        cosines = (functional.normalize(values, dim=-1)[:, None] * functional.normalize(pooled, dim=-1)).sum(-1)
        return zero_absent(texts.present & videos.present.any(1), cosines)

    def coarse_texts(self, texts: Embedding) -> Embedding:
        return Embedding.even(functional.normalize(texts.values.float(), dim=-1), texts.present)

    def coarse_videos(self, videos: Embedding) -> Embedding:
        pooled = self.pool.evenly(videos.values.float(), videos.present).float()
        return Embedding.even(functional.normalize(pooled, dim=-1)[:, None], videos.present.any(1, keepdim=True))


def _projection(width: int, common: int) -> nn.Module:
    return nn.Identity() if width == common else nn.Linear(width, common)
