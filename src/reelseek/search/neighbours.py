"""Nearest neighbours among the clips of one presence pattern: exact while they are few, else inverted lists."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from reelseek.search.generation import Generation, Write, array_file, json_file

__all__ = ["EXACT_UP_TO", "Neighbours", "flat_vectors"]

EXACT_UP_TO = 20_000
_RECALL_WANTED = 0.995
_TRIALS = 64
_DEPTHS = (10, 100, 1000)  # so many results are tuned for; who wants more gets exact search
_SAME = 1e-5  # similarities this near to each other, as a share, are equal: they were added up in another order
Matrix = npt.NDArray[np.float32]


def flat_vectors(values: npt.NDArray[Any], pattern: Sequence[bool]) -> Matrix:
    """The slots of a pattern side by side [item, slot * dim]."""
    present = values[:, np.flatnonzero(pattern)]
    return np.ascontiguousarray(present.reshape(len(present), -1), np.float32)


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

    @property
    def exact(self) -> bool:
        """Whether every clip is looked at."""
        return self._index is None

    @classmethod
    def build(cls, rows: npt.NDArray[np.int64], vectors: Matrix, trials: Matrix) -> "Neighbours":
        distinct = _distinct(vectors) if len(rows) > EXACT_UP_TO else rows
        if len(distinct) <= EXACT_UP_TO:
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
