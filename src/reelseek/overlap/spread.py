"""The comparison of two sets on a cluster: the blocks of one machine, some thousand frames of each set at a time."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from reelseek.cluster import Cluster, Shared
from reelseek.overlap.best import BestPairs
from reelseek.overlap.blocks import COLUMNS, ROWS, Group, PaddedVideos, Scores, best_scores, padded_blocks
from reelseek.overlap.screen import Repeated

__all__ = ["best_pairs_on"]

_FRAMES = 8192  # of each set in a cell: a second or two of one core, against megabytes that travel
_CACHED = 32  # parts of the queries that stay in the object store


@dataclass(frozen=True)
class _Part:
    """Blocks of one set, each with the least number of frames that a video of its group has."""

    blocks: tuple[tuple[int, PaddedVideos], ...]

    @property
    def videos(self) -> int:
        return sum(len(block.places) for _, block in self.blocks)


@dataclass(frozen=True)
class _Cell:
    """What one worker compares at a time."""

    queries: Shared[_Part]
    gallery: Shared[_Part]
    window: int
    most: int
    repeated: Shared[Repeated]
    pairs: int


def best_pairs_on(
    cluster: Cluster,
    queries: Sequence[Group],
    gallery: Sequence[Group],
    window: int,
    *,
    most: int,
    repeated: Repeated,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> BestPairs:
    """Find the best pairs as `BestPairs` does over `score_blocks`; which node compares what does not matter.

    Args:
        queries, gallery, window: as for `score_blocks`.
        most, repeated: as for `BestPairs`.
        progress: called with the number of pairs compared so far and in all.
    """
    best = BestPairs(most, repeated)
    total = sum(len(group.places) for group in queries) * sum(len(group.places) for group in gallery)
    done = 0
    for cell, other in cluster.map(_compare, _cells(queries, gallery, window, most, repeated), prepare=_one_thread):
        best.add(other.scores, other.pairs)
        done += cell.pairs
        progress(done, total)
    return best


def _one_thread() -> None:
    torch.set_num_threads(1)


def _cells(
    queries: Sequence[Group], gallery: Sequence[Group], window: int, most: int, repeated: Repeated
) -> Iterator[_Cell]:
    """Every part of the queries with every part of the gallery; few of them are in the object store at a time."""
    cached: OrderedDict[int, tuple[Shared[_Part], int]] = OrderedDict()
    shared = Shared(repeated)
    for columns in _parts(gallery, COLUMNS):
        shared_columns = Shared(columns)
        for place, rows in enumerate(_parts(queries, ROWS)):
            if place not in cached:
                cached[place] = Shared(rows), rows.videos
                if len(cached) > _CACHED:
                    cached.popitem(last=False)
            shared_rows, videos = cached[place]
            yield _Cell(shared_rows, shared_columns, window, most, shared, videos * columns.videos)


def _parts(groups: Sequence[Group], frames: int) -> Iterator[_Part]:
    """The blocks of a set, some thousand frames together."""
    blocks: list[tuple[int, PaddedVideos]] = []
    count = 0
    for group in groups:
        shortest = int(group.lengths.min())
        for block in padded_blocks(group, frames):
            blocks.append((shortest, block))
            count += block.values.shape[0] * block.values.shape[1]
            if count >= _FRAMES:
                yield _Part(tuple(blocks))
                blocks, count = [], 0
    if blocks:
        yield _Part(tuple(blocks))


def _compare(cell: _Cell) -> BestPairs:
    """The best pairs of a cell."""
    best = BestPairs(cell.most, cell.repeated.get())
    for scores in _scores(cell.queries.get(), cell.gallery.get(), cell.window):
        best.add_block(scores)
    return best.without_rule()


def _scores(queries: _Part, gallery: _Part, window: int) -> Iterator[Scores]:
    for shortest, rows in queries.blocks:
        for other, columns in gallery.blocks:
            yield rows.places, columns.places, best_scores(rows, columns, min(window, shortest, other))
