"""Frozen CLIP: the mean of a video's frame vectors, or its middle frame, against the caption's.

Portillo-Quintero et al. 2021. MDMMT's table 7 has the middle frame; most zero-shot results in the literature average.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch.nn import functional

from reelseek.errors import ModelError
from reelseek.library.mask import zero_absent
from reelseek.library.tokens import Tokens
from reelseek.models.blocks.pool import masked_mean
from reelseek.models.embedding import Embedding
from reelseek.models.model import RetrievalModel
from reelseek.models.settings import STRICT
from reelseek.models.text import TextConfig, TextEncoder

__all__ = ["ClipMean", "ClipMeanConfig"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ClipMeanConfig:
    """Args:
    experts: the one expert, and its width.
    text: the text side of the same CLIP: its folder or pulled hub name.
    frames: `mean` of unit vectors, or the `middle` one.
    """

    text: TextConfig
    experts: dict[str, int] | None = None
    frames: Literal["mean", "middle"] = "mean"


class ClipMean(RetrievalModel):
    """pool (mean of unit vectors, or the middle one) -> cosine."""

    system = "clip_mean"
    slots_apart = True
    config: ClipMeanConfig

    def __init__(self, config: ClipMeanConfig) -> None:
        super().__init__()
        self.config = config
        self.text = TextEncoder(config.text)
        self._experts = config.experts or {"clip": self.text.width}
        if len(self._experts) != 1 or next(iter(self._experts.values())) != self.text.width:
            raise ModelError(
                f"clip_mean takes one expert of the width of its text side, {self.text.width}; got {self._experts}"
            )
        self.slots = tuple(self._experts)

    @property
    def experts(self) -> Mapping[str, int]:
        return self._experts

    def encode_videos(self, tokens: Tokens) -> Embedding:
        self.check(tokens)
        (steps,) = tokens.values()
        unit = functional.normalize(steps.clean, dim=-1)
        present = steps.present.any(1, keepdim=True)
        if self.config.frames == "mean":
            rows = masked_mean(unit, steps.present)
        else:
            order = steps.present.int().argsort(dim=1, descending=True, stable=True)
            middle = order.gather(1, (steps.present.sum(1, keepdim=True) // 2).clamp(max=order.shape[1] - 1))[:, 0]
            rows = zero_absent(present, unit[torch.arange(len(unit), device=unit.device), middle])
        values = functional.normalize(rows, dim=-1)[:, None]
        return Embedding.even(values, present)

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        values = functional.normalize(self.text.pooled(texts), dim=-1)[:, None]
        return Embedding.even(values)
