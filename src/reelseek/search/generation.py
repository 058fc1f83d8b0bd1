"""Files that never change, but for what is erased in them, and the manifest that names those which are read.

A file is written once, under a name of its own, and is on disk before a manifest names it with its size and checksum.
What is read changes when a new manifest takes the place of the old one, in one rename; files that it does not name are
deleted then. Readers keep open what the manifest named that they opened.

CRC-32 guards the files: it finds every burst of up to 32 bits and all but one in four billion of other damages, and
reads 3.9 GiB/s where SHA-256 reads 1.7 and BLAKE2b 0.9. The manifest, which is small, carries its own SHA-256.
"""

import contextlib
import hashlib
import json
import math
import mmap
import os
import secrets
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import LibraryError
from reelseek.library.files import sync_file, sync_folder, write_whole_by
from reelseek.search.patches import Patch, Patches, overlay

__all__ = ["MANIFEST", "ArrayWriter", "EarlierVersion", "Generation", "StoredFile", "Sums", "Write", "array_file",
           "damaged_files", "drop_files", "read_manifest", "write_files", "write_manifest"]  # fmt: skip

MANIFEST = "index.json"
_FORMAT = 3
_SMALL = 2**20  # bytes; such a file is read and checked whenever it is opened, a larger one is mapped
_BLOCK = 2**20
_HEADER = 128  # bytes before the numbers of an array; its shape is known when the last of them is written
Sums = tuple[int, int]
"""Size in bytes and CRC-32 of a file."""
Write = Callable[[Path], None]


class EarlierVersion(LibraryError):
    """Files of a form that is no longer read; nothing is wrong with them."""


@dataclass(frozen=True)
class Generation:
    """What one manifest names.

    Args:
        number: of this manifest; no other one in the folder has it.
        description: what the writer says of the files.
        files: size and checksum of each by its name.
        patches: what was being overwritten in some of them when it was written; their checksums count it as done.
    """

    folder: Path
    number: str
    description: Mapping[str, Any]
    files: Mapping[str, Sums]
    patches: Patches = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _ in self.files.values())

    def open(self, name: str) -> "StoredFile":
        """Open a file.

        Raises:
            LibraryError: it has another size than was written, or is small and damaged.
            FileNotFoundError: it is gone.
        """
        if name not in self.files:
            raise LibraryError(f"{self.folder / MANIFEST} names no {name}")
        return StoredFile(self.folder / name, *self.files[name], self.patches.get(name, ()))


class StoredFile:
    """An open file; it can be read after its name is gone.

    Args:
        size, checksum: as they were when it was written.
        patches: what may be overwritten by now; the checksum counts it as done.
    """

    def __init__(self, path: Path, size: int, checksum: int, patches: Sequence[Patch] = ()) -> None:
        self.path, self.size, self._checksum, self._patches = path, size, checksum, patches
        self._content: bytes | mmap.mmap | None = None
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._close = weakref.finalize(self, os.close, self._file)
        length = os.fstat(self._file).st_size
        if length != size:
            raise LibraryError(f"{path} has {length} bytes where {size} were written")
        if size < _SMALL:
            self._content = os.pread(self._file, size, 0)
            self._close()
            self.check()

    def check(self) -> None:
        """Compare every byte with the checksum.

        Raises:
            LibraryError: they are not what was written.
        """
        if isinstance(self._content, bytes):
            checksum = zlib.crc32(overlay(self._content, 0, self._patches))
        else:
            checksum = 0
            for offset in range(0, self.size, _BLOCK):
                block = overlay(os.pread(self._file, _BLOCK, offset), offset, self._patches)
                checksum = zlib.crc32(block, checksum)
        if checksum != self._checksum:
            raise LibraryError(f"{self.path} does not hold what was written into it")

    @property
    def content(self) -> bytes | None:
        """All bytes of a small file, which are at hand; None of a large one."""
        return self._content if isinstance(self._content, bytes) else None

    @property
    def address(self) -> str:
        """A path that opens a large file, also after its name is gone."""
        return f"/dev/fd/{self._file}"

    def array(self) -> npt.NDArray[Any]:
        """The array in it, which cannot be written to; memory-mapped where it is large."""
        if self._content is None:
            self._content = mmap.mmap(self._file, 0, access=mmap.ACCESS_READ)
        shape, dtype, start = _array_layout(self._content[:4096])
        return np.frombuffer(self._content, dtype, math.prod(shape), start).reshape(shape)

    def offset(self, row: int) -> int:
        """Where a row of the array in it begins, in bytes from the beginning of the file."""
        shape, dtype, start = _array_layout(self._content[:4096] if self._content else os.pread(self._file, 4096, 0))
        return start + row * math.prod(shape[1:]) * dtype.itemsize

    def rows(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows of the array in it, copied past the map, so that none of their pages stay with this process."""
        if isinstance(self._content, bytes):
            return self.array()[start:stop]
        shape, dtype, offset = _array_layout(os.pread(self._file, 4096, 0))
        stop = min(stop, shape[0])
        width = math.prod(shape[1:]) * dtype.itemsize
        content = os.pread(self._file, (stop - start) * width, offset + start * width)
        while len(content) < (stop - start) * width:  # one call reads 2 GiB at most
            content += os.pread(self._file, (stop - start) * width - len(content),
                                offset + start * width + len(content))  # fmt: skip
        return np.frombuffer(content, dtype).reshape(stop - start, *shape[1:])

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Some rows of the array in it, copied past the map like `rows`; neighbours among them are read together.

        A map would hold far more than them: Linux maps all of a large folio with the first byte of it that is touched.
        """
        if isinstance(self._content, bytes):
            return self.array()[rows]
        shape, dtype, offset = _array_layout(os.pread(self._file, 4096, 0))
        values = np.empty((len(rows), *shape[1:]), dtype)
        target, width = values.reshape(-1).view(np.uint8).data, values[:1].nbytes
        edges = np.append(np.append(0, np.flatnonzero(np.diff(rows) != 1) + 1), len(rows)).tolist() if width else []
        for start, stop in pairwise(edges):
            os.preadv(self._file, [target[start * width : stop * width]], offset + int(rows[start]) * width)
        return values


def _array_layout(content: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    head = BytesIO(content)
    np.lib.format.read_magic(head)
    shape, _, dtype = np.lib.format.read_array_header_1_0(head)
    return shape, dtype, head.tell()


# Writing


def array_file(array: npt.NDArray[Any]) -> Write:
    """What writes an array."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.lib.format.write_array(file, np.ascontiguousarray(array), (1, 0), allow_pickle=False)

    return write


class ArrayWriter:
    """Writes an array block after block; close it, then it is whole.

    Args:
        shape: of one row.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> None:
        self._file, self._dtype, self._shape = path.open("wb"), np.dtype(dtype), shape
        self.rows = 0
        self._file.write(self._header())

    def append(self, block: npt.NDArray[Any]) -> None:
        """Write more rows."""
        self._file.write(np.ascontiguousarray(block, self._dtype).tobytes())
        self.rows += len(block)

    def close(self) -> None:
        """Write how many rows there are; closing it again does nothing."""
        if not self._file.closed:
            with self._file:
                self._file.seek(0)
                self._file.write(self._header())

    def _header(self) -> bytes:
        fields = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.rows, *self._shape)}
        text = f"{fields!r}".encode().ljust(_HEADER - 11) + b"\n"
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def write_files(folder: Path, files: Mapping[str, Write]) -> dict[str, Sums]:
    """Write files whose names nobody uses yet into a folder that exists; they are on disk when this returns.

    Raises:
        OSError: the disk is full, or the folder cannot be written; then there are none of them.
    """
    sums: dict[str, Sums] = {}
    try:
        for name, write in files.items():
            write(folder / name)
            sums[name] = _settle_file(folder / name)
        sync_folder(folder)
    except BaseException:
        drop_files(folder, files)
        raise
    return sums


