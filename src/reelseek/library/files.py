"""Files that are whole or absent, also after a power cut: bytes are on disk before the name that shows them."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

__all__ = [
    "delete_files",
    "make_folder",
    "replace_folder",
    "sync_file",
    "sync_folder",
    "write_whole",
    "write_whole_by",
    "write_whole_bytes",
]


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
    partial = path.with_name(path.name + ".partial")
    try:
        write(partial)
        sync_file(partial)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that their names survive a power cut."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        sync_folder(each.parent)


def replace_folder(partial: Path, target: Path) -> None:
    """Put a finished folder in the place of another. A crash between the two renames leaves neither at `target`, so
    this is for what is derived; the old one stays beside it as `.old` until the new one is on disk."""
    for path in sorted(partial.rglob("*"), reverse=True):
        if path.is_dir():
            sync_folder(path)
        else:
            sync_file(path)
    sync_folder(partial)
    old = target.with_name(f"{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.rename(target, old)
    os.rename(partial, target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


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
