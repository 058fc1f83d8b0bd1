"""TokenFusion (Wang et al., CVPR 2022): unimportant tokens of a stream are replaced by those of another stream.

Streams share attention and feed-forward weights; each has its own normalisations and scorer. A token whose score is
under a threshold takes the attention output of another stream's token at the same place.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import zero_absent
from reelseek.library.tokens import Steps
from reelseek.models.batch import Batch, Rows, all_rows, embedding_of, embedding_rows
from reelseek.models.blocks.arrange import TokenSequence, everything, pack_left
from reelseek.models.blocks.mix import Attention, FeedForward, Plan, apply_layers, plan_attention
from reelseek.models.blocks.project import key, per_expert
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig
from reelseek.models.settings import STRICT

__all__ = ["TokenFusion", "TokenFusionConfig", "partners"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class TokenFusionConfig(SystemConfig):
    """Args:
    tokens: number of tokens to which every stream is resampled, since tokens are exchanged place by place.
    threshold: a token whose score is lower is replaced (.02 as published).
    sparsity: weight of the mean of all scores in the loss (1e-4).
    missing: `refuse` as published; with `mask` no token comes from an absent stream.
    """

    width: int = Field(default=256, ge=1)
    depth: int = Field(default=6, ge=1)
    heads: int = 8
    inner: int = 512
    tokens: int = Field(default=16, ge=1)
    threshold: float = 0.02
    sparsity: float = Field(default=1e-4, ge=0)
    embedding: int = 256
    missing: Literal["mask", "refuse"] = "mask"
    loss: LossConfig = Field(default_factory=lambda: LossConfig("info_nce", {"temperature": 0.05}))


def partners(tokens: int, streams: int) -> list[list[int]]:
    """For each stream and place, the stream whose token may replace it: drawn once with seed 0.

    With two streams it is the other one; with more, a random one of the others (section 3.3).
    """
    rng = np.random.default_rng(0)
    rows = []
    for stream in range(streams):
        others = [other for other in range(streams) if other != stream] or [stream]
        rows.append([others[i] for i in rng.integers(len(others), size=tokens)])
    return rows


class _Scorer(nn.Sequential):
    """Token -> the probability that it is important."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.LayerNorm(width), nn.Linear(width, width // 4), nn.GELU(), nn.Linear(width // 4, 2))

    def forward(self, values: Tensor) -> Tensor:
        for part in self:
            values = part(values)
        return values.softmax(-1)[..., 0]


class _Block(nn.Module):
    def __init__(self, config: TokenFusionConfig) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.heads)
        self.feed = FeedForward(config.width, config.inner)
        self.norm1 = per_expert({name: nn.LayerNorm(config.width) for name in config.experts})
        self.norm2 = per_expert({name: nn.LayerNorm(config.width) for name in config.experts})
        self.score = per_expert({name: _Scorer(config.width) for name in config.experts})


