"""What a model server computes: pieces of several videos in one batch on an accelerator, each by itself on the CPU.

On an accelerator a batch has one size for inputs of one shape and is filled up to it, so that a row has the same bits
whatever came with it. On the CPU, where a batch is no faster, a piece is what the decoding process would have computed
itself, on one thread as there, so that the bits are the same with and without a server.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reelseek.errors import ExpertUnavailable, ReelseekError
from reelseek.experts.encoder import Encoder, rows_per_batch

__all__ = ["Models", "Piece", "PieceQueue", "serve_pieces"]


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of inputs of one video, in memory that is shared with the process that decodes it.

    Args:
        spec: of the encoder.
        inputs: arrays whose first axis is the row.
        result: float32 [row, width], to be filled.
        begin: notes for the decoding process that its computation begins, and may end this process.
        answer: tells the decoding process that the result is there, or why there is none.
        is_wanted: whether that process is still there.
        tried: a server before this one died when it computed it, so that it is computed alone.
    """

    spec: str
    inputs: Mapping[str, npt.NDArray[Any]]
    result: npt.NDArray[np.float32]
    begin: Callable[[], None]
    answer: Callable[[str], None]
    is_wanted: Callable[[], bool]
    tried: bool = False

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(self.result)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs."""
        return {name: array.shape for name, array in self.inputs.items()}

    @property
    def group(self) -> tuple[Any, ...]:
        """What pieces share that fit into one batch."""
        parts = ((name, array.shape[1:], array.dtype.str) for name, array in self.inputs.items())
        return (id(self) if self.tried else None, self.spec, *parts)


class PieceQueue:
    """Pieces that wait, by what fits into one batch.

    Args:
        limit: rows of a batch that a piece may be part of; 0 computes pieces one by one.
    """

    def __init__(self, limit: Callable[[Piece], int]) -> None:
        self._limit = limit
        self._groups: dict[tuple[Any, ...], deque[tuple[int, Piece]]] = {}
        self._count = 0
        self._changed = threading.Condition()

    def put(self, piece: Piece) -> None:
        with self._changed:
            self._groups.setdefault(piece.group, deque()).append((self._count, piece))
            self._count += 1
            self._changed.notify()

    def take(self, *, block: bool) -> list[Piece]:
        """Take a full batch if there is one, else what has waited longest and what fits to it; [] if nothing waits."""
        with self._changed:
            while True:
                batch = self._take()
                if batch or not (block or self._groups):
                    return batch
                if not self._groups:
                    self._changed.wait()

    def _take(self) -> list[Piece]:
        if not self._groups:
            return []
        full = [
            group
            for group, waiting in self._groups.items()
            if 0 < self._limit(waiting[0][1]) <= sum(piece.rows for _, piece in waiting)
        ]
        group = min(full or self._groups, key=lambda group: self._groups[group][0][0])
        waiting, batch, rows = self._groups[group], list[Piece](), 0
        limit = self._limit(waiting[0][1])
        while waiting and (not batch or rows + waiting[0][1].rows <= limit):
            piece = waiting.popleft()[1]
            if piece.is_wanted():
                batch.append(piece)
                rows += piece.rows
        if not waiting:
            del self._groups[group]
        return batch


class Models:
    """Models on one device, one copy each, and how batches go through them.

    Args:
        encoders: by spec; their models are loaded.
        device: where to.
        batched: compute pieces of several videos in batches of one size, as accelerators do; else one by one.
        frames: see `rows_per_batch`.

    Attributes:
        errors: by spec, why a model is not there.
    """

    def __init__(self, encoders: Mapping[str, Encoder], device: torch.device, *, batched: bool, frames: int) -> None:
        self.device, self.batched = device, batched
        self.errors: dict[str, str] = {}
        self._encoders, self._frames = encoders, frames
        self._models: dict[str, Any] = {}
        for spec, encoder in encoders.items():
            try:
                model = encoder.load()
            except Exception as error:  # whatever a model's files make its library raise is this model's own failure
                self.errors[spec] = f"its model could not be loaded: {type(error).__name__}: {error}"
                continue
            try:
                self._models[spec] = self._moved(encoder, model)
            except Exception as error:  # and whatever a driver raises
                self.errors[spec] = (
                    f"its model could not be moved to {device}: {type(error).__name__}: {error}; use --device cpu"
                )
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" and self._models else None

    def _moved(self, encoder: Encoder, model: Any) -> Any:
        if self._halves(encoder):
            return deepcopy(model).to(self.device, torch.float16)  # another encoder may share the model
        return model.to(self.device)

    def _halves(self, encoder: Encoder) -> bool:
        return encoder.half and self.device.type != "cpu"

    def limit(self, piece: Piece) -> int:
        """Rows of the batch that a piece is part of; 0 where it is computed by itself."""
        if not self.batched:
            return 0
        return rows_per_batch(piece.shapes, self._encoders[piece.spec].most_rows, self._frames)

    def launch(self, pieces: Sequence[Piece]) -> "Launched":
        """Start the forward pass of pieces that fit into one batch."""
        encoder = self._encoders[pieces[0].spec]
        if encoder.spec in self.errors:  # a server that was started anew, with less memory or other files than before
            raise ExpertUnavailable(self.errors[encoder.spec])
        with torch.inference_mode():
            rows = self._rows(encoder, self._models[encoder.spec], self._inputs(pieces))
            if self._copies is None:
                return Launched(pieces, rows, None)
            values = torch.empty(rows.shape, pin_memory=True).copy_(rows, non_blocking=True)
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(self.device))
            return Launched(pieces, values, done)

    def _inputs(self, pieces: Sequence[Piece]) -> dict[str, Tensor]:
        """Inputs of a batch on the device, copied beside what it computes."""
        names = list(pieces[0].inputs)
        if self._copies is None:
            return {name: self._joined([piece.inputs[name] for piece in pieces], pieces[0]) for name in names}
        with torch.cuda.stream(self._copies):
            inputs = {name: self._joined([piece.inputs[name] for piece in pieces], pieces[0]) for name in names}
        stream = torch.cuda.current_stream(self.device)
        stream.wait_stream(self._copies)
        for tensor in inputs.values():
            tensor.record_stream(stream)
        return inputs

    def _joined(self, arrays: Sequence[npt.NDArray[Any]], piece: Piece) -> Tensor:
        """One input of a batch, filled up with its first row."""
        if not self.batched:
            return torch.from_numpy(arrays[0]).to(self.device)
        first = torch.from_numpy(arrays[0])
        batch = torch.empty((self.limit(piece), *first.shape[1:]), dtype=first.dtype, device=self.device)
        begin = 0
        for array in arrays:
            batch[begin : begin + len(array)].copy_(torch.from_numpy(array), non_blocking=True)
            begin += len(array)
        batch[begin:] = batch[:1]
        return batch

    def _rows(self, encoder: Encoder, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        rows = encoder.forward(model, inputs).float()
        if rows.shape[1:] != (encoder.width,):
            raise ValueError(f"{encoder.spec} yields rows of shape {tuple(rows.shape[1:])}, not ({encoder.width},)")
        return rows

    def finish(self, launched: "Launched") -> None:
        """Wait for the rows of a batch, and answer its pieces."""
        values = launched.wait()
        begin = 0
        parts = []  # all of them before the first answer: whoever has one may use its memory for another piece
        for piece in launched.pieces:
            part = values[begin : begin + piece.rows]
            begin += piece.rows
            if self._halves(self._encoders[piece.spec]) and not np.isfinite(part).all():
                part = self._compute_exactly(piece)
            parts.append(part)
        for piece, part in zip(launched.pieces, parts, strict=True):
            piece.result[...] = part
            piece.answer("")

    def _compute_exactly(self, piece: Piece) -> npt.NDArray[np.float32]:
        """Compute a piece in single precision, as some of it went beyond what float16 holds."""
        encoder = self._encoders[piece.spec]
        with torch.inference_mode():
            inputs = {
                name: part.float() if part.is_floating_point() else part for name, part in self._inputs([piece]).items()
            }
            rows = self._rows(encoder, encoder.load().to(self.device), inputs)
        part: npt.NDArray[np.float32] = rows[: piece.rows].cpu().numpy()
        return part

    def describe_shortage(self, piece: Piece) -> str:
        """Say which batch is too large for the device's memory, and which would fit."""
        size, fitting = max(self.limit(piece), piece.rows), 0
        shapes = ", ".join(f"{name} {list(shape[1:])}" for name, shape in piece.shapes.items())
        for rows in (size >> shift for shift in range(1, size.bit_length())):
            torch.cuda.empty_cache()
            try:
                with torch.inference_mode():
                    inputs = {
                        name: torch.from_numpy(array[:1]).to(self.device).expand(rows, *array.shape[1:]).contiguous()
                        for name, array in piece.inputs.items()
                    }
                    self._rows(self._encoders[piece.spec], self._models[piece.spec], inputs).cpu()
            except torch.OutOfMemoryError:
                continue
            fitting = rows
            break
        frames = self._frames * fitting // size
        advice = f"{fitting} would: set REELSEEK_BATCH_FRAMES={frames}" if frames else "not even one row would"
        return f"{self.device} has too little memory for a batch of {size} rows ({shapes}) of {piece.spec}; {advice}"


