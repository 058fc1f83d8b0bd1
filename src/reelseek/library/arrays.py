"""Features that users already have: `.npy` a video, `.npz` and HDF5 with an array a video or a file a video."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from reelseek.errors import CollectionError, FeatureError, UsageError
from reelseek.experts import MODALITIES
from reelseek.library.imports import ImportReport, TrackWriter, check_expert_name, track_of
from reelseek.library.readers.containers import seconds_for
from reelseek.library.readers.layouts import ArrayFile, NamedArray, array_files, read_arrays
from reelseek.library.store import Library
from reelseek.media.address import parse_paths
from reelseek.media.guard import stream
from reelseek.media.local_copy import fetch_seconds
from reelseek.media.store import file_numbers

__all__ = ["import_features"]


def import_features(
    library: Library,
    expert: str,
    paths: Sequence[str | os.PathLike[str]],
    *,
    modality: str,
    fps: float | None = None,
    model: str | None = None,
    progress: Callable[[str, int, int, str], None] | None = None,
) -> ImportReport:
    """Add an expert's tracks from arrays named after the videos, also for videos whose files are not at hand.

    Files are read in a process of their own: a damaged one ends neither the import nor this process.

    Args:
        expert: the name to give it.
        paths: `.npy` files, folders of them, `.npz` or HDF5 files, here or by address. An array is [step, dim], or
            [dim] for one step over the whole video. A file, a key or an HDF5 group names the video.
        modality: one of MODALITIES.
        fps: steps a second; without it the steps spread evenly over the video.
        model: what made them and in which version, if that is to be part of what they are.

    Raises:
        UsageError: unknown modality, an expert's name that a built-in expert has, or one that was imported as another
            modality, of another model or with other steps a second; nothing was written.
        CollectionError: a path does not exist, or the only file cannot be read at all.
    """
    _check_request(expert, modality, fps)
    with library.writing(), library.saving():
        writer = TrackWriter(library)
        writer.prepare(expert, modality, fps, model)
        files = array_files(parse_paths(paths))
        results = stream(read_arrays, files, seconds=_seconds)
        for count, (file, result) in enumerate(results, 1):
            if isinstance(result, Exception):
                if len(files) == 1 and isinstance(result, CollectionError):
                    raise result
                writer.report.failed.append((str(file.path), str(result)))
                continue
            _import(writer, result, expert, modality, fps, model)
            if progress:
                progress("importing", count, 0, result.label)
    return writer.report


def _seconds(file: ArrayFile) -> float:
    if isinstance(file.path, Path):
        return seconds_for(file.path)
    size = max(0, file_numbers(file.path)[0])
    return 60 + size / 1e7 + fetch_seconds(file.path, size)


def _check_request(expert: str, modality: str, fps: float | None) -> None:
    if modality not in MODALITIES:
        raise UsageError(f"unknown modality {modality!r}; there are {', '.join(MODALITIES)}")
    if fps is not None and not (fps > 0 and np.isfinite(fps)):
        raise UsageError(f"--fps is {fps}; wanted a number of steps a second above 0")
    check_expert_name(expert)


def _import(
    writer: TrackWriter, array: NamedArray, expert: str, modality: str, fps: float | None, model: str | None
) -> None:
    video = writer.find(array.label, array.names)
    if video is None:
        return
    try:
        if isinstance(array.values, str):
            raise FeatureError(array.values)
        track = track_of(array.values, video, fps, writer.prepare(expert, modality, fps, model))
        writer.write(array.label, video, expert, modality, fps, track)
    except FeatureError as error:
        writer.report.failed.append((array.label, str(error)))
