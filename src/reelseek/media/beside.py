"""What lies in the same folder as a file, be the folder on a disk, in a store or in a tar."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from reelseek.errors import ReelseekError
from reelseek.media.address import Address, FilePath, member
from reelseek.media.local_copy import local_copy
from reelseek.media.store import list_objects
from reelseek.media.tar import is_tar, member_states

__all__ = ["files_in", "local_subtitles"]


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


@contextmanager
def local_subtitles(copies: Sequence[FilePath]) -> Iterator[list[Path]]:
    """Yield where the subtitles beside some copies of a video lie on this machine while the block runs.

    Of a video by address, they are copied into a folder that is otherwise empty; the video itself is not.
    """
    from reelseek.media.subtitles import FolderSubtitles

    with tempfile.TemporaryDirectory(prefix="reelseek-") as scratch:
        paths = []
        for number, path in enumerate(copies):
            if isinstance(path, Path):
                paths.append(path)
                continue
            folder = Path(scratch) / str(number)
            folder.mkdir()
            beside = FolderSubtitles(path.parent)
            for name in beside.beside(path.name):
                with local_copy(beside.files[name]) as copy, contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(copy, folder / name)
            paths.append(folder / path.name)
        yield paths