@dataclass(frozen=True)
class Launched:
    """A batch under way: its pieces, and rows [row, width] that are there once `done` has happened."""

    pieces: Sequence[Piece]
    rows: Tensor
    done: "torch.cuda.Event | None"

    def wait(self) -> npt.NDArray[np.float32]:
        """Return the rows on the host."""
        if self.done is not None:
            self.done.synchronize()
        values: npt.NDArray[np.float32] = self.rows.cpu().numpy()
        return values


def serve_pieces(queue: PieceQueue, models: Models, *, lanes: int, computed: Callable[[], None]) -> None:
    """Compute what the queue yields, for ever.

    Args:
        lanes: threads that compute side by side; an accelerator takes one, which is a batch ahead of it.
        computed: called after every batch.
    """
    ahead = 2 if models.device.type == "cuda" else 1
    for _ in range(lanes - 1):
        threading.Thread(target=_serve_lane, args=(queue, models, computed, ahead), daemon=True).start()
    _serve_lane(queue, models, computed, ahead)


def _serve_lane(queue: PieceQueue, models: Models, computed: Callable[[], None], ahead: int) -> None:
    running: deque[Launched] = deque()
    while True:
        _serve_batch(queue, models, running, ahead)  # which leaves no reference to a process's memory
        computed()


