"""Features that users already have: `.npy` a video, `.npz` and HDF5 with an array a video."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from reelseek.errors import CollectionError, FeatureError, UsageError
from reelseek.experts import MODALITIES
from reelseek.experts.expert import Track
from reelseek.library.store import Library, Video

__all__ = ["ImportReport", "fingerprint_of", "import_features", "names_of", "track_of"]


_ARRAYS_A_TRANSACTION = 256


@dataclass
class ImportReport:
    """How many tracks were written, how many files say that there is nothing (`empty`), arrays that name no video, and
    arrays that could not be used (name, reason)."""

    imported: int = 0
    empty: int = 0
    unmatched: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def import_features(
    library: Library,
    expert: str,
    paths: Sequence[Path],
    *,
    modality: str,
    fps: float | None = None,
    progress: Callable[[str, int, int, str], None] | None = None,
) -> ImportReport:
    """Add an expert's tracks from arrays named after the videos, also for videos whose files are not at hand.

    Args:
        expert: the name to give it.
        paths: `.npy` files, folders of them, `.npz` or HDF5 files. An array is [step, dim], or [dim] for one step
            over the whole video.
        modality: one of MODALITIES.
        fps: steps a second; without it the steps spread evenly over the video.

    Raises:
        UsageError: unknown modality, or an expert's name that a built-in expert has.
        CollectionError: a file cannot be read at all.
    """
    if modality not in MODALITIES:
        raise UsageError(f"unknown modality {modality!r}; there are {', '.join(MODALITIES)}")
    if fps is not None and not (fps > 0 and np.isfinite(fps)):
        raise UsageError(f"--fps is {fps}; wanted a number of steps a second above 0")
    if not expert or not all(c.isalnum() or c in "-_." for c in expert):
        raise UsageError(f"{expert!r} cannot name an expert; use letters, digits, '-', '_' and '.'")
    known = library.experts().get(expert)
    if known and not all(print_.startswith(f"{expert}:import-") for print_ in known["fingerprints"]):
        raise UsageError(f"{expert!r} is an expert that extracts here; give imported features a name of their own")
    report = ImportReport()
    names = names_of(library)
    with library.writing():
        dim = int(known["dim"]) if known else None
        with library.saving():
            for count, (name, load) in enumerate(_arrays(paths), 1):
                video = names.get(name)
                if video is None:
                    report.unmatched.append(name)
                    continue
                try:
                    track = track_of(load(), video, fps, dim)
                except (FeatureError, ValueError, OSError, EOFError, MemoryError, KeyError, BadZipFile) as error:
                    report.failed.append((name, str(error) or type(error).__name__))
                    continue
                dim = track.values.shape[1]
                print_ = fingerprint_of(expert, modality, fps, dim, track.values.dtype.name)
                library.put_track(f"id:{video.id}", expert, print_, modality, track)
                report.imported += 1
                if count % _ARRAYS_A_TRANSACTION == 0:
                    library.commit()
                if progress:
                    progress("importing", count, 0, name)
    return report


def fingerprint_of(expert: str, modality: str, fps: float | None, dim: int, dtype: str) -> str:
    identity = json.dumps([expert, modality, fps, dim, dtype])
    return f"{expert}:import-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def names_of(library: Library) -> dict[str, Video]:
    """Videos by id, id without suffix, file name and stem, where that names just one."""
    names: dict[str, Video | None] = {}
    videos = library.videos()
    for video in videos:
        keys = {str(Path(video.id).with_suffix("")), Path(video.id).name, Path(video.id).stem}
        keys |= {video.path.name, video.path.stem} if video.path else set()
        for key in keys:
            names[key] = None if key in names else video
    names.update({video.id: video for video in videos})
    return {name: video for name, video in names.items() if video is not None}


def track_of(
    array: npt.NDArray[np.generic],
    video: Video,
    fps: float | None,
    dim: int | None,
    spans: npt.NDArray[np.float64] | None = None,
) -> Track:
    """An array [step, dim] or [dim] as a track.

    Args:
        dim: what the expert's other arrays have.
        spans: seconds of each step, if they are known; else steps spread evenly, or at `fps`.

    Raises:
        FeatureError: it is of another shape, width or kind.
    """
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2):
        raise FeatureError(f"holds {array.dtype} {array.shape}; wanted numbers [step, dim] or [dim]")
    whole = array.ndim == 1
    rows = array[None] if whole else array
    if rows.shape[1] == 0:
        raise FeatureError("has no columns")
    if dim is not None and rows.shape[1] != dim:
        raise FeatureError(f"has {rows.shape[1]} columns where this expert's other arrays have {dim}")
    values: Any = rows.astype(np.float16 if array.dtype == np.float16 else np.float32)
    if spans is not None and spans.shape == (len(values), 2):
        return Track(values, spans, note="imported")
    length = video.duration or (len(values) / fps if fps else float(max(1, len(values))))
    steps = np.arange(len(values) + 1, dtype=np.float64)
    edges = steps / fps if fps and not whole else steps * (length / max(1, len(values)))
    return Track(values, np.stack([edges[:-1], edges[1:]], axis=1), note="imported")


def _arrays(paths: Sequence[Path]) -> Iterator[tuple[str, Callable[[], npt.NDArray[np.generic]]]]:
    """Names with a function that reads the array."""
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in (".npy", ".npz", ".h5", ".hdf5"))
            if not inside:
                raise CollectionError(f"{path} holds no .npy, .npz, .h5 or .hdf5 file")
            for file in inside:
                name = str(file.relative_to(path).with_suffix(""))
                try:
                    yield from _file(file, name)
                except CollectionError as error:
                    yield name, partial(_raise, error)
        elif path.is_file():
            yield from _file(path, path.stem)
        else:
            raise CollectionError(f"{path}: no such file or folder")


def _raise(error: Exception) -> npt.NDArray[np.generic]:
    raise FeatureError(str(error))


def _file(path: Path, name: str) -> Iterator[tuple[str, Callable[[], npt.NDArray[np.generic]]]]:
    try:
        if path.suffix.lower() == ".npy":
            yield name, lambda: np.load(path, allow_pickle=False)
        elif path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                for key in archive.files:
                    yield key, partial(archive.__getitem__, key)
        elif path.suffix.lower() in (".h5", ".hdf5"):
            yield from _hdf5(path)
        else:
            raise CollectionError(f"{path}: features come as .npy, .npz, .h5 or .hdf5")
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise CollectionError(f"{path} cannot be read: {error}") from error


def _dataset(file: Any, name: str) -> npt.NDArray[np.generic]:
    return np.asarray(file[name])


def _hdf5(path: Path) -> Iterator[tuple[str, Callable[[], npt.NDArray[np.generic]]]]:
    import h5py

    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
        for name in names:
            yield name, partial(_dataset, file, name)
