"""The search curve: how many pairs have to be reviewed for a recall of duplicates; and how many duplicates there are.

Source: Dzabraev et al. 2021, appendix C.1.2. Its listing searches an array that is sorted downwards with a search that
wants it upwards, and takes the index of a positive for x; here x is recall, the share of positives found, and y counts
the negatives that rank above the last positive found.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from reelseek.errors import LimitError, UsageError
from reelseek.experts import Expert, load_expert
from reelseek.experts.extract import prepare_worker, worker_expert
from reelseek.media.address import FilePath
from reelseek.media.container import Limits
from reelseek.media.decode import decode
from reelseek.media.guard import Workers
from reelseek.media.local_copy import fetch_seconds, local_copy
from reelseek.media.streams import FrameBatch, FrameStream
from reelseek.overlap.blocks import Frames, group_by_length, score_blocks
from reelseek.overlap.match import best_windows
from reelseek.overlap.screen import device_scores

__all__ = [
    "Augmentation",
    "Estimate",
    "SearchCurve",
    "augmented",
    "augmented_videos",
    "estimate",
    "search_curve",
]

_FPS = 5  # frames per second, of which the first of every whole second after the shift is used
_SHORT_SIDE = 360


@dataclass(frozen=True)
class Augmentation:
    """A crop and a shift.

    Attributes:
        width, height: share of the frame's sides inside the crop, .7 to 1.
        left, top: where the crop begins, 0 to 1 of the room beside it.
        shift: seconds by which the video starts later, 0 to 1.
    """

    width: float
    height: float
    left: float
    top: float
    shift: float


def _random_augmentation(rng: np.random.Generator) -> Augmentation:
    """Draw one as the paper does: each side 70 to 100 %, the start 0 to 1 s later."""
    sides, places = rng.uniform(0.7, 1.0, 2), rng.random(3)
    return Augmentation(*map(float, (*sides, *places)))


def augmented(path: Path, spec: str, augmentation: Augmentation) -> Frames:
    """Extract an expert's features [second, dim] from a video that is cropped and starts later.

    Args:
        spec: an expert of pictures, `name` or `name@model`.

    Raises:
        UsageError: the expert does not take single frames.
        MediaError: the video cannot be decoded, or is shorter than the shift.
    """
    expert = worker_expert(spec)
    session, stream = expert.open(), _frame_stream(expert)
    last = -1

    def feed(batch: FrameBatch) -> None:
        nonlocal last
        for pixels, cell in zip(batch.pixels, batch.cells, strict=True):
            second = math.floor(cell - augmentation.shift + 1e-6)
            if second > last:
                last = second
                now = np.array([float(second)])
                session.feed(FrameBatch(_fit(_crop(pixels, augmentation), stream)[None], now, now))

    decode(path, {FrameStream(fps=_FPS, short_side=_SHORT_SIDE): [feed]}, limits=Limits())
    if last < 0:
        raise LimitError(f"{path} is shorter than the shift of {augmentation.shift:.1f} s")
    return session.close(float(last + 1)).values


def augmented_videos(
    paths: Sequence[FilePath],
    spec: str,
    *,
    seed: int = 0,
    workers: int | None = None,
    device: str = "cpu",
    progress: Callable[[str, int, int, str], None] = lambda *_: None,
) -> dict[FilePath, Frames]:
    """Run `augmented` over videos in worker processes, each with a random augmentation; omit what cannot be decoded.

    Args:
        device: where the expert computes, if it runs a PyTorch model of a hub or folder.
    """
    generators = np.random.default_rng(seed).spawn(len(paths))
    tasks = [(path, spec, _random_augmentation(rng)) for path, rng in zip(paths, generators, strict=True)]
    _frame_stream(load_expert(spec))  # refuses an expert before anything is decoded
    features: dict[FilePath, Frames] = {}
    count = min(workers or os.cpu_count() or 1, max(1, len(tasks)))
    prepare = None if device == "cpu" else prepare_worker
    arguments = ([spec], device) if prepare else ()
    with Workers(
        _task, workers=count, memory_bytes=Limits().memory_bytes, prepare=prepare, arguments=arguments
    ) as pool:
        outcomes = pool.map(tasks, lambda task: Limits().wall_seconds(None) + fetch_seconds(task[0], None))
        for done, (task, outcome) in enumerate(outcomes, 1):
            if not isinstance(outcome, Exception):
                features[task[0]] = outcome
            progress(f"augmenting for {spec}", done, len(tasks), task[0].name)
    return {path: features[path] for path in paths if path in features}


def _task(task: tuple[FilePath, str, Augmentation]) -> Frames:
    path, spec, augmentation = task
    with local_copy(path) as file:
        return augmented(file, spec, augmentation)


def _frame_stream(expert: Expert) -> FrameStream:
    streams = [stream for stream in expert.streams if isinstance(stream, FrameStream)]
    if len(streams) != 1 or streams[0].fps != 1 or expert.modality != "appearance":
        raise UsageError(f"{expert.name} does not look at one frame a second, so its curve cannot be drawn")
    return streams[0]


def _crop(pixels: npt.NDArray[np.uint8], crop: Augmentation) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    rows, columns = max(2, round(height * crop.height)), max(2, round(width * crop.width))
    y, x = round((height - rows) * crop.top), round((width - columns) * crop.left)
    return pixels[y : y + rows, x : x + columns]


def _fit(pixels: npt.NDArray[np.uint8], stream: FrameStream) -> npt.NDArray[np.uint8]:
    """Resize and crop as the stream would."""
    import cv2

    width, height = stream.size(pixels.shape[1], pixels.shape[0])
    resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    if stream.crop is not None:
        y, x = (height - stream.crop) // 2, (width - stream.crop) // 2
        resized = resized[y : y + stream.crop, x : x + stream.crop]
    fitted: npt.NDArray[np.uint8] = np.ascontiguousarray(resized)
    return fitted


@dataclass(frozen=True)
class SearchCurve:
    """F(x): `negatives[i]` pairs that share nothing rank above the positive that brings recall to `recall[i]`.

    Attributes:
        recall: share of the positives found, rising to 1.
        negatives: never falling.
        pairs: number of negatives.
    """

    recall: npt.NDArray[np.float64]
    negatives: npt.NDArray[np.int64]
    pairs: int

    def at(self, share: float) -> int:
        """F(share): negatives to review until this share of the duplicates is found."""
        place = min(len(self.recall) - 1, max(0, math.ceil(share * len(self.recall) - 1e-9) - 1))
        return int(self.negatives[place])

    def inverse(self, negatives: int) -> float:
        """The largest recall within so many negatives; 0 if even the first positive takes more."""
        within = int(np.searchsorted(self.negatives, negatives, side="right"))
        return float(self.recall[within - 1]) if within else 0.0


def search_curve(
    queries: Sequence[Frames],
    gallery: Sequence[Frames],
    copies: Mapping[int, Frames],
    *,
    window: int = 4,
    names: tuple[Sequence[str], Sequence[str]] | None = None,
    duplicates: Iterable[tuple[str, str]] = (),
    device: torch.device | None = None,
) -> SearchCurve:
    """Rank augmented copies among pairs that share nothing.

    Args:
        queries, gallery: unit rows of each video of both sets; every pair of them is a negative.
        copies: unit rows of augmented copies by the index of their query, in the form of the gallery's rows.
        names: of queries and gallery; a video is no negative of itself, and two that are in both sets are one pair.
        duplicates: pairs of names that are known to share footage, and are no negatives either.
        device: an accelerator that compares the pairs, in float32. Its scores differ in the last bits, so that a
            negative as high as a positive may count on the other side of it.
    """
    positive_scores = [best_windows(queries[place], copy, window).score for place, copy in copies.items()]
    positives = np.sort(np.array(positive_scores, np.float32))
    skipped = _Skipped(names, duplicates)
    below = np.zeros(len(positives) + 1, np.int64)  # negatives by how many positives are below them
    count = 0
    groups = group_by_length(queries, window), group_by_length(gallery, window)
    if device is None or device.type == "cpu":
        blocks = score_blocks(*groups, window)
    else:
        blocks = device_scores(*groups, window, device)
    for rows, columns, block in blocks:
        values = block.numpy()[skipped.negatives(rows.numpy(), columns.numpy())]
        below += np.bincount(np.searchsorted(positives, values, side="left"), minlength=len(below))
        count += len(values)
    # A negative with i positives below it ranks above each of these: above the positive at place j are those of i > j.
    above = np.cumsum(below[::-1])[::-1][1:]
    recall = np.arange(1, len(positives) + 1) / len(positives)
    return SearchCurve(recall, above[::-1].copy(), count)


class _Skipped:
    """Pairs that are no negatives: a video with itself, known duplicates, and pairs counted in the other order."""

    def __init__(
        self, names: tuple[Sequence[str], Sequence[str]] | None, duplicates: Iterable[tuple[str, str]]
    ) -> None:
        self._pairs: set[tuple[int, int]] = set()
        self._twins: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None
        if names is None:
            return
        row, column = ({name: place for place, name in enumerate(side)} for side in names)
        both_ways = ((one, two) for a, b in duplicates for one, two in ((a, b), (b, a)))
        self._pairs = {(row[one], column[two]) for one, two in both_ways if one in row and two in column}
        # index of each query in the gallery, and of each gallery video among the queries; -1 where it is absent
        self._twins = (
            np.array([column.get(name, -1) for name in names[0]]),
            np.array([row.get(name, -1) for name in names[1]]),
        )

    def negatives(self, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether each pair of a block is a negative [row, column]."""
        negative = np.ones((len(rows), len(columns)), bool)
        if self._twins is not None:
            query_of_column, column_of_query = self._twins[1][columns][None], self._twins[0][rows][:, None]
            negative &= (query_of_column < 0) | (query_of_column != rows[:, None])
            negative &= (query_of_column < 0) | (column_of_query < 0) | (query_of_column > rows[:, None])
        if self._pairs:
            row_of = {int(place): i for i, place in enumerate(rows)}
            column_of = {int(place): j for j, place in enumerate(columns)}
            for one, two in self._pairs:
                if one in row_of and two in column_of:
                    negative[row_of[one], column_of[two]] = False
        return negative


