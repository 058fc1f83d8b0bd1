"""Nearest neighbours among the clips of one presence pattern: exact while they are few, else compressed lists.

Lists hold a bit for every number of a vector (RaBitQ), or a byte where that is too little: they say which clips may be
the best, and these are scored again by their vectors themselves.
"""

import ctypes
import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from reelseek.errors import LibraryError
from reelseek.search.generation import StoredFile, Write, array_file
from reelseek.search.topk import TopK
from reelseek.search.vectors import Matrix, Rows, Vectors, expand

__all__ = ["EXACT_UP_TO", "Neighbours", "flat_vectors"]

EXACT_UP_TO = 20_000
_RECALL_WANTED = 0.995
_DEPTHS = {10: (64, 160), 100: (32, 64), 1000: (8, 16)}
"""For so many results at most: how many trial queries of each kind tune the lists, and how many clips a result may take
that are scored again. Who wants more results gets exact search."""
_BLOCK = 2**14  # vectors that are read at once
_TRAINING_FLOATS = 2**26
_TRAINING_A_LIST, _TRAINING_ROUNDS = 32, 4
"""Vectors that the centre of a list is made of, and how often it is moved. For 200,000 clips of 384 numbers twice as
many of both took 5.2 s instead of 1.3, and no fewer lists were probed for the same recall."""
_CODES = ("bits", "bytes")
_SEED = 12345
_RELEASE_AFTER = 2**26  # bytes of mapped lists after which their pages are let go
_madvise = getattr(ctypes.CDLL(None), "madvise", None)
_DONT_NEED = getattr(mmap, "MADV_DONTNEED", 4)


def flat_vectors(values: npt.NDArray[Any], pattern: Sequence[bool]) -> Matrix:
    """The slots of a pattern side by side [item, slot * dim]."""
    present = values[:, np.flatnonzero(pattern)]
    return np.ascontiguousarray(present.reshape(len(present), math.prod(present.shape[1:])), np.float32)


