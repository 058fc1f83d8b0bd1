"""What can be read off the names of a checkpoint's tensors."""

import re
from typing import Any

from torch import Tensor

__all__ = ["Settings", "State", "count_matches", "list_matches"]

State = dict[str, Tensor]
Settings = dict[str, Any]


def list_matches(state: State, pattern: str) -> list[str]:
    """The different first groups of a pattern among the names, in their order.

    >>> list_matches({"net.a.weight": ..., "net.b.weight": ..., "net.b.bias": ...}, r"net\\.(.+?)\\.")
    ['a', 'b']
    """
    return list(dict.fromkeys(match[1] for name in state if (match := re.match(pattern, name))))


def count_matches(state: State, pattern: str) -> int:
    """How many different first groups of a pattern there are among the names."""
    return len(list_matches(state, pattern))
