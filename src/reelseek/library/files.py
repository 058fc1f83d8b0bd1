"""Files that are whole or absent, also after a power cut: bytes are on disk before the name that shows them."""

import contextlib
import errno
import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

__all__ = [
    "delete_files",
    "delete_folder",
    "deleted_name",
    "make_folder",
    "read_checked",
    "sync_file",
    "sync_folder",
    "write_checked",
    "write_whole",
    "write_whole_by",
    "write_whole_bytes",
]

_DIGEST_BYTES = hashlib.sha256().digest_size


def write_whole(path: Path, text: str) -> None:
    """Replace a file by a text in one step; a crash leaves the old one.

    Names of files that are no Unicode survive in it.

    Raises:
        OSError: it could not be written; the old file stays.
    """
    write_whole_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_whole_bytes(path: Path, data: bytes) -> None:
    """Replace a file by these bytes in one step; see `write_whole`."""
    write_whole_by(path, lambda partial: partial.write_bytes(data))


def write_whole_by(path: Path, write: Callable[[Path], object]) -> None:
    """Replace a file in one step by what `write` puts at the path that it is handed (its name ends in `.partial`).

    Example:
        write_whole_by(folder / "model.safetensors", lambda partial: save_file(tensors, partial))

    Raises:
        OSError, or what `write` raises: the old file stays.
    """
    make_folder(path.parent)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # two processes may write one cache
    try:
        write(partial)
        sync_file(partial)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_checked(path: Path, payload: bytes) -> None:
    """Replace a file in one step by bytes with their SHA-256 behind them, for `read_checked`."""
    write_whole_bytes(path, payload + hashlib.sha256(payload).digest())


def read_checked(path: Path) -> bytes:
    """The bytes that `write_checked` wrote.

    Raises:
        ValueError: they are not what was written.
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    payload, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError(f"{path} is damaged: its bytes are not what was written")
    return payload


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that their names survive a power cut."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def delete_files(folder: Path, names: list[str]) -> None:
    """Unlink files of a folder, and the folder when it is empty then; what is gone already is fine.

    On Linux a file that somebody has mapped may be unlinked: its pages stay until the last map is closed. It must
    never be truncated, since reading a mapped page beyond the end kills the reader (SIGBUS).
    """
    for name in names:
        (folder / name).unlink(missing_ok=True)
    if not folder.is_dir():
        return
    sync_folder(folder)
    if not any(folder.iterdir()):
        folder.rmdir()
        sync_folder(folder.parent)


def delete_folder(folder: Path) -> None:
    """Delete a folder with all that it holds, also while somebody writes files there: they fail, since its name goes
    first. What a call that was killed left is deleted, too.

    Raises:
        OSError: it cannot be; then it has another name, by which the next call deletes it.
    """
    renamed = deleted_name(folder)
    with contextlib.suppress(FileNotFoundError):
        folder.rename(folder.with_name(renamed + secrets.token_hex(4)))
    for remnant in folder.parent.glob(glob.escape(renamed) + "*"):
        while remnant.exists():
            with contextlib.suppress(FileNotFoundError):  # another process deletes it, too
                shutil.rmtree(remnant)
    if folder.parent.is_dir():
        sync_folder(folder.parent)


def deleted_name(folder: Path) -> str:
    """What the name of a folder begins with while it is deleted."""
    return f".{folder.name}-deleted-"


def sync_file(path: Path) -> None:
    """Put a file's bytes on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on disk, where its file system can and this user may read it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # one may write into a folder that one may not list
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
