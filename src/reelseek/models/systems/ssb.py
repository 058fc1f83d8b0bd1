"""Support-set bottlenecks (Patrick et al., ICLR 2021): each caption must also be told from *other* videos.

A dual encoder whose contrastive loss is softened by a second one: a decoder has to reproduce a clip's caption from a
mean of other clips of the batch, weighted by how near they are to the caption. What clips share must then lie close
together. Only the dual encoder is used in search.

No code of the authors was found, and the paper's decoder is T5: sizes, the weight of captioning and the temperature
are ours.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import upload, zero_absent
from reelseek.library.tokens import Steps, with_any
from reelseek.models.batch import Batch, Rows, all_rows
from reelseek.models.blocks.arrange import concat_groups, everything
from reelseek.models.blocks.decode import SentenceDecoder
from reelseek.models.blocks.mix import Transformer
from reelseek.models.blocks.pool import masked_mean
from reelseek.models.blocks.project import key, per_expert
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig
from reelseek.models.settings import STRICT
from reelseek.models.text import refuse_features

__all__ = ["SSB", "SSBConfig", "support_set"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SSBConfig(SystemConfig):
    """Args:
    width, depth, heads, inner, dropout: of the transformer over the steps of all experts.
    embedding: width of the space.
    caption: weight of captioning from the support set.
    temperature: of the weights of the support set's clips.
    decoder: width of the text decoder's state.
    buckets, most_words: see SentenceDecoder.
    """

    width: int = Field(default=256, ge=1)
    depth: int = Field(default=2, ge=0)
    heads: int = 8
    inner: int = 512
    dropout: float = Field(default=0.0, ge=0, lt=1)
    embedding: int = 256
    caption: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=0.1, gt=0)
    decoder: int = Field(default=256, ge=1)
    buckets: int = Field(default=8192, ge=1)
    most_words: int = Field(default=20, ge=1)
    missing: Literal["mask", "refuse"] = "mask"
    loss: LossConfig = Field(default_factory=lambda: LossConfig("max_margin", {"margin": 0.2, "hardest": True}))


def support_set(
    texts: Float[Tensor, "text dim"],
    videos: Float[Tensor, "video dim"],
    others: Bool[Tensor, "text video"],
    *,
    temperature: float,
) -> Float[Tensor, "text dim"]:
    """For each text the mean of other videos, weighted by a softmax of their cosines with it; zeros without any.

    Args:
        others: the videos of each text's support set.

    Source: Patrick et al. 2021, cross-captioning.
    """
    logits = (texts @ videos.T / temperature).masked_fill(~others, torch.finfo(torch.float32).min)
    return zero_absent(others.any(1, keepdim=True), logits.softmax(1) @ videos)


class SSB(LearnedModel):
    """project (linear, + expert) -> mix (everything) -> mean -> one space; margin, and captions from other clips."""

    system = "ssb"
    config: SSBConfig

    def __init__(self, config: SSBConfig) -> None:
        super().__init__(config)
        self.slots = ("video",)
        self.project = per_expert({name: nn.Linear(dim, config.width) for name, dim in config.experts.items()})
        self.kind = nn.Parameter(torch.randn(len(config.experts), config.width) * 0.02)
        self.mix = Transformer(
            config.depth, config.width, config.heads, config.inner, order="pre", dropout=config.dropout
        )
        self.head = nn.Linear(config.width, config.embedding)
        self.text_head = nn.Linear(self.text.width, config.embedding)
        self.decoder = SentenceDecoder(
            config.embedding, config.decoder, buckets=config.buckets, most_words=config.most_words
        )

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        kinds = zip(steps, self.kind, strict=True)
        parts = [(self.project[key(name)](steps[name].clean) + kind, steps[name].step_mask) for name, kind in kinds]
        sequence = concat_groups(parts)
        pooled = masked_mean(self.mix(sequence, everything(len(parts))), sequence.present)
        values = functional.normalize(self.head(pooled), dim=-1)
        return Embedding.even(values[:, None], with_any(steps.values()).tensor[:, None])

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        return Embedding.even(functional.normalize(self.text_head(self.text.pooled(texts)), dim=-1)[:, None])

    def parts(self, batch: Batch) -> dict[str, Rows]:
        refuse_features(batch.texts)
        texts, videos = self.encode_texts(batch.texts).values[:, 0], self.encode_videos(batch.tokens).values[:, 0]
        # Numbers of words as float32, which holds them exactly: chunks and processes exchange rows of it.
        numbers = upload([self.decoder.numbers(batch.texts).float()], texts.device)[0]
        return {"text": all_rows(texts), "video": all_rows(videos), "words": all_rows(numbers)}

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The loss of the cosines, and how unlikely captions are to the decoder that sees their support sets."""
        texts, videos = parts["text"][0].float(), parts["video"][0].float()
        others = batch.negatives
        losses = {self.config.loss.name: self.score_loss(texts @ videos.T, negatives=others)}
        if self.config.caption:
            support = support_set(texts, videos, others, temperature=self.config.temperature)
            unlikely = self.decoder(support, parts["words"][0].detach().long())
            supported = others.any(1)
            mean = zero_absent(supported, unlikely).sum() / supported.sum().clamp(min=1)
            losses["caption"] = self.config.caption * mean
        return losses