class TokenFusion(LearnedModel):
    """project (linear) -> arrange (resample to k) -> mix (own stream, exchange) -> pool (mean) -> mean cosine."""

    system = "token_fusion"
    config: TokenFusionConfig

    def __init__(self, config: TokenFusionConfig) -> None:
        super().__init__(config)
        self.project = per_expert({name: nn.Linear(dim, config.width) for name, dim in config.experts.items()})
        self.place = nn.Parameter(torch.randn(config.tokens, config.width) * 0.02)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.register_buffer("partner", torch.tensor(partners(config.tokens, len(config.experts))), persistent=False)
        self.partner: Tensor
        self.norm = per_expert({name: nn.LayerNorm(config.width) for name in config.experts})
        self.heads = per_expert({name: nn.Linear(config.width, config.embedding) for name in config.experts})
        self.text_heads = per_expert({name: nn.Linear(self.text.width, config.embedding) for name in config.experts})

    def streams(
        self, steps: Mapping[str, Steps]
    ) -> tuple[Float[Tensor, "stream video token dim"], Tensor, Float[Tensor, " video"]]:
        """Tokens of every stream after all blocks, which streams a video has, and the sum over them of mean scores."""
        names = list(steps)
        present = torch.stack([tracks.videos.tensor for tracks in steps.values()])
        plans = [self._plan(tracks) for tracks in steps.values()]
        rows = [self.project[key(n)](resample(s, self.config.tokens)) + self.place for n, s in steps.items()]
        values = zero_absent(present[..., None, None], torch.stack(rows))
        total = values.new_zeros(values.shape[1])
        for block in self.blocks:
            assert isinstance(block, _Block)
            reads, scores = [], []
            for index, name in enumerate(names):
                plan, rows = plans[index], block.norm1[key(name)](values[index])
                score = block.score[key(name)](values[index])
                reads.append(apply_layers([block.attention], rows, plan) * score[..., None])
                scores.append(score)
            values = values + self._exchange(torch.stack(reads), torch.stack(scores), present)
            values = torch.stack(
                [row + block.feed(block.norm2[key(name)](row)) for name, row in zip(names, values, strict=True)]
            )
            inside = zero_absent(present[..., None], torch.stack(scores))
            total = total + inside.mean(2).sum(0)
        return values, present, total / len(self.blocks)

    def _plan(self, steps: Steps) -> Plan:
        """Every stream reads itself, in videos that have it; one plan serves all blocks."""
        host = steps.videos.host[:, None].expand(-1, self.config.tokens)
        present = steps.videos.tensor[:, None].expand_as(host)
        group = torch.zeros(self.config.tokens, dtype=torch.long)
        values = steps.values.new_zeros(*host.shape, 0)
        return plan_attention(TokenSequence(values, present, group, host=host), everything(1))

    def _exchange(self, reads: Tensor, scores: Tensor, present: Tensor) -> Tensor:
        """Each token's attention output, or its partner's where its score is low and the partner is present."""
        partner = self.partner[:, None].expand(-1, reads.shape[1], -1)
        other = reads.gather(0, partner[..., None].expand_as(reads))
        partner_present = present[..., None].expand_as(scores).gather(0, partner)
        return torch.where(((scores < self.config.threshold) & partner_present)[..., None], other, reads)

    def _embed(self, steps: Mapping[str, Steps]) -> tuple[Embedding, Tensor]:
        values, present, score = self.streams(steps)
        rows = [
            self.heads[key(name)](self.norm[key(name)](tokens).mean(1))
            for name, tokens in zip(steps, values, strict=True)
        ]
        unit = functional.normalize(torch.stack(rows, 1), dim=-1)
        return Embedding.even(unit, present.T), score

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        return self._embed(steps)[0]

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        pooled = self.text.pooled(texts)
        values = functional.normalize(torch.stack([head(pooled) for head in self.text_heads.values()], 1), dim=-1)
        return Embedding.even(values)

    def parts(self, batch: Batch) -> dict[str, Rows]:
        videos, importance = self._embed(self.inputs(batch.tokens))
        texts = self.encode_texts(batch.texts)
        return {**embedding_rows("text", texts), **embedding_rows("video", videos), "importance": all_rows(importance)}

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The loss of the scores, and the mean importance of a token, over blocks and present streams."""
        videos = embedding_of(parts, "video")
        scores = self.similarity(embedding_of(parts, "text"), videos)
        mean = parts["importance"][0].sum() / videos.present.sum().clamp(min=1)
        return {
            self.config.loss.name: self.score_loss(scores, negatives=batch.negatives),
            "sparsity": self.config.sparsity * mean,
        }


def resample(steps: Steps, tokens: int) -> Float[Tensor, "video token dim"]:
    """Resample each video's present steps to `tokens` by linear interpolation; zeros for a video without any."""
    values = pack_left(steps).clean
    last = (steps.present.sum(1) - 1).clamp(min=0)
    place = torch.linspace(0, 1, tokens, device=values.device)[None] * last[:, None]
    low = place.floor().long()
    high = torch.minimum(low + 1, last[:, None])
    share = (place - low)[..., None]

    def at(index: Tensor) -> Tensor:
        return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))

    return at(low) * (1 - share) + at(high) * share
