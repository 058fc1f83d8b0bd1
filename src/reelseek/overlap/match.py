"""Videos that share footage: the best pair of windows of K seconds, for every pair of two sets, streamed.

A video is its frames' unit vectors, one per second, each times its frame's weight. The score of two videos is the
greatest mean of K consecutive cosines on a diagonal of their matrix of cosines (Dzabraev et al. 2021,
appendix C.1.1), over every window that fits: the paper's range stops one window short of the end. A video of fewer than
K frames is compared by windows of its own length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from reelseek.cluster import Cluster
from reelseek.overlap.best import BestPairs
from reelseek.overlap.blocks import Frames, Group, group_by_length, pad_videos, score_blocks, window_sums
from reelseek.overlap.screen import Repeated, promising_blocks
from reelseek.overlap.spread import best_pairs_on

__all__ = ["Frames", "Match", "best_matches", "best_windows", "unit_rows"]


@dataclass(frozen=True)
class Match:
    """Two videos by their indices in their sets, their score, and where their best windows of `window` frames begin."""

    query: int
    gallery: int
    score: float
    query_start: int
    gallery_start: int
    window: int


def unit_rows(frames: Frames, weights: npt.NDArray[np.floating] | None = None) -> npt.NDArray[np.float32]:
    """Normalise rows [frame, dim] to length one, times their weights [frame]. A row of zeros stays zero: no cosine."""
    rows = np.asarray(frames, np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = np.divide(rows, norms, where=norms > 0, out=np.zeros_like(rows))
    return unit if weights is None else unit * np.asarray(weights, np.float32)[:, None]


def best_matches(
    queries: Sequence[Frames],
    gallery: Sequence[Frames],
    *,
    window: int = 4,
    most: int = 1000,
    names: tuple[Sequence[str], Sequence[str]] | None = None,
    device: torch.device | None = None,
    cluster: Cluster | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Match]:
    """Find the pairs with the highest scores, best first, with their windows.

    Args:
        queries, gallery: unit rows of each video.
        window: K, in frames (seconds at one frame a second).
        most: number of pairs.
        names: of the videos of both sets. A name that is in both is never paired with itself, and two such names are
            paired once; so a set is compared with itself.
        device: an accelerator that compares all pairs first, so that the host compares only those that may be among
            the best; the matches are the same.
        cluster: whose processors compare; the matches are the same.
        progress: called with the number of pairs compared so far and in all.
    """
    ones, others = names or (range(len(queries)), range(len(queries), len(queries) + len(gallery)))
    repeated = Repeated.of(ones, others)
    groups = group_by_length(queries, window), group_by_length(gallery, window)
    if cluster is not None:
        best = best_pairs_on(cluster, *groups, window, most=most, repeated=repeated, progress=progress)
    else:
        best = _best_pairs(groups, window, most, repeated, device, progress)
    return [best_windows(queries[one], gallery[two], window, (int(one), int(two))) for one, two in best.pairs]


def _best_pairs(
    groups: tuple[Sequence[Group], Sequence[Group]],
    window: int,
    most: int,
    repeated: Repeated,
    device: torch.device | None,
    progress: Callable[[int, int], None],
) -> BestPairs:
    done = 0
    total = sum(len(group.places) for group in groups[0]) * sum(len(group.places) for group in groups[1])
    if device is None or device.type == "cpu":
        blocks = score_blocks(*groups, window)
    else:
        blocks = promising_blocks(*groups, window, most=most, repeated=repeated, device=device, progress=progress)
        done = total  # it has counted them
    best = BestPairs(most, repeated)
    for block in blocks:
        best.add_block(block)
        done = min(total, done + block[2].numel())
        progress(done, total)
    return best


def best_windows(query: Frames, gallery: Frames, window: int = 4, places: tuple[int, int] = (0, 0)) -> Match:
    """Find where two videos, as unit rows, are most alike; of equal windows the earliest."""
    one, two = pad_videos([query], [0]), pad_videos([gallery], [0])
    k = min(window, len(query), len(gallery))
    means = window_sums(one, two, k)[0, :, 0] / k
    best = int(means.argmax())
    start, other = divmod(best, means.shape[1])
    return Match(*places, float(means[start, other]), start, other, k)
