"""One process for each device that holds the models, and computes for all processes that decode videos.

It lives as long as one extraction. One that dies is started again; what it was computing is tried once more, each piece
alone, and what then ends it again has failed with that reason. One that dies again and again before it has computed
anything is not started again.
"""

import contextlib
import json
import mmap
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from reelseek.errors import UsageError
from reelseek.experts import load_expert
from reelseek.experts.channel import HEADER_BYTES, ServerAddress
from reelseek.experts.encoder import Encoder, encoder_of
from reelseek.media.guard import die_with_parent

if TYPE_CHECKING:
    from reelseek.experts.batching import Piece, PieceQueue

__all__ = ["ModelServer", "serve_models"]

_MOST_DEATHS = 4  # one after the other, without a batch in between
_CHANNEL_BYTES = 2**27
_LONGEST_ERROR = 500
_SERVE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from reelseek.experts.server import serve_models; serve_models()"
)


class ModelServer:
    """The model server of one device, as the process sees it that starts it.

    Args:
        specs: experts; those without an encoder are not its business.
        device: of the models.
        lanes: threads that compute side by side on a CPU, where ingests use no server; on an accelerator there is one.
        batched: compute in batches across videos; by default on an accelerator.
        channel_bytes: shared memory for each process that sends to it; a process whose memory is full waits.
    """

    def __init__(
        self,
        specs: Sequence[str],
        device: str,
        *,
        lanes: int = 1,
        batched: bool | None = None,
        channel_bytes: int = _CHANNEL_BYTES,
    ) -> None:
        encoders = {encoder.spec: encoder for spec in specs if (encoder := encoder_of(load_expert(spec)))}
        self._specs, self._device = list(encoders), device
        self._lanes = lanes if device == "cpu" else 1
        self._batched = device != "cpu" if batched is None else batched
        self._channel_bytes, self._frames = channel_bytes, _frames()  # before anything is opened
        self._folder, self._listener = _listen()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_up, self._stopped = threading.Event(), False
        self._lock = threading.Lock()
        self._errors: dict[str, str] = {}
        self._monitor = threading.Thread(target=self._keep_up, daemon=True)

    def __enter__(self) -> ServerAddress:
        """Start the process and wait until it has loaded its models."""
        try:
            self._monitor.start()
            self._is_up.wait()
        except BaseException:
            self.stop()
            raise
        return ServerAddress(
            folder=str(self._folder),
            device=self._device,
            specs=frozenset(self._specs) - self._errors.keys(),
            errors=dict(self._errors),
            batched=self._batched,
            frames=self._frames,
            channel_bytes=self._channel_bytes,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process; whoever waits for it gets an error."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()
        if self._monitor.ident is not None:
            self._monitor.join()
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def process_id(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None
        return self._process.pid

    def _keep_up(self) -> None:
        """Run the process, and another one when it dies; in a thread, for whose end the process would be killed."""
        deaths = 0
        while not self._stopped:
            computed, code = self._run()
            deaths = 0 if computed else deaths + 1
            if deaths == _MOST_DEATHS and not self._stopped:
                times = f"{deaths} times, one after the other, before it had computed anything (exit code {code})"
                (self._folder / "end").write_text(f"it was started {times}", "utf-8")
                break
        self._listener.close()
        self._is_up.set()

    def _run(self) -> tuple[bool, int]:
        """Run one process to its end; returns whether it has computed anything, and its exit code."""
        pipe, theirs = Pipe()
        arguments = [json.dumps(sys.path), str(theirs.fileno()), str(self._listener.fileno())]
        with theirs, self._lock:
            if self._stopped:
                return False, 0
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, *arguments],
                pass_fds=[theirs.fileno(), self._listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        computed = False
        with pipe, contextlib.suppress(EOFError, OSError):
            pipe.send((self._specs, self._device, self._lanes, self._batched, self._frames, str(self._folder)))
            self._errors = pipe.recv()
            self._is_up.set()
            computed = pipe.recv()
            pipe.recv()
        return computed, self._process.wait()


def _frames() -> int:
    value = os.environ.get("REELSEEK_BATCH_FRAMES", "").strip() or "256"
    if not value.isdecimal() or not 1 <= int(value) <= 4096:
        raise UsageError(f"REELSEEK_BATCH_FRAMES is {value!r}; wanted frames a batch, between 1 and 4096")
    return int(value)


def _listen() -> tuple[Path, socket.socket]:
    """A socket in a folder that only this user can enter."""
    folder = tempfile.mkdtemp(prefix="reelseek-")
    if len(folder) > 90:  # addresses of sockets are short
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="reelseek-", dir="/tmp")  # mkdtemp's names cannot be guessed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.path.join(folder, "socket"))
    listener.listen(1024)
    return Path(folder), listener


def serve_models() -> None:
    """Run in the server's process: load models, then compute what comes from the socket."""
    import torch

    from reelseek.experts.batching import Models, PieceQueue, serve_pieces

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    die_with_parent()
    pipe = Connection(int(sys.argv[2]))
    listener = socket.socket(fileno=int(sys.argv[3]))
    specs, device, lanes, batched, frames, folder = pipe.recv()
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False  # what computes in single precision has all of it
    encoders: dict[str, Encoder] = {spec: encoder for spec in specs if (encoder := encoder_of(load_expert(spec)))}
    models = Models(encoders, torch.device(device), batched=batched, frames=frames)
    pipe.send(models.errors)
    queue = PieceQueue(models.limit)
    threading.Thread(target=_end_with, args=(pipe, Path(folder)), daemon=True).start()
    threading.Thread(target=_accept, args=(listener, queue, device), daemon=True).start()
    serve_pieces(queue, models, lanes=lanes, computed=_FirstBatch(pipe))


class _FirstBatch:
    """Tells the parent once that something has been computed."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe: Connection | None = pipe
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            if self._pipe is not None:
                self._pipe.send(True)
                self._pipe = None


def _end_with(pipe: Connection, folder: Path) -> None:
    """End this process when its parent has ended without ending it."""
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _accept(listener: socket.socket, queue: "PieceQueue", device: str) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_read_pieces, args=(connection, queue, device), daemon=True).start()


def _read_pieces(connection: socket.socket, queue: "PieceQueue", device: str) -> None:
    """Queue what one process sends, until it ends."""
    with contextlib.suppress(EOFError, OSError):
        _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
        memory = mmap.mmap(descriptors[0], 0)
        os.close(descriptors[0])
        client = _Client(Connection(connection.detach()), memory)
        if device.startswith("cuda"):
            _pin(client, memory)
        client.read(queue)


class _Client:
    """A process that sends pieces."""

    def __init__(self, connection: Connection, memory: mmap.mmap) -> None:
        self._connection, self._memory = connection, memory
        self._lock = threading.Lock()
        self._is_there = True

    def read(self, queue: "PieceQueue") -> None:
        try:
            while True:
                message = self._connection.recv_bytes()
                queue.put(self._piece(json.loads(message[1:]), bool(message[0])))
        finally:
            self._is_there = False

    def _piece(self, message: dict[str, Any], tried: bool) -> "Piece":
        from reelseek.experts.batching import Piece

        inputs = {
            name: np.frombuffer(self._memory, dtype, int(np.prod(shape)), begin).reshape(shape)
            for name, (dtype, shape, begin) in message["inputs"].items()
        }
        rows, width = message["shape"]
        result = np.frombuffer(self._memory, np.float32, rows * width, message["result"]).reshape(rows, width)
        number = message["piece"]
        return Piece(
            message["spec"],
            inputs,
            result,
            begin=partial(self._note, number),
            answer=partial(self._answer, number),
            is_wanted=lambda: self._is_there,
            tried=tried,
        )

    def _note(self, number: int) -> None:
        self._memory[number % HEADER_BYTES] = 1

    def _answer(self, number: int, error: str) -> None:
        message = json.dumps({"piece": number, "error": error[:_LONGEST_ERROR]}).encode()
        with self._lock, contextlib.suppress(OSError):  # it has ended
            self._connection.send_bytes(message)


def _pin(client: _Client, memory: mmap.mmap) -> None:
    """Let the device copy from a client's memory by itself; where the driver refuses, copies take longer."""
    import torch

    address = np.frombuffer(memory, np.uint8).ctypes.data
    runtime: Any = torch.cuda.cudart()
    if int(runtime.cudaHostRegister(address, len(memory), 0)) == 0:
        weakref.finalize(client, runtime.cudaHostUnregister, address)  # its pieces hold it, too
        return
    with contextlib.suppress(RuntimeError):  # the refusal is the driver's last error, which the next program reports
        torch.zeros(1, device="cuda").add_(1)
