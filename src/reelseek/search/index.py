"""An index over clips: their embeddings under one model, and nearest neighbours for each presence pattern.

Everything here is derived: it is rebuilt from tracks at will and swapped in whole, see `generation`. For clips that
have the same slots present the score of a query is a plain dot product up to a constant, so one index a pattern orders
them exactly, and the few patterns are merged.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from reelseek.errors import LibraryError
from reelseek.library.clips import ClipRule
from reelseek.library.store import Library
from reelseek.library.tokens import Clip
from reelseek.models.model import RetrievalModel
from reelseek.search.generation import (
    Generation,
    Write,
    array_file,
    damaged_files,
    json_file,
    open_generation,
)

__all__ = [
    "Index",
    "LeftOut",
    "Neighbours",
    "flat_vectors",
    "index_folder",
    "open_index",
    "state_of",
    "verify",
]

_EXACT_UP_TO = 20_000
_RECALL_WANTED = 0.995
_TRIALS = 64
_DEPTHS = (10, 100, 1000)  # so many results are tuned for; who wants more gets exact search
_SAME = 1e-5  # similarities this near to each other, as a share, are equal: they were added up in another order
_log = logging.getLogger("reelseek")
Matrix = npt.NDArray[np.float32]


def index_folder(library: Library, model: RetrievalModel) -> Path:
    """Where a model's index of a library lies."""
    return library.path / "index" / model.fingerprint.replace(":", "-")


def state_of(library: Library, rule: ClipRule) -> str:
    """Changes whenever the clips or tracks that an index is made of do."""
    import hashlib

    digest = hashlib.sha256(json.dumps(asdict(rule)).encode())
    for block in library.catalog.indexed_rows():
        digest.update(repr(block).encode())
    return digest.hexdigest()


