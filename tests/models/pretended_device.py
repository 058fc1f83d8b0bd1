"""A device that is not there: tensors that live on it, may not meet those of the host, and say when the host waits.

Values are computed on the host, by wrappers whose device is `meta`. What a real accelerator refuses (a tensor of the
host beside one of the device) is refused, and what makes the host wait for it (reading a value, sizes that depend on
values, a copy that blocks) is counted, with the line of ours that caused it.
"""

import contextlib
import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

__all__ = ["DEVICE", "OnDevice", "pretended_device"]

DEVICE = torch.device("meta")
_aten = torch.ops.aten

# Ops whose result depends on values: its size, or a number of the host.
_WAITS = {
    "_local_scalar_dense", "nonzero", "nonzero_numpy", "_unique", "_unique2", "unique_dim", "unique_consecutive",
    "unique_dim_consecutive", "masked_select", "equal", "is_nonzero", "bincount", "allclose", "argwhere",
}  # fmt: skip
# Ops that take sizes or indices from the host on a real device too; an index of the host is copied, which waits.
_FROM_HOST = {
    "copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_", "_pack_padded_sequence",
    "_pack_padded_sequence_backward", "where",
}  # fmt: skip


class OnDevice(torch.Tensor):
    """A tensor that says it is on the device; `inner` has its values."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "OnDevice":
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=DEVICE,
        )  # fmt: skip
        made.inner = inner
        return made

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"OnDevice({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


_WATCHES: "weakref.WeakSet[_Watch]" = weakref.WeakSet()


class _Watch:
    """Host waits by the line that caused them."""

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()

    @property
    def count(self) -> int:
        return self.waits.total()

    def __str__(self) -> str:
        return "\n".join(f"{times} x {line}" for line, times in self.waits.most_common())


def _wait(what: str) -> None:
    frame: Any = sys._getframe(1)
    line = "in backward"
    while frame is not None:
        name = frame.f_code.co_filename
        if "/reelseek/" in name and "pretended_device" not in name:
            line = f"{name.rpartition('/reelseek/')[2]}:{frame.f_lineno} {frame.f_code.co_name}"
            break
        frame = frame.f_back
    for watch in list(_WATCHES):
        watch.waits[f"{what} at {line}"] += 1


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    flat = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, torch.Tensor)]
    ours = [each for each in flat if isinstance(each, OnDevice)]
    strangers = [each for each in flat if not isinstance(each, OnDevice)]
    target = kwargs.get("device")
    onto = target is not None and torch.device(target).type == DEVICE.type
    if not ours and not onto:
        return func(*args, **kwargs)
    name = func._schema.name.partition("::")[2]
    if ours:
        _check(name, func, args, kwargs, ours, strangers)
    elif flat and name == "_to_copy" and not kwargs.get("non_blocking"):
        _wait("a copy to the device that blocks")
    away = name == "_to_copy" and target is not None and not onto
    if away:
        _wait("a copy to the host")
    inner_args, inner_kwargs = tree_map(_inner, (args, kwargs))
    if target is not None:
        inner_kwargs["device"] = torch.device("cpu")
    inner_kwargs.pop("pin_memory", None)
    found = func(*inner_args, **inner_kwargs)
    alias = func._schema.returns[0].alias_info if func._schema.returns else None
    if alias is not None and alias.is_write:  # in place: what was changed comes back
        return args[0]
    if away:
        return found
    if name == "_pack_padded_sequence":  # how many go on at each step is the host's to know
        return OnDevice(found[0]), found[1]
    return tree_map(lambda each: OnDevice(each) if isinstance(each, torch.Tensor) else each, found)


def _inner(each: Any) -> Any:
    if isinstance(each, OnDevice):
        return each.inner
    if isinstance(each, torch.Tensor) and each.device.type == DEVICE.type:
        raise AssertionError("a tensor of the device that holds no values; it was made in a way that loses them")
    return each


def _check(
    name: str, func: Any, args: Any, kwargs: dict[str, Any], ours: list[Any], strangers: list[torch.Tensor]
) -> None:
    """Count a wait, and refuse tensors of the host that are more than a number."""
    if name in _WAITS or (name == "repeat_interleave" and ours and kwargs.get("output_size") is None):
        _wait(name)
    if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
        indices = [each for each in args[1] if each is not None]
        plain = name != "index" and args[2].numel() == 1
        if any(each.dtype in (torch.bool, torch.uint8) for each in indices) and not plain:
            _wait(f"{name} by a mask")
        if any(not isinstance(each, OnDevice) for each in indices):
            _wait(f"{name} by an index of the host")
    if name == "copy_" and (not isinstance(args[0], OnDevice) or not isinstance(args[1], OnDevice)):
        plain = not isinstance(args[1], OnDevice) and args[1].dim() == 0
        blocks = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        if not plain and (blocks or not isinstance(args[0], OnDevice)):
            _wait("copy_ that blocks")
    if name == "where" and strangers:  # PyTorch copies a number of the host to the device, and waits
        _wait("where beside a number of the host")
    if name not in _FROM_HOST:
        for each in strangers:
            if each.dim() > 0:
                raise RuntimeError(
                    f"Expected all tensors to be on the same device: {func} met one of {tuple(each.shape)} on "
                    f"{each.device} beside one on the device"
                )


class _Factories(TorchDispatchMode):
    """Makes tensors on the device where PyTorch is asked for them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextlib.contextmanager
def pretended_device() -> Iterator[_Watch]:
    """Within it `DEVICE` works, and what is yielded counts the host's waits."""
    watch = _Watch()
    _WATCHES.add(watch)
    try:
        with _Factories():
            yield watch
    finally:
        _WATCHES.discard(watch)
