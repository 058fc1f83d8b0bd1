"""Files of tensors that other projects wrote, read without running anything that is in them.

`.safetensors` as they are. torch's own files are pickles: here a reader builds tensors and plain containers, and puts
an inert stand-in wherever such a file names anything else, such as the configuration object of the project it is from.
"""

import collections
import pickle
import types
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from reelseek.errors import ModelError

__all__ = ["read_tensors"]

_BUILDS = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
}
_STORAGES = {f"{kind}Storage" for kind in "Float Double Half BFloat16 Long Int Short Char Byte Bool".split()}


class _Inert:
    """Stands where a file names what is not a tensor; takes anything and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> "_Inert":
        return self

    def __setstate__(self, _: Any) -> None: ...

    def __setitem__(self, _: Any, __: Any) -> None: ...

    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return getattr(torch, name)
        return _BUILDS.get((module, name), _Inert)


def _load(file: Any, **_: Any) -> Any:
    return _Unpickler(file).load()


_TENSORS_ONLY = types.ModuleType("tensors_only")
_TENSORS_ONLY.Unpickler, _TENSORS_ONLY.load = _Unpickler, _load  # type: ignore[attr-defined]
_TENSORS_ONLY.__dict__["UnpicklingError"] = pickle.UnpicklingError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint under its dotted name.

    Containers around the weights (`state_dict`, `model`) and `module.` of data parallel are taken off; a list of state
    dicts is numbered.

    Raises:
        ModelError: no such file, not a checkpoint, or no tensor in it.
    """
    if not path.is_file():
        raise ModelError(f"{path} is no file; a checkpoint is a .safetensors, .pth, .pt or .tar")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        whole = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_TENSORS_ONLY)
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file: {error}") from error
    except Exception as error:  # whatever a hostile or damaged pickle runs into
        raise ModelError(f"{path} holds no tensors that can be read: {type(error).__name__}: {error}") from error
    if isinstance(whole, dict) and isinstance(whole.get("state_dict"), dict):
        whole = whole["state_dict"]
    found: dict[str, Tensor] = {}
    _gather(whole, "", found)
    if not found:
        raise ModelError(f"{path} holds no tensor")
    return found


def _gather(what: Any, prefix: str, found: dict[str, Tensor]) -> None:
    if isinstance(what, Tensor):
        found[prefix.removesuffix(".")] = what.detach()
    elif isinstance(what, dict):
        for name, part in what.items():
            if prefix == "" and name in ("optimizer", "opt"):
                continue
            _gather(part, f"{prefix}{str(name).removeprefix('module.')}.", found)
    elif isinstance(what, list | tuple):
        for index, part in enumerate(what):
            _gather(part, f"{prefix}{index}.", found)