@dataclass(frozen=True)
class Estimate:
    """The duplicates that remain, extrapolated from the pairs judged.

    Attributes:
        reviewed: pairs judged, of which `duplicates` are duplicates.
        recall: share of all duplicates found by now, F^-1(reviewed - duplicates); None, like all that follows from it,
            where there is no duplicate or the curve does not reach as far.
        total: duplicates in the two sets, duplicates / recall.
        more: further pairs to review until 95 % are found.
        linear: pairs to review for all of them, reviewed * total / duplicates, as the paper extrapolates (table 12).
    """

    reviewed: int
    duplicates: int
    recall: float | None
    total: float | None
    more: float | None
    linear: float | None

    def as_json(self) -> dict[str, float | None]:
        """Plain values under the keys of a curve's file."""
        return {"seen": self.reviewed, "found": self.duplicates, "share": self.recall, "total": self.total,
                "more": self.more, "linear": self.linear}  # fmt: skip


def estimate(curve: SearchCurve, reviewed: int, duplicates: int, *, share: float = 0.95) -> Estimate:
    """Estimate the number of duplicates after the top pairs were judged.

    >>> curve = SearchCurve(np.array([0.25, 0.5, 0.75, 1.0]), np.array([0, 0, 8, 90]), 1000)
    >>> estimate(curve, 14, 6)
    Estimate(reviewed=14, duplicates=6, recall=0.75, total=8.0, more=84, linear=18.666666666666668)
    """
    recall = curve.inverse(reviewed - duplicates)
    if not recall or not duplicates:
        return Estimate(reviewed, duplicates, recall or None, None, None, None)
    total = duplicates / recall
    needed = curve.at(share) + math.ceil(share * total)
    return Estimate(reviewed, duplicates, recall, total, max(0, needed - reviewed), reviewed * total / duplicates)