class Neighbours:
    """The clips of one presence pattern: exact search while small, else inverted lists tuned to recall .995.

    How many lists are probed for so many results is measured when it is built, with background queries and with clips
    as queries. Recall is the share of results that are as similar as the best ones are: of a thousand equal clips any
    ten are right.

    Args:
        rows: the clip of every vector.
        vectors: to be searched exactly; None where there are lists.
        probes: how many lists are looked into for at most so many results.
    """

    def __init__(
        self,
        rows: npt.NDArray[np.int64],
        vectors: Matrix | None,
        index: Any | None,
        probes: Mapping[int, int] | None = None,
    ) -> None:
        self.rows, self.vectors, self._index, self._probes = rows, vectors, index, dict(probes or {})

    @classmethod
    def build(cls, rows: npt.NDArray[np.int64], vectors: Matrix, trials: Matrix) -> "Neighbours":
        distinct = _distinct(vectors) if len(rows) > _EXACT_UP_TO else rows
        if len(distinct) <= _EXACT_UP_TO:
            return cls(rows, vectors, None)  # few, or few that differ: there are no lists worth the name
        lists = int(4 * np.sqrt(len(distinct)))
        quantizer = faiss.IndexFlatIP(vectors.shape[1])
        index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
        rng = np.random.default_rng(0)
        sample = rng.choice(distinct, min(len(distinct), 40 * lists), replace=False)
        index.cp.niter, index.cp.min_points_per_centroid = 8, 1  # it warns on standard error below 39
        index.train(vectors[np.sort(sample)])
        index.add(vectors)
        clips = vectors[np.sort(rng.choice(distinct, min(len(distinct), _TRIALS), replace=False))]
        probes: dict[int, int] = {}
        for depth in _DEPTHS:
            tuned = [_fewest_probes(index, vectors, queries, depth) for queries in (clips, trials) if len(queries)]
            probes[depth] = max(*tuned, *probes.values()) if probes else max(tuned)
            if min(probes.values()) > lists // 3:
                return cls(rows, vectors, None)  # there are no lists worth the name; exact search is as fast
        return cls(rows, None, index, probes)

    def search(self, queries: Matrix, count: int) -> tuple[Matrix, npt.NDArray[np.int64]]:
        """Scores and clip numbers [query, count] of the best clips."""
        count = min(count, len(self.rows))
        if self._index is not None:
            probes = next((probes for depth, probes in self._probes.items() if count <= depth), self._index.nlist)
            scores, places = _search_lists(self._index, queries, count, probes)
            short = (places < 0).any(axis=1)
            if short.any():  # the lists that were probed hold fewer: look into all of them
                scores[short], places[short] = _search_lists(self._index, queries[short], count, self._index.nlist)
            return scores, self.rows[places]
        assert self.vectors is not None
        if len(queries) == 1:
            return self._one(self.vectors @ queries[0], count)
        scores, places = faiss.knn(queries, self.vectors, count, metric=faiss.METRIC_INNER_PRODUCT)
        return scores, self.rows[places]

    def _one(self, scores: Matrix, count: int) -> tuple[Matrix, npt.NDArray[np.int64]]:
        """The best of some scores; of equal ones those that come first."""
        if count < len(scores):
            least = np.partition(scores, len(scores) - count)[len(scores) - count]
            above = np.flatnonzero(scores > least)
            best = np.concatenate([above, np.flatnonzero(scores == least)[: count - len(above)]])
        else:
            best = np.arange(len(scores))
        best = best[np.lexsort((best, -scores[best]))]
        return scores[best][None], self.rows[best][None]

    def files(self, name: str) -> dict[str, Write]:
        """What writes it."""
        files: dict[str, Write] = {f"{name}.rows.npy": array_file(self.rows)}
        if self._index is not None:
            probes = list(self._probes.items())
            return {**files, f"{name}.faiss": self._write_lists, f"{name}.probes.json": json_file(probes)}
        assert self.vectors is not None
        return {**files, f"{name}.vectors.npy": array_file(self.vectors)}

    def _write_lists(self, path: Path) -> None:
        assert self._index is not None
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:  # it has no other word for a full disk
            raise OSError(f"{path} cannot be written: {error}") from error

    @classmethod
    def load(cls, generation: Generation, name: str) -> "Neighbours":
        rows = generation.array(f"{name}.rows.npy")
        if f"{name}.faiss" not in generation.files:
            return cls(rows, generation.array(f"{name}.vectors.npy"), None)
        index = generation.opened(f"{name}.faiss", lambda path: faiss.read_index(str(path)))
        return cls(rows, None, index, dict(generation.json(f"{name}.probes.json")))


def _distinct(vectors: Matrix) -> npt.NDArray[np.int64]:
    """Places of the first of every set of equal vectors."""
    first: dict[int, int] = {}
    for place, vector in enumerate(vectors):
        first.setdefault(hash(vector.tobytes()), place)
    return np.fromiter(first.values(), np.int64)


def _search_lists(index: Any, queries: Matrix, count: int, probes: int) -> tuple[Matrix, npt.NDArray[np.int64]]:
    parameters = faiss.SearchParametersIVF(nprobe=probes)  # type: ignore[call-arg]
    scores, places = index.search(queries, count, params=parameters)
    return scores, places


