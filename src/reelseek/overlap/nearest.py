"""Large sets: only pairs of videos with near window means are compared, and the share that this misses is measured."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reelseek.cluster import Cluster
from reelseek.overlap.match import Frames, Match, best_matches, best_windows
from reelseek.overlap.spool import lengths_of, runs_of

__all__ = ["near_matches"]

_NEIGHBOURS = 32
_RESCORED = 50  # times as many pairs as are returned are scored exactly, those with the nearest means
_SAMPLE = 32
_EXACT_BELOW = 20_000  # windows; below it an exact index is fast enough
_WINDOWS_A_BLOCK = 2**16  # whose means are in memory at once
_WINDOWS_AN_INDEX = 2**20  # of one file, where there are several


def near_matches(
    queries: Sequence[Frames],
    gallery: Sequence[Frames],
    *,
    window: int = 4,
    most: int = 1000,
    names: tuple[Sequence[str], Sequence[str]],
    seed: int = 0,
    device: torch.device | None = None,
    cluster: Cluster | None = None,
) -> tuple[list[Match], float]:
    """Find the best pairs among those whose window means are near, by FAISS; and the share of the best that are missed.

    The product of two window means is the mean of all K x K cosines, the diagonal's among them. The share is measured
    on a sample of queries that are compared exactly: of their pairs that score at least as high as the last match, the
    share that is not among the matches. A `device` or a `cluster` computes that
    comparison, see `best_matches`.
    """
    pairs = _near_pairs(queries, gallery, window, _RESCORED * most, seed)
    numbers: dict[str, int] = {}
    scored: set[tuple[int, int]] = set()
    in_both = set(names[0]) & set(names[1])
    matches = []
    for one, two in pairs.tolist():
        first, second = names[0][one], names[1][two]
        key = tuple(sorted(numbers.setdefault(name, len(numbers)) for name in (first, second)))
        if first == second or (first in in_both and second in in_both and key in scored):
            continue
        scored.add((key[0], key[1]))
        matches.append(best_windows(queries[one], gallery[two], window, (one, two)))
    matches.sort(key=lambda match: (-match.score, match.query, match.gallery))
    matches = matches[:most]
    return matches, _missed_share(queries, gallery, window, matches, names, seed, device, cluster)


def _near_pairs(
    queries: Sequence[Frames], gallery: Sequence[Frames], window: int, most: int, seed: int
) -> npt.NDArray[np.int64]:
    """Pairs of videos [pair, 2] with the nearest means, nearest first; the means of a block are in memory at a time."""
    similarity, pairs = np.zeros(0, np.float32), np.zeros((0, 2), np.int64)
    with tempfile.TemporaryDirectory(prefix="reelseek-") as folder:
        indexes = list(_indexes(gallery, window, seed, Path(folder)))
        for places in _blocks(queries, window, _WINDOWS_A_BLOCK):
            means, owners = _window_means(queries, places, window)
            scores, neighbours = _search(indexes, means)
            valid = neighbours.ravel() >= 0  # FAISS fills up with -1
            block = np.stack([np.repeat(owners, neighbours.shape[1]), neighbours.ravel()], 1)[valid]
            similarity = np.concatenate([similarity, scores.ravel()[valid]])
            pairs = np.concatenate([pairs, block])
            best_first = np.argsort(-similarity, kind="stable")
            _, first = np.unique(pairs[best_first], axis=0, return_index=True)
            selected = best_first[np.sort(first)][:most]
            similarity, pairs = similarity[selected], pairs[selected]
    return pairs


def _windows(frames: int, window: int) -> int:
    return frames - min(window, frames) + 1


def _blocks(videos: Sequence[Frames], window: int, most: int, part: range | None = None) -> Iterator[range]:
    """Places of videos that together have so many windows at most, or of one that has more."""
    return runs_of([_windows(length, window) for length in lengths_of(videos)], most, part)


def _window_means(
    videos: Sequence[Frames], places: range, window: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Means of all windows of some videos [window, dim], and the place of each one's video."""
    means, owners = [], []
    for place in places:
        rows = videos[place]
        k = min(window, len(rows))
        sums = np.cumsum(np.concatenate([np.zeros((1, rows.shape[1]), np.float32), rows]), axis=0)
        means.append((sums[k:] - sums[:-k]) / k)
        owners.append(np.full(len(means[-1]), place))
    return np.concatenate(means).astype(np.float32), np.concatenate(owners)