@dataclass(frozen=True)
class _Groups:
    """Places of equal vectors.

    Args:
        order: all places, those of a group side by side and ascending.
        ends: of each group in it.
    """

    order: npt.NDArray[np.uint32]
    ends: npt.NDArray[np.int64]

    @classmethod
    def of(cls, vectors: Vectors) -> "_Groups | None":
        """None where no two vectors are equal."""
        hashes = np.concatenate([_hash_rows(block) for block in vectors.blocks(_BLOCK)])
        order = np.argsort(hashes, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(hashes[order])) + 1, len(order))
        if len(ends) == len(order):
            return None
        counts = np.diff(ends, prepend=0)
        by_first = np.argsort(order[ends - counts])  # so that one of each is read from the disk in order
        order = order[expand((ends - counts)[by_first], counts[by_first])]
        return cls(order.astype(np.uint32), np.cumsum(counts[by_first]))

    @cached_property
    def firsts(self) -> Rows:
        """A place of every group."""
        return self.order[np.append(0, self.ends[:-1])].astype(np.int64)

    def with_any(self, selected: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Groups of which any place is selected [group].

        Args:
            selected: by place.
        """
        return np.logical_or.reduceat(selected[self.order], np.append(0, self.ends[:-1]))

    def places(self, groups: Rows) -> tuple[Rows, Rows]:
        """All places of some groups, and for each of them which of these groups it is of."""
        starts = np.append(0, self.ends)[groups]
        counts = self.ends[groups] - starts
        return self.order[expand(starts, counts)].astype(np.int64), np.repeat(np.arange(len(groups)), counts)

    def without(self, places: Rows, deleted: npt.NDArray[np.bool_]) -> tuple[dict[int, int], Rows]:
        """How groups change when some places are erased: a place that stays becomes the first of its group.

        Args:
            deleted: for every place; these are among them.

        Returns:
            what to write at which positions of `order`, and groups of which no place stays.
        """
        groups = np.unique(np.searchsorted(self.ends, np.flatnonzero(np.isin(self.order, places)), side="right"))
        changes: dict[int, int] = {}
        gone = []
        for group in groups.tolist():
            start, end = int(self.ends[group - 1]) if group else 0, int(self.ends[group])
            members = self.order[start:end]
            staying = np.flatnonzero(~deleted[members])
            if not len(staying):
                gone.append(group)
            elif staying[0] > 0:
                changes |= {start: int(members[staying[0]]), start + int(staying[0]): int(members[0])}
        return changes, np.array(gone, np.int64)


def _hash_rows(vectors: Matrix) -> npt.NDArray[np.uint64]:
    """A number for each vector, which equal ones share: its words, stirred, times fixed odd numbers."""
    if vectors.shape[1] % 2:
        vectors = np.pad(vectors, ((0, 0), (0, 1)))
    words = np.ascontiguousarray(vectors).view(np.uint64)
    words = words ^ words >> np.uint64(29)  # the last bits of numbers that were in half precision are all 0
    factors = np.random.default_rng(0).integers(2**63, size=words.shape[1], dtype=np.uint64)
    return np.einsum("vd,d->v", words, 2 * factors + 1)


class _Lists:
    """Inverted lists of compressed vectors.

    Args:
        index: of FAISS; it numbers groups of equal vectors.
        probes: for at most so many results how many lists are looked into, and how many clips are scored again.
    """

    def __init__(self, index: Any, probes: Mapping[int, tuple[int, int]]) -> None:
        self.index, self.probes = index, probes
        inner: Any = faiss.downcast_index(index.index)
        lists = faiss.downcast_InvertedLists(inner.invlists)
        self._mapped: Any = lists if hasattr(lists, "totsize") else None
        self._bytes_a_list = inner.ntotal * (lists.code_size + 8) // max(1, inner.nlist)
        self._bytes_read = 0

    def search(
        self, queries: Matrix, probes: int, count: int, among: npt.NDArray[np.bool_] | None = None
    ) -> tuple[Matrix, Rows]:
        """Estimated scores and groups [query, count]; -1 where the lists hold fewer.

        Args:
            among: the groups that count [group]; None is all.
        """
        selected = None if among is None else np.packbits(among, bitorder="little")
        options: dict[str, Any] = {} if selected is None else {"sel": faiss.IDSelectorBitmap(selected)}  # type: ignore[call-arg,arg-type]
        within = faiss.SearchParametersIVF(nprobe=probes, **options)  # type: ignore[call-arg]
        parameters = faiss.SearchParametersPreTransform(index_params=within)  # type: ignore[call-arg]
        scores, groups = self.index.search(queries, count, params=parameters)
        self._release(len(queries) * probes * self._bytes_a_list)
        return scores, groups

    def _release(self, byte_count: int) -> None:
        """Let go of mapped pages now and then; they are read again where they are needed."""
        self._bytes_read += byte_count
        if self._mapped is not None and self._bytes_read > _RELEASE_AFTER and _madvise is not None:
            _madvise(ctypes.c_void_p(int(self._mapped.ptr)), ctypes.c_size_t(self._mapped.totsize), _DONT_NEED)
            self._bytes_read = 0


class Neighbours:
    """The clips of one presence pattern: exact search while small, else lists tuned to a recall of .995.

    Recall is the share of results that are as similar as the best ones are: of many equal clips any ten are right.

    Args:
        rows: the clip of every vector, ascending.
        vectors: of them, in single precision.
        groups: which of them are equal, where any are and the clips are many.
    """

    def __init__(
        self, rows: Rows, vectors: Vectors, groups: _Groups | None = None, lists: _Lists | None = None
    ) -> None:
        self.rows, self._vectors, self._groups, self._lists = rows, vectors, groups, lists

    @property
    def exact(self) -> bool:
        """Whether every clip is looked at."""
        return self._lists is None

    @classmethod
    def build(cls, rows: Rows, vectors: Vectors, trials: Matrix) -> "Neighbours":
        """Lay out what a search takes.

        Args:
            trials: queries that lists are tuned with, beside clips themselves [query, dim].
        """
        if len(vectors) <= EXACT_UP_TO:
            return cls(rows, vectors)
        groups = _Groups.of(vectors)
        neighbours = cls(rows, vectors, groups)
        distinct = len(groups.ends) if groups else len(vectors)
        if distinct <= EXACT_UP_TO:
            return neighbours  # few that differ
        queries = {depth: neighbours._trial_queries(depth, distinct, trials) for depth in _DEPTHS}
        best = neighbours._best_groups(queries)
        centres, sample, numbers = neighbours._train(distinct)
        for codes in _CODES:
            neighbours._lists = _Lists(neighbours._encode(codes, centres, sample, numbers), {})
            tuned = {depth: neighbours._tune(depth, queries[depth], best[depth]) for depth in _DEPTHS}
            neighbours._lists = _Lists(neighbours._lists.index, {depth: plan for depth, (plan, _) in tuned.items()})
            if all(reached >= _RECALL_WANTED for _, reached in tuned.values()):
                break
        return neighbours

    # Search

    def search(self, queries: Matrix, count: int) -> tuple[Matrix, Rows]:
        """Scores and clips [query, count] of the best; of equal ones those that come first."""
        count = min(count, len(self.rows))
        if self._lists is None:
            return self._search_all(queries, count)
        _, groups = self.estimate(queries, count)
        scores = np.empty((len(queries), count), np.float32)
        rows = np.empty((len(queries), count), np.int64)
        for place, query in enumerate(queries):
            best = self.score(query, groups[place], count)
            if len(best[0]) < count:  # the lists that were probed hold fewer
                best = tuple(part[0] for part in self._scan(query[None], count))
            scores[place], rows[place] = best
        return scores, rows

    def search_among(self, queries: Matrix, count: int, selected: npt.NDArray[np.bool_]) -> list[tuple[Matrix, Rows]]:
        """For each query scores and clips of the best among some; of equal ones those that come first.

        Every one of them is scored, unless there are lists and so many are selected that these find them.

        Args:
            selected: by the clip's row in the segment [clip].
        """
        places = np.flatnonzero(selected[self.rows])
        count = min(count, len(places))
        if not count:
            return [(np.zeros(0, np.float32), np.zeros(0, np.int64))] * len(queries)
        depth = count * len(self.rows) / len(places)  # how many clips of all are as near as these, if no more of them
        plan = self._plan(math.ceil(depth)) if self._lists is not None and len(places) > EXACT_UP_TO else None
        if self._lists is None or plan is None:
            return self._score_places(queries, places, count)
        among = np.zeros(len(self.rows), bool)
        among[places] = True
        groups = among if self._groups is None else self._groups.with_any(among)
        _, candidates = self._lists.search(queries, *plan, groups)
        answers = []
        for query, near in zip(queries, candidates, strict=True):
            matches = np.sort(self._places_of(near[near >= 0]))
            matches = matches[among[matches]]
            near_enough = len(matches) >= count  # else the lists that were probed hold fewer
            answers += self._score_places(query[None], matches if near_enough else places, count)
        return answers

    def _places_of(self, groups: Rows) -> Rows:
        return groups if self._groups is None else self._groups.places(groups)[0]

    def _score_places(self, queries: Matrix, places: Rows, count: int) -> list[tuple[Matrix, Rows]]:
        """The best of some places, ascending, a block of their vectors in memory at a time."""
        scores = np.concatenate(
            [queries @ self._vectors.take(places[start : start + _BLOCK]).T for start in range(0, len(places), _BLOCK)],
            axis=1,
        )
        answers = []
        for row in scores:
            best = _best(row, count)
            best = best[np.lexsort((best, -row[best]))]
            answers.append((row[best], self.rows[places[best]]))
        return answers

    def _plan(self, count: int) -> tuple[int, int] | None:
        """How the lists are searched for so many results; None where every clip is looked at."""
        assert self._lists is not None
        return next((plan for depth, plan in self._lists.probes.items() if count <= depth), None)

    def estimate(self, queries: Matrix, count: int) -> tuple[Matrix, Rows]:
        """Estimated scores, and numbers for `score` [query, candidate], -1 for none, of clips that may be the best.

        Of many results there are none: `search` looks at every clip then.
        """
        assert self._lists is not None
        plan = self._plan(count)
        if plan is None:
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        return self._lists.search(queries, *plan)

    def score(self, query: Matrix, candidates: Rows, count: int) -> tuple[Matrix, Rows]:
        """Scores and clips of the best among what `estimate` gave."""
        groups = candidates[candidates >= 0]
        scores = self._group_vectors(groups) @ query
        return self._expand(scores, groups, count)

    def _search_all(self, queries: Matrix, count: int) -> tuple[Matrix, Rows]:
        if len(queries) == 1 or self._groups is not None:
            answers = [self._expand(self._whole @ query, np.arange(len(self._whole)), count) for query in queries]
            return np.stack([scores for scores, _ in answers]), np.stack([rows for _, rows in answers])
        scores, places = faiss.knn(queries, self._whole, count, metric=faiss.METRIC_INNER_PRODUCT)
        return scores, self.rows[places]

    def _scan(self, queries: Matrix, count: int) -> tuple[Matrix, Rows]:
        """The best of all vectors, a block of them in memory at a time."""
        best, start = TopK(len(queries), count), 0
        for block in self._vectors.blocks(_BLOCK):
            scores, near = faiss.knn(queries, block, min(count, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
            best.add(scores, near + start)
            start += len(block)
        return best.scores, self.rows[best.places]

    @cached_property
    def _whole(self) -> Matrix:
        """Every vector, or one of each group."""
        return self._vectors.whole() if self._groups is None else self._vectors.take(self._groups.firsts)

    def _group_vectors(self, groups: Rows) -> Matrix:
        return self._vectors.take(groups if self._groups is None else self._groups.firsts[groups])

    def _expand(self, scores: Matrix, groups: Rows, count: int) -> tuple[Matrix, Rows]:
        """The best clips of groups with these scores; of equal ones those that come first."""
        best = _best(scores, min(count, len(scores)))
        scores, places = scores[best], groups[best]
        if self._groups is not None:
            places, owner = self._groups.places(places)
            scores = scores[owner]
        order = np.lexsort((places, -scores))[:count]
        return scores[order], self.rows[places[order]]

    # Building

    def _train(self, distinct: int) -> tuple[Any, Matrix, Rows]:
        """Divide all groups among lists: the rotation, the centres of the lists, and the list of every group."""
        dim = self._group_vectors(np.zeros(1, np.int64)).shape[1]
        lists = max(1, min(int(2 * np.sqrt(distinct)), _TRAINING_FLOATS // dim))
        size = min(distinct, _TRAINING_FLOATS // dim, _TRAINING_A_LIST * lists)
        sample = np.sort(np.random.default_rng(0).choice(distinct, size, replace=False))
        turn: Any = faiss.RandomRotationMatrix(dim, dim)  # bits say most of turned vectors
        turn.init(_SEED)
        clustering: Any = faiss.Clustering(dim, lists)
        clustering.niter, clustering.min_points_per_centroid = _TRAINING_ROUNDS, 1  # it warns below 39
        clustering.spherical = True
        centres: Any = faiss.IndexFlatIP(dim)
        clustering.train(turn.apply(self._group_vectors(sample)), centres)
        numbers = [centres.search(turn.apply(block), 1)[1][:, 0] for block in self._distinct_blocks()]
        return centres, turn.apply(self._group_vectors(sample)), np.concatenate(numbers)

    def _encode(self, codes: str, centres: Any, sample: Matrix, numbers: Rows) -> Any:
        """Lists of the codes of all groups.

        Args:
            numbers: the list of each group.
        """
        dim = sample.shape[1]
        quantizer: Any = faiss.clone_index(centres)
        parts: tuple[Any, ...] = (quantizer, dim, centres.ntotal)
        kind: Any = faiss.IndexIVFRaBitQ
        if codes != "bits":
            kind, parts = faiss.IndexIVFScalarQuantizer, (*parts, faiss.ScalarQuantizer.QT_8bit)
        inner = kind(*parts, faiss.METRIC_INNER_PRODUCT)
        turn: Any = faiss.RandomRotationMatrix(dim, dim)
        turn.init(_SEED)
        index: Any = faiss.IndexPreTransform(turn, inner)
        for part in (quantizer, inner, turn):
            part.this.disown()  # FAISS frees them with the whole
        inner.own_fields = index.own_fields = True
        inner.train(sample)  # the codes; the centres are there
        start = 0
        for block in self._distinct_blocks():
            turned, ids = turn.apply(block), np.ascontiguousarray(numbers[start : start + len(block)])
            inner.add_core(len(block), faiss.swig_ptr(turned), None, faiss.swig_ptr(ids))
            start += len(block)
        index.ntotal, index.is_trained = inner.ntotal, True
        return index

    def _distinct_blocks(self) -> Iterator[Matrix]:
        """A vector of every group, some thousands at a time."""
        if self._groups is None:
            yield from self._vectors.blocks(_BLOCK)
            return
        firsts = self._groups.firsts
        for start in range(0, len(firsts), _BLOCK):
            yield self._vectors.take(firsts[start : start + _BLOCK])

    def _trial_queries(self, depth: int, distinct: int, trials: Matrix) -> Matrix:
        """What lists are tuned with for so many results: some clips, and some of the trials."""
        number, _ = _DEPTHS[depth]
        clips = np.random.default_rng(depth).choice(distinct, min(distinct, number), replace=False)
        return np.concatenate([self._group_vectors(np.sort(clips)), trials[:number]])

    def _tune(self, depth: int, queries: Matrix, best: Rows) -> tuple[tuple[int, int], float]:
        """How many lists so many results take and how many clips that are scored again, twice what trials took.

        Args:
            best: the best groups of each query.

        Returns:
            Both, and the recall that they reach for the trials.
        """
        assert self._lists is not None
        index = self._lists.index
        inner: Any = faiss.downcast_index(index.index)
        _, widest = _DEPTHS[depth]
        depth = best.shape[1]
        quantizer, turned = faiss.downcast_index(inner.quantizer), index.chain.at(0).apply(queries)
        _, lists = quantizer.search(turned, inner.nlist)
        ranks = np.argsort(lists, axis=1)
        needed = np.empty((len(queries), depth))
        for place, groups in enumerate(best):
            _, nearest = quantizer.search(index.chain.at(0).apply(self._group_vectors(groups)), 1)
            needed[place] = ranks[place, nearest[:, 0]]
        probes = min(int(inner.nlist), 2 * (int(np.quantile(needed, _RECALL_WANTED, method="higher")) + 1))
        most = min(widest * depth, int(inner.ntotal))
        _, candidates = self._lists.search(queries, probes, most)
        positions = np.stack([_positions(row, groups, most) for row, groups in zip(candidates, best, strict=True)])
        enough = int(np.quantile(positions, _RECALL_WANTED, method="higher")) + 1
        reached = float(np.mean(positions < most))
        return (probes, min(most, max(2 * enough, 2 * depth))), reached

    def _best_groups(self, queries: Mapping[int, Matrix]) -> dict[int, Rows]:
        """The best groups of each query [query, depth] for several depths, by looking at all of them once."""
        best = {depth: TopK(len(several), depth) for depth, several in queries.items()}
        start = 0
        for block in self._distinct_blocks():
            places = np.arange(start, start + len(block))
            for depth, several in queries.items():
                best[depth].add(several @ block.T, places)
            start += len(block)
        return {depth: several.places for depth, several in best.items()}

    # Erasing

    def without(self, places: Rows, deleted: npt.NDArray[np.bool_]) -> tuple[dict[int, int], Rows]:
        """See `_Groups.without`; where no two vectors are equal each is a group."""
        return ({}, places) if self._groups is None else self._groups.without(places, deleted)

    def code_spans(self, path: Path, groups: Rows) -> list[tuple[int, int]]:
        """Where the codes of some groups lie in the file of the lists: offset and length.

        Raises:
            LibraryError: the file cannot be read, or has no such group.
        """
        index = _map_lists(str(path), path)
        inner: Any = faiss.downcast_index(index.index)
        inverted: Any = faiss.downcast_InvertedLists(inner.invlists)
        length = int(inverted.code_size)
        vectors = index.chain.at(0).apply(self._group_vectors(groups))
        _, nearest = faiss.downcast_index(inner.quantizer).search(vectors, 1)
        spans = []
        for group, likely in zip(groups.tolist(), nearest[:, 0].tolist(), strict=True):
            for number in (likely, *range(inner.nlist)):  # of two lists as near as each other either may have it
                size = inverted.list_size(number)
                ids = faiss.rev_swig_ptr(inverted.get_ids(number), size) if size else np.zeros(0, np.int64)
                positions = np.flatnonzero(ids == group)
                if len(positions):
                    spans.append((int(inverted.lists.at(number).offset) + int(positions[0]) * length, length))
                    break
            else:
                raise LibraryError(f"{path} has no vector {group}")
        return spans

    # Files

    def plan(self) -> dict[str, Any] | None:
        """What a manifest says of lists, for `load`; None where every clip is looked at."""
        return None if self._lists is None else {"probes": [[d, *plan] for d, plan in self._lists.probes.items()]}

    def files(self, name: str) -> dict[str, Write]:
        """What writes it; nothing where every vector is looked at as it is."""
        files: dict[str, Write] = {}
        if self._groups is not None:
            files = {
                f"{name}.groups.npy": array_file(self._groups.order),
                f"{name}.ends.npy": array_file(self._groups.ends),
            }
        return files if self._lists is None else {**files, f"{name}.faiss": self._write_lists}

    def _write_lists(self, path: Path) -> None:
        assert self._lists is not None
        try:
            faiss.write_index(self._lists.index, str(path))
        except RuntimeError as error:  # it has no other word for a full disk
            raise OSError(f"{path} cannot be written: {error}") from error

    @classmethod
    def load(
        cls, rows: Rows, vectors: Vectors, name: str, files: Mapping[str, StoredFile], plan: Mapping[str, Any] | None
    ) -> "Neighbours":
        """Read what `files` wrote.

        Raises:
            LibraryError: a file cannot be read.
        """
        groups = lists = None
        if f"{name}.groups.npy" in files:
            groups = _Groups(files[f"{name}.groups.npy"].array(), files[f"{name}.ends.npy"].array())
        if plan is not None:
            lists = _Lists(
                _read_lists(files[f"{name}.faiss"]), {depth: (probes, again) for depth, probes, again in plan["probes"]}
            )
        return cls(rows, vectors, groups, lists)


def _read_lists(file: StoredFile) -> Any:
    """Lists that stay on disk, memory-mapped, unless they are small."""
    try:
        if file.content is not None:
            return faiss.deserialize_index(np.frombuffer(file.content, np.uint8))
    except RuntimeError as error:
        raise LibraryError(f"{file.path} cannot be read: {error}") from error
    index = _map_lists(file.address, file.path)
    inner: Any = faiss.downcast_index(index.index)
    inverted = faiss.downcast_InvertedLists(inner.invlists)
    if hasattr(inverted, "prefetch_nthread"):
        inverted.prefetch_nthread = 0  # threads of its own for every query cost more than they fetch
    return index


def _map_lists(address: str, path: Path) -> Any:
    try:
        return faiss.read_index(address, faiss.IO_FLAG_MMAP)
    except RuntimeError as error:
        raise LibraryError(f"{path} cannot be read: {error}") from error


def _best(scores: Matrix, count: int) -> Rows:
    """Places of the best scores, in no order; of equal ones those that come first."""
    if count >= len(scores):
        return np.arange(len(scores))
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    above = np.flatnonzero(scores > least)
    return np.concatenate([above, np.flatnonzero(scores == least)[: count - len(above)]])


def _positions(candidates: Rows, groups: Rows, absent: int) -> Rows:
    """Where some groups stand among the candidates; `absent` for those that do not."""
    order = np.argsort(candidates, kind="stable")
    places = np.searchsorted(candidates[order], groups).clip(max=len(candidates) - 1)
    position = order[places]
    return np.where(candidates[position] == groups, position, absent)
