"""A safe reader of torch.save's formats: the zip, the older sequence of pickles, and the oldest tar.

torch's reader runs the program of a TorchScript archive and trusts a file's description of its tensors. Here the pickle
is read as plain values, and every tensor's shape, strides and offset are checked against its bytes.
"""

import math
import mmap
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelseek.library.readers.opcodes import Machine
from reelseek.library.readers.pickles import CONTAINERS
from reelseek.library.readers.values import Build, Inert, Name, Refused, check_shape
from reelseek.media.memory import available_memory

__all__ = ["read_archive"]

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


class _Storage:
    """A flat array of numbers of one type, of which tensors are views."""

    def __init__(self, values: Tensor) -> None:
        self.values = values


def _tensor_view(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
    """A view of a storage, checked to lie inside it."""
    if not isinstance(storage, _Storage):
        return Inert()
    shape, steps = check_shape(size), check_shape(stride)
    if type(offset) is not int or offset < 0 or len(shape) != len(steps):
        raise Refused("a tensor of it has no offset, or not as many strides as sizes")
    count = math.prod(shape)
    last = offset + sum((length - 1) * step for length, step in zip(shape, steps, strict=True)) if count else 0
    if count and last >= len(storage.values):
        raise Refused(f"a tensor {shape} of it lies outside of its {len(storage.values):,} numbers")
    if count > len(storage.values) and count * storage.values.itemsize > available_memory() // 4:
        raise Refused(f"a tensor {shape} of it repeats {len(storage.values):,} numbers, too often for this machine")
    return storage.values.as_strided(shape, steps, storage.values.storage_offset() + offset if count else 0)


def _size(lengths: Any = ()) -> tuple[int, ...]:
    return check_shape(tuple(lengths) if isinstance(lengths, list) else lengths)


_NAMES: dict[tuple[str, str], Build | None] = {
    **CONTAINERS,
    **{("torch", name): None for name in _DTYPES},
    ("torch", "Size"): _size,
    ("torch._utils", "_rebuild_tensor"): _tensor_view,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor_view,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
}


def read_archive(path: Path) -> Any:
    """Read a torch.save file: tensors and plain containers, with `Inert` for anything else that it names.

    Raises:
        Refused: it is a program (TorchScript), or damaged, or its tensors do not fit its bytes.
        OSError, zipfile.BadZipFile, tarfile.TarError, EOFError: its container cannot be read.
    """
    if path.stat().st_size > available_memory():
        raise Refused(f"it is {path.stat().st_size / 2**30:.1f} GiB, and this machine has less memory free")
    with path.open("rb") as file:
        beginning = file.read(4)
    if beginning == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            return _read_zip(archive)
    if tarfile.is_tarfile(path):
        with tarfile.open(path, "r:") as tar:
            return _read_tar(tar)
    if not beginning:
        raise Refused("it is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _read_legacy(data)


def _dtype_of(kind: Any) -> torch.dtype:
    if not isinstance(kind, Name) or kind.module != "torch" or kind.name not in _DTYPES:
        raise Refused("a tensor of it has an unknown type of numbers")
    return _DTYPES[kind.name]


def _checked_length(count: Any, dtype: torch.dtype, most_bytes: int) -> int:
    """Check a number of values that a file declares against its size."""
    if type(count) is not int or count < 0 or count * dtype.itemsize > most_bytes:
        raise Refused(f"it says that a tensor has {str(count)[:20]} numbers, more than the file holds")
    return count


# The zip, since 2020


def _read_zip(archive: zipfile.ZipFile) -> Any:
    names = archive.namelist()
    for name in names:
        part = name.partition("/")[2]
        if part == "constants.pkl" or part.startswith("code/"):
            raise Refused(
                "it is a TorchScript archive, which is a program and not only weights; "
                "save its state_dict() with torch.save where you trust it, and convert that"
            )
    root = next((name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")), None)
    if root is None:
        raise Refused("it is a zip without data.pkl, which torch.save writes")
    order = archive.read(f"{root}byteorder") if f"{root}byteorder" in names else b"little"
    storages: dict[str, _Storage] = {}

    def storage(reference: Any) -> Any:
        if type(reference) is not tuple or len(reference) < 5 or reference[0] != "storage":
            return Inert()
        key = str(reference[2])
        if key not in storages:
            values = _member(archive, f"{root}data/{key}", _dtype_of(reference[1]), reference[4])
            if order == b"big":
                values = torch.from_numpy(values.view(torch.uint8).numpy().reshape(len(values), -1)[:, ::-1].copy())
                values = values.reshape(-1).view(_dtype_of(reference[1]))
            storages[key] = _Storage(values)
        if storages[key].values.dtype != _dtype_of(reference[1]):
            raise Refused(f"storage {key} of it has two types")
        return storages[key]

    return Machine(_read_limited(archive, f"{root}data.pkl"), _NAMES, lenient=True, persistent=storage).load()


def _read_limited(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > available_memory() // 2:
        raise Refused(f"{name} in it is too large for the memory of this machine")
    return archive.read(name)


def _member(archive: zipfile.ZipFile, name: str, dtype: torch.dtype, count: Any) -> Tensor:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise Refused(f"it has no {name}, in which a tensor of it lies") from None
    size = _checked_length(count, dtype, info.file_size) * dtype.itemsize
    if size != info.file_size or size > available_memory():
        raise Refused(f"{name} has {info.file_size:,} bytes; its tensor takes {size:,}")
    if not size:
        return torch.empty(0, dtype=dtype)
    buffer = bytearray(size)
    with archive.open(info) as member:
        view, position = memoryview(buffer), 0
        while position < size and (read := member.readinto(view[position:])):  # type: ignore[attr-defined]
            position += read
    if position != size:
        raise Refused(f"{name} ends after {position:,} of {size:,} bytes")
    return torch.frombuffer(buffer, dtype=dtype)


# The sequence of pickles, until 2020


def _read_legacy(data: mmap.mmap) -> Any:
    storages: dict[str, _Storage] = {}
    remaining = {"bytes": len(data)}

    def storage(reference: Any) -> Any:
        if type(reference) is not tuple or len(reference) < 5 or reference[0] != "storage":
            return Inert()
        key, dtype = str(reference[2]), _dtype_of(reference[1])
        if key not in storages:
            count = _checked_length(reference[4], dtype, remaining["bytes"])
            remaining["bytes"] -= count * dtype.itemsize
            storages[key] = _Storage(torch.empty(count, dtype=dtype))
        part = reference[5] if len(reference) > 5 else None
        return storages[key] if part is None else _part_of_storage(storages[key], part)

    machine = Machine(data, _NAMES, lenient=True, persistent=storage)
    if machine.load() != _MAGIC or machine.load() != 1001:
        raise Refused("it does not begin as a file of torch.save")
    system = machine.load()
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise Refused("it was written on a machine with the other byte order")
    content, keys = machine.load(), machine.load()
    if not isinstance(keys, list) or {str(key) for key in keys} != set(storages):
        raise Refused("it does not list the tensors that it holds")
    position = machine.position
    for key in keys:
        position = _fill(storages[str(key)].values, data, position)
    return content


def _part_of_storage(storage: _Storage, part: Any) -> _Storage:
    if type(part) is not tuple or len(part) != 3 or not all(type(n) is int and n >= 0 for n in part[1:]):
        raise Refused("a part of a storage has no place")
    start, end = part[1], part[1] + part[2]
    if end > len(storage.values):
        raise Refused("a part of a storage lies outside of it")
    return _Storage(storage.values[start:end])


def _fill(values: Tensor, data: bytes | mmap.mmap, position: int) -> int:
    """Read a length and that many numbers from `position` on; return the position after them."""
    start, size = position + 8, values.nbytes
    if int.from_bytes(data[position:start], "little") != len(values) or start + size > len(data):
        raise Refused("it ends before its tensors do, or their lengths differ from those it declares")
    if size:
        values.view(torch.uint8).copy_(torch.frombuffer(bytearray(data[start : start + size]), dtype=torch.uint8))
    return start + size


# The tar, until 2017


def _read_tar(archive: tarfile.TarFile) -> Any:
    objects: dict[int, Any] = {}

    def object_at(reference: Any) -> Any:
        return objects.get(reference if type(reference) is int else _integer(reference), Inert())

    data = _tar_member(archive, "storages")
    machine = Machine(data, _NAMES, lenient=True)
    for _ in range(_integer(machine.load())):
        key, _location, kind = _list_of(machine.load(), 3)
        count = int.from_bytes(data[machine.position : machine.position + 8], "little", signed=True)
        values = torch.empty(_checked_length(count, _dtype_of(kind), len(data)), dtype=_dtype_of(kind))
        machine.position = _fill(values, data, machine.position)
        objects[_integer(key)] = _Storage(values)
    for part in _list_of(machine.load()):
        key, root, *place = _list_of(part, 4)
        if not isinstance(objects.get(_integer(root)), _Storage):
            raise Refused("a part of a storage has no storage")
        objects[_integer(key)] = _part_of_storage(objects[_integer(root)], (key, *place))
    data = _tar_member(archive, "tensors")
    machine = Machine(data, _NAMES, lenient=True)
    for _ in range(_integer(machine.load())):
        key, root, _kind = _list_of(machine.load(), 3)
        size, stride, offset, machine.position = _tar_layout(data, machine.position)
        objects[_integer(key)] = _tensor_view(objects.get(_integer(root)), offset, size, stride)
    return Machine(_tar_member(archive, "pickle"), _NAMES, lenient=True, persistent=object_at).load()


def _tar_member(archive: tarfile.TarFile, name: str) -> bytes:
    try:
        member = archive.extractfile(name)
    except KeyError:
        member = None
    if member is None:
        raise Refused(f"it is a tar without {name}, which torch.save once wrote")
    with member:
        return member.read()


def _integer(value: Any) -> int:
    if isinstance(value, str) and value.lstrip("-").isascii() and value.lstrip("-").isdigit():
        value = int(value[:20])
    if type(value) is not int:
        raise Refused("its list of contents lacks a number")
    return value


def _list_of(value: Any, count: int | None = None) -> list[Any]:
    if not isinstance(value, list | tuple) or (count is not None and len(value) != count):
        raise Refused("its list of contents lacks a list")
    return list(value)


def _tar_layout(data: bytes, start: int) -> tuple[tuple[int, ...], tuple[int, ...], int, int]:
    """Size, stride and offset of a tensor, and the position after them."""
    try:
        (axes,) = struct.unpack_from("<i", data, start)
        numbers = struct.unpack_from(f"<{2 * min(axes, 64) + 1}q", data, start + 8)
    except struct.error:
        raise Refused("it ends before its tensors do") from None
    return numbers[:axes], numbers[axes:-1], numbers[-1], start + 8 + 8 * len(numbers)
