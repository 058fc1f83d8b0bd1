"""Blocks of the published systems as PyTorch modules over plain tensors, for networks of any other project.

>>> import torch
>>> frames, present = torch.randn(2, 7, 16), torch.ones(2, 7, dtype=torch.bool)
>>> NetVLAD(16, clusters=4)(frames, present).shape
torch.Size([2, 64])

Steps of a modality are `values [item, step, dim]` and `present [item, step]`, True where there is a step; None means
that all are. What stands where `present` is False (NaN too) changes no output and no gradient. Other shapes raise
ValueError.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import zero_absent
from reelseek.library.tokens import Steps
from reelseek.models.blocks import pool, project
from reelseek.models.systems.eao import EAO, EAOConfig
from reelseek.models.text import TextConfig

__all__ = ["FusionTransformer", "GatedUnit", "NetVLAD", "QueryPool", "masked_max", "masked_mean"]

Values = Float[Tensor, "item step dim"]
Present = Bool[Tensor, "item step"]
_TEXT = "text"


class FusionTransformer(nn.Module):
    """Everything at Once's fusion: modalities in, an embedding of every view (a subset of them) out.

    Each modality's steps are projected by a gated unit and a LayerNorm; one transformer, which knows neither modalities
    nor positions, reads every view by itself; a view's embedding is the mean of its modalities' pooled and projected
    outputs. All views of a batch are one pass.

    >>> import torch
    >>> fusion = FusionTransformer({"text": 24, "video": 32, "audio": 16}, width=64, embedding=48)
    >>> steps = {"text": torch.randn(8, 5, 24), "video": torch.randn(8, 12, 32), "audio": torch.randn(8, 9, 16)}
    >>> {view: tuple(rows.shape) for view, rows in fusion(steps, views=["text", "video+audio"]).items()}
    {'text': (8, 48), 'video+audio': (8, 48)}

    Args:
        dims: width of each modality's steps.
        width: of the transformer; 4096 in the paper.
        embedding: width of what comes out; 6144 in the paper.
        heads: None takes one for every 64 of the width, as the paper.
        inner: width of the feed-forward net; None takes the transformer's, as the paper.

    Source: Shvetsova et al., "Everything at Once", CVPR 2022, section 3.2.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int,
        embedding: int,
        depth: int = 1,
        heads: int | None = None,
        inner: int | None = None,
    ) -> None:
        super().__init__()
        if not set(dims) - {_TEXT} or any("+" in name for name in dims):
            raise ValueError(f"dims are {dict(dims)}; name at least one modality beside text, without '+' in its name")
        self.dims, self.embedding = dict(dims), embedding
        # The system's own fusion, so that there is one copy of it; its text encoder has no part in it, and no weights.
        self.fusion = EAO(
            EAOConfig(
                experts={name: dim for name, dim in dims.items() if name != _TEXT}, spectrograms={}, missing="mask",
                text=TextConfig(dim=dims.get(_TEXT, 1)), width=width, depth=depth, embedding=embedding,
                heads=heads or max(1, width // 64), inner=inner or width,
            )
        )  # fmt: skip
        if _TEXT not in dims:
            for modules in (self.fusion.project, self.fusion.norm, self.fusion.heads):
                del modules[project.key(_TEXT)]

    def forward(
        self,
        modalities: Mapping[str, Values],
        present: Mapping[str, Present] | None = None,
        views: Sequence[str | Sequence[str]] | None = None,
    ) -> dict[str, Float[Tensor, "item embedding"]]:
        """Embed every view; `reelseek.losses.CombinatorialLoss` takes the result.

        Args:
            modalities: steps of each, [item, step, dim]; those of `dims` that are not given are absent.
            present: which steps are there, by modality; all of them where one is not named.
            views: `"video+audio"` or `("video", "audio")`; None takes every modality, every pair, and all together.

        Returns:
            by view, in the spelling `"video+audio"`: unit vectors, of whatever modalities of the view an item has, and
            zeros where it has none.

        Raises:
            ValueError: an unknown modality or view, or shapes do not fit.
        """
        steps = self._steps(modalities, present or {})
        subsets = [self._view(view, steps) for view in (views if views is not None else _views_of(list(steps)))]
        if not subsets:
            return {}
        parts = {name: self.fusion.project_tokens(name, rows) for name, rows in steps.items()}
        embedded = {}
        for subset, rows in zip(subsets, self.fusion.embed(parts, subsets), strict=True):
            evident = torch.stack([steps[name].present.any(1) for name in subset], 1).any(1)
            embedded["+".join(subset)] = zero_absent(evident[:, None], functional.normalize(rows, dim=-1))
        return embedded

    def _steps(self, modalities: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Steps]:
        if unknown := sorted({*modalities, *present} - set(self.dims)):
            raise ValueError(f"{unknown[0]!r} is no modality of this block; it has {', '.join(self.dims)}")
        if not modalities or set(present) - set(modalities):
            raise ValueError(f"steps are given of {list(modalities)} and present of {list(present)}; give steps of all")
        steps = {}
        for name in (name for name in self.dims if name in modalities):
            values, mask = _checked_steps(modalities[name], present.get(name), self.dims[name], name)
            steps[name] = Steps(values, mask, values.new_zeros(*mask.shape, 2))
        if len({len(rows.values) for rows in steps.values()}) > 1:
            items = ", ".join(f"{name} {len(rows.values)}" for name, rows in steps.items())
            raise ValueError(f"modalities have different numbers of items: {items}; give row i of all for one item")
        return steps

    def _view(self, view: str | Sequence[str], steps: Mapping[str, Steps]) -> tuple[str, ...]:
        names = tuple(view.split("+")) if isinstance(view, str) else tuple(view)
        if not names or len(set(names)) != len(names) or not set(names) <= set(steps):
            raise ValueError(f"{view!r} is no view of what is given; join names of {', '.join(steps)} with '+'")
        return names


def _views_of(names: Sequence[str]) -> list[tuple[str, ...]]:
    views = [(name,) for name in names]
    return [*views, *combinations(names, 2), *([tuple(names)] if len(names) > 2 else [])]


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


def _checked_steps(
    values: Tensor, present: Tensor | None, dim: int | None = None, name: str = "values"
) -> tuple[Tensor, Tensor]:
    """Values with zeros where absent, and the mask."""
    if values.dim() != 3 or not values.is_floating_point() or (dim is not None and values.shape[2] != dim):
        shape = f"[item, step, {dim or 'dim'}]"
        raise ValueError(f"{name}: {values.dtype} {tuple(values.shape)}; give floating-point numbers {shape}")
    if present is None:
        present = values.new_ones(values.shape[:2]) > 0
    if present.shape != values.shape[:2] or str(present.dtype) != "torch.bool":
        raise ValueError(
            f"{name}: present is {present.dtype} {tuple(present.shape)}; give torch.bool {list(values.shape[:2])}, "
            "True where there is a step"
        )
    return zero_absent(present[..., None], values), present
