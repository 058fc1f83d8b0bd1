"""Blocks of pairs of videos: padded to the same length, and the score of every pair of them.

The score of two videos is the greatest mean of K consecutive cosines on a diagonal of their matrix of cosines (see
`match`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reelseek.overlap.spool import Spool

__all__ = [
    "COLUMNS",
    "ROWS",
    "Frames",
    "Group",
    "PaddedVideos",
    "Scores",
    "best_scores",
    "common_window",
    "group_by_length",
    "pad_videos",
    "padded_blocks",
    "score_blocks",
    "videos_per_block",
    "window_sums",
]

Frames = npt.NDArray[np.floating]
Scores = tuple[Tensor, Tensor, Tensor]
"""Indices of queries, indices of gallery videos, and their scores [query, gallery]."""
ROWS, COLUMNS = 512, 1024  # frames of a block's queries and gallery: its cosines stay in the processor's cache


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

    def to(self, device: torch.device, dtype: torch.dtype) -> "PaddedVideos":
        """The same with its values on a device; lengths and indices stay on the host."""
        return replace(self, values=self.values.to(device, dtype, non_blocking=True))


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


def pad_videos(videos: Sequence[Frames], places: Sequence[int]) -> PaddedVideos:
    """Pad the videos at some places of a set with frames of zeros."""
    rows = [videos[place] for place in places]
    values = np.zeros((len(rows), max(map(len, rows)), rows[0].shape[1]), np.float32)
    for number, frames in enumerate(rows):
        values[number, : len(frames)] = frames
    return PaddedVideos(
        torch.from_numpy(values), torch.tensor([len(frames) for frames in rows]), torch.tensor(list(places))
    )


def score_blocks(queries: Sequence[Group], gallery: Sequence[Group], window: int) -> Iterator[Scores]:
    """Score all pairs in blocks.

    Memory does not grow with either set, beyond the videos themselves.
    """
    for query_group in queries:
        for rows in padded_blocks(query_group, ROWS):
            for gallery_group in gallery:
                k = common_window(query_group, gallery_group, window)
                for columns in padded_blocks(gallery_group, COLUMNS):
                    yield rows.places, columns.places, best_scores(rows, columns, k)


def padded_blocks(group: Group, frames: int) -> Iterator[PaddedVideos]:
    """Split a group into blocks of about so many frames."""
    for places in group.places.split(videos_per_block(group, frames)):
        yield pad_videos(group.videos, places.tolist())


def videos_per_block(group: Group, frames: int) -> int:
    """The number of videos of a group in a block of so many frames; at least one."""
    return max(1, frames // int(group.lengths.max()))


def common_window(queries: Group, gallery: Group, window: int) -> int:
    """The window for two groups: that of the scan, or shorter where a video is."""
    return min(window, int(queries.lengths.min()), int(gallery.lengths.min()))


def best_scores(queries: PaddedVideos, gallery: PaddedVideos, k: int) -> Tensor:
    """The greatest diagonal mean of each pair of two blocks [query, gallery]."""
    sums = window_sums(queries, gallery, k)
    for videos, frames in ((queries, 1), (gallery, 3)):
        windows = videos.lengths - k + 1
        if int(windows.min()) < sums.shape[frames]:  # windows that reach into padding do not count
            beyond = torch.arange(sums.shape[frames])[None] >= windows[:, None]
            shape = (-1, sums.shape[1], 1, 1) if frames == 1 else (1, 1, len(windows), sums.shape[3])
            sums.masked_fill_(beyond.view(shape).to(sums.device), -torch.inf)
    return sums.amax((1, 3)) / k


def window_sums(queries: PaddedVideos, gallery: PaddedVideos, k: int) -> Tensor:
    """Sums of k consecutive cosines on every diagonal [query, start, gallery, start], by doubling."""
    (ones, rows, dim), (others, columns, _) = queries.values.shape, gallery.values.shape
    cosines = _products(queries.values.reshape(-1, dim), gallery.values.reshape(-1, dim))
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


def _products(queries: Tensor, gallery: Tensor) -> Tensor:
    """Products of all rows of two matrices, in float32, also where the rows are in half precision."""
    if queries.dtype != torch.float32 and queries.device.type == "cuda":
        return torch.mm(queries, gallery.T, out_dtype=torch.float32)
    return (queries @ gallery.T).float()


def _shifted(first: Tensor, second: Tensor, by: int) -> Tensor:
    """Add `first` at every place and `second` that far down the diagonal, where both exist."""
    rows = min(first.shape[1], second.shape[1] - by)
    columns = min(first.shape[3], second.shape[3] - by)
    return first[:, :rows, :, :columns] + second[:, by : by + rows, :, by : by + columns]
