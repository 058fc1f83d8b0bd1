"""How a process that decodes videos reaches the model server: inputs in shared memory, short messages on a socket.

The memory is a file without a name that this process makes and hands over as an open descriptor, so that it is gone
when both have ended, however they end. It is bounded: a process whose memory is full of inputs that the server has not
come to waits. It is this process's, so that inputs outlive a server that dies: they are sent again to the next.
"""

import json
import mmap
import os
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import ExpertUnavailable
from reelseek.experts.encoder import Deferred, Encoder, rows_per_batch
from reelseek.media.guard import MODEL_SERVER_DIED

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HEADER_BYTES", "Channel", "ServerAddress"]

HEADER_BYTES = 4096
"""At the start of the memory a byte for each piece under way; the server sets it when it begins to compute it."""
_ALIGNMENT = 64
_MOST_PIECES = 256  # under way at once, so that their answers never fill the socket


@dataclass(frozen=True)
class ServerAddress:
    """Where a model server is reached, and what it computes.

    Args:
        folder: holds its socket, and `end` with the reason once there is no server any more.
        device: of its models.
        specs: encoders whose models it holds.
        errors: by spec, why it does not hold a model.
        batched: it computes pieces in batches of one size, of which a piece is no larger.
        frames: see `rows_per_batch`.
        channel_bytes: shared memory of each process that sends to it.
    """

    folder: str
    device: str
    specs: frozenset[str]
    errors: Mapping[str, str]
    batched: bool
    frames: int
    channel_bytes: int

    @property
    def socket(self) -> str:
        """The path of its socket."""
        return os.path.join(self.folder, "socket")

    def end(self) -> str:
        """Read why there is no server any more."""
        try:
            return (Path(self.folder) / "end").read_text("utf-8")
        except OSError:
            return "it was stopped"


@dataclass
class _Piece:
    """Some rows of inputs on their way through the server, and where they lie in the memory."""

    message: bytes
    begin: int
    end: int
    result: int
    shape: tuple[int, int]
    tries: int = 0
    rows: npt.NDArray[np.float32] | None = None
    error: str = ""


