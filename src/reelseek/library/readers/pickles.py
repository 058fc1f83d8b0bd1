"""The one place where pickles are read: arrays, strings, numbers and containers are built, and nothing else."""

import collections
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.errors import CollectionError

__all__ = ["read_pickle"]

_BUILDS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): lambda *_: {},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("builtins", "set"): set,
    ("builtins", "list"): list,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "bytearray"): bytearray,
    ("__builtin__", "set"): set,
    ("_codecs", "encode"): lambda text, encoding: text.encode("latin1" if encoding == "latin1" else "utf-8"),
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _BUILDS[_module, "_reconstruct"] = np._core.multiarray._reconstruct  # type: ignore[attr-defined]
    _BUILDS[_module, "scalar"] = np._core.multiarray.scalar  # type: ignore[attr-defined]
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    _BUILDS[_module, "_frombuffer"] = np._core.numeric._frombuffer  # type: ignore[attr-defined]


class _Refused(pickle.UnpicklingError):
    pass


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _BUILDS.get((module, name))
        if found is None:
            raise _Refused(f"it names {module}.{name}, and only arrays, strings, numbers and containers are built")
        return found

    def persistent_load(self, _: Any) -> Any:
        raise _Refused("it refers to things outside itself")


def read_pickle(path: Path) -> Any:
    """What a pickle of arrays and plain containers holds, those of Python 2 too.

    Raises:
        CollectionError: it cannot be read, or asks for anything else to be built.
    """
    try:
        data = path.read_bytes()
        try:
            return _Reader(io.BytesIO(data), encoding="latin1").load()
        except _Refused:
            raise
        except UnicodeDecodeError:
            return _Reader(io.BytesIO(data), encoding="bytes").load()
    except _Refused as error:
        raise CollectionError(f"{path} is not read: {error}") from error
    except Exception as error:  # whatever a damaged or hostile pickle runs into
        raise CollectionError(f"{path} is not a pickle that can be read: {type(error).__name__}: {error}") from error
