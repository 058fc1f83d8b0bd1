"""Batch normalisation whose statistics are those of all processes that train together.

`torch.nn.SyncBatchNorm` refuses tensors of the host (PyTorch 2.13), so this one runs on any device, with one collective
operation forward and one backward. Like it, and like the plain one, it keeps its input alone for the backward pass.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from reelseek.models import parallel

__all__ = ["SharedNorm3d", "share_norms", "shared_batch_norm"]


class SharedNorm3d(nn.BatchNorm3d):
    """Batch normalisation of maps over time and space; in distributed training its statistics are of all processes."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and parallel.active():
            return shared_batch_norm(self, input)
        return super().forward(input)


def share_norms(network: nn.Module) -> None:
    """Replace every `BatchNorm3d` of a network by a `SharedNorm3d` of the same name, parameters and statistics."""
    for module in network.modules():
        for name, child in list(module.named_children()):
            if type(child) is nn.BatchNorm3d:
                shared = SharedNorm3d(child.num_features, child.eps, child.momentum)
                shared.load_state_dict(child.state_dict())
                setattr(module, name, shared)


def shared_batch_norm(
    norm: nn.BatchNorm1d | nn.BatchNorm3d, values: Float[Tensor, "item channel *place"]
) -> Float[Tensor, "item channel *place"]:
    """Normalise a batch of which every process has a part, perhaps an empty one; all processes call this together.

    A part that does not count (`parallel.uncounted`) is normalised as the others are, and is to have no gradient.

    Running statistics follow in every process alike. Where all of them together have fewer than two values a channel,
    these normalise, and stay as they are.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    mean, variance, count = _statistics(values if parallel.counted() else values[:0])
    enough = count > 1  # on the device: the host asks it nothing
    with torch.no_grad():
        rate = (norm.momentum if norm.momentum is not None else 0.1) * enough.to(norm.running_mean.dtype)
        unbiased = variance * count / (count - 1).clamp(min=1)
        mean = torch.where(enough, mean, norm.running_mean)
        variance = torch.where(enough, variance, norm.running_var)
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), rate)
        norm.running_var.lerp_(torch.where(enough, unbiased, variance).to(norm.running_var.dtype), rate)
        norm.num_batches_tracked += enough
        share = enough * int(parallel.counted()) / count.clamp(min=1)
    normalised: Tensor = _Normalised.apply(  # type: ignore[no-untyped-call]
        values, norm.weight, norm.bias, mean, variance, share, norm.eps
    )
    return normalised


@torch.no_grad()
def _statistics(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance of each channel over all processes, and how many values a channel has."""
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    count, channels = values.numel() // values.shape[1], values.shape[1]
    local = values.new_zeros(2 * channels + 1)
    if count:
        local[channels:-1], local[:channels] = torch.var_mean(values, _axes(values), correction=0)
        local[-1] = count
    gathered = parallel.all_gather_stacked(local)
    means, variances, counts = gathered[:, :channels], gathered[:, channels:-1], gathered[:, -1:]
    total = counts.sum()
    shares = counts / total.clamp(min=1)
    mean = (shares * means).sum(0)
    # Around the common mean, so that nothing large is subtracted (Chan et al. 1979).
    return mean, (shares * (variances + (means - mean).square())).sum(0), total


def _axes(values: Tensor) -> list[int]:
    return [0, *range(2, values.ndim)]


class _Normalised(torch.autograd.Function):
    """(values - mean) / sqrt(variance + eps) * weight + bias, where mean and variance are those of the values of all
    processes; `share` is 1 / their number, or 0 where mean and variance do not depend on them."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        share: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(values, weight, mean, (variance + eps).rsqrt(), share)
        return functional.batch_norm(values, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, weight, mean, scale, share = ctx.saved_tensors
        shape = (1, -1, *[1] * (values.ndim - 2))
        gradient = gradients[0].to(scale.dtype)
        standard = (values.to(scale.dtype) - mean.view(shape)) * scale.view(shape)
        sums = torch.stack([gradient.sum(_axes(values)), (gradient * standard).sum(_axes(values))])
        of_bias, of_weight = sums.clone()
        parallel.all_reduce_in_place(sums)
        through_mean, through_deviation = (part.view(shape) for part in sums * share)
        of_values = (gradient - through_mean - standard * through_deviation) * (scale * weight).view(shape)
        return of_values.to(values.dtype), of_weight.to(weight.dtype), of_bias.to(weight.dtype), None, None, None, None
