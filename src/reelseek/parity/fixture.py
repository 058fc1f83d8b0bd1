"""One recorded fixture, and the conversions from its tensors and weights to ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reelseek.library.tokens import Steps
from reelseek.models import SYSTEMS
from reelseek.models.checkpoints.keymap import KeyMap
from reelseek.models.model import RetrievalModel

__all__ = ["Fixture", "Outputs", "build_model", "scalar", "steps"]

Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Fixture:
    """Attributes:
    config: sizes, switches and tolerance.
    weights: the released state dict; empty for losses and metrics.
    outputs: the recorded outputs by name.
    """

    path: Path
    config: Mapping[str, Any]
    inputs: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Inputs whose name has this prefix, under the rest of the name."""
        return {name.removeprefix(prefix): value for name, value in self.inputs.items() if name.startswith(prefix)}


def scalar(value: Tensor) -> Tensor:
    """Give a scalar the shape [1] in which it is recorded."""
    return value.detach()[None]


def steps(values: Tensor, present: Tensor | None = None) -> Steps:
    """Make steps without times of features; pooled features are one step."""
    if values.dim() == 2:
        values = values[:, None]
    if present is None:
        present = torch.ones(values.shape[:2], dtype=torch.bool)
    elif present.dim() == 1:
        present = (present > 0)[:, None].expand(values.shape[:2])
    return Steps(values, present > 0, values.new_zeros(*values.shape[:2], 2))


def build_model(
    system: str, settings: dict[str, Any], table: KeyMap, weights: Mapping[str, Tensor], config: Mapping[str, Any]
) -> Any:
    """Build our model with the released weights, in evaluation mode and without standardisation of inputs.

    Args:
        config: of the fixture; its constants `layer_norm_eps` and `bn_eps` are applied.
    """
    model: RetrievalModel = SYSTEMS[system].build(settings)
    ours = table.read(weights)
    absent, foreign = model.load_state_dict(ours, strict=False)
    absent = [name for name in absent if not name.startswith("inputs.") and not name.endswith("num_batches_tracked")]
    if absent or foreign:
        raise KeyError(f"weights without a source: {absent}; weights without a place: {foreign}")
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = config.get("layer_norm_eps", module.eps)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eps = config.get("bn_eps", module.eps)
    return model.eval()
