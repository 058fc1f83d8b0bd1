"""An index over clips: their embeddings under one model, and nearest neighbours for each presence pattern.

Everything here is derived: it is rebuilt from tracks at will and swapped in whole, see `generation`. For clips that
have the same slots present the score of a query is a plain dot product up to a constant, so one index per pattern
orders them exactly, and the few patterns are merged. Clips of a pairwise system are found by its coarse embeddings in
the same way, and scored again by its similarity.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reelseek.errors import LibraryError
from reelseek.library.clips import ClipRule
from reelseek.library.store import Library
from reelseek.library.tokens import Clip
from reelseek.models.model import Embedding, RetrievalModel
from reelseek.search.generation import (
    EarlierVersion,
    Generation,
    Write,
    array_file,
    damaged_files,
    json_file,
    open_generation,
    read_manifest,
)
from reelseek.search.neighbours import Neighbours

__all__ = ["Index", "LeftOut", "describe_indexes", "index_folder", "open_index", "state_of", "verify"]

_UNRELATED = {"values": "unrelated.vectors.npy", "present": "unrelated.slots.npy", "weights": "unrelated.weights.npy"}
_log = logging.getLogger("reelseek")
Floats = npt.NDArray[np.float32] | npt.NDArray[np.float16]


def index_folder(library: Library, model: RetrievalModel, experts: Sequence[str] | None = None) -> Path:
    """Where a model's index of a library lies.

    Args:
        experts: of an index of clips embedded from these alone; None is the one of all that the library has.
    """
    name = model.fingerprint.replace(":", "-")
    if experts is not None:
        name += "+" + hashlib.sha256(json.dumps(sorted(experts)).encode()).hexdigest()[:12]
    return library.path / "index" / name


def state_of(library: Library, rule: ClipRule) -> str:
    """Changes whenever the clips or tracks that an index is made of do."""
    digest = hashlib.sha256(json.dumps(asdict(rule)).encode())
    for block in library.catalog.indexed_rows():
        digest.update(repr(block).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class LeftOut:
    """A video that could not be embedded, how many clips it has, and why."""

    video: str
    clips: int
    reason: str


@dataclass
class Index:
    """Clips of a library under one model.

    Args:
        clips: the clip of every row.
        values, present: embeddings [clip, slot, dim] and [clip, slot], in half precision where they are many; they
            cannot be written to.
        patterns: for each presence pattern of the coarse embeddings (a tuple of bool per slot) its neighbours.
        system, slots: of the model.
        state: what it was made from, see `state_of`.
        contents: what the file of each video held, shortened.
        experts: whose tracks it was made from.
        unrelated: the embeddings of a fixed set of everyday queries.
        background: the best score that each of these reaches.
        candidates: how many clips are scored again by a pairwise similarity; None where every clip is.
        recall: at 10, of a search against scoring every clip, measured with `unrelated`; None where it does just that.
        left_out: videos whose tracks are damaged.
    """

    folder: Path
    clips: list[Clip]
    values: Floats
    present: npt.NDArray[np.bool_]
    patterns: dict[tuple[bool, ...], Neighbours]
    system: str
    slots: tuple[str, ...]
    rule: ClipRule
    state: str
    contents: Mapping[str, str]
    experts: tuple[str, ...]
    unrelated: Embedding
    background: npt.NDArray[np.float64]
    candidates: int | None = None
    recall: float | None = None
    left_out: tuple[LeftOut, ...] = ()

    def rows_of(self, video: str) -> Sequence[int]:
        """Row numbers of a video's clips."""
        return self._rows_by_video.get(video, ())

    def embedding(self, rows: npt.NDArray[np.int64] | slice) -> Embedding:
        """The embeddings of some clips."""
        values = torch.from_numpy(np.asarray(self.values[rows], np.float32))
        return Embedding.even(values, torch.from_numpy(np.array(self.present[rows])))

    @cached_property
    def _rows_by_video(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row, clip in enumerate(self.clips):
            rows.setdefault(clip.video, []).append(row)
        return rows

    def description(self) -> dict[str, Any]:
        """What its manifest says."""
        return {
            "system": self.system,
            "slots": self.slots,
            "rule": asdict(self.rule),
            "state": self.state,
            "clips": len(self.clips),
            "patterns": ["".join("01"[p] for p in pattern) for pattern in self.patterns],
            "experts": self.experts,
            "background": self.background.tolist(),
            "candidates": self.candidates,
            "recall": self.recall,
            "left_out": [asdict(video) for video in self.left_out],
        }

    def files(self) -> dict[str, Write]:
        """What writes its files."""
        files = {
            "values.npy": array_file(self.values),
            "present.npy": array_file(self.present),
            "videos.json": json_file([[video, self.contents[video]] for video in self._rows_by_video]),
            "clips.npy": array_file(self._clips_as_array()),
            **{file: array_file(getattr(self.unrelated, name).numpy()) for name, file in _UNRELATED.items()},
        }
        for name, neighbours in zip(self.description()["patterns"], self.patterns.values(), strict=True):
            files.update(neighbours.files(name))
        return files

    def _clips_as_array(self) -> npt.NDArray[np.float64]:
        """Number of the video, start and end of every clip [clip, 3]; NaN where the video's own is meant."""
        numbers = {video: number for number, video in enumerate(self._rows_by_video)}
        rows = [(numbers[clip.video], clip.start_seconds, clip.end_seconds) for clip in self.clips]
        return np.array(rows, np.float64).reshape(-1, 3)

    @classmethod
    def load(cls, generation: Generation) -> "Index":
        """From files that are checked.

        Raises:
            LibraryError: one is damaged.
        """
        description, videos = generation.description, generation.json("videos.json")
        if not set(_UNRELATED.values()) <= generation.files.keys():
            raise EarlierVersion(f"{generation.folder} was written by an earlier version of Reelseek")
        unrelated = [torch.from_numpy(generation.array(file).copy()) for file in _UNRELATED.values()]
        return cls(
            generation.folder,
            _clips([video for video, _ in videos], generation.array("clips.npy")),
            generation.array("values.npy"),
            generation.array("present.npy"),
            {tuple(c == "1" for c in name): Neighbours.load(generation, name) for name in description["patterns"]},
            description["system"],
            tuple(description["slots"]),
            ClipRule(**description["rule"]),
            description["state"],
            dict(videos),
            tuple(description["experts"]),
            Embedding(*unrelated),
            np.array(description["background"]),
            description["candidates"],
            description["recall"],
            tuple(LeftOut(**video) for video in description["left_out"]),
        )


def _clips(videos: Sequence[str], array: npt.NDArray[np.float64]) -> list[Clip]:
    spans = array[:, 1:].astype(object)
    spans[np.isnan(array[:, 1:])] = None
    numbers = array[:, 0].astype(int).tolist()
    return [Clip(videos[number], start, end) for number, (start, end) in zip(numbers, spans.tolist(), strict=True)]


def open_index(library: Library, model: RetrievalModel, experts: Sequence[str] | None = None) -> Index | None:
    """The index on disk, every byte of it checked; None where there is none, or a damaged one, which is said.

    It is derived, and can be built again at will.

    Args:
        experts: see `index_folder`.
    """
    try:
        return open_generation(index_folder(library, model, experts), Index.load)
    except (LibraryError, OSError) as error:
        _log.warning("the index of %s cannot be used: %s", model.system, error)
        return None


def _folders(library: Library) -> list[Path]:
    return sorted(path for path in (library.path / "index").glob("*") if path.is_dir())


def describe_indexes(library: Library) -> list[dict[str, Any]]:
    """What a library's indexes say of themselves; those that are damaged or of an earlier version are stepped over.

    Returns:
        for each index `system`, `model` (its fingerprint), `experts`, `clips`, `candidates` and `recall`, see `Index`.
    """
    described = []
    for folder in _folders(library):
        try:
            manifest = read_manifest(folder)
        except LibraryError:
            continue
        if manifest is not None and "recall" in manifest.description:
            names = ("system", "experts", "clips", "candidates", "recall")
            summary = {name: manifest.description[name] for name in names}
            described.append({"model": folder.name.partition("+")[0], **summary})
    return described


def verify(library: Library) -> list[tuple[str, str]]:
    """Files of a library's indexes that are not what was written, and in what way; every byte of them is read."""
    return [damage for folder in _folders(library) for damage in damaged_files(folder)]
