"""The folder beside an index in which segments are merged: one process at a time writes there, without being the writer
of the library.

It is deleted when a merge ends, by whoever opens the index after a merge was killed, and by whoever erases a video. A
merge that is under way then loses its files, and cannot write others, for their folder has no name any more.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reelseek.errors import LibraryError
from reelseek.library.files import delete_folder, deleted_name
from reelseek.search.generation import read_manifest

__all__ = ["MergingFolder", "claim_merging_folder", "clean_merging", "drop_merging"]

_NAME, _LOCK = "merging", "lock"


class MergingFolder:
    """Where one merge writes its segments.

    Args:
        path: the folder, which is in that of the index.
        lock: the open file that this process has locked.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path, self._lock = path, lock

    def is_present(self) -> bool:
        """Whether nobody deleted it since."""
        try:
            return os.path.samestat(os.stat(self.path / _LOCK), os.fstat(self._lock))
        except FileNotFoundError:
            return False

    def move_out(self, segments: Sequence[str]) -> None:
        """Move the files of all segments into the folder of the index; a manifest has to name them next.

        Args:
            segments: what the names of the files begin with, by which they are deleted if this process is killed.

        Raises:
            FileNotFoundError: the folder was deleted.
        """
        names = json.dumps(list(segments)).encode()
        os.pwrite(self._lock, names, 0)
        os.fsync(self._lock)
        for path in list(self.path.iterdir()):
            if path.name != _LOCK:
                path.rename(self.path.parent / path.name)

    def delete_moved(self) -> None:
        """Delete files that this merge, or one that was killed, moved out and no manifest names."""
        with contextlib.suppress(ValueError):  # it was killed while it wrote the names, and moved nothing
            _delete_unnamed(self.path.parent, json.loads(os.pread(self._lock, os.fstat(self._lock).st_size, 0)))


def _delete_unnamed(folder: Path, segments: Iterable[str]) -> None:
    try:
        generation = read_manifest(folder)
    except LibraryError:  # the whole index is built again, and what it does not name then is deleted
        return
    named = {entry["name"] for entry in generation.description["segments"]} if generation is not None else set()
    for name in set(segments) - named:
        for path in folder.glob(f"{name}-*"):
            path.unlink(missing_ok=True)


@contextmanager
def claim_merging_folder(folder: Path) -> Iterator[MergingFolder | None]:
    """An empty folder for a merge in that of an index, until the block ends; None while another process merges there.

    Raises:
        FileNotFoundError: there is no such index.
    """
    lock = _lock_merging(folder / _NAME)
    if lock is None:
        yield None
        return
    claimed = MergingFolder(folder / _NAME, lock)
    try:
        claimed.delete_moved()
        os.ftruncate(lock, 0)
        for path in list(claimed.path.iterdir()):
            if path.name != _LOCK:
                path.unlink(missing_ok=True)
        yield claimed
    finally:
        if claimed.is_present():
            delete_folder(claimed.path)
        os.close(lock)


def _lock_merging(path: Path) -> int | None:
    """Make the folder and lock it; None where another process has."""
    while True:
        path.mkdir(exist_ok=True)
        try:
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:  # somebody deleted it
            if not path.parent.is_dir():
                raise
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if MergingFolder(path, lock).is_present():
                return lock
            os.close(lock)
        except BlockingIOError:
            os.close(lock)
            return None


def clean_merging(folder: Path) -> None:
    """Delete what a merge that was killed left in the folder of an index."""
    with contextlib.suppress(OSError):  # a reader may not; who writes does
        names = os.listdir(folder)
        if _NAME in names:
            with claim_merging_folder(folder):  # empty, and deleted at the end
                pass
        if any(name.startswith(deleted_name(folder / _NAME)) for name in names):
            delete_folder(folder / _NAME)


def drop_merging(folder: Path) -> None:
    """Delete the folder and all that is in it, also while a merge is under way: its work is lost.

    Raises:
        OSError: it cannot be deleted.
    """
    delete_folder(folder / _NAME)