def _fewest_probes(index: Any, vectors: Matrix, queries: Matrix, depth: int) -> int:
    """The fewest lists to probe for a recall of .995 of so many results against exact search over `vectors`, twice."""
    depth = min(depth, len(vectors))
    best, _ = faiss.knn(queries, vectors, depth, metric=faiss.METRIC_INNER_PRODUCT)
    least = best[:, -1:] - _SAME * np.maximum(1, np.abs(best[:, -1:]))
    probes = 1
    while probes < index.nlist:
        scores, places = _search_lists(index, queries, depth, probes)
        if np.mean((scores >= least) & (places >= 0)) >= _RECALL_WANTED:
            return min(int(index.nlist), 2 * probes)  # twice, since other queries are not these
        probes *= 2
    return int(index.nlist)


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
        values, present: embeddings [clip, slot, dim] and [clip, slot]; they cannot be written to.
        patterns: for each presence pattern (a tuple of bool a slot) its neighbours.
        state: what it was made from, see `state_of`.
        contents: what the file of each video held, shortened.
        experts: whose tracks it was made from.
        background: what each background query reaches at most; None if not yet known.
        left_out: videos whose tracks are damaged.
    """

    folder: Path
    clips: list[Clip]
    values: npt.NDArray[np.float16]
    present: npt.NDArray[np.bool_]
    patterns: dict[tuple[bool, ...], Neighbours]
    slots: tuple[str, ...]
    rule: ClipRule
    state: str
    contents: Mapping[str, str]
    experts: tuple[str, ...]
    background: npt.NDArray[np.float64] | None = None
    left_out: tuple[LeftOut, ...] = ()

    def rows_of(self, video: str) -> Sequence[int]:
        """Row numbers of a video's clips."""
        return self._rows_by_video.get(video, ())

    @cached_property
    def _rows_by_video(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row, clip in enumerate(self.clips):
            rows.setdefault(clip.video, []).append(row)
        return rows

    def about(self) -> dict[str, Any]:
        """What its manifest says."""
        return {
            "slots": self.slots,
            "rule": asdict(self.rule),
            "state": self.state,
            "patterns": ["".join("01"[p] for p in pattern) for pattern in self.patterns],
            "experts": self.experts,
            "background": None if self.background is None else self.background.tolist(),
            "left_out": [asdict(each) for each in self.left_out],
        }

    def files(self) -> dict[str, Write]:
        """What writes its files."""
        files = {
            "values.npy": array_file(self.values),
            "present.npy": array_file(self.present),
            "videos.json": json_file([[video, self.contents[video]] for video in self._rows_by_video]),
            "clips.npy": array_file(self._clips_as_array()),
        }
        for name, neighbours in zip(self.about()["patterns"], self.patterns.values(), strict=True):
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
        about, videos = generation.about, generation.json("videos.json")
        background = about["background"]
        return cls(
            generation.folder,
            _clips([video for video, _ in videos], generation.array("clips.npy")),
            generation.array("values.npy"),
            generation.array("present.npy"),
            {tuple(c == "1" for c in name): Neighbours.load(generation, name) for name in about["patterns"]},
            tuple(about["slots"]),
            ClipRule(**about["rule"]),
            about["state"],
            dict(videos),
            tuple(about["experts"]),
            None if background is None else np.array(background),
            tuple(LeftOut(**each) for each in about["left_out"]),
        )


def _clips(videos: Sequence[str], array: npt.NDArray[np.float64]) -> list[Clip]:
    spans = array[:, 1:].astype(object)
    spans[np.isnan(array[:, 1:])] = None
    numbers = array[:, 0].astype(int).tolist()
    return [Clip(videos[number], start, end) for number, (start, end) in zip(numbers, spans.tolist(), strict=True)]


def flat_vectors(values: npt.NDArray[Any], pattern: Sequence[bool]) -> Matrix:
    """The slots of a pattern side by side [item, slot * dim]."""
    kept = values[:, np.flatnonzero(pattern)]
    return np.ascontiguousarray(kept.reshape(len(kept), -1), np.float32)


def open_index(library: Library, model: RetrievalModel) -> Index | None:
    """The index on disk, every byte of it checked; None where there is none, or a damaged one, which is said.

    It is derived, and can be built again at will.
    """
    try:
        return open_generation(index_folder(library, model), Index.load)
    except (LibraryError, OSError) as error:
        _log.warning("the index of %s cannot be used: %s", model.system, error)
        return None


def verify(library: Library) -> list[tuple[str, str]]:
    """Files of a library's indexes that are not what was written, and in what way; every byte of them is read."""
    folders = sorted(path for path in (library.path / "index").glob("*") if path.is_dir())
    return [damage for folder in folders for damage in damaged_files(folder)]
