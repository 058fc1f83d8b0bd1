"""Local copies of files that lie elsewhere, within a limit; the longest unused ones make room.

Each copy has a folder of its own, with a lock: whoever reads it holds the lock shared, whoever fetches or deletes it
alone. Locks end with their process, so that a killed one leaves nothing but bytes that the next one clears away.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import platformdirs

from reelseek.errors import LimitError, MediaError, ReelseekError, UsageError
from reelseek.media.address import Address, FilePath, ObjectState
from reelseek.media.store import NOT_FETCHED, fetch, object_state

__all__ = ["Copies", "default_copies", "fetch_seconds", "local_copy"]

_DEFAULT_GB = 20.0
_SLOWEST = 5e5  # bytes a second that a store must give, or its object is given up
_WAIT_SECONDS = 0.2
_LONGEST_NAME = 200  # bytes, of the 255 that most file systems allow
_LOCK, _PARTIAL = "lock", ".partial"


class Copies:
    """A folder of local copies that several processes share.

    Args:
        folder: made when it is first needed.
        most_bytes: what all copies together may take.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most_bytes = folder, most_bytes

    @contextmanager
    def hold(self, address: Address, *, numbers: tuple[int, int] | None = None) -> Iterator[Path]:
        """Yield a local file with the bytes that an address has now; it stays until the block ends.

        Args:
            numbers: `ObjectState.numbers` that it has to have, if any will not do.

        Raises:
            MediaError: they cannot be fetched; begins with NOT_FETCHED.
            LimitError: they are more than all copies may take.
        """
        state = _state(address)
        if numbers is not None and state.numbers != numbers:
            raise MediaError(f"{NOT_FETCHED}: {address} was changed since it was looked at; add it again")
        if state.size > self._most_bytes:
            raise LimitError(
                f"{NOT_FETCHED}: {address} has {state.size / 1e9:.1f} GB, and local copies may take "
                f"{self._most_bytes / 1e9:.1f} GB; allow more with REELSEEK_CACHE_GB"
            )

        def fill(file: IO[bytes]) -> None:
            if fetch(address, file) != state:
                raise MediaError(f"{NOT_FETCHED}: {address} was changed in this moment; add it again")

        name = address.name if 0 < len(os.fsencode(address.name)) < _LONGEST_NAME else f"object{address.suffix[:9]}"
        path = self._folder / _key(f"{address} {state.numbers}") / name
        with self._lease(path.parent, fill, name, state.size, str(address)):
            try:
                yield path
            except ReelseekError as error:  # messages name what the user named
                raise type(error)(str(error).replace(str(path), str(address))) from error

    def note(self, key: str, make: Callable[[], bytes], *, label: str) -> bytes:
        """Bytes that are made once and are kept under a key, as copies are.

        Args:
            label: what they are of, for messages.

        Raises:
            MediaError: they cannot be kept.
        """
        entry = self._folder / _key(key)
        content: bytes | None = None

        def fill(file: IO[bytes]) -> None:
            file.write(make() if content is None else content)  # it may have made room for another meanwhile

        if not (entry / "note").exists():
            content = make()  # here, so that its errors are those of what it reads, and not of the disk of copies
        with self._lease(entry, fill, "note", 0, label):
            return (entry / "note").read_bytes()

    @contextmanager
    def _lease(
        self, entry: Path, fill: Callable[[IO[bytes]], object], name: str, size: int, label: str
    ) -> Iterator[None]:
        """Hold the lock of a copy, shared, after it was filled if it was not there."""
        with contextlib.ExitStack() as stack:
            try:
                while True:
                    lock = stack.enter_context(_locked(entry, fcntl.LOCK_SH))
                    if (entry / name).exists():
                        break
                    lock.close()
                    with _locked(entry, fcntl.LOCK_EX):
                        if not (entry / name).exists():
                            self._fill(entry, fill, name, size)
            except OSError as error:
                raise MediaError(f"{NOT_FETCHED}: {label}: {self._describe(error, size)}") from error
            with contextlib.suppress(OSError):
                os.utime(entry / _LOCK)
            yield

    def _fill(self, entry: Path, fill: Callable[[IO[bytes]], object], name: str, size: int) -> None:
        partial = entry / f"{name}{_PARTIAL}"
        try:
            with partial.open("w+b") as file:
                self._reserve(entry, file, size)
                fill(file)
                file.flush()
            os.replace(partial, entry / name)
        except BaseException:
            with contextlib.suppress(OSError):
                shutil.rmtree(entry)
            raise

    def _reserve(self, entry: Path, file: IO[bytes], size: int) -> None:
        """Make room within the limit for so many bytes, and take them from the disk at once."""
        while True:
            with _locked(self._folder, fcntl.LOCK_EX):
                if self._make_room(entry, size):
                    if size and hasattr(os, "posix_fallocate"):  # macOS has none
                        os.posix_fallocate(file.fileno(), 0, size)
                    return
            time.sleep(_WAIT_SECONDS)  # all is in use; the caller's own time limit ends this

    def _make_room(self, entry: Path, size: int) -> bool:
        entries = [path for path in self._folder.iterdir() if path.is_dir() and path != entry]
        sizes = {path: _size(path) for path in entries}
        total = sum(sizes.values())
        for path in sorted(entries, key=_last_use):
            if total + size <= self._most_bytes:
                break
            if _delete(path):
                total -= sizes[path]
        return total + size <= self._most_bytes

    def _describe(self, error: OSError, size: int) -> str:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return (
                f"the disk of {self._folder} has no room for a local copy of {size / 1e6:.1f} MB; free some, or name "
                "another folder with REELSEEK_CACHE"
            )
        if str(error.filename or "").startswith(str(self._folder)):
            return f"a local copy cannot be written: {error}; REELSEEK_CACHE names another folder"
        return error.strerror or str(error)


