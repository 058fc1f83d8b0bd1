"""What lies in the same folder as a file, be the folder on a disk, in a store or in a tar."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from reelseek.errors import ReelseekError
from reelseek.media.address import Address, FilePath, member
from reelseek.media.store import list_objects
from reelseek.media.tar import is_tar, member_states

__all__ = ["files_in"]


def files_in(folder: FilePath) -> Mapping[str, FilePath]:
    """What lies in a folder, by name; nothing where it cannot be read."""
    try:
        if isinstance(folder, Address) and folder.shard is not None:
            return _members_in(folder.shard, f"{folder.key}/")
        if is_tar(folder) and not (isinstance(folder, Path) and folder.is_dir()):
            return _members_in(folder, "")
        if isinstance(folder, Address):
            return {address.name: address for address in list_objects(folder, deep=False)}
        return _LocalFiles(folder)
    except (OSError, ReelseekError):
        return {}


class _LocalFiles(Mapping[str, FilePath]):
    """A folder on a disk, in which there may be millions of files, of which few are asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._names = folder, dict.fromkeys(os.listdir(folder))

    def __getitem__(self, name: str) -> FilePath:
        if name not in self._names:
            raise KeyError(name)
        return self._folder / name

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _members_in(shard: FilePath, folder: str) -> dict[str, FilePath]:
    states = member_states(shard)
    inside = (name for name in states if name.startswith(folder) and "/" not in name[len(folder) :])
    return {name[len(folder) :]: Address(member(shard, name).text, states[name]) for name in inside}
