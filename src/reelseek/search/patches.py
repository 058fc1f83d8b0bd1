"""Bytes of a file that are overwritten where they lie, and what its checksum is then, without reading the rest.

Files of an index never change but for this: what belonged to a removed video is erased in place, since writing hundreds
of megabytes anew for each removal would make it cost what the index costs. A manifest names the patches, with the
checksums that files have after them, before the first byte changes; who checks a file meanwhile takes them as done.
"""

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from reelseek.library.files import sync_file

__all__ = ["Patch", "Patches", "overlay", "patched_checksum", "write_patches"]

_POLYNOMIAL = 0xEDB88320  # of CRC-32, its lowest power in the highest bit
_ONE = 1 << 31


@dataclass(frozen=True)
class Patch:
    """What is to stand at a place of a file."""

    offset: int
    content: bytes

    @classmethod
    def zeros(cls, offset: int, length: int) -> Self:
        """Nothing but zeros."""
        return cls(offset, bytes(length))

    def as_json(self) -> list[Any]:
        """Offset, length, and what stands there in hexadecimal digits, '' for zeros."""
        return [self.offset, len(self.content), self.content.hex() if any(self.content) else ""]

    @classmethod
    def from_json(cls, cells: Sequence[Any]) -> Self:
        offset, length, digits = cells
        return cls(int(offset), bytes.fromhex(digits) if digits else bytes(int(length)))


Patches = Mapping[str, Sequence[Patch]]
"""By file name."""


def overlay(block: bytes, start: int, patches: Iterable[Patch]) -> bytes:
    """A block of a file from byte `start` on, as it is with all patches."""
    end = start + len(block)
    patched: bytearray | None = None
    for patch in patches:
        first, last = max(start, patch.offset), min(end, patch.offset + len(patch.content))
        if first < last:
            patched = bytearray(block) if patched is None else patched
            patched[first - start : last - start] = patch.content[first - patch.offset : last - patch.offset]
    return block if patched is None else bytes(patched)


def write_patches(path: Path, patches: Iterable[Patch]) -> None:
    """Overwrite bytes of a file where they lie; they are on disk when this returns."""
    with path.open("r+b") as file:
        for patch in patches:
            file.seek(patch.offset)
            file.write(patch.content)
    sync_file(path)


def patched_checksum(path: Path, size: int, checksum: int, patches: Iterable[Patch]) -> int:
    """The CRC-32 that a file has after some patches, which do not overlap.

    CRC-32 is linear: what changes in it depends on what changes in the file, and on how many bytes follow. A file that
    is damaged elsewhere does not fit the new checksum either.

    Args:
        size, checksum: of the file as it was written.

    Example:
        patched_checksum(path, 5, zlib.crc32(b"abcde"), [Patch(1, b"xy")]) == zlib.crc32(b"axyde")
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for patch in patches:
            length = len(patch.content)
            old = os.pread(descriptor, length, patch.offset)
            change = int.from_bytes(old, "little") ^ int.from_bytes(patch.content, "little")
            linear = zlib.crc32(change.to_bytes(length, "little")) ^ zlib.crc32(bytes(length))
            checksum ^= _multiply(linear, _power_of_x(8 * (size - patch.offset - length)))
    finally:
        os.close(descriptor)
    return checksum


def _multiply(left: int, right: int) -> int:
    """The product of two polynomials over GF(2), modulo that of CRC-32."""
    product = 0
    for bit in range(31, -1, -1):
        if left >> bit & 1:
            product ^= right
        right = right >> 1 ^ (_POLYNOMIAL if right & 1 else 0)
    return product


def _power_of_x(exponent: int) -> int:
    power, square = _ONE, _ONE >> 1
    while exponent:
        if exponent & 1:
            power = _multiply(power, square)
        square = _multiply(square, square)
        exponent >>= 1
    return power
