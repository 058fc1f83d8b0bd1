"""Layers whose batches have few shapes: how many shapes, what padding costs, and code compiled for each of them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from reelseek.models.blocks.mix import Layers, Plan, Run, run_layers

__all__ = ["BucketedLayers"]

_log = logging.getLogger("reelseek")
_MOST_SHAPES = 256  # for which code is compiled; PyTorch stops at 8, since it cannot know that there is a bound


class BucketedLayers:
    """Computes layers by padded plans, and counts them; `models.blocks.mix.bucketed` calls it.

    Args:
        compiled: `run_layers` by torch.compile, for one shape at a time; None computes without a compiler.
    """

    def __init__(self, compiled: Run | None = None) -> None:
        self._compiled = compiled
        self._uncompiled = False
        self._with_code: set[tuple[tuple[int, ...], ...]] = set()
        self._shapes: set[tuple[int, ...]] = set()
        self._present = self._computed = 0

    def __call__(self, layers: Layers, rows: Tensor, plan: Plan) -> Tensor:
        self._shapes.add(plan.shape)
        self._present += len(plan.rows)
        self._computed += plan.computed
        if self._compiled is None or self._uncompiled:
            return run_layers(layers, rows, plan)
        if not self._may_compile(layers, plan):
            return run_layers(layers, rows, plan)
        from torch._dynamo import config

        with config.patch(recompile_limit=_MOST_SHAPES):
            return self._compiled(layers, rows, plan)

    def _may_compile(self, layers: Layers, plan: Plan) -> bool:
        """Whether layers of a shape have code, or may have: PyTorch refuses more than a number of shapes."""
        key = tuple(map(id, layers)), plan.shape
        if key not in self._with_code and len(self._with_code) < _MOST_SHAPES:
            self._with_code.add(key)
            if len(self._with_code) == _MOST_SHAPES:
                _log.warning("train.buckets leaves more than %d shapes; others are computed uncompiled", _MOST_SHAPES)
        return key in self._with_code

    @contextmanager
    def uncompiled(self) -> Iterator[None]:
        """Compute meanwhile without the compiled code, into which hooks of modules cannot look."""
        self._uncompiled = True
        try:
            yield
        finally:
            self._uncompiled = False

    @property
    def record(self) -> dict[str, Any]:
        """What this process computed: how many shapes, tokens that were present, and padding; nothing before a step."""
        if not self._shapes:
            return {}
        padding = self._computed - self._present
        return {"shapes": len(self._shapes), "tokens": self._present, "padding_tokens": padding}

    def __str__(self) -> str:
        padding = self._computed - self._present
        share = f"{padding / max(1, self._present):.0%}"
        return f"{self._present:,} tokens in {len(self._shapes)} shapes, and {padding:,} of padding ({share} more)"
