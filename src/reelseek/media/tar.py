"""Shards of WebDataset: plain tar files whose members are videos with texts beside them, on a disk or in a store.

A tar is read once from its first header to its last, and what it holds is kept beside the local copies; from then on a
member is a span of bytes of its shard.
"""

import errno
import functools
import json
import posixpath
import tarfile
from dataclasses import dataclass

from reelseek.errors import CollectionError
from reelseek.media.address import Address, FilePath, ObjectState, absolute
from reelseek.media.charset import decode_text
from reelseek.media.local_copy import default_copies
from reelseek.media.store import object_state, open_bytes

__all__ = ["LONGEST_TEXT", "Member", "Shard", "is_tar", "is_text", "member_state", "member_states", "read_shard",
           "sample_key"]  # fmt: skip

_TEXTS = (".txt", ".json")
LONGEST_TEXT = 2**20
_FORM = 2  # of what is kept of a tar


@dataclass(frozen=True)
class Member:
    """A file in a tar: its name, where its bytes begin, how many they are, and what a small text says."""

    name: str
    offset: int
    size: int
    text: str | None = None


def is_tar(path: FilePath) -> bool:
    """Whether a name is that of a shard."""
    return path.suffix.lower() in (".tar", ".tgz") or path.name.lower().endswith(".tar.gz")


def sample_key(name: str) -> str:
    """What members of one sample share: the name up to the first dot of its last part.

    >>> sample_key("a.b/clip1.en.srt")
    'a.b/clip1'
    """
    folder, last = posixpath.split(name)
    return posixpath.join(folder, last.partition(".")[0])


@dataclass(frozen=True)
class Shard:
    """What is in a tar.

    Attributes:
        problem: why there may be more that cannot be read, else empty.
        left_out: how many symbolic links and sparse files there are, which are no spans of bytes.
        replaced: how many members there are whose name a later one has.
    """

    members: tuple[Member, ...]
    problem: str = ""
    left_out: int = 0
    replaced: int = 0


def is_text(name: str) -> bool:
    """Whether a member is a text beside the video of its key."""
    return name.lower().endswith(_TEXTS)


def read_shard(path: FilePath) -> Shard:
    """List the files in a tar, in its order; of several of one name the last, as tar has it.

    Raises:
        CollectionError: it is no tar, or is compressed.
        OSError: it cannot be read.
    """
    return _read_shard(path, _numbers(path))


def _numbers(path: FilePath) -> tuple[int, int]:
    """As `file_numbers`, with the store's own error where it says nothing: what cannot be asked is not gone.

    Raises:
        OSError: there is no such file, or it cannot be looked at.
    """
    if isinstance(path, Address):
        return object_state(path).numbers
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=16)
def _read_shard(path: FilePath, numbers: tuple[int, int]) -> Shard:
    key = f"tar index {_FORM} of {absolute(path)} {numbers}"
    note = json.loads(default_copies().note(key, lambda: _index(path), label=str(path)))
    members = {row[0]: Member(*row) for row in note["members"]}
    replaced = len(note["members"]) - len(members)
    return Shard(tuple(members.values()), note["problem"], note["left_out"], replaced)


def _index(path: FilePath) -> bytes:
    rows = []
    try:
        with open_bytes(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            problem, left_out = "", 0
            targets: dict[str, tarfile.TarInfo] = {}
            try:
                for info in tar:
                    target = targets.get(info.linkname) if info.islnk() else info
                    if target is not None and target.isreg() and not target.issparse():
                        targets[info.name] = target  # the second hard link of a file is a link to the first
                        rows.append((info.name, target.offset_data, target.size, _text(tar, target)))
                    elif not info.isdir():
                        left_out += 1
            except tarfile.ReadError as error:
                if not rows:
                    raise
                problem = str(error)
            file.seek(tar.offset)
            if not problem and file.read(tarfile.BLOCKSIZE) != b"\0" * tarfile.BLOCKSIZE:
                problem = "it ends without the mark of a tar's end"
            if problem:
                rows = [row for row in rows if row[1] + row[2] <= file.seek(0, 2)]
    except tarfile.TarError as error:
        remedy = "a compressed one has to be unpacked, since its members cannot be read one by one"
        raise CollectionError(f"{path}: no tar file that can be read ({error}); {remedy}") from error
    return json.dumps({"members": rows, "problem": problem, "left_out": left_out}).encode()


def _text(tar: tarfile.TarFile, info: tarfile.TarInfo) -> str | None:
    if info.size > LONGEST_TEXT or not is_text(info.name):
        return None
    file = tar.extractfile(info)
    return decode_text(file.read()).text if file is not None else None


def member_state(address: Address) -> ObjectState:
    """Size, tag and offset of a member; its tag is its shard's, with the place in it.

    Raises:
        FileNotFoundError: the shard has no such member, or is gone.
        OSError: it cannot be read.
    """
    shard = address.shard
    assert shard is not None
    try:
        state = member_states(shard).get(address.key)
    except CollectionError as error:  # other bytes lie there now
        raise FileNotFoundError(errno.ENOENT, str(error), str(address)) from error
    if state is None:
        raise FileNotFoundError(errno.ENOENT, "the tar has no such member", str(address))
    return state


def member_states(shard: FilePath) -> dict[str, ObjectState]:
    """The state of every member of a tar by its name.

    Raises:
        FileNotFoundError, OSError, CollectionError: as `read_shard`.
    """
    return _states(shard, _numbers(shard))


@functools.lru_cache(maxsize=16)
def _states(shard: FilePath, numbers: tuple[int, int]) -> dict[str, ObjectState]:
    members = _read_shard(shard, numbers).members
    return {one.name: ObjectState(one.size, f"{numbers} {one.offset}", one.offset) for one in members}
