"""The process that `reelseek.cli.resident` hands searches to: it imports once, and forks for each.

It computes nothing itself and runs no thread, so that a fork is as good as a new process: libraries begin their threads
and devices in the fork. What it loads is the same for every library and every user's settings.
"""

import contextlib
import fcntl
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelseek.cli.resident import private_folder, receive, send, short_address, state_of_process

__all__ = ["main"]

_IDLE_SECONDS = 300.0
_SECONDS_BETWEEN_LOOKS = 5.0
_SECONDS_TO_END = 2.0
_SECONDS_TO_ASK = 2.0  # that a request may take to arrive, during which no other is taken


@dataclass(eq=False)
class _Running:
    """A fork and whoever waits for it."""

    pid: int
    pid_file: int
    caller: socket.socket


class _Request:
    """What a fork takes over: a message, and the open files that came with it."""

    def __init__(self, message: dict[str, Any], files: list[int]) -> None:
        self.message, self.files = message, files

    def close(self) -> None:
        for number in self.files:  # never 0, 1 or 2: those are open already
            os.close(number)


def main() -> None:
    """Serve until nothing was asked for some minutes; in a fork, run what was asked for."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # is for a fork, once that is ready for it
    os.umask(0o077)
    folder = private_folder()
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _take(lock):
        return  # another one was faster
    path = folder / "socket"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    with short_address(folder) as address:
        listener.bind(address)
    listener.listen(64)
    state = state_of_process()  # of the code that is imported next
    threads = _load()
    request = _Server(listener, path, state).serve()
    os.close(lock)
    if request is not None:
        _run(request, threads)


def _take(lock: int) -> bool:
    """Take a lock, which one that is ending gives back in a moment."""
    deadline = time.monotonic() + _SECONDS_TO_END
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _load() -> int:
    """Import what a search needs; returns how many threads torch would take."""
    import gc

    import faiss  # noqa: F401
    import rich.progress
    import rich.table  # noqa: F401
    import torch

    import reelseek.cli.main
    import reelseek.experts.ocr
    import reelseek.experts.speech
    import reelseek.search  # noqa: F401
    from reelseek.errors import ReelseekError
    from reelseek.experts.sentence import packaged_encoder

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a pool of threads would not survive a fork
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with contextlib.suppress(ReelseekError):
        packaged_encoder().load()
    gc.collect()
    gc.freeze()  # pages that no collection touches stay shared with the forks
    return threads


class _Server:
    """Takes questions and forks for each.

    Args:
        path: of the socket that it listens on; it ends when that is gone or another's.
        state: see `state_of_process`; it ends when it is asked by one of another state.
    """

    def __init__(self, listener: socket.socket, path: Path, state: str) -> None:
        self._listener, self._path, self._state = listener, path, state
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._running: list[_Running] = []
        self._ends = False
        self._inode = path.stat().st_ino

    def serve(self) -> _Request | None:
        """Return the request in the fork that is to run it; None in the process itself, when it is to end."""
        idle_since = time.monotonic()
        while self._running or not self._ends:
            for key, _ in self._selector.select(_SECONDS_BETWEEN_LOOKS):
                if key.fileobj is self._listener:
                    request = self._accept()
                    if request is not None:
                        return request
                else:
                    self._look_after(key.data, key.fileobj)
                idle_since = time.monotonic()
            if not self._running and time.monotonic() - idle_since >= _IDLE_SECONDS:
                self._end()
            if not self._ends and not self._is_reachable():
                self._end()
        return None

    def _is_reachable(self) -> bool:
        try:
            return self._path.stat().st_ino == self._inode
        except OSError:
            return False

    def _end(self) -> None:
        """Take no more questions; those that are being answered are."""
        if not self._ends:
            self._ends = True
            if self._is_reachable():
                self._path.unlink(missing_ok=True)
            self._selector.unregister(self._listener)
            self._listener.close()

    def _accept(self) -> _Request | None:
        """Answer one connection; returns its request in the fork that is to run it."""
        connection, _ = self._listener.accept()
        connection.settimeout(_SECONDS_TO_ASK)
        files: list[int] = []
        try:
            message = receive(connection, files) if _is_same_user(connection) else {}
            accepted = message.get("state") == self._state and len(files) == 4
            send(connection, {"begun": accepted})
        except (OSError, ValueError):
            message, accepted = {}, False
        request = _Request(message, files)
        if not accepted:
            request.close()
            connection.close()
            if message and message.get("state") != self._state:
                self._end()  # whoever asks has other code or settings, and starts one of its own the next time
            return None
        pid = os.fork()
        if pid == 0:
            self._listener.close()
            for running in self._running:
                os.close(running.pid_file)
                running.caller.close()
            self._selector.close()
            connection.close()
            return request
        request.close()
        running = _Running(pid, os.pidfd_open(pid), connection)
        self._running.append(running)
        self._selector.register(running.pid_file, selectors.EVENT_READ, running)
        self._selector.register(connection, selectors.EVENT_READ, running)
        return None

    def _look_after(self, running: _Running, source: object) -> None:
        """Hand the exit status on when a fork has ended; interrupt it when nobody waits for it any more."""
        if running not in self._running:
            return
        if source is running.caller:
            self._selector.unregister(running.caller)
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGINT)
            return
        status = os.waitstatus_to_exitcode(os.waitpid(running.pid, 0)[1])
        with contextlib.suppress(OSError):
            send(running.caller, {"code": status if status >= 0 else 128 - status})  # as a shell says it
        with contextlib.suppress(KeyError):
            self._selector.unregister(running.caller)
        self._selector.unregister(running.pid_file)
        os.close(running.pid_file)
        running.caller.close()
        self._running.remove(running)


def _is_same_user(connection: socket.socket) -> bool:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", credentials)[1] == os.getuid()


def _run(request: _Request, threads: int) -> None:
    """Become the process that asked, and run its command."""
    import torch

    from reelseek.cli.main import main as run_command

    message = request.message
    os.fchdir(request.files[3])
    for number in (0, 1, 2):
        os.dup2(request.files[number], number)
    request.close()
    os.umask(message["umask"])
    os.environ.clear()
    os.environ.update(message["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(threads)
    sys.argv = ["reelseek", *message["arguments"]]
    time.tzset()
    _open_streams(message["streams"])
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        run_command()
    except KeyboardInterrupt:  # before the command began
        sys.exit(130)


def _open_streams(streams: Sequence[tuple[str, str]]) -> None:
    """Open standard input and output as they were in the process that asked.

    Args:
        streams: encoding and what becomes of letters outside it, of each.
    """
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, "w" if number else "r", buffering, encoding, errors, closefd=False)  # noqa: SIM115 - as Python's
        for number, buffering, (encoding, errors) in zip(
            (0, 1, 2), (-1, 1 if os.isatty(1) else -1, 1), streams, strict=True
        )
    )


if __name__ == "__main__":
    main()
