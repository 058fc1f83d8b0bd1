"""The one place where pickles are read: arrays, strings, numbers and containers are built, and nothing else.

numpy's own functions for this trust the bytes: they follow addresses in object arrays and fields, and leave memory as
it was. Here an array is its type (numbers and strings of one length), its shape and its bytes, which must fit together.
"""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import CollectionError
from reelseek.library.readers.opcodes import Machine
from reelseek.library.readers.values import Build, Damaged, Pending, Refused, as_key, check_shape
from reelseek.media.memory import available_memory

__all__ = ["CONTAINERS", "read_pickle"]

_DTYPE = re.compile(r"[|<>=]?[biufcSU]\d{1,9}")
_OBJECT = re.compile(r"[|<>=]?O\d?")


class _Dtype(Pending):
    """A type of numbers or of strings of one length; `value` is None for objects, whose arrays become lists."""

    def __init__(self, code: Any, *_: Any) -> None:
        text = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(text, str) or not (_DTYPE.fullmatch(text) or _OBJECT.fullmatch(text)):
            raise Refused(f"it has an array of {str(text)[:40]!r}; wanted numbers or strings")
        self.objects = bool(_OBJECT.fullmatch(text))
        self.value = None if self.objects else np.dtype(text)

    def build(self, state: Any) -> None:
        if type(state) is not tuple or len(state) < 8 or any(part is not None for part in state[2:5]):
            raise Refused("it has an array of records or of arrays; wanted numbers or strings")
        if self.value is not None and state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


class _Array(Pending):
    def __init__(self, *_: Any) -> None: ...

    def build(self, state: Any) -> None:
        if type(state) is not tuple or len(state) not in (4, 5):
            raise Refused("the state of an array is not that of an array")
        shape, dtype, fortran, data = state[-4:]
        self.value = _array(shape, dtype, bool(fortran), data)


def _array(shape: Any, dtype: Any, fortran: bool, data: Any) -> Any:
    """An array over `data`; nested lists where it is one of objects."""
    sizes = check_shape(shape)
    count = math.prod(sizes)
    if isinstance(dtype, _Dtype) and dtype.objects:
        if type(data) is not list or len(data) != count:
            raise Refused(f"it has an array {sizes} of objects that are not there")
        return _nested(data, sizes, fortran)
    kind = dtype.value if isinstance(dtype, _Dtype) else dtype
    if not isinstance(kind, np.dtype):
        raise Refused("it has an array of no type")
    buffer = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(buffer, bytes) or len(buffer) != count * kind.itemsize or (count and not kind.itemsize):
        length = len(buffer) if isinstance(buffer, bytes) else "no"
        raise Refused(f"its array {sizes} of {kind} takes {count * kind.itemsize:,} bytes, and {length} are there")
    if not count:
        return np.zeros(sizes, kind)
    values = np.frombuffer(buffer, kind)  # bytes never change, so that nothing need be copied
    if kind.kind == "U" and int(values.view(np.dtype(np.uint32).newbyteorder(kind.byteorder)).max()) > 0x10FFFF:
        raise Refused("its array of strings holds what is no text")
    return values.reshape(sizes, order="F" if fortran else "C")


def _nested(values: list[Any], sizes: tuple[int, ...], fortran: bool) -> Any:
    if not sizes:
        return values[0]
    if fortran and len(sizes) > 1:
        raise Refused("it has an array of objects in Fortran's order")
    for size in reversed(sizes[1:]):
        values = [values[start : start + size] for start in range(0, len(values), size)] if size else []
    return values


def _scalar(dtype: Any, data: Any = b"") -> Any:
    if isinstance(dtype, _Dtype) and dtype.objects:
        raise Refused("it has a number whose type is an object")
    if isinstance(dtype, np.dtype) and dtype.itemsize == 0 and not data:
        return dtype.type()
    return _array((), dtype, False, data)[()]


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> npt.NDArray[Any]:
    if isinstance(dtype, _Dtype) and dtype.objects:
        raise Refused("it has an array of objects over bytes")
    return _array(shape, dtype, order == "F", data)


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "utf8"):
        raise Refused("it encodes what is no text")
    return text.encode(encoding)


def _as_bytes(value: Any = b"", encoding: Any = "latin1") -> bytes:
    return value if isinstance(value, bytes) else _encoded(value, encoding)


def _mapping(items: Any = ()) -> dict[Any, Any]:
    if not isinstance(items, list | tuple | dict):
        raise Refused("it has a mapping of no items")
    pairs = items.items() if isinstance(items, dict) else items
    return {as_key(key): value for key, value in pairs}


def _elements(values: Any) -> Iterable[Any]:
    if not isinstance(values, list | tuple | set | frozenset):
        raise Refused("it has a set of no elements")
    return (as_key(value) for value in values)


CONTAINERS: dict[tuple[str, str], Build | None] = {
    ("collections", "OrderedDict"): _mapping,
    ("collections", "defaultdict"): lambda *_: {},
    ("_codecs", "encode"): _encoded,
}
for _module in ("builtins", "__builtin__"):
    CONTAINERS[_module, "set"] = lambda values=(): set(_elements(values))
    CONTAINERS[_module, "frozenset"] = lambda values=(): frozenset(_elements(values))
    CONTAINERS[_module, "list"] = lambda values=(): list(values) if isinstance(values, list | tuple) else []
    CONTAINERS[_module, "bytearray"] = CONTAINERS[_module, "bytes"] = _as_bytes
_ARRAYS: dict[tuple[str, str], Build | None] = {
    **CONTAINERS,
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _Dtype,
}
for _package in ("numpy.core", "numpy._core"):
    _ARRAYS[f"{_package}.multiarray", "_reconstruct"] = _Array
    _ARRAYS[f"{_package}.multiarray", "scalar"] = _scalar
    _ARRAYS[f"{_package}.numeric", "_frombuffer"] = _from_buffer


def read_pickle(path: Path) -> Any:
    """What a pickle of arrays and plain containers holds, those of Python 2 too.

    Arrays of objects become lists.

    Raises:
        CollectionError: it cannot be read, asks for anything else to be built, or is too large or too deep.
    """
    try:
        if path.stat().st_size > available_memory() // 2:
            raise Refused(f"it is {path.stat().st_size / 2**30:.1f} GiB, too much for the memory of this machine")
        return Machine(path.read_bytes(), _ARRAYS).load()
    except Damaged as error:
        raise CollectionError(f"{path} is not a pickle that can be read: {error}") from error
    except Refused as error:
        raise CollectionError(f"{path} is not read: {error}") from error
    except OSError as error:
        raise CollectionError(f"{path} cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise CollectionError(f"{path} is not read: it takes more memory than there is") from error
