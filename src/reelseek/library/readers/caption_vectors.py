"""Files of caption features of other projects: for each video the vectors of its captions, in their order."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reelseek.errors import CollectionError, FeatureError
from reelseek.library.readers.containers import open_archive
from reelseek.library.readers.pickles import read_pickle
from reelseek.library.texts import read_text

__all__ = ["CAPTION_FEATURES", "VideoCaptions", "read_caption_words"]

Rows = npt.NDArray[np.float32]


class VideoCaptions(NamedTuple):
    """The captions of one video as vectors [word, dim] each, in the order of the file, or `problem` why not."""

    video: str
    captions: tuple[Rows, ...] = ()
    problem: str = ""


def ce_text(path: Path) -> Iterator[VideoCaptions]:
    """CE: a pickle id -> captions, each [word, dim]; an array [caption, dim] where they are pooled."""
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise CollectionError(f"{path} holds a {type(content).__name__}; wanted a mapping from video ids")
    for name, value in content.items():
        video = name.decode() if isinstance(name, bytes) else str(name)
        try:
            yield VideoCaptions(video, _captions(value))
        except FeatureError as error:
            yield VideoCaptions(video, problem=str(error))


def _captions(value: Any) -> tuple[Rows, ...]:
    if isinstance(value, np.ndarray) and value.ndim == 3:
        return tuple(_rows(caption) for caption in value)
    if isinstance(value, np.ndarray) and value.ndim <= 2:  # pooled: a row a caption
        return tuple(_rows(row) for row in np.atleast_2d(value))
    if isinstance(value, list | tuple):
        return tuple(_rows(caption) for caption in value)
    raise FeatureError(f"holds a {type(value).__name__}; wanted a list with an array [word, dim] for each caption")


def _rows(caption: Any) -> Rows:
    """One caption as [word, dim]; without words where no word of it is known."""
    try:
        rows = np.asarray(caption, np.float32)
    except (ValueError, TypeError) as error:
        raise FeatureError(f"holds captions that are no arrays of numbers: {error}") from error
    rows = rows[None] if rows.ndim == 1 and rows.size else rows
    if rows.size == 0:
        return np.zeros((0, rows.shape[-1] if rows.ndim == 2 else 0), np.float32)
    if rows.ndim != 2:
        raise FeatureError(f"holds a caption of shape {rows.shape}; wanted [word, dim] or [dim]")
    if not np.isfinite(rows).all():
        raise FeatureError("holds NaN or infinity")
    return rows


def coot_text(path: Path) -> Iterator[VideoCaptions]:
    """COOT: HDF5 with the words [word, dim] of all sentences of a video; `_sentence_splits.json` beside counts each."""
    lengths = _sentence_lengths(path)
    with open_archive(path) as file:
        for video in file.names:
            try:
                yield VideoCaptions(video, _sentences(_rows(file.read(video)), lengths.get(video)))
            except FeatureError as error:
                yield VideoCaptions(video, problem=str(error))


def _sentence_lengths(path: Path) -> dict[str, Any]:
    beside = path.with_name(f"{path.stem}_sentence_splits.json")
    if not beside.is_file():
        raise CollectionError(f"{path} has no {beside.name} beside it, which says how many words each sentence has")
    try:
        lengths = json.loads(read_text(beside))
    except ValueError as error:
        raise CollectionError(f"{beside} is no JSON: {error}") from error
    if not isinstance(lengths, dict):
        raise CollectionError(f"{beside} holds a {type(lengths).__name__}; wanted numbers of words by video")
    return lengths


def _sentences(rows: Rows, lengths: Any) -> tuple[Rows, ...]:
    if not isinstance(lengths, list) or not all(type(count) is int and count >= 0 for count in lengths):
        raise FeatureError("has no list of numbers of words for its sentences")
    if sum(lengths) != len(rows):
        raise FeatureError(f"has {len(rows)} words, and its sentences {sum(lengths)}")
    return tuple(np.split(rows, np.cumsum(lengths)[:-1])) if lengths else ()


CAPTION_FEATURES: dict[str, tuple[Callable[[Path], Iterator[VideoCaptions]], tuple[str, ...]]] = {
    "ce-text": (ce_text, (".pickle", ".pkl")),
    "coot-text": (coot_text, (".h5", ".hdf5")),
}


def read_caption_words(path: Path) -> dict[str, list[str]]:
    """The captions of each video in the order in which a file of features has them (CE's `raw-captions.pkl`).

    Raises:
        CollectionError: it cannot be read, or maps no videos to captions.
    """
    content = json.loads(read_text(path)) if path.suffix == ".json" else read_pickle(path)
    if not isinstance(content, dict) or not all(isinstance(captions, list | tuple) for captions in content.values()):
        raise CollectionError(f"{path} holds no captions by video; wanted id -> captions, as CE's raw-captions.pkl")
    return {
        video.decode() if isinstance(video, bytes) else str(video): [
            caption if isinstance(caption, str) else " ".join(map(str, caption)) for caption in captions
        ]
        for video, captions in content.items()
    }
