"""Scores on an accelerator.

For the best pairs a device compares everything, in half precision where it is fast, and says which blocks may hold one
of them; those the host computes again. Pairs, scores and the order of equal ones are therefore the host's, bit for bit.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from reelseek.models.device import free_memory
from reelseek.overlap.blocks import (
    COLUMNS,
    ROWS,
    Group,
    PaddedVideos,
    Scores,
    best_scores,
    common_window,
    pad_videos,
    videos_per_block,
)

__all__ = ["Repeated", "device_scores", "promising_blocks"]

# A product of two rows in float16 (or TF32, with as many bits) is off by at most 2 * 2^-11 of their lengths, its sum in
# float32 by far less; twice that is surely enough.
_ROUNDING = 2**-9
_BYTES = 20  # a cosine with what is computed of it: at most five float32
_MOST_FRAMES = 16_384  # of one side of a tile; larger ones are no faster
_UNKNOWN_MEMORY = 2**30
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Repeated:
    """Pairs that are not to be compared: a video with itself, and of two that are in both sets the second order.

    Attributes:
        first, second: number of the name of each query and each gallery video.
        in_both: by number, whether the name is in both sets.
    """

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    in_both: Flags

    @classmethod
    def of(cls, queries: Sequence[object], gallery: Sequence[object]) -> Self:
        """Number the names of two sets."""
        numbers = {name: place for place, name in enumerate(dict.fromkeys((*queries, *gallery)))}
        first, second = np.array([numbers[n] for n in queries]), np.array([numbers[n] for n in gallery])
        places = np.arange(len(numbers))
        return cls(first, second, np.isin(places, first) & np.isin(places, second))

    def pairs(self, pairs: npt.NDArray[np.int64]) -> Flags:
        """Which of some pairs [pair, 2] of a query and a gallery video are repeated."""
        one, two = self.first[pairs[:, 0]], self.second[pairs[:, 1]]
        repeated: Flags = (one == two) | (self.in_both[one] & self.in_both[two] & (one > two))
        return repeated

    def mask(self, queries: Tensor, gallery: Tensor, device: torch.device) -> Tensor:
        """Which pairs of a tile [query, gallery] are repeated, on a device."""
        one, two = (torch.from_numpy(numbers[places.numpy()]) for numbers, places in
                    ((self.first, queries), (self.second, gallery)))  # fmt: skip
        both = [torch.from_numpy(self.in_both)[numbers].to(device) for numbers in (one, two)]
        one, two = one.to(device)[:, None], two.to(device)[None]
        return (one == two) | (both[0][:, None] & both[1][None] & (one > two))


def promising_blocks(
    queries: Sequence[Group],
    gallery: Sequence[Group],
    window: int,
    *,
    most: int,
    repeated: Repeated,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[Scores]:
    """Score those blocks of `score_blocks`, on the host and in its order, that may hold one of the best pairs.

    Args:
        most: how many pairs are wanted.
        repeated: pairs that do not count.
        progress: called with the number of pairs that the device compared so far and in all.
    """
    maxima, floor = _screen(queries, gallery, window, most, repeated, device, progress)
    for one, query_group in enumerate(queries):
        for row, places in enumerate(query_group.places.split(videos_per_block(query_group, ROWS))):
            rows: PaddedVideos | None = None
            for two, gallery_group in enumerate(gallery):
                columns = gallery_group.places.split(videos_per_block(gallery_group, COLUMNS))
                for column in np.flatnonzero(~(maxima[one, two][row] < floor)).tolist():  # NaN is not below
                    rows = pad_videos(query_group.videos, places.tolist()) if rows is None else rows
                    block = pad_videos(gallery_group.videos, columns[column].tolist())
                    scores = best_scores(rows, block, common_window(query_group, gallery_group, window))
                    yield rows.places, block.places, scores


Maxima = dict[tuple[int, int], npt.NDArray[np.float32]]


def _screen(
    queries: Sequence[Group],
    gallery: Sequence[Group],
    window: int,
    most: int,
    repeated: Repeated,
    device: torch.device,
    progress: Callable[[int, int], None],
) -> tuple[Maxima, float]:
    """The best score of each block by the indices of its groups [row block, column block], and what is too low."""
    maxima: Maxima = {
        (one, two): np.full((_blocks(query_group, ROWS), _blocks(gallery_group, COLUMNS)), -np.inf, np.float32)
        for one, query_group in enumerate(queries)
        for two, gallery_group in enumerate(gallery)
    }
    best = torch.full((most,), -torch.inf, device=device)
    longest = torch.zeros(2, device=device)  # rows of both sets
    done, total = 0, sum(len(group.places) for group in queries) * sum(len(group.places) for group in gallery)
    for tile in _tiles(queries, gallery, window, device, _screen_dtype(device)):
        scores = best_scores(tile.rows, tile.columns, tile.window)
        scores = scores.masked_fill(repeated.mask(tile.rows.places, tile.columns.places, device), -torch.inf)
        best = torch.cat([best, scores.flatten().topk(min(most, scores.numel())).values]).topk(most).values
        longest = torch.maximum(longest, torch.stack([_longest(tile.rows), _longest(tile.columns)]))
        block_maxima = _block_maxima(scores, *tile.steps)
        row, column = tile.first
        table = maxima[tile.groups]
        table[row : row + len(block_maxima), column : column + block_maxima.shape[1]] = block_maxima.cpu().numpy()
        done += scores.numel()
        progress(done, total)
    least, margin = float(best[-1]), _ROUNDING * float(longest.prod())
    return maxima, least - 2 * margin


def _screen_dtype(device: torch.device) -> torch.dtype:
    """Half precision where its products can be summed in float32."""
    return torch.float16 if device.type == "cuda" else torch.float32


def _blocks(group: Group, frames: int) -> int:
    return -(-len(group.places) // videos_per_block(group, frames))


def _longest(videos: PaddedVideos) -> Tensor:
    """The length of the longest row."""
    return videos.values.float().square().sum(-1).amax().sqrt()


def _block_maxima(scores: Tensor, rows: int, columns: int) -> Tensor:
    """The best score of each block of so many queries and gallery videos."""
    beyond = (0, -scores.shape[1] % columns, 0, -scores.shape[0] % rows)
    padded = functional.pad(scores, beyond, value=-torch.inf)
    return padded.view(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns).amax((1, 3))


@dataclass(frozen=True)
class _Tile:
    """Several blocks at once, on a device.

    Attributes:
        groups: indices of both groups.
        first: indices of the first row block and the first column block.
        steps: queries in a row block, gallery videos in a column block.
    """

    rows: PaddedVideos
    columns: PaddedVideos
    window: int
    groups: tuple[int, int]
    first: tuple[int, int]
    steps: tuple[int, int]


def _tiles(
    queries: Sequence[Group], gallery: Sequence[Group], window: int, device: torch.device, dtype: torch.dtype
) -> Iterator[_Tile]:
    """All pairs, in tiles that fill half of the device's free memory at most."""
    free = free_memory(device) or _UNKNOWN_MEMORY
    side = min(_MOST_FRAMES, int((free / 2 / _BYTES) ** 0.5))
    for one, query_group in enumerate(queries):
        for row, row_step, rows in _parts(query_group, ROWS, side, device, dtype):
            for two, gallery_group in enumerate(gallery):
                k = common_window(query_group, gallery_group, window)
                for column, column_step, columns in _parts(gallery_group, COLUMNS, side, device, dtype):
                    yield _Tile(rows, columns, k, (one, two), (row, column), (row_step, column_step))


def _parts(
    group: Group, frames: int, side: int, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[int, int, PaddedVideos]]:
    """Whole blocks of a group, as many as `side` frames hold: the first block's index, videos a block, all videos."""
    step = videos_per_block(group, frames)
    blocks = max(1, side // (step * int(group.lengths.max())))
    for number, places in enumerate(group.places.split(blocks * step)):
        yield number * blocks, step, pad_videos(group.videos, places.tolist()).to(device, dtype)


def device_scores(
    queries: Sequence[Group], gallery: Sequence[Group], window: int, device: torch.device
) -> Iterator[Scores]:
    """Score all pairs in blocks as `score_blocks` does, on a device in full float32; they come in another order."""
    for tile in _tiles(queries, gallery, window, device, torch.float32):
        with _full_precision():
            scores = best_scores(tile.rows, tile.columns, tile.window)
        yield tile.rows.places, tile.columns.places, scores.cpu()


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Multiply in float32 even if training in this process has allowed TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
