"""Modules with a small state that the host reads at every step, such as the next free place of a queue."""

from collections.abc import Callable
from typing import Any

from torch import nn

__all__ = ["HostState"]


class HostState(nn.Module):
    """A module whose buffer `state` stays on the host when the module moves; it is saved like any buffer."""

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "HostState":
        state = self._buffers["state"]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._buffers["state"] = state
        return self
