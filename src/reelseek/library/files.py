"""Files that are there whole or not at all."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

__all__ = ["read_checked", "write_checked", "write_file", "write_whole"]

_DIGEST_BYTES = hashlib.sha256().digest_size


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Put a file in place in one step: `write` makes a private one beside it, which is on disk before it has the name.

    A crash, a full disk or an error in `write` leaves the file that was there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # not every system can put a folder's names on disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step; a crash leaves the old one. Names of files that are no Unicode survive in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, "utf-8", errors="surrogateescape", newline="")
    os.replace(partial, path)


def write_checked(path: Path, payload: bytes) -> None:
    """Write bytes with their SHA-256 behind them, for `read_checked`."""
    whole = payload + hashlib.sha256(payload).digest()

    def write(partial: Path) -> None:
        partial.write_bytes(whole)

    write_file(path, write)


def read_checked(path: Path) -> bytes:
    """The bytes that `write_checked` wrote.

    Raises:
        ValueError: they are not what was written.
        OSError: the file cannot be read.
    """
    whole = path.read_bytes()
    payload, digest = whole[:-_DIGEST_BYTES], whole[-_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError(f"{path} is damaged: its bytes are not what was written")
    return payload
