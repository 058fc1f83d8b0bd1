"""Files by address: objects of stores that fsspec reaches (`s3://`, `gs://`), and members of tar shards.

A member of a shard is addressed as fsspec chains addresses: `tar://clip1.mp4::s3://bucket/shard-000.tar`, or
`tar://clip1.mp4::/data/shard-000.tar` where the shard is a local file. `file://` is another spelling of a local path.
"""

import hashlib
import os
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from reelseek.errors import UsageError

__all__ = ["Address", "FilePath", "ObjectState", "absolute", "is_address", "member", "parse_path", "parse_paths",
           "path_bytes"]  # fmt: skip

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_TAR = "tar://"
_CHAIN = re.compile(r"::(?=/|[A-Za-z][A-Za-z0-9+.-]+://)")


@dataclass(frozen=True)
class ObjectState:
    """What a store says of an object: bytes, and a tag that changes whenever the bytes do (ETag, generation, time).

    `offset` is where the bytes of a member of an uncompressed tar begin in it.
    """

    size: int
    tag: str
    offset: int | None = None

    @property
    def numbers(self) -> tuple[int, int]:
        """Size and a number made of the tag, in the place of a file's size and time of change."""
        return self.size, int.from_bytes(hashlib.sha256(self.tag.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class Address:
    """Where a file lies that is not on this machine's disks, or is a part of another file.

    It is no `os.PathLike` on purpose: what needs a local file goes through `local_copy`.

    Attributes:
        text: the whole address.
        state: what the store said when it listed the object; None where nobody asked yet.
    """

    text: str
    state: ObjectState | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return self.text

    @property
    def shard(self) -> "Address | Path | None":
        """The tar that this is a member of."""
        parts = _CHAIN.split(self.text, maxsplit=1)
        return parse_path(parts[1]) if self.text.startswith(_TAR) and len(parts) == 2 else None

    @property
    def key(self) -> str:
        """The name inside the tar, or the address itself."""
        return _CHAIN.split(self.text, maxsplit=1)[0].removeprefix(_TAR) if self.shard is not None else self.text

    @property
    def name(self) -> str:
        """The last part, as `Path.name`."""
        return self.key.rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The ending of the name, as `Path.suffix`."""
        return posixpath.splitext(self.name)[1]

    @property
    def parent(self) -> "Address | Path":
        """The folder that holds it; of a member at the top of a tar, the tar."""
        shard = self.shard
        if shard is None:
            scheme, mark, rest = self.text.partition("://")
            above, slash, _ = rest.rstrip("/").rpartition("/")
            return Address(f"{scheme}{mark}{above}") if slash else self  # nothing lies above a bucket
        folder = self.key.rpartition("/")[0]
        return member(shard, folder) if folder else shard

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the name from the store on; those of a member come after those of its tar."""
        shard = self.shard
        if shard is not None:
            return (*shard.parts, *self.key.split("/"))
        scheme, _, rest = self.text.partition("://")
        return (f"{scheme}:", *(part for part in rest.split("/") if part))

    def join(self, name: str) -> "Address":
        """The address of a name relative to this folder."""
        parts = posixpath.normpath(name).split("/")
        above = self
        while parts and parts[0] == "..":
            parent = above.parent
            above, parts = (parent if isinstance(parent, Address) else above), parts[1:]
        return Address(f"{above.text.rstrip('/')}/{'/'.join(parts)}")


FilePath = Path | Address
"""Where a file lies: on a disk, or by an address."""


def member(shard: FilePath, name: str) -> Address:
    """The address of a member of a tar."""
    return Address(f"{_TAR}{name}::{absolute(shard)}")


def is_address(name: str | os.PathLike[str]) -> bool:
    """Whether a name is an address of a store, rather than a path on this machine (which `file://` is too)."""
    text = os.fspath(name)
    return _SCHEME.match(text) is not None and not text.lower().startswith("file://")


def parse_path(name: "str | os.PathLike[str] | Address") -> FilePath:
    """The local path or the address that a name is.

    >>> parse_path("file:///data/a%20b.mp4"), parse_path("s3://bucket/a.mp4").name
    (PosixPath('/data/a b.mp4'), 'a.mp4')
    """
    if isinstance(name, Address):
        return name
    text = os.fspath(name)
    if is_address(text):
        return Address(text)
    if text.lower().startswith("file://"):
        literal = text[len("file://") :]
        return Path(literal if os.path.lexists(literal) else unquote(urlsplit(text).path))
    return Path(text)


def parse_paths(names: "Iterable[str | os.PathLike[str] | Address]") -> list[FilePath]:
    """The local paths or addresses that some names are.

    Raises:
        UsageError: one is empty, which would stand for the folder at hand: a variable of a script that was not set.
    """
    names = list(names)
    if any(isinstance(name, str) and not name.strip() for name in names):
        raise UsageError("a path is empty; name a file or a folder, such as . for this one")
    return [parse_path(name) for name in names]


def path_bytes(path: FilePath) -> bytes:
    """What a database keeps of a path or an address: bytes, so that names that are no Unicode survive."""
    return os.fsencode(str(path))


def absolute(path: FilePath) -> FilePath:
    """The path from the root on; an address is whole already."""
    return path if isinstance(path, Address) else Path(os.path.abspath(path))
