"""Arrays with the names that they could mean a video by: the file's, a key's, or a group's."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt

from reelseek.errors import CollectionError, FeatureError
from reelseek.library.listing import expand_paths
from reelseek.library.readers.containers import ARRAY_SUFFIXES, open_archive, read_npy
from reelseek.media.address import FilePath
from reelseek.media.local_copy import local_copy
from reelseek.media.store import is_directory, list_objects

__all__ = ["ArrayFile", "NamedArray", "array_files", "read_arrays"]

# Names of arrays that say what they are and not of which video (Moment-DETR, HERO, np.savez, ActivityNet's).
_GENERIC = re.compile(
    r"(frame_|clip_|video_|c3d_|slowfast_)?(features?|feats?|embeddings?)|arr_\d+|data|values|frame_scores"
    r"|pooler_output|last_hidden_state",
    re.IGNORECASE,
)


Names = tuple[tuple[str, tuple[str, ...]], ...]  # what may name a video, each with the other arrays it fits


class ArrayFile(NamedTuple):
    """A file and the name it has without its suffix, below the folder that was given."""

    path: FilePath
    name: str


class NamedArray(NamedTuple):
    """An array, or why there is none.

    Attributes:
        label: for people.
        names: what may name its video, the likeliest first, each with the other arrays of the file that it fits too.
    """

    label: str
    names: Names
    values: npt.NDArray[Any] | str


def array_files(paths: Sequence[FilePath]) -> list[ArrayFile]:
    """The files of arrays in some paths or addresses; a folder stands for all of them below it.

    Raises:
        CollectionError: a path does not exist, or holds none.
    """
    files: list[ArrayFile] = []
    for path in expand_paths(paths):
        if is_directory(path):
            inside = [(name, file) for name, file in _below(path) if file.suffix.lower() in ARRAY_SUFFIXES]
            if not inside:
                raise CollectionError(f"{path} holds no .npy, .npz, .h5 or .hdf5 file")
            files += [ArrayFile(file, name[: -len(file.suffix)]) for name, file in inside]
        elif isinstance(path, Path) and not path.is_file():
            raise CollectionError(f"{path}: no such file or folder")
        elif path.suffix.lower() not in ARRAY_SUFFIXES:
            raise CollectionError(f"{path}: features come as .npy, .npz, .h5 or .hdf5")
        else:
            files.append(ArrayFile(path, path.name[: -len(path.suffix)]))
    return files


def _below(folder: FilePath) -> list[tuple[str, FilePath]]:
    """The files below a folder with their names from it on, in order."""
    if isinstance(folder, Path):
        return [(str(file.relative_to(folder)), file) for file in sorted(folder.rglob("*"))]
    try:
        objects = list_objects(folder)
    except OSError as error:
        raise CollectionError(f"{folder}: {error.strerror or error}") from error
    return [(address.text[len(folder.text.rstrip("/")) + 1 :], address) for address in objects]


def read_arrays(file: ArrayFile) -> Iterator[NamedArray]:
    """Every array of a file, which is read through a local copy where it lies in a store.

    Raises:
        CollectionError: the file as a whole cannot be read.
    """
    with local_copy(file.path) as path:
        yield from _read_arrays(ArrayFile(path, file.name), path)


def _read_arrays(file: ArrayFile, path: Path) -> Iterator[NamedArray]:
    if path.suffix.lower() == ".npy":
        names: Names = tuple((name, ()) for name in dict.fromkeys((file.name, _without_generic(file.name))) if name)
        try:
            yield NamedArray(file.name, names, read_npy(path))
        except FeatureError as error:
            yield NamedArray(file.name, names, str(error))
        return
    with open_archive(path) as archive:
        names_by_key = video_names(archive.names, file.name)
        for key in archive.names:
            names = names_by_key[key]
            label = key if names[0][0] == key else f"{file.name}: {key}"
            try:
                yield NamedArray(label, names, archive.read(key))
            except FeatureError as error:
                yield NamedArray(label, names, str(error))


def video_names(keys: Sequence[str], file: str) -> dict[str, Names]:
    """For each key of a file what may name its video: the key, its part that is not generic, then the file.

    A last part that all keys share is generic too (`<video>/c3d` for every video). The file's name stands for its one
    array, or for its one array of a generic name.

    >>> video_names(["features"], "v1")
    {'features': (('v1', ()),)}
    """
    leaves = {key.rpartition("/")[2] for key in keys}
    shared = leaves.pop() if len(leaves) == 1 and len(keys) > 1 else None
    parts = {key: _without_generic(key, shared) for key in keys}
    generic = [key for key in keys if not parts[key]]
    owners = generic if len(generic) == 1 else list(keys)
    owner_set = set(owners)
    claims: dict[str, list[str]] = {}
    for key in keys:
        claims.setdefault(parts[key], []).append(key)
    names: dict[str, Names] = {}
    for key in keys:
        candidates: list[tuple[str, tuple[str, ...]]] = [(key, ())] if parts[key] else []
        if parts[key] and parts[key] != key:
            rivals = [other for other in claims[parts[key]][:6] if other != key]
            candidates.append((parts[key], tuple(rivals)))
        if key in owner_set:
            others = tuple(other for other in owners[:6] if other != key)
            candidates.append((_without_generic(file) or file, others))
        names[key] = tuple(candidates) or ((key, ()),)
    return names


def _without_generic(name: str, shared: str | None = None) -> str:
    """The parts of a path that could name a video."""
    parts = name.split("/")
    if len(parts) > 1 and parts[-1] == shared:
        parts.pop()
    return "/".join(part for part in parts if not _GENERIC.fullmatch(part))
