"""Attention plans made beside the step: by whoever reads batches, from which steps are present, without any weights."""

import io
import logging
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from reelseek.library.tokens import Steps, with_any
from reelseek.models.blocks.mix import Plan, bucketed, record_plans
from reelseek.models.model import RetrievalModel

__all__ = ["AttentionPlanner", "read_plans"]

_log = logging.getLogger("reelseek")


class AttentionPlanner:
    """Plans the attention of a model's video side; it is picklable, and holds shapes instead of weights.

    It runs `encode_videos` on PyTorch's device `meta`, where nothing is computed, and keeps the plans that are asked
    for. A system whose host reads values of the device cannot be run so: it gets no plans, and makes them itself.

    Args:
        model: as it will be trained.
        buckets: of `train.buckets`.
    """

    def __init__(self, model: RetrievalModel, buckets: int = 0) -> None:
        self._buckets = buckets
        try:
            self._pickled = _written(partial(_Pickler, model=model), model)
        except Exception as error:  # a system of another package may hold anything
            _log.debug("attention of %s is planned beside the step: %s", model.system, error)
            self._pickled = b""
        self._model: RetrievalModel | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"_pickled": self._pickled, "_model": None, "_buckets": self._buckets}

    def __call__(self, tokens: Mapping[str, Steps]) -> bytes:
        """Plan for the clips with any evidence, which are those that a loss takes.

        Returns:
            what `read_plans` reads; nothing where no attention is planned.
        """
        if not self._pickled:
            return b""
        if self._model is None:
            self._model = pickle.loads(self._pickled).train()  # noqa: S301 - this program's own bytes
        evidence = with_any(tokens.values()).host
        shapes = {name: steps.to("meta") for name, steps in tokens.items()}
        if not bool(evidence.all()):
            rows = evidence.nonzero()[:, 0]
            shapes = {name: steps.rows(rows) for name, steps in shapes.items()}
        try:
            with torch.no_grad(), bucketed(self._buckets), record_plans() as plans, _ShapesAlone():
                self._model.encode_videos(shapes)
        except Exception as error:  # see above
            _log.debug("attention of %s is planned beside the step: %s", self._model.system, error)
            self._pickled = b""
            return b""
        return _written(_ArrayPickler, plans) if plans else b""


def read_plans(written: bytes) -> dict[bytes, Plan]:
    """Read what a planner returned, perhaps in another process."""
    plans: dict[bytes, Plan] = pickle.loads(written) if written else {}  # noqa: S301 - this program's own bytes
    return plans


_SAME_KIND = (
    torch.Tensor.add, torch.Tensor.sub, torch.Tensor.mul, torch.Tensor.div, torch.Tensor.clamp, torch.Tensor.__and__,
    torch.add, torch.sub, torch.mul, torch.div, functional.normalize, functional.dropout, functional.gelu,
    functional.layer_norm,
)  # fmt: skip
_BOOLEAN = (torch.Tensor.ge, torch.Tensor.gt, torch.Tensor.le, torch.Tensor.lt, torch.Tensor.eq, torch.Tensor.ne)


class _ShapesAlone(TorchFunctionMode):
    """Answers element-wise functions on `meta` by their shape: PyTorch itself takes 0.2 ms of Python for each."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        options = options or {}
        if function is torch.where and len(arguments) == 3:
            kind = arguments[1]
        elif function in _SAME_KIND or function in _BOOLEAN:
            kind = arguments[0]
        else:
            return function(*arguments, **options)
        tensors = [value for value in arguments if isinstance(value, Tensor)]
        if options.get("out") is not None or not isinstance(kind, Tensor) or not kind.is_meta:
            return function(*arguments, **options)
        shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
        dtype = torch.bool if function in _BOOLEAN else kind.dtype
        if function not in _BOOLEAN and function is not torch.where and len(tensors) > 1:
            dtype = torch.result_type(tensors[0], tensors[1])
        return torch.empty(shape, dtype=dtype, device="meta")


class _ArrayPickler(pickle.Pickler):
    """Writes tensors as arrays; PyTorch's own way opens a file of its own for each."""

    def reducer_override(self, value: Any) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, Tensor) else NotImplemented


class _Pickler(pickle.Pickler):
    """Writes a model's parameters and buffers as shapes, and its text side, which reads no clip, as nothing."""

    def __init__(self, file: io.BytesIO, model: RetrievalModel) -> None:
        super().__init__(file)
        self._tensors = {id(tensor) for tensor in [*model.parameters(), *model.buffers()]}
        self._text = getattr(model, "text", None)

    def reducer_override(self, value: Any) -> Any:
        if value is self._text and value is not None:
            return NoneType, ()
        if isinstance(value, Tensor) and id(value) in self._tensors:
            return _shape_of, (tuple(value.shape), value.dtype, isinstance(value, nn.Parameter))
        return NotImplemented


def _shape_of(shape: tuple[int, ...], dtype: torch.dtype, is_parameter: bool) -> Tensor:
    tensor = torch.empty(shape, dtype=dtype, device="meta")
    return nn.Parameter(tensor, requires_grad=False) if is_parameter else tensor


def _written(pickler: Callable[[io.BytesIO], pickle.Pickler], value: object) -> bytes:
    file = io.BytesIO()
    pickler(file).dump(value)
    return file.getvalue()
