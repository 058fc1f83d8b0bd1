"""Arrays of numbers in .npy, .npz and HDF5 files of strangers; the one place where such files are opened.

Headers are checked before memory is taken, and nothing outside the file is read: HDF5 can name other files to read.
Call it for HDF5 inside `reelseek.media.guard.stream`: its library is C code that damaged files can end.
"""

import math
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from reelseek.errors import CollectionError, FeatureError
from reelseek.media.memory import available_memory

__all__ = ["ARRAY_SUFFIXES", "Archive", "open_archive", "read_npy", "seconds_for"]

Array = npt.NDArray[Any]
ARRAY_SUFFIXES = (".npy", ".npz", ".h5", ".hdf5")
_KINDS = {b"\x93NUMPY": ".npy", b"PK\x03\x04": ".npz", b"PK\x05\x06": ".npz", b"\x89HDF\r\n\x1a\n": "HDF5"}
_SMALL = 2**24  # bytes that are read without asking what is free
_LARGEST_RATIO = 200  # bytes out of one byte; features of zeros alone reach about a thousand
_DEEPEST = 64  # groups inside each other
_DAMAGE = (
    *(OSError, EOFError, ValueError, RuntimeError, LookupError, OverflowError, zlib.error, zipfile.BadZipFile),
    *(SyntaxError, tokenize.TokenError),  # numpy parses headers of Python 2 as source
)


class Archive(Protocol):
    """A file with named arrays, open."""

    names: list[str]

    def read(self, name: str) -> Array:
        """One array.

        Raises:
            FeatureError: it holds no numbers, is too large, lies in another file or is damaged.
        """
        ...

    def __enter__(self) -> "Archive": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def seconds_for(path: Path) -> float:
    """How long a file may say nothing while it is read."""
    return 60 + path.stat().st_size / 1e7


def read_npy(path: Path) -> Array:
    """The array of an .npy file.

    Raises:
        CollectionError: it cannot be read or is no such file.
        FeatureError: it holds no numbers, fewer than it says, or more than this machine has room for.
    """
    _check_kind(path, ".npy")
    try:
        with path.open("rb") as file:
            return _read_array(file, path.stat().st_size, path.stat().st_size)
    except _DAMAGE as error:
        raise CollectionError(f"{path} cannot be read: {_line(error)}") from error


def open_archive(path: Path) -> Archive:
    """An .npz or HDF5 file, by its suffix.

    Raises:
        CollectionError: it cannot be read, is no such file, or is encrypted.
    """
    npz = path.suffix.lower() == ".npz"
    _check_kind(path, ".npz" if npz else "HDF5")
    try:
        return _Npz(path) if npz else _Hdf5(path)
    except _DAMAGE as error:
        raise CollectionError(f"{path} cannot be read: {_line(error)}") from error


