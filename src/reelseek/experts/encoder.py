"""The part of an expert that is a model's forward pass, apart from preparing its inputs and using its rows.

Inputs are prepared by the process that decodes. The forward pass runs there too, or in a model server, which holds one
copy of the model for all such processes and computes batches of several videos at once.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

import numpy as np
import numpy.typing as npt

from reelseek.media.streams import FrameBatch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Deferred", "Encoder", "Remote", "encoder_of", "rows_per_batch", "use_remote"]

Deferred = Callable[[], npt.NDArray[np.float32]]
"""Rows [row, width] that may be under way; the call waits for them."""

_BATCH_ELEMENTS = 2**27  # of a batch's inputs: 256 pictures of 384 x 384 pixels, 64 of 640 x 640
_FRAMES = 256


class Remote(Protocol):
    """Where the forward passes of some encoders run, other than in this process."""

    @property
    def specs(self) -> frozenset[str]: ...
    def submit(self, encoder: "Encoder", inputs: Mapping[str, "Tensor"]) -> Deferred: ...


_remote: Remote | None = None


def use_remote(remote: Remote | None) -> None:
    """Run the forward passes that `remote` has models for there from now on; None runs all in this process."""
    global _remote
    _remote = remote


class Encoder:
    """A model's forward pass over prepared inputs.

    Args:
        spec: an expert by which another process loads the same encoder, `name` or `name@model`.
        width: of the rows.
        load: returns the model, in single precision and evaluation mode; one instance per process.
        prepare: turns what an expert is fed into tensors by name, on the host; their first axis is the row.
        forward: takes the model and such tensors, on the model's device; returns rows [row, width].
        half: on an accelerator it computes in float16. Only for unit vectors, which stay within 1e-3 of those of
            single precision; probabilities, thresholds and hidden states do not.
        most_rows: rows of a batch that a device is given at once.
    """

    def __init__(
        self,
        spec: str,
        width: int,
        *,
        load: Callable[[], Any],
        prepare: Callable[[Any], dict[str, "Tensor"]],
        forward: Callable[[Any, dict[str, "Tensor"]], "Tensor"],
        half: bool = False,
        most_rows: int = _FRAMES,
    ) -> None:
        self.spec, self.width, self.half, self.most_rows = spec, width, half, most_rows
        self.load, self.forward = load, forward
        self._prepare = prepare
        self._latest: tuple[ref[FrameBatch], Deferred] | None = None

    def submit(self, batch: Any) -> Deferred:
        """Start the forward pass of a batch."""
        inputs = self._prepare(batch)
        if _remote is not None and self.spec in _remote.specs:
            return _remote.submit(self, inputs)
        rows = self.compute(inputs)
        return lambda: rows

    def submit_once(self, batch: FrameBatch) -> Deferred:
        """Start the forward pass of a batch, or return that of an expert before, which was fed the same batch."""
        if self._latest is None or self._latest[0]() is not batch:
            self._latest = ref(batch), self.submit(batch)
        return self._latest[1]

    def compute(self, inputs: Mapping[str, "Tensor"]) -> npt.NDArray[np.float32]:
        """Run the forward pass in this process, on the device of the model."""
        import torch

        model = self.load()
        device = next(model.parameters()).device
        with torch.inference_mode():
            rows: npt.NDArray[np.float32] = (
                self.forward(model, {name: part.to(device) for name, part in inputs.items()}).float().cpu().numpy()
            )
        return rows


def encoder_of(expert: object) -> Encoder | None:
    """Return an expert's encoder; None where an expert computes as a whole, as those of other packages do."""
    encoder = getattr(expert, "encoder", None)
    return encoder if isinstance(encoder, Encoder) else None


def rows_per_batch(shapes: Mapping[str, tuple[int, ...]], most_rows: int, frames: int = _FRAMES) -> int:
    """Return the rows of a batch on an accelerator: a power of two that depends on nothing but its arguments.

    A batch of fewer rows is filled up to it, so that the device runs the same programs, and yields the same bits,
    whatever came together.

    Args:
        shapes: of the inputs, the first axis being the row.
        most_rows: what the encoder allows at once.
        frames: rows of a batch of small pictures; less makes all batches smaller in proportion.

    >>> rows_per_batch({"pixel_values": (16, 3, 224, 224)}, 256)
    256
    """
    elements = max(1, sum(prod(shape[1:]) for shape in shapes.values()))
    rows = int(min(most_rows, _BATCH_ELEMENTS // elements) * frames / _FRAMES)
    return int(2 ** (max(1, rows).bit_length() - 1))
