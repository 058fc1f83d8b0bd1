"""How many pairs have to be looked at to find a share of the duplicates; and how many there are.

Source: Dzabraev et al. 2021, appendix C.1.2. Its listing searches an array that is sorted downwards with a search that
wants it upwards, and takes the index of a positive for x; here x is the share of positives found, and y counts the
negatives that stand above the one found last.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelseek.errors import LimitError, UsageError
from reelseek.experts import Expert, load_expert
from reelseek.media.container import Limits
from reelseek.media.decode import decode
from reelseek.media.guard import Workers
from reelseek.media.streams import FrameBatch, FrameStream
from reelseek.overlap.match import Frames, best_windows, prepared, scores

__all__ = [
    "Augmentation",
    "Estimate",
    "SearchCurve",
    "augmented",
    "augmented_videos",
    "estimate",
    "search_curve",
]

_FPS = 5  # frames a second among which those at whole seconds after the shift are found
_SHORT_SIDE = 360


@dataclass(frozen=True)
class Augmentation:
    """What is kept of a picture's width and height (.7 to 1), where it begins (0 to 1 of what is left), and by how many
    seconds (0 to 1) the video starts later."""

    width: float
    height: float
    left: float
    top: float
    shift: float


def _drawn(generator: np.random.Generator) -> Augmentation:
    """As the paper draws it: each side 70 to 100 %, the start 0 to 1 s later."""
    width, height = generator.uniform(0.7, 1.0, 2)
    left, top, shift = generator.random(3)
    return Augmentation(float(width), float(height), float(left), float(top), float(shift))


def augmented(path: Path, spec: str, how: Augmentation) -> Frames:
    """An expert's features [second, dim] of a video that was cropped and starts later.

    Args:
        spec: an expert of pictures, `name` or `name@model`.

    Raises:
        UsageError: the expert looks at no frames one by one.
        MediaError: the video cannot be decoded, or nothing of it is left.
    """
    expert = load_expert(spec)
    session, stream = expert.open(), _stream(expert)
    last = -1

    def feed(batch: FrameBatch) -> None:
        nonlocal last
        for pixels, cell in zip(batch.pixels, batch.cells, strict=True):
            second = math.floor(cell - how.shift + 1e-6)
            if second > last:
                last = second
                now = np.array([float(second)])
                session.feed(FrameBatch(_fitted(_cropped(pixels, how), stream)[None], now, now))

    decode(path, {FrameStream(fps=_FPS, short_side=_SHORT_SIDE): [feed]}, limits=Limits())
    if last < 0:
        raise LimitError(f"{path} is shorter than the shift of {how.shift:.1f} s")
    return session.close(float(last + 1)).values


def augmented_videos(
    paths: Sequence[Path],
    spec: str,
    *,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[str, int, int, str], None] = lambda *_: None,
) -> dict[Path, Frames]:
    """As `augmented`, each by a draw of its own, in worker processes; videos that cannot be decoded are left out."""
    draws = np.random.default_rng(seed).spawn(len(paths))
    tasks = [(path, spec, _drawn(draw)) for path, draw in zip(paths, draws, strict=True)]
    _stream(load_expert(spec))  # said before anything is decoded
    found: dict[Path, Frames] = {}
    count = min(workers or os.cpu_count() or 1, max(1, len(tasks)))
    with Workers(_task, workers=count, memory_bytes=Limits().memory_bytes) as pool:
        outcomes = pool.map(tasks, lambda _: Limits().wall_seconds(None))
        for done, (task, outcome) in enumerate(outcomes, 1):
            if not isinstance(outcome, Exception):
                found[task[0]] = outcome
            progress(f"augmenting for {spec}", done, len(tasks), task[0].name)
    return {path: found[path] for path in paths if path in found}


def _task(task: tuple[Path, str, Augmentation]) -> Frames:
    return augmented(*task)


def _stream(expert: Expert) -> FrameStream:
    found = [stream for stream in expert.streams if isinstance(stream, FrameStream)]
    if len(found) != 1 or found[0].fps != 1 or expert.modality != "appearance":
        raise UsageError(f"{expert.name} does not look at one frame a second, so its curve cannot be drawn")
    return found[0]


def _cropped(pixels: npt.NDArray[np.uint8], how: Augmentation) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    rows, columns = max(2, round(height * how.height)), max(2, round(width * how.width))
    top, left = round((height - rows) * how.top), round((width - columns) * how.left)
    return pixels[top : top + rows, left : left + columns]


def _fitted(pixels: npt.NDArray[np.uint8], stream: FrameStream) -> npt.NDArray[np.uint8]:
    """Resized and cropped as the stream would."""
    import cv2

    width, height = stream.size(pixels.shape[1], pixels.shape[0])
    resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    if stream.crop is not None:
        top, left = (height - stream.crop) // 2, (width - stream.crop) // 2
        resized = resized[top : top + stream.crop, left : left + stream.crop]
    fitted: npt.NDArray[np.uint8] = np.ascontiguousarray(resized)
    return fitted


@dataclass(frozen=True)
class SearchCurve:
    """F(x): `negatives[i]` pairs that share nothing stand above the pair with which the share `found[i]` is found.

    Attributes:
        found: rising to 1.
        negatives: never falling.
        pairs: how many negatives there are.
    """

    found: npt.NDArray[np.float64]
    negatives: npt.NDArray[np.int64]
    pairs: int

    def at(self, share: float) -> int:
        """F(share): negatives to look at until this share of the duplicates is found."""
        place = min(len(self.found) - 1, max(0, math.ceil(share * len(self.found) - 1e-9) - 1))
        return int(self.negatives[place])

    def inverse(self, negatives: int) -> float:
        """The largest share that is found with so many negatives; 0 if even the first takes more."""
        within = int(np.searchsorted(self.negatives, negatives, side="right"))
        return float(self.found[within - 1]) if within else 0.0


def search_curve(
    queries: Sequence[Frames],
    gallery: Sequence[Frames],
    copies: Mapping[int, Frames],
    *,
    window: int = 4,
    names: tuple[Sequence[str], Sequence[str]] | None = None,
    duplicates: Iterable[tuple[str, str]] = (),
) -> SearchCurve:
    """Where augmented copies would stand among pairs that share nothing.

    Args:
        queries, gallery: unit rows of each video of both sets; every pair of them is a negative.
        copies: unit rows of augmented copies, by the places of their queries, as the gallery has them.
        names: of queries and gallery; a video is no negative of itself, and two that are in both sets are one.
        duplicates: pairs of names that are known to share footage, and are no negatives either.
    """
    found = [best_windows(queries[place], copy, window).score for place, copy in copies.items()]
    positives = np.sort(np.array(found, np.float32))
    skipped = _Skipped(names, duplicates)
    below = np.zeros(len(positives) + 1, np.int64)  # negatives by how many positives are below them
    count = 0
    for rows, columns, block in scores(prepared(queries, window), prepared(gallery, window), window):
        values = block.numpy()[skipped.kept(rows.numpy(), columns.numpy())]
        below += np.bincount(np.searchsorted(positives, values, side="left"), minlength=len(below))
        count += len(values)
    # A negative with i positives below it stands above each of these: the positive at place j has those with i > j.
    stands = np.cumsum(below[::-1])[::-1][1:]
    share = np.arange(1, len(positives) + 1) / len(positives)
    return SearchCurve(share, stands[::-1].copy(), count)


class _Skipped:
    """Pairs that are no negatives: a video with itself, known duplicates, and what was met in the other order."""

    def __init__(
        self, names: tuple[Sequence[str], Sequence[str]] | None, duplicates: Iterable[tuple[str, str]]
    ) -> None:
        self._pairs: set[tuple[int, int]] = set()
        self._twins: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None
        if names is None:
            return
        row, column = ({name: place for place, name in enumerate(each)} for each in names)
        both_ways = ((one, two) for a, b in duplicates for one, two in ((a, b), (b, a)))
        self._pairs = {(row[one], column[two]) for one, two in both_ways if one in row and two in column}
        # where each query stands in the gallery, and each gallery video among the queries; -1 where it does not
        self._twins = (
            np.array([column.get(name, -1) for name in names[0]]),
            np.array([row.get(name, -1) for name in names[1]]),
        )

    def kept(self, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which pairs of a block are negatives [row, column]."""
        keep = np.ones((len(rows), len(columns)), bool)
        if self._twins is not None:
            at, own = self._twins[1][columns][None], self._twins[0][rows][:, None]
            keep &= (at < 0) | (at != rows[:, None])
            keep &= (at < 0) | (own < 0) | (at > rows[:, None])
        if self._pairs:
            row_of = {int(place): i for i, place in enumerate(rows)}
            column_of = {int(place): j for j, place in enumerate(columns)}
            for one, two in self._pairs:
                if one in row_of and two in column_of:
                    keep[row_of[one], column_of[two]] = False
        return keep