def _check_kind(path: Path, kind: str) -> None:
    """Refuse what its first bytes say to be another kind of file than its name says."""
    try:
        with path.open("rb") as file:
            beginning = file.read(8)
    except OSError as error:
        raise CollectionError(f"{path} cannot be read: {error.strerror}") from error
    actual = next((name for mark, name in _KINDS.items() if beginning.startswith(mark)), None)
    if actual not in (kind, None):
        raise CollectionError(f"{path} cannot be read: it is no {kind} file but {actual} by its first bytes; rename it")


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _check_size(shape: tuple[int, ...], dtype: np.dtype[Any], stored: int) -> int:
    """Bytes that an array takes, refused where it is more than there is room for."""
    if dtype.kind not in "biuf" or dtype.shape:
        what = {"O": "objects, which only a pickle can hold", "V": "records"}.get(dtype.kind, str(dtype))
        raise FeatureError(f"holds {what}; wanted numbers [step, dim] or [dim]")
    size = math.prod(shape) * dtype.itemsize
    if size > _SMALL and (size > max(2**28, available_memory() // 8) or size > _LARGEST_RATIO * stored):
        raise FeatureError(
            f"is {dtype} {shape}, {size / 2**20:,.0f} MiB out of {stored / 2**20:,.1f}; too much for one array here"
        )
    return size


def _read_array(stream: IO[bytes], size: int, stored: int) -> Array:
    """The array of an open .npy, whose bytes are `size` in all, and `stored` where it is compressed."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise FeatureError(f"is .npy of version {version}; 1.0 and 2.0 hold numbers")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # headers of Python 2
        shape, fortran, dtype = header(stream)
    if not all(type(length) is int and length >= 0 for length in shape):
        raise FeatureError(f"says that its shape is {shape}")
    needed = _check_size(shape, dtype, stored)
    if needed > size:
        raise FeatureError(f"ends early: {dtype} {shape} takes {needed:,} bytes, and the file has {size:,}")
    data = stream.read(needed)
    if len(data) != needed:
        raise FeatureError(f"ends early: {dtype} {shape} takes {needed:,} bytes, and {len(data):,} are there")
    return (
        np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C") if needed else np.zeros(shape, dtype)
    )


class _Npz:
    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        self._members = {info.filename.removesuffix(".npy"): info for info in self._zip.infolist()}
        self.names = list(self._members)
        if any(info.flag_bits & 1 for info in self._members.values()):
            self._zip.close()
            raise CollectionError(f"{path} is encrypted; unpack it with its password first")
        if len(self.names) < len(self._zip.infolist()):
            self._zip.close()
            raise CollectionError(f"{path} holds arrays of one name; which of them is meant?")

    def __enter__(self) -> "_Npz":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str) -> Array:
        info = self._members[name]
        if not info.filename.endswith(".npy"):
            raise FeatureError("is no array (.npy) but another file in the archive")
        try:
            with self._zip.open(info) as member:
                return _read_array(member, info.file_size, info.compress_size)
        except _DAMAGE as error:
            raise FeatureError(f"cannot be read: {_line(error)}") from error


class _Hdf5:
    """Data sets by their path; links to other places or files are named too, and refused when they are read."""

    def __init__(self, path: Path) -> None:
        import h5py

        if not h5py.is_hdf5(path):
            raise CollectionError(f"{path} cannot be read: it is no HDF5 file")
        self._file = h5py.File(path, "r")
        self.names: list[str] = []
        try:
            self._list()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "_Hdf5":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _list(self) -> None:
        import h5py

        groups: list[tuple[str, Any]] = [("", self._file)]
        visited = {h5py.h5o.get_info(self._file.id).addr}
        while groups:
            prefix, group = groups.pop()
            inner = []
            for key in group:
                name = f"{prefix}{key}"
                node = self._node(group, key)
                if not isinstance(node, h5py.Group):
                    self.names.append(name)
                    continue
                place = h5py.h5o.get_info(node.id).addr
                if place not in visited and name.count("/") < _DEEPEST:
                    visited.add(place)
                    inner.append((f"{name}/", node))
            groups += reversed(inner)

    @staticmethod
    def _node(group: Any, key: str) -> Any:
        """What stands under a key; None for a link, and for what is too damaged to be opened."""
        import h5py

        try:
            return group[key] if isinstance(group.get(key, getlink=True), h5py.HardLink) else None
        except _DAMAGE:
            return None

    def read(self, name: str) -> Array:
        import h5py

        try:
            folder, _, leaf = name.rpartition("/")
            group = self._file[folder] if folder else self._file
            if not isinstance(group.get(leaf, getlink=True), h5py.HardLink):
                raise FeatureError("is a link to another place or file, which is not followed; copy the data into it")
            data = group[leaf]
            if not isinstance(data, h5py.Dataset):
                raise FeatureError("is no data set")
            if data.external or data.is_virtual:
                raise FeatureError("has its data in other files, which are not read; copy the data into it")
            if data.shape is None:
                raise FeatureError("is empty: it has no shape")
            _check_size(data.shape, data.dtype, data.id.get_storage_size())
            return np.asarray(data[()])
        except _DAMAGE as error:
            raise FeatureError(f"cannot be read: {_line(error)}") from error
