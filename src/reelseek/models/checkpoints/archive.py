"""torch's own files, taken apart here: a zip, the older row of pickles, and the oldest tar.

torch's reader runs a TorchScript archive's program and believes what a file says of its tensors. Here the pickle in
such a file is read as plain values, and every tensor's shape, strides and offset are checked against its bytes.
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
    """Numbers of one type in a row, in which tensors lie."""

    def __init__(self, values: Tensor) -> None:
        self.values = values


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
    """A view of a storage, after a check that it lies inside."""
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
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
}


def read_archive(path: Path) -> Any:
    """What a file of torch's holds: tensors and plain containers, with `Inert` for everything else that it names.

    Raises:
        Refused: it is a program (TorchScript), or damaged, or its tensors are not those bytes.
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
        return _read_row(data)


def _dtype_of(kind: Any) -> torch.dtype:
    if not isinstance(kind, Name) or kind.module != "torch" or kind.name not in _DTYPES:
        raise Refused("a tensor of it has numbers of no type that is known here")
    return _DTYPES[kind.name]


def _length(count: Any, dtype: torch.dtype, most_bytes: int) -> int:
    """A number of values that a file claims to hold, refused where it cannot."""
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

    return Machine(_inflated(archive, f"{root}data.pkl"), _NAMES, lenient=True, persistent=storage).load()


def _inflated(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > available_memory() // 2:
        raise Refused(f"{name} in it is too large for the memory of this machine")
    return archive.read(name)


def _member(archive: zipfile.ZipFile, name: str, dtype: torch.dtype, count: Any) -> Tensor:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise Refused(f"it has no {name}, in which a tensor of it lies") from None
    size = _length(count, dtype, info.file_size) * dtype.itemsize
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


# The row of pickles, until 2020


def _read_row(data: mmap.mmap) -> Any:
    storages: dict[str, _Storage] = {}
    empty = {"bytes": len(data)}

    def storage(reference: Any) -> Any:
        if type(reference) is not tuple or len(reference) < 5 or reference[0] != "storage":
            return Inert()
        key, dtype = str(reference[2]), _dtype_of(reference[1])
        if key not in storages:
            count = _length(reference[4], dtype, empty["bytes"])
            empty["bytes"] -= count * dtype.itemsize
            storages[key] = _Storage(torch.empty(count, dtype=dtype))
        view = reference[5] if len(reference) > 5 else None
        return storages[key] if view is None else _view(storages[key], view)

    machine = Machine(data, _NAMES, lenient=True, persistent=storage)
    if machine.load() != _MAGIC or machine.load() != 1001:
        raise Refused("it does not begin as a file of torch.save")
    system = machine.load()
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise Refused("it was written on a machine with the other byte order")
    whole, keys = machine.load(), machine.load()
    if not isinstance(keys, list) or {str(key) for key in keys} != set(storages):
        raise Refused("it does not list the tensors that it has")
    position = machine.position
    for key in keys:
        position = _fill(storages[str(key)].values, data, position)
    return whole


def _view(storage: _Storage, view: Any) -> _Storage:
    if type(view) is not tuple or len(view) != 3 or not all(type(n) is int and n >= 0 for n in view[1:]):
        raise Refused("a part of a storage has no place")
    start, end = view[1], view[1] + view[2]
    if end > len(storage.values):
        raise Refused("a part of a storage lies outside of it")
    return _Storage(storage.values[start:end])


def _fill(values: Tensor, data: bytes | mmap.mmap, position: int) -> int:
    """Copy a length and as many numbers from `position` on, and say where they end."""
    start, size = position + 8, values.nbytes
    if int.from_bytes(data[position:start], "little") != len(values) or start + size > len(data):
        raise Refused("it ends before its tensors do, or their lengths are not those it told")
    if size:
        values.view(torch.uint8).copy_(torch.frombuffer(bytearray(data[start : start + size]), dtype=torch.uint8))
    return start + size


# The tar, until 2017


def _read_tar(archive: tarfile.TarFile) -> Any:
    objects: dict[int, Any] = {}

    def stored(reference: Any) -> Any:
        return objects.get(reference if type(reference) is int else _number(reference), Inert())

    data = _tar_member(archive, "storages")
    machine = Machine(data, _NAMES, lenient=True)
    for _ in range(_number(machine.load())):
        key, _location, kind = _parts(machine.load(), 3)
        count = int.from_bytes(data[machine.position : machine.position + 8], "little", signed=True)
        values = torch.empty(_length(count, _dtype_of(kind), len(data)), dtype=_dtype_of(kind))
        machine.position = _fill(values, data, machine.position)
        objects[_number(key)] = _Storage(values)
    for view in _parts(machine.load()):
        key, root, *place = _parts(view, 4)
        if not isinstance(objects.get(_number(root)), _Storage):
            raise Refused("a part of a storage has no storage")
        objects[_number(key)] = _view(objects[_number(root)], (key, *place))
    data = _tar_member(archive, "tensors")
    machine = Machine(data, _NAMES, lenient=True)
    for _ in range(_number(machine.load())):
        key, root, _kind = _parts(machine.load(), 3)
        size, stride, offset, machine.position = _tar_place(data, machine.position)
        objects[_number(key)] = _tensor(objects.get(_number(root)), offset, size, stride)
    return Machine(_tar_member(archive, "pickle"), _NAMES, lenient=True, persistent=stored).load()


def _tar_member(archive: tarfile.TarFile, name: str) -> bytes:
    try:
        member = archive.extractfile(name)
    except KeyError:
        member = None
    if member is None:
        raise Refused(f"it is a tar without {name}, which torch.save once wrote")
    with member:
        return member.read()


def _number(value: Any) -> int:
    if isinstance(value, str) and value.lstrip("-").isascii() and value.lstrip("-").isdigit():
        value = int(value[:20])
    if type(value) is not int:
        raise Refused("a number is absent where it tells what it holds")
    return value


def _parts(value: Any, count: int | None = None) -> list[Any]:
    if not isinstance(value, list | tuple) or (count is not None and len(value) != count):
        raise Refused("a list is absent where it tells what it holds")
    return list(value)


def _tar_place(data: bytes, start: int) -> tuple[tuple[int, ...], tuple[int, ...], int, int]:
    """Size, stride and offset of a tensor, and where they end."""
    try:
        (axes,) = struct.unpack_from("<i", data, start)
        numbers = struct.unpack_from(f"<{2 * min(axes, 64) + 1}q", data, start + 8)
    except struct.error:
        raise Refused("it ends before its tensors do") from None
    return numbers[:axes], numbers[axes:-1], numbers[-1], start + 8 + 8 * len(numbers)