def _settle_file(path: Path) -> Sums:
    """Put a file that was written on disk, and sum it up."""
    sync_file(path)
    size = checksum = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
    return size, checksum


def write_manifest(
    folder: Path, description: Mapping[str, Any], files: Mapping[str, Sums], patches: Patches | None = None
) -> None:
    """Make these files the ones that are read, and delete all others of the folder.

    Args:
        patches: what is overwritten in some of them next; their checksums count it as done.

    Raises:
        OSError: it cannot be written; what was read before stays.
    """
    manifest = {"format": _FORMAT, "generation": secrets.token_hex(4), "about": dict(description), "files": dict(files)}
    if patches:
        manifest["patches"] = {name: [patch.as_json() for patch in several] for name, several in patches.items()}
    plain = json.loads(json.dumps(manifest))  # as it will be read
    text = json.dumps({**plain, "sha256": _digest(plain)})
    write_whole_by(folder / MANIFEST, lambda path: path.write_text(text, "utf-8"))
    _delete_unnamed(folder, files)


def _delete_unnamed(folder: Path, files: Mapping[str, Sums]) -> None:
    """Delete files of earlier manifests, and what a crash left."""
    for path in folder.iterdir():
        if path.name != MANIFEST and path.name not in files:
            with contextlib.suppress(OSError):
                path.unlink()


def drop_files(folder: Path, names: Iterable[str]) -> None:
    """Delete files that came to nothing, and the folders above them that were made for them alone."""
    for name in names:
        with contextlib.suppress(OSError):
            (folder / name).unlink(missing_ok=True)
    for empty in (folder, folder.parent):
        with contextlib.suppress(OSError):
            empty.rmdir()


# Reading


def read_manifest(folder: Path) -> Generation | None:
    """What a folder's manifest says; None where there is none.

    Raises:
        EarlierVersion: it was written by an earlier version of Reelseek.
        LibraryError: it is damaged.
    """
    path = folder / MANIFEST
    try:
        written = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LibraryError(f"{path} cannot be read: {error}") from error
    version = written.get("format") if isinstance(written, dict) else None
    if version == 1 and "files" not in written:
        raise EarlierVersion(f"{path} was written by an earlier version of Reelseek")
    if version not in (2, _FORMAT) or written.pop("sha256", None) != _digest(written):
        raise LibraryError(f"{path} does not hold what was written into it")
    if version == 2:
        raise EarlierVersion(f"{path} was written by an earlier version of Reelseek")
    files = {file: (int(size), int(checksum)) for file, (size, checksum) in written["files"].items()}
    patches = {name: list(map(Patch.from_json, several)) for name, several in written.get("patches", {}).items()}
    return Generation(folder, written["generation"], written["about"], files, patches)


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def damaged_files(folder: Path) -> list[tuple[str, str]]:
    """Files of a folder that are not what was written, and in what way; every byte is read."""
    while True:
        try:
            generation = read_manifest(folder)
        except EarlierVersion:
            return []
        except LibraryError as error:
            return [(str(folder / MANIFEST), str(error))]
        if generation is None:
            return []
        damaged = list(_damaged(generation))
        if not damaged or read_manifest(folder) == generation:
            return damaged  # else it was replaced while it was read


def _damaged(generation: Generation) -> Iterator[tuple[str, str]]:
    for name in generation.files:
        try:
            generation.open(name).check()
        except FileNotFoundError:
            yield str(generation.folder / name), f"{generation.folder / name} is gone"
        except (LibraryError, OSError) as error:
            yield str(generation.folder / name), str(error)
