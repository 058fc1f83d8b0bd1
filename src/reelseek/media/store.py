"""Stores that fsspec reaches: what an object is, what lies below an address, and its bytes."""

import errno
import functools
import os
import tarfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from reelseek.errors import CollectionError, MediaError, ReelseekError
from reelseek.media.address import Address, FilePath, ObjectState

__all__ = [
    "NOT_FETCHED",
    "exists",
    "fetch",
    "file_numbers",
    "is_directory",
    "is_file",
    "is_folder",
    "list_objects",
    "match_objects",
    "object_state",
    "open_bytes",
    "with_states",
]

NOT_FETCHED = "could not be fetched"
"""How the message of a failure begins that is the store's or the network's, or the disk's, and not the file's."""

_TAGS = ("ETag", "etag", "generation", "VersionId", "md5Hash", "checksum", "LastModified", "last_modified", "updated",
         "mtime", "created")  # fmt: skip
_TRIES = 3
_PAUSE_SECONDS = 0.5
_CHUNK = 2**20
_ASKED_AT_ONCE = 16
_GOOGLE_SECONDS = 60  # of tries, where credentials are missing too; the driver's default is a quarter of an hour
_DRIVERS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


@functools.lru_cache(maxsize=32)
def _file_system(scheme: str) -> Any:
    """The driver of a scheme: fsspec's where it is installed, else Arrow's own for S3 and Google's store."""
    import fsspec  # few libraries have videos in a store
    from fsspec.implementations.arrow import ArrowFSWrapper

    try:
        return fsspec.filesystem(scheme, use_listings_cache=False)
    except ValueError as error:
        raise CollectionError(
            f"{scheme}:// is no kind of address that is known here; wanted s3://, gs:// ..."
        ) from error
    except ImportError as error:
        if (system := _arrow_system(scheme)) is not None:
            return ArrowFSWrapper(system)
        package = _DRIVERS.get(scheme)
        install = f"pip install {package}" if package else str(error)
        raise CollectionError(f"{scheme}:// needs a driver that is not installed: {install}") from error


def _arrow_system(scheme: str) -> Any:
    import pyarrow.fs as arrow

    address = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if scheme in ("s3", "s3a") and hasattr(arrow, "S3FileSystem"):
        return arrow.S3FileSystem(endpoint_override=address, allow_bucket_creation=False)
    if scheme in ("gs", "gcs") and hasattr(arrow, "GcsFileSystem"):
        patience = timedelta(seconds=_GOOGLE_SECONDS)
        protocol, _, host = os.environ.get("STORAGE_EMULATOR_HOST", "").rpartition("://")
        if host:  # as gcsfs and Google's own libraries read it
            return arrow.GcsFileSystem(
                anonymous=True, scheme=protocol or "http", endpoint_override=host.rstrip("/"), retry_time_limit=patience
            )
        return arrow.GcsFileSystem(retry_time_limit=patience)
    return None


def _resolve(address: Address) -> tuple[Any, str]:
    from fsspec.implementations.arrow import ArrowFSWrapper

    scheme, _, rest = address.text.partition("://")
    system = _file_system(scheme.lower())
    return system, (rest if isinstance(system, ArrowFSWrapper) else system._strip_protocol(address.text))


class _WriteError(Exception):
    """The local file could not be written, which no second try at the store helps."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextmanager
def _store_errors(address: Address) -> Iterator[None]:
    """Say what a store's refusal means; of all the ways in which drivers say it."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(errno.ENOENT, "no such file or folder in the store", str(address)) from error
    except (ReelseekError, IsADirectoryError, tarfile.TarError, _WriteError):
        raise
    except Exception as error:  # drivers raise what their libraries raise
        text = f"{type(error).__name__}: {error}"
        denied = ("ACCESS_DENIED", "AccessDenied", "Forbidden", "Unauthorized", "NoCredentials")
        words = text.replace(address.name, "")  # which may hold any of them
        status = str(getattr(error, "status", getattr(error, "code", "")))
        if isinstance(error, PermissionError) or status in ("401", "403") or any(word in words for word in denied):
            remedy = "check the credentials (AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS ...) and the store's policy"
            raise PermissionError(
                errno.EACCES, f"the store does not let it be read ({error}); {remedy}", str(address)
            ) from error
        raise OSError(errno.EIO, f"the store cannot be reached: {text}", str(address)) from error


def _state_of(info: dict[str, Any]) -> ObjectState:
    tag = next((str(info[name]) for name in _TAGS if info.get(name) not in (None, "")), "")
    return ObjectState(int(info.get("size") or 0), tag)


def object_state(address: Address) -> ObjectState:
    """Ask the store for the size and tag of an object, or of the tar of a member.

    Raises:
        FileNotFoundError: there is none.
        PermissionError: the store does not say.
        OSError: it cannot be reached.
    """
    from reelseek.media.tar import member_state

    if address.shard is not None:
        return member_state(address)
    with _store_errors(address):
        system, name = _resolve(address)
        info = system.info(name)
        if info.get("type") == "directory":
            raise IsADirectoryError(errno.EISDIR, "a folder", str(address))
    return _state_of(info)


