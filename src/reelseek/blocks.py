"""Blocks of the published systems as PyTorch modules over plain tensors, for networks of any other project.

>>> import torch
>>> frames, present = torch.randn(2, 7, 16), torch.ones(2, 7, dtype=torch.bool)
>>> NetVLAD(16, clusters=4)(frames, present).shape
torch.Size([2, 64])

Steps of a modality are `values [item, step, dim]` and `present [item, step]`, True where there is a step; None means
that all are. What stands where `present` is False (NaN too) changes no output and no gradient. Other shapes raise
ValueError.
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from reelseek.library.mask import zero_absent
from reelseek.library.tokens import Steps
from reelseek.models.blocks import pool, project

__all__ = ["GatedUnit", "NetVLAD", "QueryPool", "masked_max", "masked_mean"]

Values = Float[Tensor, "item step dim"]
Present = Bool[Tensor, "item step"]


class GatedUnit(project.GatedUnit):
    """Gated embedding unit: a linear layer, times the sigmoid of a linear layer of itself.

    >>> import torch
    >>> GatedUnit(16, 8)(torch.randn(4, 16)).norm(dim=-1)
    tensor([1.0000, 1.0000, 1.0000, 1.0000], grad_fn=<LinalgVectorNormBackward0>)

    Args:
        width_in, width_out: dims of what comes in and goes out.
        batch_norm: normalise what goes into the sigmoid, as MEE, CE and MMT release it.
        unit: scale outputs to unit length.

    Source: Miech et al. 2018, section 3.2.
    """

    def forward(self, values: Float[Tensor, "*item width"]) -> Float[Tensor, "*item dim"]:
        """Map [..., width_in] to [..., width_out].

        Raises:
            ValueError: the last axis is not width_in.
        """
        if values.dim() < 1 or values.shape[-1] != self.fc.in_features or not values.is_floating_point():
            raise ValueError(f"values are {values.dtype} {tuple(values.shape)}; give [..., {self.fc.in_features}]")
        return super().forward(values)


class NetVLAD(nn.Module):
    """Residuals to learned clusters, softly assigned: a variable number of steps becomes one vector.

    Attributes:
        width: of its outputs, dim * clusters.

    Args:
        dim: of the steps.
        ghosts: clusters more whose residuals are dropped, for steps that say nothing.

    Source: Arandjelovic et al. 2016; ghosts from Zhong et al. 2018, as Liu et al. 2019 (CE) use them.
    """

    def __init__(self, dim: int, clusters: int, *, ghosts: int = 0) -> None:
        super().__init__()
        self.dim, self.width = dim, dim * clusters
        self.pool = pool.NetVLAD(dim, clusters, ghosts=ghosts)

    def forward(self, values: Values, present: Present | None = None) -> Float[Tensor, "item width"]:
        """Pool steps to vectors of unit length; zeros where an item has no step.

        Raises:
            ValueError: shapes do not fit.
        """
        values, present = _checked_steps(values, present, self.dim)
        pooled: Tensor = self.pool(Steps(values, present, values.new_zeros(*present.shape, 2)))
        return pooled


class QueryPool(nn.Module):
    """One learned query attends to the steps (Zorro, section 3.2).

    >>> import torch
    >>> QueryPool(16, heads=2)(torch.randn(4, 7, 16)).shape
    torch.Size([4, 16])
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim = dim
        self.pool = pool.QueryPool(dim, heads)

    def forward(self, values: Values, present: Present | None = None) -> Float[Tensor, "item dim"]:
        """Pool steps to one vector per item; the same constant vector where an item has no step.

        Raises:
            ValueError: shapes do not fit.
        """
        pooled: Tensor = self.pool(*_checked_steps(values, present, self.dim))
        return pooled


def masked_mean(values: Values, present: Present | None = None) -> Float[Tensor, "item dim"]:
    """Average the present steps; zeros where an item has none.

    Raises:
        ValueError: shapes do not fit.
    """
    return pool.masked_mean(*_checked_steps(values, present))


def masked_max(values: Values, present: Present | None = None) -> Float[Tensor, "item dim"]:
    """Maximum of the present steps for each feature; zeros where an item has none.

    Raises:
        ValueError: shapes do not fit.
    """
    return pool.masked_max(*_checked_steps(values, present))


def _checked_steps(values: Tensor, present: Tensor | None, dim: int | None = None) -> tuple[Tensor, Tensor]:
    """Values with zeros where absent, and the mask."""
    if values.dim() != 3 or not values.is_floating_point() or (dim is not None and values.shape[2] != dim):
        raise ValueError(
            f"values are {values.dtype} {tuple(values.shape)}; give floating-point numbers [item, step, {dim or 'dim'}]"
        )
    if present is None:
        present = values.new_ones(values.shape[:2]) > 0
    if present.shape != values.shape[:2] or str(present.dtype) != "torch.bool":
        raise ValueError(
            f"present is {present.dtype} {tuple(present.shape)}; give torch.bool {list(values.shape[:2])}, True where "
            "there is a step"
        )
    return zero_absent(present[..., None], values), present
