"""Large sets: only pairs of videos with near window means are compared, and how many that misses is measured."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.overlap.match import Frames, Match, best_matches, best_windows

__all__ = ["near_matches"]

_NEIGHBOURS = 32
_RESCORED = 50  # times as many pairs as are wanted are scored exactly, those with the nearest means
_SAMPLE = 32
_EXACT_BELOW = 20_000  # windows; below it a list of them all is quick enough


def near_matches(
    queries: Sequence[Frames],
    gallery: Sequence[Frames],
    *,
    window: int = 4,
    most: int = 1000,
    names: tuple[Sequence[str], Sequence[str]],
    seed: int = 0,
) -> tuple[list[Match], float]:
    """As `best_matches`, among pairs whose window means are near, by FAISS; and the share of pairs that it missed.

    The product of two window means is the mean of all K x K cosines, the diagonal's among them. The share is measured
    on some queries that are compared exactly: of their pairs that score at least as high as the last one found, how
    many were not found.
    """
    means, owners = _window_means(gallery, window)
    asked, askers = _window_means(queries, window)
    index = _index(means, seed)
    alike, places = index.search(asked, min(_NEIGHBOURS, len(means)))
    there = places.ravel() >= 0
    near = np.stack([np.repeat(askers, places.shape[1]), owners[places.ravel()]], 1)[there]
    best_first = np.argsort(-alike.ravel()[there], kind="stable")
    _, first = np.unique(near[best_first], axis=0, return_index=True)
    pairs = near[best_first][np.sort(first)][: _RESCORED * most]
    numbers: dict[str, int] = {}
    seen: set[tuple[int, int]] = set()
    in_both = set(names[0]) & set(names[1])
    found = []
    for one, two in pairs.tolist():
        first, second = names[0][one], names[1][two]
        key = tuple(sorted(numbers.setdefault(name, len(numbers)) for name in (first, second)))
        if first == second or (first in in_both and second in in_both and key in seen):
            continue
        seen.add((key[0], key[1]))
        found.append(best_windows(queries[one], gallery[two], window, (one, two)))
    found.sort(key=lambda match: (-match.score, match.query, match.gallery))
    found = found[:most]
    return found, _missed(queries, gallery, window, found, names, seed)


def _window_means(videos: Sequence[Frames], window: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    means, owners = [], []
    for place, rows in enumerate(videos):
        k = min(window, len(rows))
        sums = np.cumsum(np.concatenate([np.zeros((1, rows.shape[1]), np.float32), rows]), axis=0)
        means.append((sums[k:] - sums[:-k]) / k)
        owners.append(np.full(len(means[-1]), place))
    return np.concatenate(means).astype(np.float32), np.concatenate(owners)


def _index(means: npt.NDArray[np.float32], seed: int) -> Any:
    import faiss

    index: Any = faiss.IndexFlatIP(means.shape[1])
    if len(means) >= _EXACT_BELOW:
        lists = int(np.sqrt(len(means)))
        index = faiss.index_factory(means.shape[1], f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
        drawn = np.random.default_rng(seed).choice(len(means), min(len(means), 40 * lists), replace=False)
        index.train(means[drawn])
        index.nprobe = max(8, lists // 16)
    index.add(means)
    return index


def _missed(
    queries: Sequence[Frames],
    gallery: Sequence[Frames],
    window: int,
    found: Sequence[Match],
    names: tuple[Sequence[str], Sequence[str]],
    seed: int,
) -> float:
    chosen = np.random.default_rng(seed).permutation(len(queries))[:_SAMPLE].tolist()
    floor = found[-1].score if found else -np.inf
    there = {frozenset((names[0][match.query], names[1][match.gallery])) for match in found}
    some = [names[0][i] for i in chosen]
    exact = best_matches(
        [queries[i] for i in chosen], gallery, window=window, most=len(found) or 1, names=(some, names[1])
    )
    wanted = {frozenset((some[m.query], names[1][m.gallery])) for m in exact if m.score >= floor}
    return len(wanted - there) / len(wanted) if wanted else 0.0