def _indexes(
    gallery: Sequence[Frames], window: int, seed: int, folder: Path
) -> Iterator[tuple[Any, npt.NDArray[np.int64]]]:
    """Indexes of parts of the gallery's means, each with the place of every mean's video; several lie on disk."""
    import faiss

    parts = list(_blocks(gallery, window, _WINDOWS_AN_INDEX))
    trained = _trained_index(gallery, window, seed)
    for number, part in enumerate(parts):
        index = faiss.clone_index(trained)
        owners = []
        for places in _blocks(gallery, window, _WINDOWS_A_BLOCK, part):
            means, videos = _window_means(gallery, places, window)
            index.add(means)
            owners.append(videos)
        if len(parts) > 1:
            file = str(folder / f"{number}.index")
            faiss.write_index(index, file)
            index = faiss.read_index(file, faiss.IO_FLAG_MMAP)
        yield index, np.concatenate(owners)


def _trained_index(gallery: Sequence[Frames], window: int, seed: int) -> Any:
    """An empty index for all means of the gallery, exact where they are few."""
    import faiss

    count, width = sum(_windows(length, window) for length in lengths_of(gallery)), gallery[0].shape[1]
    if count < _EXACT_BELOW:
        return faiss.IndexFlatIP(width)
    lists = int(np.sqrt(count))
    index: Any = faiss.index_factory(width, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    sample = np.random.default_rng(seed).choice(count, min(count, 40 * lists), replace=False)
    rows = np.zeros((len(sample), width), np.float32)
    order = np.argsort(sample)
    done = 0
    for places in _blocks(gallery, window, _WINDOWS_A_BLOCK):
        means, _ = _window_means(gallery, places, window)
        inside = order[slice(*np.searchsorted(sample[order], [done, done + len(means)]))]
        rows[inside] = means[sample[inside] - done]
        done += len(means)
    index.train(rows)
    index.nprobe = max(8, lists // 16)
    return index


def _search(
    indexes: Sequence[tuple[Any, npt.NDArray[np.int64]]], means: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The nearest windows of all indexes, as products [query, neighbour] and places of videos, -1 for none."""
    scores, neighbours = [], []
    for index, owners in indexes:
        similarity, places = index.search(means, min(_NEIGHBOURS, index.ntotal))
        scores.append(similarity)
        neighbours.append(np.where(places >= 0, owners[places], -1))
    if len(indexes) == 1:
        return scores[0], neighbours[0]
    every, places = np.concatenate(scores, 1), np.concatenate(neighbours, 1)
    best = np.argsort(-every, axis=1, kind="stable")[:, :_NEIGHBOURS]
    return np.take_along_axis(every, best, 1), np.take_along_axis(places, best, 1)


def _missed_share(
    queries: Sequence[Frames],
    gallery: Sequence[Frames],
    window: int,
    matches: Sequence[Match],
    names: tuple[Sequence[str], Sequence[str]],
    seed: int,
    device: torch.device | None,
    cluster: Cluster | None,
) -> float:
    """Of the exact best pairs of a sample of queries, the share that is not among the matches."""
    sample = np.random.default_rng(seed).permutation(len(queries))[:_SAMPLE].tolist()
    floor = matches[-1].score if matches else -np.inf
    matched = {frozenset((names[0][match.query], names[1][match.gallery])) for match in matches}
    sample_names = [names[0][i] for i in sample]
    exact = best_matches(
        [queries[i] for i in sample], gallery, window=window, most=len(matches) or 1, names=(sample_names, names[1]),
        device=device, cluster=cluster,
    )  # fmt: skip
    best = {frozenset((sample_names[m.query], names[1][m.gallery])) for m in exact if m.score >= floor}
    return len(best - matched) / len(best) if best else 0.0
