"""Work on other nodes: it reads the same library there, and the folder that it writes comes back."""

import json
import tempfile
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TypeVar

from reelseek.cluster import Cluster, Resources
from reelseek.errors import ReelseekError
from reelseek.library.files import write_whole_bytes
from reelseek.library.store import Library

__all__ = ["Files", "read_files", "require_library", "run_in_folder", "threads_of", "write_files"]

Files = dict[str, bytes]
"""Bytes by path relative to a folder."""
Value = TypeVar("Value")


def require_library(cluster: Cluster, path: Path) -> None:
    """Check that every node reads the same library at a path, in a shared folder or a copy.

    Raises:
        ClusterError: a node has none there, or another content; names the node.
    """
    cluster.require(partial(_content, path.absolute()))


def _content(path: Path) -> dict[str, str]:
    try:
        with Library.open(path) as library:
            return {f"the library {path}": f"of digest {library.digest()[:12]}"}
    except (ReelseekError, OSError) as error:
        return {f"the library {path}": f"unreadable ({error})"}


def read_files(folder: Path) -> Files:
    """Read all files of a folder; none where it does not exist."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write_files(folder: Path, files: Files, last: Collection[str] = ()) -> None:
    """Write files into a folder, each whole; those that say that a work is done come last."""
    for name in sorted(files, key=lambda name: (name in last, name)):
        write_whole_bytes(folder / name, files[name])


def run_in_folder(
    work: Callable[[Path], Value], files: Files, out: Path, skip: Collection[str] = ()
) -> tuple[Value, Files]:
    """Run a work in a temporary folder in the place of another one.

    Args:
        files: those that the folder holds before.
        out: the folder that it stands for: paths in text files name that one outside, the temporary one inside.
        skip: folders in it that are not returned.

    Returns:
        The result of the work, and the files that it wrote or changed.
    """
    with tempfile.TemporaryDirectory(prefix="reelseek-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        before = {path: _with_paths(path, content, out, folder) for path, content in files.items()}
        write_files(folder, before)
        value = work(folder)
        after = {path: content for path, content in read_files(folder).items() if path.partition("/")[0] not in skip}
    changed = {path: content for path, content in after.items() if before.get(path) != content}
    return value, {path: _with_paths(path, content, folder, out) for path, content in changed.items()}


def _with_paths(name: str, content: bytes, old: Path, new: Path) -> bytes:
    """A file's bytes; in a text, paths below a folder moved to another one, as they stand in JSON too."""
    if not name.endswith((".json", ".toml", ".md", ".csv")):
        return content
    for write in (str, lambda path: json.dumps(str(path))[1:-1]):
        content = content.replace(f"{write(old)}/".encode(), f"{write(new)}/".encode())
    return content


def threads_of(threads: int, device: str = "cpu") -> tuple[Resources, Callable[[], None]]:
    """What an actor asks for that computes as this process does, and what prepares it.

    Args:
        threads: of PyTorch here; sums in another number of threads may round otherwise.
    """
    return Resources(cpus=threads, gpu=device.startswith("cuda")), partial(_set_threads, threads)


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
