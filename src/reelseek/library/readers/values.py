"""What a pickle is made of while it is read: names that stand for nothing but themselves, and plain values."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Build", "Damaged", "Inert", "Measure", "Name", "Pending", "Refused", "as_key", "check_shape"]

_DEEPEST = 100  # containers in each other; readers and numpy walk them by recursion
_MOST_VALUES = 100_000_000
_LARGEST_KEY = 2**60  # larger integers can be made to share one hash
Build = Callable[..., Any]


class Refused(pickle.UnpicklingError):
    """What a pickle asks for is not done; the text goes after "FILE is not read: "."""


class Damaged(Refused):
    """The bytes are no pickle, or no longer one."""


class Name:
    """A class or function that a pickle names; `build` makes a value in its stead."""

    __slots__ = ("build", "module", "name")

    def __init__(self, module: str, name: str, build: Build | None) -> None:
        self.module, self.name, self.build = module, name, build

    def call(self, arguments: Any) -> Any:
        if self.build is None:
            raise Refused(f"it calls {self.module}.{self.name}")
        if type(arguments) is not tuple:
            raise Refused(f"it calls {self.module}.{self.name} with no tuple of arguments")
        return self.build(*arguments)


class Inert:
    """Stands where a pickle names something of another project; takes anything and does nothing."""

    def __init__(self, *_: Any) -> None: ...


class Pending:
    """A value that a pickle makes in two steps: first empty, then with its state. `value` is None until it has one."""

    value: Any = None

    def build(self, state: Any) -> None:
        raise NotImplementedError


def as_key(value: Any, deepest: int = 3) -> Any:
    """A value that can be a key: its hash takes no depth and no time that a file could choose."""
    if isinstance(value, str | bytes | float | bool | np.generic | Inert) or value is None:
        return value
    if isinstance(value, int) and abs(value) < _LARGEST_KEY:
        return value
    if type(value) is tuple and len(value) <= 64 and deepest:
        return tuple(as_key(part, deepest - 1) for part in value)
    raise Refused(f"it has a {type(value).__name__} as a key; wanted a string, a number or a short tuple of them")


def check_shape(shape: Any) -> tuple[int, ...]:
    """A shape that a file gives.

    Raises:
        Refused: it is no tuple of lengths.
    """
    if type(shape) is not tuple or len(shape) > 32 or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
        raise Refused("a shape of it is no tuple of lengths")
    return shape


class Measure:
    """How deep values lie in each other, and how much they are where what is referred to twice counts twice."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._measured: dict[int, tuple[int, int, int]] = {}  # by id: levels, values and bytes in all
        self._open: set[int] = set()

    def check(self, value: Any) -> None:
        """Refuse what a reader could not walk through.

        Raises:
            Refused: too deep, too much once every reference is followed, inside itself, or never finished.
        """
        self._walk(value, 1)

    def _walk(self, value: Any, level: int) -> tuple[int, int, int]:
        if isinstance(value, Pending):
            raise Refused("an array of it never gets its values")
        if not isinstance(value, list | tuple | dict | set | frozenset):
            return 0, 1, 8 + (value.nbytes if isinstance(value, np.ndarray) else 0)
        identity = id(value)
        if identity in self._open:
            raise Refused("it holds a container that is inside itself")
        if level > _DEEPEST or level + self._measured.get(identity, (0,))[0] > _DEEPEST + 1:
            raise Refused(f"it has more than {_DEEPEST} containers inside each other")
        if identity not in self._measured:
            self._open.add(identity)
            self._measured[identity] = self._sum(value, level)
            self._open.discard(identity)
        return self._measured[identity]

    def _sum(self, value: Any, level: int) -> tuple[int, int, int]:
        height, count, size = 1, 1, 8
        for part in value.values() if isinstance(value, dict) else value:
            if type(part) is str or type(part) is bytes:
                count, size = count + 1, size + 8 + len(part)
                continue
            below, more, more_bytes = self._walk(part, level + 1)
            height, count, size = max(height, below + 1), count + more, size + more_bytes
        if count > _MOST_VALUES or size > self._budget:
            raise Refused(
                f"it has {count:,} values of {size / 2**30:.1f} GiB once every reference is followed, and there is "
                f"room for {_MOST_VALUES:,} of {self._budget / 2**30:.1f} GiB"
            )
        return height, count, size
