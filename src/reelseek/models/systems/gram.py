"""GRAM (Cicchetti et al., ICLR 2025): a caption and all modalities of a video are near when they span a small volume.

The similarity is of the whole set at once and not of pairs with the caption, so that no index of vectors orders videos
by it. Search finds candidates by the mean of a video's modalities, and scores those again.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import zero_absent
from reelseek.library.tokens import Steps
from reelseek.models.blocks.towers import Towers
from reelseek.models.blocks.volume import gramian_volume
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig
from reelseek.models.settings import STRICT

__all__ = ["Gram", "GramConfig"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class GramConfig(SystemConfig):
    """Args:
    width, depth, heads, inner, dropout: of the transformer of each tower.
    embedding: width of the one space.
    candidates: clips that a search scores again; None takes as many as recall needs.
    loss: over `1 - volume`; a `temperature` in its settings is where the learned one begins.
    """

    width: int = Field(default=256, ge=1)
    depth: int = Field(default=6, ge=0)
    heads: int = 8
    inner: int = 512
    dropout: float = Field(default=0.0, ge=0, lt=1)
    embedding: int = 256
    candidates: int | None = Field(default=None, ge=1)
    missing: Literal["mask", "refuse"] = "mask"
    loss: LossConfig = Field(default_factory=lambda: LossConfig("info_nce", {"temperature": 0.07}))


class Gram(LearnedModel):
    """towers (one for each modality, one space) -> volume with the caption; InfoNCE both ways.

    Without the matching of captions and clips by a cross-encoder that is trained beside it, and without the label
    smoothing of .1 that the released code has in both directions. Heads have no bias there, and no transformer before
    them.
    """

    system = "gram"
    config: GramConfig

    def __init__(self, config: GramConfig) -> None:
        super().__init__(config)
        self.candidates = config.candidates
        self.towers = Towers(
            config.experts, width=config.width, depth=config.depth, heads=config.heads, inner=config.inner,
            embedding=config.embedding, dropout=config.dropout,
        )  # fmt: skip
        self.text_head = nn.Linear(self.text.width, config.embedding)
        self.score_loss = config.loss.build_learned()

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        return Embedding.even(*self.towers(steps))

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        return Embedding.even(functional.normalize(self.text_head(self.text.pooled(texts)), dim=-1)[:, None])

    def similarity(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "text video"]:
        """`1 - volume`, in [0, 1]; 0 where a video has no modality."""
        volume = gramian_volume(texts.values[:, 0], functional.normalize(videos.values.float(), dim=-1), videos.present)
        return zero_absent(texts.present & videos.present.any(1), 1 - volume)