def list_objects(folder: Address, *, deep: bool = True) -> list[Address]:
    """List the objects below a folder, or in it alone, in order of their address, each with its state.

    Raises:
        OSError: as `object_state`.
    """
    with _store_errors(folder):
        system, name = _resolve(folder)
        infos = system.find(name, maxdepth=None if deep else 1, detail=True)
    top = name.rstrip("/")
    return [
        Address(f"{folder.text.rstrip('/')}/{path[len(top) :].lstrip('/')}", _state_of(info))
        for path, info in sorted(infos.items())
        if path.startswith(f"{top}/") and info.get("type") != "directory"
    ]


def match_objects(pattern: Address) -> list[Address]:
    """List the objects whose address matches one with `*`, `?` or `[...]`, in order."""
    with _store_errors(pattern):
        system, name = _resolve(pattern)
        infos = system.glob(name, detail=True)
    scheme = pattern.text.partition("://")[0]
    return [Address(f"{scheme}://{path.lstrip('/') if scheme != 'local' else path}", _state_of(info))
            for path, info in sorted(infos.items()) if info.get("type") != "directory"]  # fmt: skip


def is_folder(address: Address) -> bool:
    """Whether objects lie below an address."""
    with _store_errors(address):
        system, name = _resolve(address)
        return bool(system.isdir(name))


def is_directory(path: FilePath) -> bool:
    """Whether a path is a folder, on a disk or in a store; False where the store does not say."""
    if isinstance(path, Path):
        return path.is_dir()
    try:
        return path.shard is None and path.state is None and is_folder(path)
    except (OSError, ReelseekError):
        return False


def is_file(path: FilePath) -> bool:
    """Whether a file is where it was; an object of which its store says nothing at the moment is taken to be there.

    Raises:
        OSError: a folder above a local file cannot be entered.
    """
    if isinstance(path, Path):
        return path.is_file()
    try:
        object_state(path)
    except FileNotFoundError:
        return False
    except (OSError, ReelseekError):
        return True
    return True


def exists(path: FilePath) -> bool:
    """Whether anything lies at a path, a broken link too; see `is_file`."""
    return os.path.lexists(path) if isinstance(path, Path) else is_file(path)


def file_numbers(path: FilePath) -> tuple[int, int]:
    """Size and time of change (ns) of a file, or size and a number of the store's tag; -1 where neither can be read."""
    try:
        if isinstance(path, Address):
            return (path.state or object_state(path)).numbers
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    except (OSError, ReelseekError):
        return -1, -1


def with_states(paths: Sequence[FilePath]) -> list[FilePath]:
    """The same paths, each address with what its store says of it now, if it says anything; many are asked at once."""
    unknown = [path for path in paths if isinstance(path, Address) and path.state is None]
    if not unknown:
        return list(paths)

    def ask(address: Address) -> Address:
        try:
            return Address(address.text, object_state(address))
        except (OSError, ReelseekError):
            return address

    with ThreadPoolExecutor(min(_ASKED_AT_ONCE, len(unknown))) as pool:
        answers = dict(zip(unknown, pool.map(ask, unknown), strict=True))
    return [answers.get(path, path) if isinstance(path, Address) else path for path in paths]


@contextmanager
def open_bytes(path: FilePath) -> Iterator[IO[bytes]]:
    """Open a file or an object for reading from any place in it."""
    if isinstance(path, Path):
        with path.open("rb") as file:
            yield file
        return
    with _store_errors(path):
        system, name = _resolve(path)
        with system.open(name, "rb", block_size=2**18) as file:
            yield file


def fetch(address: Address, target: IO[bytes]) -> ObjectState:
    """Copy the bytes of an object into a file; of one that changes meanwhile, try it again.

    Returns:
        The state of what was copied: the same before and after.

    Raises:
        FileNotFoundError, PermissionError: the store has none, or does not let it be read.
        MediaError: it changed each time, or the store cannot be reached; begins with NOT_FETCHED.
        OSError: the target cannot be written.
    """
    problem = ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE_SECONDS * 2**attempt)
        try:
            state = object_state(address)
            count = _copy(address, state, target)
            after = object_state(address)
        except (FileNotFoundError, PermissionError):
            raise
        except _WriteError as error:
            raise error.cause from error
        except OSError as error:
            problem = error.strerror or str(error)
            continue
        if state == after and count == state.size:
            return state
        problem = f"it changes while it is read ({state.size} bytes before, {count} read, {after.size} after)"
    raise MediaError(f"{NOT_FETCHED}: {address}: {problem}; tried {_TRIES} times")


def _copy(address: Address, state: ObjectState, target: IO[bytes]) -> int:
    target.seek(0)
    shard, count = address.shard, 0
    with open_bytes(shard or address) as source:
        if shard is not None:
            source.seek(state.offset or 0)
        while chunk := source.read(min(_CHUNK, state.size - count) if shard is not None else _CHUNK):
            try:
                target.write(chunk)
            except OSError as error:
                raise _WriteError(error) from error
            count += len(chunk)
    target.truncate(count)
    return count
