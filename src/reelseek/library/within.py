"""Whether what is added lies in folders that somebody allows, wherever links lead."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from reelseek.errors import UsageError
from reelseek.library.names import name_some, printable
from reelseek.media.address import Address, FilePath

__all__ = ["check_within", "lies_within"]


def lies_within(path: FilePath, folders: Sequence[Path]) -> bool:
    """Whether a file, or the shard that holds it, is below one of some folders once every link is followed.

    >>> lies_within(Path("/films/../etc/passwd"), [Path("/films")])
    False
    """
    return _is_below(path, _real(folders))


def check_within(paths: Iterable[FilePath], folders: Sequence[Path]) -> None:
    """Refuse files outside of some folders.

    Raises:
        UsageError: names the first of them.
    """
    roots = _real(folders)
    outside = [printable(path) for path in paths if not _is_below(path, roots)]
    if outside:
        allowed = name_some([printable(folder) for folder in folders]) or "none"
        raise UsageError(
            f"outside of the allowed folders ({allowed}), perhaps by a link: {name_some(outside)}; nothing was added"
        )


def _real(folders: Sequence[Path]) -> list[str]:
    return [os.path.realpath(folder) for folder in folders]


def _is_below(path: FilePath, roots: Sequence[str]) -> bool:
    if isinstance(path, Address):
        return path.shard is not None and _is_below(path.shard, roots)
    real = os.path.realpath(path)
    return any(real == root or real.startswith(root.rstrip(os.sep) + os.sep) for root in roots)
