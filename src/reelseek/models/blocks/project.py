"""From an expert's features to a model's width."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from reelseek.errors import UsageError
from reelseek.library.mask import Mask, zero_absent
from reelseek.library.tokens import Steps, Tokens
from reelseek.models import parallel
from reelseek.models.blocks.shared_norm import shared_batch_norm

__all__ = ["Affine", "GatedUnit", "Inputs", "RowNorm", "apply_to_present", "key", "per_expert"]


def key(expert: str) -> str:
    """The module name of an expert: torch allows no dots, and no name that a module already has."""
    name = expert.replace(".", "__")
    return f"{name}_" if hasattr(nn.ModuleDict, name) or hasattr(nn.ParameterDict, name) else name


class Inputs(nn.Module):
    """Standardises every expert's steps to zero mean and unit deviation; `fit` learns these from training clips.

    Before `fit` it is the identity, as in all published systems.
    """

    def __init__(self, experts: Mapping[str, int]) -> None:
        super().__init__()
        self.experts = dict(experts)
        for name, dim in experts.items():
            self.register_buffer(f"shift_{key(name)}", torch.zeros(dim))
            self.register_buffer(f"scale_{key(name)}", torch.ones(dim))

    def filled(self, tokens: Tokens) -> dict[str, Steps]:
        """All experts in their order, unchanged; an expert that `tokens` lacks is absent in every video."""
        first = next(iter(tokens.values())).values
        host = torch.zeros(len(first), 1, dtype=torch.bool)
        absent = torch.zeros(len(first), 1, dtype=torch.bool, device=first.device)
        return {
            name: tokens[name]
            if name in tokens
            else Steps(first.new_zeros(len(first), 1, dim), absent, first.new_zeros(len(first), 1, 2), host=host)
            for name, dim in self.experts.items()
        }

    def forward(self, tokens: Tokens) -> dict[str, Steps]:
        """All experts in their order, standardised, with zeros where absent."""
        standardised = {}
        for name, steps in self.filled(tokens).items():
            shift, scale = getattr(self, f"shift_{key(name)}"), getattr(self, f"scale_{key(name)}")
            values = zero_absent(steps.present[..., None], (steps.clean - shift) * scale)
            standardised[name] = steps.with_values(values)
        return standardised

    @torch.no_grad()
    def fit(self, tokens: Tokens) -> None:
        """Learn each feature's mean and deviation; a feature that hardly varies is not scaled up without bound."""
        for name, steps in tokens.items():
            values = steps.values[steps.present]
            if len(values) > 1:
                getattr(self, f"shift_{key(name)}").copy_(values.mean(0))
                deviation = values.std(0)
                usual = deviation.mean().clamp(min=1e-6)
                getattr(self, f"scale_{key(name)}").copy_(1 / (deviation + 0.1 * usual))


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation that falls back to its running statistics where a batch has a single row.

    In distributed training its statistics are those of all processes.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and parallel.active():
            return shared_batch_norm(self, input)
        if self.training and len(input) < 2:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


def apply_to_present(
    unit: nn.Module,
    values: Float[Tensor, "item *width"],  # noqa: F821 - a shape
    present: Mask | Bool[Tensor, " item"],
) -> Tensor:
    """Apply `unit` to the present rows alone, so that batch statistics exclude absent ones; zeros elsewhere.

    In evaluation mode rows do not affect each other, and all of them are computed.
    """
    if not unit.training:
        return unit(values)
    mask = Mask.of(present)
    if mask.all and not parallel.active():
        return unit(values)
    rows = unit(values.index_select(0, mask.rows))
    return rows.new_zeros(len(values), *rows.shape[1:]).index_copy(0, mask.rows, rows)


class GatedUnit(nn.Module):
    """Gated embedding unit: linear, times the sigmoid of a linear of itself.

    Args:
        batch_norm: normalise what goes into the sigmoid, as MEE, CE and MMT release it.
        unit: normalise the output to unit length: True in heads of slots, False where tokens are projected.

    Source: Miech et al. 2018, section 3.2.
    """

    def __init__(self, width_in: int, width_out: int, *, batch_norm: bool = True, unit: bool = True) -> None:
        super().__init__()
        self.fc = nn.Linear(width_in, width_out)
        self.gate = nn.Linear(width_out, width_out)
        self.norm = RowNorm(width_out) if batch_norm else nn.Identity()
        self.unit = unit

    def forward(self, values: Float[Tensor, "*item width"]) -> Float[Tensor, "*item dim"]:
        values = self.fc(values)
        values = values * torch.sigmoid(self.norm(self.gate(values)))
        return functional.normalize(values, dim=-1) if self.unit else values


class Affine(nn.Sequential):
    """LayerNorm, linear, LayerNorm (UMI)."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__(nn.LayerNorm(width_in), nn.Linear(width_in, width_out), nn.LayerNorm(width_out))


def per_expert(modules: Mapping[str, nn.Module]) -> nn.ModuleDict:
    """Collect one module per expert under the expert's name.

    Raises:
        UsageError: two experts' names differ in dots and underscores alone.
    """
    owners: dict[str, str] = {}
    for name in modules:
        if (other := owners.setdefault(key(name), name)) != name:
            raise UsageError(f"experts {other!r} and {name!r} cannot be in one model; rename one of them")
    return nn.ModuleDict({key(name): module for name, module in modules.items()})
