"""Videos that share footage: the best pair of windows of K seconds, for every pair of two sets, streamed.

A video is its frames' unit vectors, one a second, each times its frame's weight. The score of two videos is the
greatest mean of cosines along K consecutive places of a diagonal of their matrix of cosines (Dzabraev et al. 2021,
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

__all__ = ["Group", "Match", "best_matches", "best_windows", "prepared", "scores", "unit_rows"]

Frames = npt.NDArray[np.floating]
_ROWS, _COLUMNS = 512, 1024  # frames of a block on either side: its cosines stay in the processor's cache


@dataclass(frozen=True)
class Match:
    """Two videos by their places in their sets, their score, and where their best windows of `window` frames begin."""

    query: int
    gallery: int
    score: float
    query_start: int
    gallery_start: int
    window: int


@dataclass(frozen=True)
class Group:
    """Videos of similar length: their places among all of them, and how many frames each has."""

    videos: Sequence[Frames]
    places: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class Videos:
    """Some videos of a group, padded: values [video, frame, dim], how many frames each has, and their places."""

    values: Tensor
    lengths: Tensor
    places: Tensor


def unit_rows(frames: Frames, weights: npt.NDArray[np.floating] | None = None) -> npt.NDArray[np.float32]:
    """Rows [frame, dim] of length one, times their weights [frame]. A row of zeros stays one, and is like nothing."""
    rows = np.asarray(frames, np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    found: npt.NDArray[np.float32] = np.divide(rows, norms, where=norms > 0, out=np.zeros_like(rows))
    return found if weights is None else found * np.asarray(weights, np.float32)[:, None]


def prepared(videos: Sequence[Frames], window: int) -> list[Group]:
    """Videos in groups of similar length, so that little is padded; those shorter than a window by their own length.

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
    return [Group(videos, torch.tensor(each), torch.tensor([lengths[i] for i in each])) for each in groups]


def _checked_lengths(videos: Sequence[Frames]) -> list[int]:
    for place, frames in enumerate(videos):
        if frames.ndim != 2 or not len(frames) or frames.shape[1] != videos[0].shape[1]:
            wanted = f"[frames, {videos[0].shape[-1]}] with at least one frame"
            raise ValueError(f"video {place} is {frames.shape}; wanted {wanted}")
    return [len(frames) for frames in videos]


def _padded(videos: Sequence[Frames], places: Sequence[int]) -> Videos:
    rows = [videos[place] for place in places]
    values = np.zeros((len(rows), max(map(len, rows)), rows[0].shape[1]), np.float32)
    for number, frames in enumerate(rows):
        values[number, : len(frames)] = frames
    return Videos(torch.from_numpy(values), torch.tensor([len(frames) for frames in rows]), torch.tensor(list(places)))


def scores(queries: Sequence[Group], gallery: Sequence[Group], window: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Scores of all pairs, block by block: places of some queries, places of some gallery videos, and [query, gallery].

    Memory does not grow with either set, beyond what holds the videos themselves.
    """
    for one in queries:
        for some in _blocks(one, _ROWS):
            for two in gallery:
                k = min(window, int(one.lengths.min()), int(two.lengths.min()))
                for others in _blocks(two, _COLUMNS):
                    yield some.places, others.places, _best(some, others, k)


def _blocks(group: Group, frames: int) -> Iterator[Videos]:
    step = max(1, frames // int(group.lengths.max()))
    for places in group.places.split(step):
        yield _padded(group.videos, places.tolist())


def _best(queries: Videos, gallery: Videos, k: int) -> Tensor:
    """The greatest diagonal mean of each pair of two blocks [query, gallery]."""
    sums = _window_sums(queries, gallery, k)
    for videos, frames in ((queries, 1), (gallery, 3)):
        windows = videos.lengths - k + 1
        if int(windows.min()) < sums.shape[frames]:  # windows that reach into padding are none
            beyond = torch.arange(sums.shape[frames])[None] >= windows[:, None]
            shape = (-1, sums.shape[1], 1, 1) if frames == 1 else (1, 1, len(windows), sums.shape[3])
            sums.masked_fill_(beyond.view(shape), -torch.inf)
    return sums.amax((1, 3)) / k


def _window_sums(queries: Videos, gallery: Videos, k: int) -> Tensor:
    """Sums of cosines along k places of every diagonal [query, start, gallery, start], by doubling."""
    (ones, rows, dim), (others, columns, _) = queries.values.shape, gallery.values.shape
    cosines = queries.values.reshape(-1, dim) @ gallery.values.reshape(-1, dim).T
    sums = cosines.view(ones, rows, others, columns)
    done, total = 1, None
    reach = 0
    while k:
        if k & 1:  # the windows so far go on with this power of two
            total = sums if total is None else _shifted(total, sums, reach)
            reach += done
        k >>= 1
        if k:
            sums = _shifted(sums, sums, done)
            done *= 2
    assert total is not None
    return total


def _shifted(first: Tensor, second: Tensor, by: int) -> Tensor:
    """Sums of `first` at each place and `second` so far down the diagonal, where both are."""
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
    """The pairs with the highest scores, best first, with their windows.

    Args:
        queries, gallery: unit rows of each video.
        window: K, in frames (seconds at one frame a second).
        most: how many pairs.
        names: of the videos of both sets. A name that is in both is never paired with itself, and two such names are
            paired once; so a set is compared with itself.
        progress: called with how many videos of the gallery times queries were compared, and of how many.
    """
    kept = np.zeros(0, np.float32), np.zeros((0, 2), np.int64)
    ones, others = names or (range(len(queries)), range(len(queries), len(queries) + len(gallery)))
    numbers = {name: place for place, name in enumerate(dict.fromkeys((*ones, *others)))}
    first, second = np.array([numbers[n] for n in ones]), np.array([numbers[n] for n in others])
    in_both = np.isin(np.arange(len(numbers)), first) & np.isin(np.arange(len(numbers)), second)
    done, total = 0, len(queries) * len(gallery)
    for rows_of, columns_of, block in scores(prepared(queries, window), prepared(gallery, window), window):
        found = block.numpy()
        floor = kept[0][-1] if len(kept[0]) >= most else -np.inf
        rows, columns = np.nonzero(found > floor)
        pairs = np.stack([rows_of.numpy()[rows], columns_of.numpy()[columns]], 1)
        values = found[rows, columns]
        one, two = first[pairs[:, 0]], second[pairs[:, 1]]
        twice = (one == two) | (in_both[one] & in_both[two] & (one > two))
        if len(values):
            joined = np.concatenate([kept[0], values[~twice]])
            who = np.concatenate([kept[1], pairs[~twice]])
            order = np.lexsort((who[:, 1], who[:, 0], -joined))[:most]
            kept = joined[order], who[order]
        done += found.size
        progress(done, total)
    return [best_windows(queries[one], gallery[two], window, (int(one), int(two))) for one, two in kept[1]]


def best_windows(query: Frames, gallery: Frames, window: int = 4, places: tuple[int, int] = (0, 0)) -> Match:
    """Where two videos, as unit rows, are most alike; of equal windows the earliest."""
    one, two = _padded([query], [0]), _padded([gallery], [0])
    k = min(window, len(query), len(gallery))
    means = _window_sums(one, two, k)[0, :, 0] / k
    best = int(means.argmax())
    start, other = divmod(best, means.shape[1])
    return Match(*places, float(means[start, other]), start, other, k)
