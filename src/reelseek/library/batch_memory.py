"""The arrays of a batch: each in memory of its own, or all in one block that other processes share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

__all__ = ["BatchLayout", "Memory", "StepArrays"]

_ALIGNMENT = 64  # bytes; what vector instructions and copies to a device like best


class StepArrays(NamedTuple):
    """One modality of a batch, as `Steps` takes it."""

    values: Float[Tensor, "video step dim"]
    present: Bool[Tensor, "video step"]
    spans: Float[Tensor, "video step 2"]


@dataclass(frozen=True)
class BatchLayout:
    """The sizes of a batch.

    Args:
        shapes: [video, step, dim] of each modality.

    >>> layout = BatchLayout({"rgb": (2, 3, 4)})
    >>> layout.in_block(torch.zeros(layout.size, dtype=torch.uint8))["rgb"].spans.shape
    torch.Size([2, 3, 2])
    """

    shapes: Mapping[str, tuple[int, int, int]]

    @property
    def size(self) -> int:
        """The number of bytes of a block that holds all arrays."""
        return sum(_aligned(size) for shape in self.shapes.values() for size in _sizes(shape))

    def new(self) -> dict[str, StepArrays]:
        """Return arrays of zeros in new memory of this process."""
        # By NumPy, which asks for huge pages where PyTorch does not: most page faults are spared.
        return {
            name: StepArrays(
                torch.from_numpy(np.zeros(shape, np.float32)),
                torch.from_numpy(np.zeros(shape[:2], np.bool_)),
                torch.from_numpy(np.zeros((*shape[:2], 2), np.float32)),
            )
            for name, shape in self.shapes.items()
        }

    def in_block(self, block: UInt8[Tensor, " byte"]) -> dict[str, StepArrays]:
        """Return arrays that are views of a block of at least `size` bytes."""
        arrays = {}
        start = 0
        for name, shape in self.shapes.items():
            parts = []
            for size in _sizes(shape):
                parts.append(block[start : start + size])
                start += _aligned(size)
            values, present, spans = parts
            arrays[name] = StepArrays(
                values.view(torch.float32).view(shape),
                present.view(torch.bool).view(shape[:2]),
                spans.view(torch.float32).view(*shape[:2], 2),
            )
        return arrays


Memory = Callable[[BatchLayout], dict[str, StepArrays]]


def _sizes(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    places = prod(shape[:2])
    return 4 * prod(shape), places, 8 * places


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
