"""VAST (Chen et al., NeurIPS 2023): sight, sound and subtitles are fused into one vector, by a layer for each subset.

Each stream has a vector of its own; those that a clip has are concatenated and mapped into the space of captions by the
linear layer of exactly that subset. Training compares captions with the clips of a batch by every subset of streams,
each over the clips that have all of it; a subset that fewer than two of them have adds no term. The released code has
five such groups: sight, sound, both, sight with subtitles, and all three.
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

from reelseek.errors import ModelError
from reelseek.library.tokens import Steps, with_any
from reelseek.models.batch import Batch, Rows, all_rows
from reelseek.models.blocks.arrange import concat_groups, everything
from reelseek.models.blocks.mix import Transformer
from reelseek.models.blocks.pool import masked_mean
from reelseek.models.blocks.project import key, per_expert
from reelseek.models.embedding import Embedding
from reelseek.models.learned import SOUND_EXPERTS, LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig
from reelseek.models.settings import STRICT

__all__ = ["VAST", "VASTConfig"]

_SUBTITLES = ("speech", "ocr")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class VASTConfig(SystemConfig):
    """Args:
    sound, subtitles: the experts of these streams; None takes those of the experts' names `audio` and `audio_net`, and
        `speech` and `ocr`. All others are sight.
    width, depth, heads, inner, dropout: of the transformer of each stream.
    embedding: width of the space.
    loss: a `temperature` in its settings is where the learned one begins.
    """

    sound: tuple[str, ...] | None = None
    subtitles: tuple[str, ...] | None = None
    width: int = Field(default=256, ge=1)
    depth: int = Field(default=6, ge=0)
    heads: int = 8
    inner: int = 512
    dropout: float = Field(default=0.0, ge=0, lt=1)
    embedding: int = 256
    missing: Literal["mask", "refuse"] = "mask"
    loss: LossConfig = Field(default_factory=lambda: LossConfig("info_nce", {"temperature": 0.07}))

    @property
    def streams(self) -> dict[str, tuple[str, ...]]:
        """The experts of each stream that has any."""
        sound = tuple(name for name in SOUND_EXPERTS if name in self.experts) if self.sound is None else self.sound
        words = tuple(name for name in _SUBTITLES if name in self.experts) if self.subtitles is None else self.subtitles
        sight = tuple(name for name in self.experts if name not in (*sound, *words))
        streams = {"sight": sight, "sound": sound, "subtitles": words}
        return {name: experts for name, experts in streams.items() if experts}


class VAST(LearnedModel):
    """project (linear, + expert) -> mix (own stream) -> mean -> concatenate a subset -> its linear layer -> cosine.

    Without matching and captioning, whose text decoder the paper trains on the same tokens.
    """

    system = "vast"
    config: VASTConfig

    def __init__(self, config: VASTConfig) -> None:
        super().__init__(config)
        named = [name for experts in config.streams.values() for name in experts]
        if sorted(named) != sorted(config.experts):
            experts = ", ".join(config.experts)
            raise ModelError(f"the streams name {', '.join(named)}; the experts are {experts}: name each once")
        self.slots = ("fused",)
        names = list(config.streams)
        self.subsets = [s for size in range(1, len(names) + 1) for s in combinations(names, size)]
        self.project = per_expert({name: nn.Linear(dim, config.width) for name, dim in config.experts.items()})
        self.kind = nn.ParameterDict({key(name): torch.randn(config.width) * 0.02 for name in config.experts})
        self.mix = nn.ModuleDict(
            {
                name: Transformer(
                    config.depth, config.width, config.heads, config.inner, order="pre", dropout=config.dropout
                )
                for name in names
            }
        )
        self.norm = nn.ModuleDict({name: nn.LayerNorm(config.width) for name in names})
        self.fuse = nn.ModuleDict(
            {"+".join(s): nn.Linear(len(s) * config.width, config.embedding) for s in self.subsets}
        )
        self.text_head = nn.Linear(self.text.width, config.embedding)
        self.score_loss = config.loss.build_learned()

    def streams(self, steps: Mapping[str, Steps]) -> dict[str, Rows]:
        """A vector of each stream, and which videos have it."""
        streams = {}
        for stream, experts in self.config.streams.items():
            parts = [(self.project[key(n)](steps[n].clean) + self.kind[key(n)], steps[n].step_mask) for n in experts]
            sequence = concat_groups(parts)
            mixed = self.norm[stream](self.mix[stream](sequence, everything(len(parts))))
            streams[stream] = (masked_mean(mixed, sequence.present), with_any(steps[n] for n in experts))
        return streams

    def fused(self, steps: Mapping[str, Steps]) -> dict[str, Rows]:
        """The unit vector of every subset of streams, and which videos have all of it."""
        streams = self.streams(steps)
        fused = {}
        for subset in self.subsets:
            values = torch.cat([streams[name][0] for name in subset], 1)
            mask = streams[subset[0]][1]
            for name in subset[1:]:
                mask = mask & streams[name][1]
            fused["+".join(subset)] = (functional.normalize(self.fuse["+".join(subset)](values), dim=-1), mask)
        return fused

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        """Each video by the largest subset that it has: subsets come in order of size."""
        fused = self.fused(steps)
        values = torch.zeros_like(next(iter(fused.values()))[0])
        for rows, mask in fused.values():
            values = torch.where(mask.tensor[:, None], rows, values)
        return Embedding.even(values[:, None], with_any(steps.values()).tensor[:, None])

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        return Embedding.even(functional.normalize(self.text_head(self.text.pooled(texts)), dim=-1)[:, None])

    def parts(self, batch: Batch) -> dict[str, Rows]:
        return {"text": all_rows(self.encode_texts(batch.texts).values[:, 0]), **self.fused(self.inputs(batch.tokens))}

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Text with every subset, over the clips that have all of it; their mean."""
        text = parts["text"][0]
        losses: dict[str, Tensor] = {}
        for name, (values, mask) in parts.items():
            if name != "text" and mask.count > 1:
                scores = text.index_select(0, mask.rows) @ values.index_select(0, mask.rows).T
                losses[f"text|{name}"] = self.score_loss(scores, negatives=batch.negatives_among(mask.rows))
        return {name: loss / len(losses) for name, loss in losses.items()}