@dataclass(frozen=True)
class Estimate:
    """What was judged, and what follows from it.

    Attributes:
        seen: pairs judged, of which `found` are duplicates.
        share: of all duplicates that are found by now, F^-1(seen - found); None, as what follows from it, where
            nothing was found or the curve does not reach as far.
        total: duplicates there are, found / share.
        more: pairs to look at until 95 % are found.
        linear: pairs to look at for all of them, seen * total / found, which is how the paper extrapolates (table 12).
    """

    seen: int
    found: int
    share: float | None
    total: float | None
    more: float | None
    linear: float | None


def estimate(curve: SearchCurve, seen: int, found: int, *, share: float = 0.95) -> Estimate:
    """How many duplicates there are, after so many pairs from the top were judged.

    >>> curve = SearchCurve(np.array([0.25, 0.5, 0.75, 1.0]), np.array([0, 0, 8, 90]), 1000)
    >>> estimate(curve, 14, 6)
    Estimate(seen=14, found=6, share=0.75, total=8.0, more=84, linear=18.666666666666668)
    """
    known = curve.inverse(seen - found)
    if not known or not found:
        return Estimate(seen, found, known or None, None, None, None)
    total = found / known
    wanted = curve.at(share) + math.ceil(share * total)
    return Estimate(seen, found, known, total, max(0, wanted - seen), seen * total / found)
