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

__all__ = ["Affine", "GatedUnit", "Inputs", "RowNorm", "key", "per_expert", "present_rows"]


def key(expert: str) -> str:
    """A module's name for an expert: torch allows no dots, and no name that a module has already."""
    name = expert.replace(".", "__")
    return f"{name}_" if hasattr(nn.ModuleDict, name) or hasattr(nn.ParameterDict, name) else name


class Inputs(nn.Module):
    """Every expert's steps, brought to zero mean and unit deviation once `fit` has seen training clips.

    The identity until then, as all published systems have it.
    """

    def __init__(self, experts: Mapping[str, int]) -> None:
        super().__init__()
        self.experts = dict(experts)
        for name, dim in experts.items():
            self.register_buffer(f"shift_{key(name)}", torch.zeros(dim))
            self.register_buffer(f"scale_{key(name)}", torch.ones(dim))

    def filled(self, tokens: Tokens) -> dict[str, Steps]:
        """All experts in their order, as they came; one that was not given is absent in every video."""
        some = next(iter(tokens.values())).values
        host = torch.zeros(len(some), 1, dtype=torch.bool)
        nothing = torch.zeros(len(some), 1, dtype=torch.bool, device=some.device)
        return {
            name: tokens[name]
            if name in tokens
            else Steps(some.new_zeros(len(some), 1, dim), nothing, some.new_zeros(len(some), 1, 2), host=host)
            for name, dim in self.experts.items()
        }

    def forward(self, tokens: Tokens) -> dict[str, Steps]:
        """All experts in their order, standardised. Zeros where absent."""
        found = {}
        for name, steps in self.filled(tokens).items():
            shift, scale = getattr(self, f"shift_{key(name)}"), getattr(self, f"scale_{key(name)}")
            values = zero_absent(steps.present[..., None], (steps.clean - shift) * scale)
            found[name] = steps.with_values(values)
        return found

    @torch.no_grad()
    def fit(self, tokens: Tokens) -> None:
        """Learn each feature's mean and deviation; one that hardly varies is not blown up."""
        for name, steps in tokens.items():
            there = steps.values[steps.present]
            if len(there) > 1:
                getattr(self, f"shift_{key(name)}").copy_(there.mean(0))
                deviation = there.std(0)
                usual = deviation.mean().clamp(min=1e-6)
                getattr(self, f"scale_{key(name)}").copy_(1 / (deviation + 0.1 * usual))


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation that falls back to its running statistics where a batch has a single row.

    Under several processes its statistics are those of all of them.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and parallel.active():
            return self._shared(input)
        if self.training and len(input) < 2:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)

    def _shared(self, rows: Tensor) -> Tensor:
        count = parallel.total_count(len(rows))
        if count < 2:
            return functional.batch_norm(
                rows, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        mean = parallel.all_reduce_sum(rows.sum(0)) / count
        variance = parallel.all_reduce_sum((rows - mean).square().sum(0)) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            rate = self.momentum if self.momentum is not None else 0.1
            self.running_mean.lerp_(mean.detach(), rate)
            self.running_var.lerp_(variance.detach() * count / (count - 1), rate)
            self.num_batches_tracked += 1
        return (rows - mean) / (variance + self.eps).sqrt() * self.weight + self.bias


def present_rows(unit: nn.Module, values: Float[Tensor, "item width"], present: Mask | Bool[Tensor, " item"]) -> Tensor:
    """`unit` of the rows that are there, so that absent ones stay out of batch statistics; zeros elsewhere.

    In evaluation rows do not meet, and all of them are computed.
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
        unit: bring the result to unit length; at the head of a slot, not where tokens are projected.

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
    """Modules under their experts' names.

    Raises:
        UsageError: two experts' names differ in dots and underscores alone.
    """
    owners: dict[str, str] = {}
    for name in modules:
        if (other := owners.setdefault(key(name), name)) != name:
            raise UsageError(f"experts {other!r} and {name!r} cannot be in one model; rename one of them")
    return nn.ModuleDict({key(name): module for name, module in modules.items()})
