"""Videos that share footage: the best pair of windows of K seconds, for every pair of two sets, streamed.

A video is its frames' unit vectors, one per second, each times its frame's weight. The score of two videos is the
greatest mean of K consecutive cosines on a diagonal of their matrix of cosines (Dzabraev et al. 2021,
appendix C.1.1), over every window that fits: the paper's range stops one window short of the end. A video of fewer than
K frames is compared by windows of its own length.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reelseek.overlap.spool import Spool

__all__ = ["Group", "Match", "best_matches", "best_windows", "group_by_length", "score_blocks", "unit_rows"]

Frames = npt.NDArray[np.floating]
_ROWS, _COLUMNS = 512, 1024  # frames of a block's queries and gallery: its cosines stay in the processor's cache


@dataclass(frozen=True)
class Match:
    """Two videos by their indices in their sets, their score, and where their best windows of `window` frames begin."""

    query: int
    gallery: int
    score: float
    query_start: int
    gallery_start: int
    window: int


@dataclass(frozen=True)
class Group:
    """Videos of similar length: their indices in the set, and their numbers of frames."""

    videos: Sequence[Frames]
    places: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class PaddedVideos:
    """Some videos of a group, padded: values [video, frame, dim], numbers of frames, and indices in the set."""

    values: Tensor
    lengths: Tensor
    places: Tensor


def unit_rows(frames: Frames, weights: npt.NDArray[np.floating] | None = None) -> npt.NDArray[np.float32]:
    """Normalise rows [frame, dim] to length one, times their weights [frame]. A row of zeros stays zero: no cosine."""
    rows = np.asarray(frames, np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = np.divide(rows, norms, where=norms > 0, out=np.zeros_like(rows))
    return unit if weights is None else unit * np.asarray(weights, np.float32)[:, None]


def group_by_length(videos: Sequence[Frames], window: int) -> list[Group]:
    """Group videos of similar length, so that little is padded; those shorter than a window by their exact length.

    Args:
        videos: unit rows [frame, dim] each (see `unit_rows`), or a Spool of them.
        window: K.

    Raises:
        ValueError: a video has no frame, or is of another width than the first.
    """
    lengths = videos.lengths if isinstance(videos, Spool) else _checked_lengths(videos)
    order = sorted(range(len(videos)), key=lambda place: lengths[place])
    groups: list[list[int]] = []
    for place in order:
        count = lengths[place]
        shortest = lengths[groups[-1][0]] if groups else 0
        if groups and (count == shortest or (shortest >= window and count <= 1.25 * shortest + 1)):
            groups[-1].append(place)
        else:
            groups.append([place])
    return [Group(videos, torch.tensor(places), torch.tensor([lengths[i] for i in places])) for places in groups]


def _checked_lengths(videos: Sequence[Frames]) -> list[int]:
    for place, frames in enumerate(videos):
        if frames.ndim != 2 or not len(frames) or frames.shape[1] != videos[0].shape[1]:
            shape = f"[frames, {videos[0].shape[-1]}] with at least one frame"
            raise ValueError(f"video {place} is {frames.shape}; wanted {shape}")
    return [len(frames) for frames in videos]


def _pad(videos: Sequence[Frames], places: Sequence[int]) -> PaddedVideos:
    rows = [videos[place] for place in places]
    values = np.zeros((len(rows), max(map(len, rows)), rows[0].shape[1]), np.float32)
    for number, frames in enumerate(rows):
        values[number, : len(frames)] = frames
    return PaddedVideos(
        torch.from_numpy(values), torch.tensor([len(frames) for frames in rows]), torch.tensor(list(places))
    )


def score_blocks(
    queries: Sequence[Group], gallery: Sequence[Group], window: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Score all pairs in blocks: indices of queries, indices of gallery videos, and their scores [query, gallery].

    Memory does not grow with either set, beyond the videos themselves.
    """
    for query_group in queries:
        for rows in _blocks(query_group, _ROWS):
            for gallery_group in gallery:
                k = min(window, int(query_group.lengths.min()), int(gallery_group.lengths.min()))
                for columns in _blocks(gallery_group, _COLUMNS):
                    yield rows.places, columns.places, _best(rows, columns, k)