@contextmanager
def _locked(entry: Path, kind: int) -> Iterator[IO[bytes]]:
    """Hold the lock of a folder, which is made if it is not there; whoever deletes one deletes its lock with it."""
    while True:
        entry.mkdir(parents=True, exist_ok=True)
        try:
            lock = (entry / _LOCK).open("ab")
        except FileNotFoundError:
            continue  # it was deleted in this moment
        with lock:
            fcntl.flock(lock, kind)
            try:
                is_current = os.path.samestat(os.fstat(lock.fileno()), os.stat(entry / _LOCK))
            except FileNotFoundError:
                continue
            if is_current:
                yield lock
                return


def _delete(entry: Path) -> bool:
    """Delete a copy unless somebody holds it."""
    try:
        with (entry / _LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry)
    except OSError:
        return False
    return True


def _size(entry: Path) -> int:
    total = 0
    with contextlib.suppress(OSError):
        for path in entry.iterdir():
            total += path.stat().st_size
    return total


def _last_use(entry: Path) -> float:
    try:
        return (entry / _LOCK).stat().st_mtime
    except OSError:
        return 0.0


def _key(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:32]


def _state(address: Address) -> ObjectState:
    try:
        return object_state(address)
    except OSError as error:
        raise MediaError(f"{NOT_FETCHED}: {address}: {error.strerror or error}") from error


@functools.lru_cache(maxsize=1)
def default_copies() -> Copies:
    """The local copies of this user: REELSEEK_CACHE or the user's cache folder, REELSEEK_CACHE_GB or 20 GB.

    Raises:
        UsageError: REELSEEK_CACHE_GB is no number above 0.
    """
    folder = os.environ.get("REELSEEK_CACHE") or platformdirs.user_cache_dir("reelseek")
    text = os.environ.get("REELSEEK_CACHE_GB") or str(_DEFAULT_GB)
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes < 1e9:
        raise UsageError(f"REELSEEK_CACHE_GB is {text!r}; wanted the GB that local copies may take, such as 20")
    return Copies(Path(folder) / "files", round(gigabytes * 1e9))


@contextmanager
def local_copy(path: FilePath, *, numbers: tuple[int, int] | None = None) -> Iterator[Path]:
    """Yield a local file with the bytes of a path or an address; it stays until the block ends.

    Args:
        numbers: see `Copies.hold`.

    Raises:
        MediaError: as `Copies.hold`.
    """
    if isinstance(path, Path):
        yield path
        return
    with default_copies().hold(path, numbers=numbers) as copy:
        yield copy


def fetch_seconds(path: FilePath, size: int | None) -> float:
    """The wall seconds that a local copy may take; none for a local file."""
    return 0.0 if isinstance(path, Path) else 120.0 + max(0, size or 0) / _SLOWEST
