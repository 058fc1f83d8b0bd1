"""Losses: functions of similarity matrices and of embeddings. A configuration names one of `SCORE_LOSSES`."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from reelseek.errors import ModelError
from reelseek.models.losses.consistency import (
    cycle_consistency,
    half_cycle,
    prototype_alignment,
    pseudo_supervision,
    regression,
    soft_nearest,
)
from reelseek.models.losses.contrastive import info_nce, mil_nce, mms, nce, soft_nce
from reelseek.models.losses.crossclr import CrossCLR, CrossCLRConfig, crossclr_published
from reelseek.models.losses.margin import (
    max_margin,
    rank_weights,
    ranked_max_margin,
    triplet,
    video_max_margin,
    within_video_max_margin,
)
from reelseek.models.settings import STRICT

__all__ = [
    "SCORE_LOSSES",
    "CrossCLR",
    "CrossCLRConfig",
    "LearnedTemperature",
    "LossConfig",
    "crossclr_published",
    "cycle_consistency",
    "half_cycle",
    "info_nce",
    "max_margin",
    "mil_nce",
    "mms",
    "nce",
    "prototype_alignment",
    "pseudo_supervision",
    "rank_weights",
    "ranked_max_margin",
    "regression",
    "soft_nce",
    "soft_nearest",
    "triplet",
    "video_max_margin",
    "within_video_max_margin",
]

_MOST_SCALE = 100.0

SCORE_LOSSES: dict[str, Callable[..., Tensor]] = {
    "max_margin": max_margin,
    "info_nce": info_nce,
    "nce": nce,
    "mms": mms,
    "mil_nce": mil_nce,
    "ranked_max_margin": ranked_max_margin,
    "video_max_margin": video_max_margin,
    "within_video_max_margin": within_video_max_margin,
}


@dataclass(frozen=True, config=STRICT)
class LossConfig:
    """A loss over scores [text, video], by its name in SCORE_LOSSES, and its settings."""

    name: str = "max_margin"
    settings: Mapping[str, float | bool] = field(default_factory=lambda: {"margin": 0.2})

    def build(self) -> Callable[..., Tensor]:
        """Build the loss, a function of `similarity` and `negatives`.

        Raises:
            ModelError: no such loss, or it has no such setting.
        """
        loss = SCORE_LOSSES.get(self.name)
        if loss is None:
            raise ModelError(f"no loss is called {self.name!r}; there are {', '.join(SCORE_LOSSES)}")
        names = [
            name
            for name, parameter in inspect.signature(loss).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        ]
        wrong = sorted(set(self.settings) - (set(names) - {"negatives", "weights", "video_of_text"}))
        if wrong:
            raise ModelError(f"the loss {self.name} has no setting {wrong[0]!r}; it has {', '.join(names)}")
        settings: dict[str, Any] = dict(self.settings)
        return partial(loss, **settings)

    def build_learned(self) -> Callable[..., Tensor]:
        """Build the loss with a learned temperature that begins where its settings say, if they name one."""
        return LearnedTemperature(self) if "temperature" in self.settings else self.build()


class LearnedTemperature(nn.Module):
    """A loss whose temperature is a parameter: scores are multiplied by `exp(logit_scale)`, at most 100.

    Args:
        config: its `temperature` is where learning begins.

    Raises:
        ModelError: that is below .01.

    Source: Radford et al. 2021 (CLIP), section 2.5.
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        start = float(config.settings["temperature"])
        if start < 1 / _MOST_SCALE:
            raise ModelError(f"a learned temperature begins at {1 / _MOST_SCALE} or above; got {start}")
        self.loss = LossConfig(config.name, {**config.settings, "temperature": 1.0}).build()
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(start)))

    def forward(self, similarity: Float[Tensor, "text video"], **pairs: Any) -> Float[Tensor, ""]:
        if self.training:  # the number itself is held back, not its gradient, or it would never come down again
            with torch.no_grad():
                self.logit_scale.clamp_(max=math.log(_MOST_SCALE))
        return self.loss(similarity * self.logit_scale.exp(), **pairs)
