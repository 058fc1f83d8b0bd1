"""`reelseek search` in a process that has its imports behind it: where that is and how a question is handed to it.

Most of what a search costs is importing torch. The first search starts a process (`reelseek.cli.resident_process`) that
imports everything once, and forks for each question: the fork takes over the arguments, the environment, the folder and
the open files of whoever asked, runs the very same command, and ends. It holds no library, and ends after some idle
minutes. It is reached by a socket in a folder that its user alone may enter, and by no network.
"""

import contextlib
import hashlib
import json
import os
import resource
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import platformdirs

import reelseek

__all__ = ["VARIABLE", "answer_elsewhere", "private_folder", "receive", "send", "short_address", "state_of_process"]

VARIABLE = "REELSEEK_HELPER"
_SECONDS_TO_START = 10.0  # until it listens, which it does before it imports
_READ_AT_IMPORT = (
    "ATEN_", "DNNL_", "FAISS_", "GOMP_", "HF_", "KMP_", "LD_", "MALLOC_", "MKL_", "NPY_", "OMP_", "ONEDNN_",
    "OPENBLAS_", "ORT_", "PYTHON", "PYTORCH", "TORCH",
)  # fmt: skip


def answer_elsewhere(arguments: Sequence[str]) -> int | None:
    """Let the resident process run a command with this process's open files; it is started if there is none.

    Returns:
        the exit status; None if there is no such process for this one, which then has to run the command by itself.
    """
    if not _is_wanted():
        return None
    try:
        folder = private_folder()
    except OSError:
        return None
    for connect in (_connect, _start):  # a process that was started with other settings refuses, and ends
        if (connection := connect(folder)) is not None:
            with connection:
                if (code := _ask(connection, arguments)) is not None:
                    return code
    return None


def _is_wanted() -> bool:
    """Not on systems where a process that has loaded these libraries must not fork, nor where torch is loaded here."""
    is_on = sys.platform == "linux" and os.environ.get(VARIABLE, "") != "0"
    return is_on and "torch" not in sys.modules and None not in (sys.stdin, sys.stdout, sys.stderr)


def private_folder() -> Path:
    """The folder of the socket, this user's and this machine's alone; it is made if it does not exist.

    Raises:
        OSError: it cannot be made, belongs to another user, or others may enter it.
    """
    folder = Path(platformdirs.user_cache_dir("reelseek")) / f"helper-{os.uname().nodename}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder} is not private")
    return folder


@contextlib.contextmanager
def short_address(folder: Path) -> Iterator[str]:
    """The socket's path, which the system takes up to 107 bytes of, however long that of its folder is."""
    number = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{number}/socket"
    finally:
        os.close(number)


def state_of_process() -> str:
    """A digest of what a fork cannot take over from whoever asks: code, installed packages, what libraries read when
    they are loaded, priority, processors, groups, limits and name spaces. Two processes of one digest answer alike."""
    package = Path(reelseek.__file__).parent
    files = sorted((str(path), *_changed(path)) for path in package.rglob("*.py"))
    torch = find_spec("torch")
    installed = _changed(Path(torch.origin).parents[1]) if torch is not None and torch.origin else ()
    read = {name: value for name, value in os.environ.items() if name.startswith(_READ_AT_IMPORT)}
    spaces = [os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "net", "user")]
    limits = [resource.getrlimit(number) for name, number in vars(resource).items() if name.startswith("RLIMIT_")]
    groups = [os.getgid(), *sorted(os.getgroups())]
    place = [os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0)), spaces, groups, limits]
    facts = [sys.executable, sys.version, reelseek.__version__, files, installed, sorted(read.items()), place]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _changed(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _connect(folder: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        with short_address(folder) as address:
            connection.connect(address)
    except OSError:
        connection.close()
        return None
    return connection


def _start(folder: Path) -> socket.socket | None:
    """Start the process, and connect to it as soon as it listens."""
    command = [sys.executable, "-P", "-m", "reelseek.cli.resident_process"]
    nothing = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            command, stdin=nothing, stdout=nothing, stderr=nothing, cwd="/", start_new_session=True
        )
    except OSError:
        return None
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline:
        if (connection := _connect(folder)) is not None:
            process.returncode = 0  # it goes on by itself, and nobody waits for it
            return connection
        if process.poll() is not None:
            return _connect(folder)  # another one was faster
        time.sleep(0.01)
    return None


def _ask(connection: socket.socket, arguments: Sequence[str]) -> int | None:
    """The exit status of a command; None if it was not begun."""
    try:
        begun = _hand_over(connection, arguments)
        if not begun:
            return None
        result = receive(connection)
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)  # interrupts the command, which says so
        result = receive(connection)
    if "code" not in result:
        print("error: the resident process ended before the search; try again, or with --no-helper", file=sys.stderr)
        return 1
    return int(result["code"])


def _hand_over(connection: socket.socket, arguments: Sequence[str]) -> bool:
    """Whether the process takes the command over. It has not begun anything if it does not."""
    umask = os.umask(0o077)
    os.umask(umask)
    request = {
        "state": state_of_process(),
        "arguments": list(arguments),
        "environment": dict(os.environ),
        "umask": umask,
        "streams": [(stream.encoding, stream.errors) for stream in (sys.stdin, sys.stdout, sys.stderr)],
    }
    try:
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            send(connection, request, [0, 1, 2, folder])
        finally:
            os.close(folder)
        return bool(receive(connection).get("begun"))
    except OSError:
        return False


def send(connection: socket.socket, message: Mapping[str, Any], files: Sequence[int] = ()) -> None:
    """Send a message, and open files with it."""
    content = json.dumps(message).encode()
    frame = len(content).to_bytes(8, "big") + content
    sent = socket.send_fds(connection, [frame], files) if files else 0
    if sent < len(frame):  # sending nothing is an error where the other side has its message, and closed
        connection.sendall(frame[sent:])


def receive(connection: socket.socket, files: list[int] | None = None) -> dict[str, Any]:
    """Receive a message, and into `files` what was opened for it; empty if the other side ended."""
    content = b""
    size: int | None = None
    while size is None or len(content) < size:
        if files is None:
            piece = connection.recv(2**16)
        else:
            piece, received, _, _ = socket.recv_fds(connection, 2**16, 8)
            files.extend(received)
        if not piece:
            return {}
        content += piece
        if size is None and len(content) >= 8:
            size, content = int.from_bytes(content[:8], "big"), content[8:]
    message: dict[str, Any] = json.loads(content)
    return message
