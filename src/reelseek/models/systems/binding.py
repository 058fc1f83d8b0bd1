"""Towers bound to one anchor, as in ImageBind (Girdhar et al., CVPR 2023) and LanguageBind (Zhu et al., ICLR 2024).

Every modality learns from its pairs with the anchor alone, and modalities that never met in a pair are comparable all
the same. A video is the mean of the modalities that it has.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.errors import ModelError
from reelseek.library.tokens import Steps
from reelseek.models.batch import Batch, Rows, all_rows
from reelseek.models.blocks.towers import Towers
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig
from reelseek.models.settings import STRICT

__all__ = ["Binding", "BindingConfig"]

TEXT = "text"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class BindingConfig(SystemConfig):
    """Args:
    width, depth, heads, inner, dropout: of the transformer of each tower.
    embedding: width of the one space.
    anchor: what all others are bound to: `text` (LanguageBind), or an expert (ImageBind: its images), to which text is
        then bound as one modality more.
    loss: a `temperature` in its settings is where the learned one begins. ImageBind's release learns that of text
        alone, and fixes those of other modalities (1/20 for sound).
    """

    width: int = Field(default=256, ge=1)
    depth: int = Field(default=6, ge=0)
    heads: int = 8
    inner: int = 512
    dropout: float = Field(default=0.0, ge=0, lt=1)
    embedding: int = 256
    anchor: str = TEXT
    missing: Literal["mask", "refuse"] = "mask"
    loss: LossConfig = Field(default_factory=lambda: LossConfig("info_nce", {"temperature": 0.07}))


class Binding(LearnedModel):
    """towers (one for each modality, one space) -> mean of cosines; InfoNCE of each modality with the anchor."""

    system = "binding"
    config: BindingConfig

    def __init__(self, config: BindingConfig) -> None:
        super().__init__(config)
        if config.anchor not in (TEXT, *config.experts):
            raise ModelError(f"anchor is {config.anchor!r}; it is {TEXT}, or one of {', '.join(config.experts)}")
        self.slots_apart = config.missing == "mask"
        self.towers = Towers(
            config.experts, width=config.width, depth=config.depth, heads=config.heads, inner=config.inner,
            embedding=config.embedding, dropout=config.dropout,
        )  # fmt: skip
        self.text_head = nn.Linear(self.text.width, config.embedding)
        self.score_loss = config.loss.build_learned()

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        return Embedding.even(*self.towers(steps))

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        rows = functional.normalize(self.text_head(self.text.pooled(texts)), dim=-1)
        return Embedding.even(rows[:, None].expand(-1, len(self.slots), -1))

    def parts(self, batch: Batch) -> dict[str, Rows]:
        texts, videos = self.encode_texts(batch.texts), self.encode_videos(batch.tokens)
        modalities = {f"video {name}": (videos.values[:, s], batch.videos(name)) for s, name in enumerate(self.slots)}
        return {TEXT: all_rows(texts.values[:, 0]), **modalities}

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The anchor with every other modality, over the clips that have both."""
        sides = {name.removeprefix("video "): rows for name, rows in parts.items()}
        anchor, anchor_mask = sides.pop(self.config.anchor)
        losses: dict[str, Tensor] = {}
        for name, (values, mask) in sides.items():
            both = mask & anchor_mask
            if both.count > 1:
                scores = anchor.index_select(0, both.rows) @ values.index_select(0, both.rows).T
                negatives = batch.negatives_among(both.rows)
                losses[f"{self.config.anchor}|{name}"] = self.score_loss(scores, negatives=negatives)
        return losses
