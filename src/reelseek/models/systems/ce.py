"""Collaborative Experts (Liu, Albanie, Nagrani, Zisserman, BMVC 2019): MEE whose experts gate each other first."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import Mask, zero_absent
from reelseek.library.tokens import Steps
from reelseek.models.blocks.project import RowNorm, apply_to_present, key, per_expert
from reelseek.models.embedding import Embedding
from reelseek.models.losses import LossConfig
from reelseek.models.settings import STRICT
from reelseek.models.systems.mee import MEEConfig, MixtureOfExperts

__all__ = ["CE", "CEConfig"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class CEConfig(MEEConfig):
    """Args:
    width: of the common space of experts, and of every slot.
    pair_layers, gate_layers: layers of the net g of a pair, and of the net h of their mean.
    with_self: an expert is paired with itself too.
    activation: between those layers.
    sequential: each gated expert replaces its raw one before the next is gated, so that the order of experts matters,
        as released; the paper gates all of them at once. Only for comparing with released weights.
    """

    width: int = Field(default=768, ge=1)
    pair_layers: int = Field(default=3, ge=1)
    gate_layers: int = Field(default=0, ge=0)
    with_self: bool = True
    activation: Literal["mish", "relu"] = "mish"
    sequential: bool = False
    text_clusters: int = Field(default=28, ge=0)
    ghosts: int = Field(default=1, ge=0)
    loss: LossConfig = Field(default_factory=lambda: LossConfig("max_margin", {"margin": 0.09381161988446174}))

    def __post_init__(self) -> None:
        if self.widths:
            raise ValueError("ce has spaces of one width, model.width; leave widths out")


class PairGate(nn.Module):
    """`x * sigmoid(BN(h(mean_j g(x, x_j))) + BN(Wx))`: gates an expert by its pairs with the others (section 3.1)."""

    def __init__(self, config: CEConfig) -> None:
        super().__init__()
        width = config.width
        self.pair = nn.Sequential(nn.Linear(2 * width, width), *_hidden(config, config.pair_layers - 1))
        self.gate = nn.Sequential(*_hidden(config, config.gate_layers))
        self.own = per_expert({name: nn.Linear(width, width) for name in config.experts})
        self.norm1 = per_expert({name: RowNorm(width) for name in config.experts})
        self.norm2 = per_expert({name: RowNorm(width) for name in config.experts})
        self.with_self = config.with_self

    def forward(
        self,
        name: str,
        experts: Mapping[str, tuple[Float[Tensor, "video dim"], Mask]],
    ) -> Float[Tensor, "video dim"]:
        values, present = experts[name]
        total, count = torch.zeros_like(values), values.new_zeros(len(values), 1)
        for other, (other_values, other_present) in experts.items():
            if other == name and not self.with_self:
                continue
            both = present & other_present
            pair_values = apply_to_present(self.pair, torch.cat([values, other_values], 1), both)
            total = total + zero_absent(both.tensor[:, None], pair_values)
            count = count + both.tensor[:, None]
        pooled = apply_to_present(self.gate, total / (count + 1e-11), present)
        gate = apply_to_present(self.norm1[key(name)], pooled, present)
        self_gate = apply_to_present(self.norm2[key(name)], self.own[key(name)](values), present)
        return functional.normalize(values * torch.sigmoid(gate + self_gate), dim=-1)


def _hidden(config: CEConfig, layers: int) -> list[nn.Module]:
    width, active = config.width, {"mish": nn.Mish, "relu": nn.ReLU}[config.activation]
    return [part for _ in range(layers) for part in (RowNorm(width), active(), nn.Linear(width, width))]


class CE(MixtureOfExperts):
    """pool (mean, NetVLAD) -> project (linear, unit length) -> mix (pair gate) -> weighted similarity."""

    system = "ce"
    config: CEConfig

    def __init__(self, config: CEConfig) -> None:
        super().__init__(config, dict.fromkeys(config.experts, config.width))
        self.project = per_expert({e: nn.Linear(width, config.width) for e, width in self.pools.widths.items()})
        self.mix = PairGate(config)

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        experts = {}
        for name, tracks in steps.items():
            values = functional.normalize(self.project[key(name)](self.pools(name, tracks)), dim=-1)
            experts[name] = (values, tracks.videos)
        gated = dict(experts)
        for name in experts:
            gated[name] = (self.mix(name, gated if self.config.sequential else experts), experts[name][1])
        values = torch.stack([row for row, _ in gated.values()], 1)
        present = torch.stack([mask.tensor for _, mask in gated.values()], 1)
        if self.config.missing == "keep":
            present = torch.ones_like(present)
        return Embedding.even(values, present)
