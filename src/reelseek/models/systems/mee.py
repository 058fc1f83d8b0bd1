"""Mixture of Embedding Experts (Miech, Laptev, Sivic, 2018): one space per expert, weighted by the caption.

`mee_coco` is the same model; still images are samples with the appearance expert alone.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from reelseek.errors import ModelError
from reelseek.library.mask import Mask
from reelseek.library.tokens import Steps
from reelseek.models.blocks.heads import ExpertText, stack_padded
from reelseek.models.blocks.pool import NetVLAD, masked_mean
from reelseek.models.blocks.project import GatedUnit, apply_to_present, key, per_expert
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig
from reelseek.models.settings import STRICT

__all__ = ["MEE", "MEEConfig", "MixtureOfExperts", "VladPools"]

_Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MEEConfig(SystemConfig):
    """Args:
    vlad: clusters of NetVLAD for experts that are pooled so; the others are averaged. The paper has 16 for audio.
    vlad_ghosts: clusters more of these experts' NetVLAD, whose residuals are dropped (CE).
    widths: width of each expert's space; by default that of its pooled features.
    text_clusters: clusters of NetVLAD over a caption's tokens; 0 takes the encoder's pooled vector. The paper has 32.
    ghosts: clusters of the text's NetVLAD whose residuals are dropped (CE).
    missing: `keep` scores absent experts with weight 1 as CE's `keep_missing` does.
    count_padding: see NetVLAD; only for comparing with released weights.
    """

    vlad: dict[str, _Count] = Field(default_factory=dict)
    vlad_ghosts: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    widths: dict[str, _Count] = Field(default_factory=dict)
    text_clusters: int = Field(default=32, ge=0)
    ghosts: int = Field(default=0, ge=0)
    missing: Literal["mask", "keep", "refuse"] = "mask"
    count_padding: bool = False
    loss: LossConfig = Field(default_factory=lambda: LossConfig("max_margin", {"margin": 0.2, "diagonal": True}))


def _check_names(config: MEEConfig) -> None:
    """Refuse what is set for experts that the model lacks, or for experts that are not pooled so."""
    rows = (
        ("vlad", config.vlad, config.experts), ("vlad_ghosts", config.vlad_ghosts, config.vlad),
        ("widths", config.widths, config.experts),
    )  # fmt: skip
    for setting, names, allowed in rows:
        unknown = sorted(set(names) - set(allowed))
        if unknown:
            raise ModelError(
                f"model.{setting} names {', '.join(map(repr, unknown))}, and the experts that it can name are: "
                f"{', '.join(allowed) or 'none, as model.vlad is empty'}; set it for these, or bring in those"
            )


def pooled_widths(experts: Mapping[str, int], vlad: Mapping[str, int]) -> dict[str, int]:
    """The width of each expert after `VladPools`."""
    return {name: dim * vlad.get(name, 1) for name, dim in experts.items()}


class VladPools(nn.Module):
    """Each expert's steps -> one vector: NetVLAD for the experts in `vlad`, else the mean. `widths` are its widths."""

    def __init__(
        self, experts: Mapping[str, int], vlad: Mapping[str, int], *, ghosts: Mapping[str, int], count_padding: bool
    ) -> None:
        super().__init__()
        self.vlad = per_expert({
            name: NetVLAD(experts[name], clusters, ghosts=ghosts.get(name, 0), count_padding=count_padding)
            for name, clusters in vlad.items()
        })  # fmt: skip
        self.widths = pooled_widths(experts, vlad)

    def forward(self, name: str, steps: Steps) -> Float[Tensor, "video dim"]:
        if key(name) in self.vlad:
            pooled: Tensor = self.vlad[key(name)](steps)
            return pooled
        return masked_mean(steps.values, steps.present)


class MixtureOfExperts(LearnedModel):
    """The common part of MEE and CE: pooled experts, and captions with a vector and a weight per expert.

    Args:
        widths: of each expert's slot.
    """

    config: MEEConfig

    def __init__(self, config: MEEConfig, widths: Mapping[str, int]) -> None:
        _check_names(config)
        super().__init__(config)
        self.renormalise = config.missing != "keep"
        self.pools = VladPools(
            config.experts, config.vlad, ghosts=config.vlad_ghosts, count_padding=config.count_padding
        )
        self.captions = ExpertText(
            self.text.width, widths, clusters=config.text_clusters, ghosts=config.ghosts,
            count_padding=config.count_padding,
        )  # fmt: skip

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        return self.encode_pooled(self.captions.pooled(self.text, texts))

    def encode_pooled(self, pooled: Float[Tensor, "text pooled"]) -> Embedding:
        """The text side after its pooling."""
        values, weights = self.captions(pooled)
        if self.config.missing == "keep":
            weights = torch.ones_like(weights)
        return Embedding(values, torch.ones_like(weights, dtype=torch.bool), weights)


class MEE(MixtureOfExperts):
    """pool (mean, NetVLAD) -> heads (one gated unit per expert) -> similarity weighted by the caption."""

    system = "mee"
    config: MEEConfig

    def __init__(self, config: MEEConfig) -> None:
        pooled = pooled_widths(config.experts, config.vlad)
        widths = {name: config.widths.get(name, width) for name, width in pooled.items()}
        super().__init__(config, widths)
        self.slots_apart = config.missing == "mask"
        self.heads = per_expert({name: GatedUnit(pooled[name], width) for name, width in widths.items()})

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        rows, present = [], []
        for name, tracks in steps.items():
            mask = tracks.videos
            if self.config.missing == "keep":
                mask = Mask.on(tracks.device, torch.ones_like(mask.host))
            rows.append(apply_to_present(self.heads[key(name)], self.pools(name, tracks), mask))
            present.append(mask.tensor)
        values = stack_padded(rows)
        return Embedding.even(values, torch.stack(present, 1))
