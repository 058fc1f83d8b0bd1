"""Masks that the host knows too, so that what depends on them is decided without asking the device.

A device works through a queue. Whoever asks it for a value (how many rows are present, which ones) waits until the
queue is empty, and the queue then stays empty until the host has caught up. What is present is known on the host before
it is sent to the device, so the host keeps its copy and decides by that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Mask", "upload", "zero_absent"]


def upload(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of the host, all of one kind of number, on a device: by one copy, which the host does not wait for."""
    if device.type == "cpu" or not tensors:
        return list(tensors)
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    if device.type == "cuda":
        flat = flat.pin_memory()
    parts = flat.to(device, non_blocking=True).split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def zero_absent(mask: Tensor, values: Tensor) -> Tensor:
    """The values where the mask is true, zeros elsewhere, whatever stood there.

    The zero is made on the device: `torch.where` would copy a number of the host there, and wait for it.
    """
    return torch.where(mask, values, values.new_zeros(()))


@dataclass(frozen=True)
class Mask:
    """True where something is present, as a tensor beside the values and as its copy on the host.

    On the host both are the same tensor.

    >>> both = Mask.of(torch.tensor([True, True])) & Mask.of(torch.tensor([True, False]))
    >>> both.all, both.rows.tolist()
    (False, [0])
    """

    tensor: Tensor
    host: Tensor

    @classmethod
    def of(cls, mask: "Mask | Tensor") -> "Mask":
        """A mask as it is; a tensor with its copy, for which the host waits if it is on a device."""
        if isinstance(mask, Mask):
            return mask
        return cls(mask, mask if mask.device.type == "cpu" else mask.cpu())

    @classmethod
    def on(cls, device: torch.device, host: Tensor) -> "Mask":
        """A mask of the host, sent to a device."""
        return cls(upload([host], device)[0], host)

    @property
    def local(self) -> bool:
        """Whether it is on the host alone."""
        return self.tensor is self.host

    def __and__(self, other: "Mask") -> "Mask":
        host = self.host & other.host
        return Mask(host if self.local else self.tensor & other.tensor, host)

    def __or__(self, other: "Mask") -> "Mask":
        host = self.host | other.host
        return Mask(host if self.local else self.tensor | other.tensor, host)

    def any(self, dim: int) -> "Mask":
        host = self.host.any(dim)
        return Mask(host if self.local else self.tensor.any(dim), host)

    @cached_property
    def all(self) -> bool:
        return bool(self.host.all())

    @cached_property
    def count(self) -> int:
        return int(self.host.sum())

    @cached_property
    def rows(self) -> Tensor:
        """Numbers of the true items of a flat mask, on the device."""
        return upload([self.host.flatten().nonzero()[:, 0]], self.tensor.device)[0]