def _blocks(group: Group, frames: int) -> Iterator[PaddedVideos]:
    step = max(1, frames // int(group.lengths.max()))
    for places in group.places.split(step):
        yield _pad(group.videos, places.tolist())


def _best(queries: PaddedVideos, gallery: PaddedVideos, k: int) -> Tensor:
    """The greatest diagonal mean of each pair of two blocks [query, gallery]."""
    sums = _window_sums(queries, gallery, k)
    for videos, frames in ((queries, 1), (gallery, 3)):
        windows = videos.lengths - k + 1
        if int(windows.min()) < sums.shape[frames]:  # windows that reach into padding do not count
            beyond = torch.arange(sums.shape[frames])[None] >= windows[:, None]
            shape = (-1, sums.shape[1], 1, 1) if frames == 1 else (1, 1, len(windows), sums.shape[3])
            sums.masked_fill_(beyond.view(shape), -torch.inf)
    return sums.amax((1, 3)) / k


def _window_sums(queries: PaddedVideos, gallery: PaddedVideos, k: int) -> Tensor:
    """Sums of k consecutive cosines on every diagonal [query, start, gallery, start], by doubling."""
    (ones, rows, dim), (others, columns, _) = queries.values.shape, gallery.values.shape
    cosines = queries.values.reshape(-1, dim) @ gallery.values.reshape(-1, dim).T
    sums = cosines.view(ones, rows, others, columns)
    done, total = 1, None
    reach = 0
    while k:
        if k & 1:  # this power of two extends the windows so far
            total = sums if total is None else _shifted(total, sums, reach)
            reach += done
        k >>= 1
        if k:
            sums = _shifted(sums, sums, done)
            done *= 2
    assert total is not None
    return total


def _shifted(first: Tensor, second: Tensor, by: int) -> Tensor:
    """Add `first` at every place and `second` that far down the diagonal, where both exist."""
    rows = min(first.shape[1], second.shape[1] - by)
    columns = min(first.shape[3], second.shape[3] - by)
    return first[:, :rows, :, :columns] + second[:, by : by + rows, :, by : by + columns]


def best_matches(
    queries: Sequence[Frames],
    gallery: Sequence[Frames],
    *,
    window: int = 4,
    most: int = 1000,
    names: tuple[Sequence[str], Sequence[str]] | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Match]:
    """Find the pairs with the highest scores, best first, with their windows.

    Args:
        queries, gallery: unit rows of each video.
        window: K, in frames (seconds at one frame a second).
        most: number of pairs.
        names: of the videos of both sets. A name that is in both is never paired with itself, and two such names are
            paired once; so a set is compared with itself.
        progress: called with the number of pairs compared so far and in all.
    """
    best_scores, best_pairs = np.zeros(0, np.float32), np.zeros((0, 2), np.int64)
    ones, others = names or (range(len(queries)), range(len(queries), len(queries) + len(gallery)))
    numbers = {name: place for place, name in enumerate(dict.fromkeys((*ones, *others)))}
    first, second = np.array([numbers[n] for n in ones]), np.array([numbers[n] for n in others])
    in_both = np.isin(np.arange(len(numbers)), first) & np.isin(np.arange(len(numbers)), second)
    done, total = 0, len(queries) * len(gallery)
    for rows_of, columns_of, block in score_blocks(
        group_by_length(queries, window), group_by_length(gallery, window), window
    ):
        scores = block.numpy()
        floor = best_scores[-1] if len(best_scores) >= most else -np.inf
        rows, columns = np.nonzero(scores > floor)
        pairs = np.stack([rows_of.numpy()[rows], columns_of.numpy()[columns]], 1)
        values = scores[rows, columns]
        one, two = first[pairs[:, 0]], second[pairs[:, 1]]
        repeated = (one == two) | (in_both[one] & in_both[two] & (one > two))
        if len(values):
            best_scores = np.concatenate([best_scores, values[~repeated]])
            best_pairs = np.concatenate([best_pairs, pairs[~repeated]])
            order = np.lexsort((best_pairs[:, 1], best_pairs[:, 0], -best_scores))[:most]
            best_scores, best_pairs = best_scores[order], best_pairs[order]
        done += scores.size
        progress(done, total)
    return [best_windows(queries[one], gallery[two], window, (int(one), int(two))) for one, two in best_pairs]


def best_windows(query: Frames, gallery: Frames, window: int = 4, places: tuple[int, int] = (0, 0)) -> Match:
    """Find where two videos, as unit rows, are most alike; of equal windows the earliest."""
    one, two = _pad([query], [0]), _pad([gallery], [0])
    k = min(window, len(query), len(gallery))
    means = _window_sums(one, two, k)[0, :, 0] / k
    best = int(means.argmax())
    start, other = divmod(best, means.shape[1])
    return Match(*places, float(means[start, other]), start, other, k)