def _serve_batch(queue: PieceQueue, models: Models, running: deque[Launched], ahead: int) -> None:
    """Finish a batch, having launched those that the device is to have ahead of it."""
    while len(running) < ahead:
        pieces = queue.take(block=not running)
        if not pieces:
            break
        for piece in pieces:
            piece.begin()
        try:
            running.append(models.launch(pieces))
        except Exception as error:  # see _fail
            _fail(models, pieces, error)
            return
    batch = running.popleft()
    try:
        models.finish(batch)
    except Exception as error:  # see _fail
        _fail(models, batch.pieces, error)


def _fail(models: Models, pieces: Sequence[Piece], error: Exception) -> None:
    """Answer pieces whose batch failed: each is computed alone, so that the error of one is not that of others."""
    if isinstance(error, torch.OutOfMemoryError):
        message = models.describe_shortage(pieces[0])
    elif "CUDA error" in str(error):  # after which this process can compute nothing more
        os._exit(1)
    else:
        message = str(error) if isinstance(error, ReelseekError) else f"{type(error).__name__}: {error}"
    for piece in pieces:
        if len(pieces) == 1 or isinstance(error, torch.OutOfMemoryError):
            piece.answer(message)
            continue
        try:
            models.finish(models.launch([piece]))
        except Exception as reason:
            _fail(models, [piece], reason)
