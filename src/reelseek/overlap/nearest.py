"""Large sets: only pairs of videos with near window means are compared, and the share that this misses is measured."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reelseek.cluster import Cluster
from reelseek.overlap.match import Frames, Match, best_matches, best_windows

__all__ = ["near_matches"]

_NEIGHBOURS = 32
_RESCORED = 50  # times as many pairs as are returned are scored exactly, those with the nearest means
_SAMPLE = 32
_EXACT_BELOW = 20_000  # windows; below it an exact index is fast enough


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
    means, owners = _window_means(gallery, window)
    query_means, query_owners = _window_means(queries, window)
    index = _index(means, seed)
    similarity, places = index.search(query_means, min(_NEIGHBOURS, len(means)))
    valid = places.ravel() >= 0  # FAISS fills up with -1
    near = np.stack([np.repeat(query_owners, places.shape[1]), owners[places.ravel()]], 1)[valid]
    best_first = np.argsort(-similarity.ravel()[valid], kind="stable")
    _, first = np.unique(near[best_first], axis=0, return_index=True)
    pairs = near[best_first][np.sort(first)][: _RESCORED * most]
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
        sample = np.random.default_rng(seed).choice(len(means), min(len(means), 40 * lists), replace=False)
        index.train(means[sample])
        index.nprobe = max(8, lists // 16)
    index.add(means)
    return index


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
