"""Which folders jobs may read: those that the server was started with, and those where a library's videos lie."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from reelseek.errors import UsageError
from reelseek.library import Library
from reelseek.library.names import name_some, printable
from reelseek.library.within import lies_within
from reelseek.media.address import is_address

__all__ = ["Roots", "library_folders", "outermost"]


class Roots:
    """The folders that a server was started with.

    Args:
        folders: none allows only what lies where the library's videos lie already.

    Raises:
        UsageError: one of them is no folder.
    """

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        self.folders = [Path(os.path.realpath(folder)) for folder in folders]
        missing = [printable(folder) for folder in self.folders if not folder.is_dir()]
        if missing:
            raise UsageError(f"--roots: {name_some(missing)}: no such folder")

    def allowed(self, library: Library) -> list[Path]:
        """Every folder that a job on a library may read, none below another."""
        return outermost([*self.folders, *library_folders(library)])

    def check(self, names: Sequence[str], allowed: Sequence[Path]) -> list[Path]:
        """Paths as they are named, links followed, each of which must exist below an allowed folder.

        Raises:
            UsageError: one does not; nothing tells whether a file outside exists.
        """
        paths = []
        for name in names:
            if is_address(name):
                raise UsageError(f"{name} is an address of a store; a server adds from folders below its --roots")
            path = Path(name)
            if not path.is_absolute():
                raise UsageError(f"{name!r} is no absolute path; name it from / on")
            if not lies_within(path, allowed):
                places = name_some([printable(folder) for folder in allowed]) or "none"
                raise UsageError(
                    f"{name} lies outside of the folders that this server may read ({places}); start it with "
                    f"--roots FOLDER to allow another"
                )
            if not os.path.lexists(path):
                raise UsageError(f"{name}: no such file or folder; it may have been moved or unmounted")
            paths.append(Path(os.path.realpath(path)))
        return paths


def library_folders(library: Library) -> list[Path]:
    """The folders in which videos of a library lie on this machine; the root of the disk is never one."""
    folders = {video.path.parent for video in library.videos() if isinstance(video.path, Path)}
    return outermost([folder for folder in folders if folder != Path(folder.anchor)])


def outermost(folders: Iterable[Path]) -> list[Path]:
    """Folders without those that lie below another one of them."""
    selected: list[Path] = []
    for folder in sorted({Path(os.path.realpath(folder)) for folder in folders}, key=lambda path: path.parts):
        if not selected or not folder.is_relative_to(selected[-1]):
            selected.append(folder)
    return selected