class Channel:
    """One process's connection to a model server; for one thread."""

    def __init__(self, address: ServerAddress) -> None:
        self.specs = address.specs
        self._address = address
        self._capacity = address.channel_bytes
        self._connection: Connection | None = None
        self._memory: mmap.mmap | None = None
        self._descriptor = -1
        self._pieces: dict[int, _Piece] = {}

    def submit(self, encoder: Encoder, inputs: Mapping[str, "Tensor"]) -> Deferred:
        """Send inputs; waits while the memory is full.

        Raises:
            ExpertUnavailable: there is no server any more.
        """
        arrays = {name: self._array(encoder, tensor) for name, tensor in inputs.items()}
        rows = len(next(iter(arrays.values())))
        size = rows
        if self._address.batched:
            shapes = {name: array.shape for name, array in arrays.items()}
            size = rows_per_batch(shapes, encoder.most_rows, self._address.frames)
        pieces = [
            self._send(encoder, {name: array[begin : begin + size] for name, array in arrays.items()})
            for begin in range(0, rows, size)
        ]
        return lambda: np.concatenate([self._result(piece) for piece in pieces])

    def _array(self, encoder: Encoder, tensor: "Tensor") -> npt.NDArray[Any]:
        if encoder.half and self._address.device != "cpu" and tensor.is_floating_point():
            tensor = tensor.half()  # half of the bytes; the model rounds its inputs to it anyway
        array: npt.NDArray[Any] = tensor.numpy()
        return array

    def _send(self, encoder: Encoder, arrays: Mapping[str, npt.NDArray[Any]]) -> _Piece:
        shape = (len(next(iter(arrays.values()))), encoder.width)
        offsets, size = [], 0
        for array in arrays.values():
            offsets.append(size)
            size += _aligned(array.nbytes)
        number, begin = self._place(size + 4 * shape[0] * shape[1])
        assert self._memory is not None
        parts = {}
        for (name, array), offset in zip(arrays.items(), offsets, strict=True):
            view = np.frombuffer(self._memory, array.dtype, array.size, begin + offset).reshape(array.shape)
            view[...] = array
            parts[name] = (array.dtype.str, array.shape, begin + offset)
        message = {"piece": number, "spec": encoder.spec, "inputs": parts, "result": begin + size, "shape": shape}
        piece = _Piece(json.dumps(message).encode(), begin, begin + size + 4 * shape[0] * shape[1], begin + size, shape)
        self._memory[number] = 0
        self._pieces[number] = piece
        try:
            self._deliver(piece)
        except OSError:
            self._start_over()
        return piece

    def _place(self, size: int) -> tuple[int, int]:
        """Reserve a number for a piece and a gap in the memory; takes answers until there is one."""
        if size > self._capacity - HEADER_BYTES:
            while self._pieces:
                self._take_answer()
            self._close()
            self._capacity = HEADER_BYTES + size
        while True:
            if self._connection is None:
                self._connect()
            assert self._connection is not None
            while self._pieces and self._connection is not None and self._connection.poll(0):
                self._take_answer()
            number = next((number for number in range(_MOST_PIECES) if number not in self._pieces), None)
            begin = self._gap(size)
            if number is not None and begin is not None and self._connection is not None:
                return number, begin
            if self._pieces:
                self._take_answer()

    def _gap(self, size: int) -> int | None:
        begin = HEADER_BYTES
        for piece in sorted(self._pieces.values(), key=lambda piece: piece.begin):
            if piece.begin - begin >= size:
                break
            begin = _aligned(piece.end)
        return begin if begin + size <= self._capacity else None

    def _result(self, piece: _Piece) -> npt.NDArray[np.float32]:
        while piece.rows is None and not piece.error:
            self._take_answer()
        if piece.rows is None:
            raise ExpertUnavailable(piece.error)
        return piece.rows

    def _take_answer(self) -> None:
        """Wait for one answer; a server that died in the meantime is replaced."""
        assert self._connection is not None
        assert self._memory is not None
        try:
            answer = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            self._start_over()
            return
        piece = self._pieces.pop(answer["piece"])
        piece.error = answer["error"]
        if not piece.error:
            count = piece.shape[0] * piece.shape[1]
            piece.rows = np.frombuffer(self._memory, np.float32, count, piece.result).reshape(piece.shape).copy()

    def _start_over(self) -> None:
        """Go to the next server with what the one that died did not answer; what it had begun twice has failed."""
        assert self._memory is not None
        while True:
            for number, piece in list(self._pieces.items()):
                piece.tries += self._memory[number]
                self._memory[number] = 0
                if piece.tries > 1:
                    piece.error = f"{MODEL_SERVER_DIED} twice while it computed this; the run went on without it"
                    del self._pieces[number]
            try:
                self._connect()
            except ExpertUnavailable as error:
                for piece in self._pieces.values():
                    piece.error = str(error)
                self._pieces.clear()
                return
            try:
                for piece in self._pieces.values():
                    self._deliver(piece)
                return
            except OSError:
                continue

    def _deliver(self, piece: _Piece) -> None:
        assert self._connection is not None
        self._connection.send_bytes(bytes([piece.tries]) + piece.message)

    def _connect(self) -> None:
        """Connect, and hand over the memory; a server that is being started takes it when it is ready."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._memory is None:
            self._descriptor = _memory_file(self._capacity)
            self._memory = mmap.mmap(self._descriptor, self._capacity)
        try:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.connect(self._address.socket)
            socket.send_fds(connection, [b"m"], [self._descriptor])
        except OSError as error:
            connection.close()
            raise ExpertUnavailable(f"{MODEL_SERVER_DIED}: {self._address.end()}") from error
        self._connection = Connection(connection.detach())

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            os.close(self._descriptor)
        self._connection = self._memory = None


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _memory_file(size: int) -> int:
    """Open a file of zeros without a name, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("reelseek-inputs")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
