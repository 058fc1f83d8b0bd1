"""Weights of frames in a scan: low for plain frames and for those that every video has, 0 for screensavers.

Frames that look alike in videos that share nothing would otherwise be the first candidates.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import CollectionError, UsageError
from reelseek.overlap.log import Log
from reelseek.overlap.spool import lengths_of, runs_of

__all__ = ["Screensaver", "ScreensaverBank", "as_gallery_rows", "background_rows", "common_weights", "plain_weights"]

Rows = npt.NDArray[np.floating]
Weights = npt.NDArray[np.float32]
_PLAIN, _SCREENSAVER, _COMMON = 0.7, 0.9, 0.9
_BLOCK = 512
_FRAMES_A_BLOCK = 2**16


def plain_weights(shares: npt.NDArray[np.floating]) -> Weights:
    """Weigh frames by the share that their most common colour covers.

    Source: Dzabraev et al. 2021, appendix C.1.4.

    >>> plain_weights(np.array([0.7, 0.75, 1.0]))
    array([1.  , 0.25, 0.  ], dtype=float32)
    """
    return np.where(shares > _PLAIN, 1 - shares, 1).astype(np.float32)


@dataclass(frozen=True)
class Screensaver:
    """An entry of a bank: consecutive frames of a video that are no content of its own."""

    id: int
    video: str
    start: float
    space: str
    vectors: npt.NDArray[np.float32]
    who: str
    when: str


class ScreensaverBank:
    """Frames of intros, logos and end cards, as unit vectors in an append-only file.

    A frame whose cosine with one of them is above .9 has weight 0 in a scan (Dzabraev et al. 2021, appendix
    C.1.5).

    Args:
        path: one JSON line per entry or removal of one; need not exist.

    Raises:
        CollectionError: a line is not of this form.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = Log(path)

    @property
    def entries(self) -> list[Screensaver]:
        """What was added and not removed, in that order."""
        entries: dict[int, Screensaver] = {}
        for line in self._log.lines():
            try:
                if "removed" in line:
                    entries.pop(int(line["removed"]), None)
                else:
                    entries[int(line["id"])] = _entry(line)
            except (KeyError, TypeError, ValueError) as error:
                raise CollectionError(f"{self.path}: a line is no entry of a screensaver bank: {error!r}") from error
        return list(entries.values())

    def add(self, video: str, start: float, space: str, vectors: Rows, who: str) -> int:
        """Append frames [frame, dim] as an entry; returns its number, by which it can be removed."""
        halves = np.ascontiguousarray(vectors, np.float16)
        with self._log.appending() as write:
            number = max((int(line["id"]) for line in self._log.lines() if "id" in line), default=0) + 1
            write(
                {"id": number, "time": _now(), "who": who, "video": video, "start": start, "space": space,
                 "frames": len(halves), "vectors": base64.b64encode(halves.tobytes()).decode()}
            )  # fmt: skip
        return number

    def remove(self, number: int, who: str) -> None:
        """Remove an entry; its line stays in the file.

        Raises:
            UsageError: there is no such entry.
        """
        numbers = [entry.id for entry in self.entries]
        if number not in numbers:
            raise UsageError(
                f"{self.path} has no screensaver {number}; it has {', '.join(map(str, numbers)) or 'none'}"
            )
        self._log.append({"removed": number, "time": _now(), "who": who})

    def weights(self, frames: Rows, space: str) -> Weights:
        """Weigh unit rows [frame, dim]: 0 for those near a frame of the bank in the same space, else 1."""
        vectors = [e.vectors for e in self.entries if e.space == space and e.vectors.shape[1] == frames.shape[1]]
        if not vectors:
            return np.ones(len(frames), np.float32)
        bank = np.concatenate(vectors)
        norms = np.linalg.norm(bank, axis=1, keepdims=True)
        nearest = (frames @ (bank / np.where(norms > 0, norms, 1)).T).max(1)
        return (nearest <= _SCREENSAVER).astype(np.float32)


def _entry(line: dict[str, Any]) -> Screensaver:
    values = np.frombuffer(base64.b64decode(line["vectors"]), np.float16).astype(np.float32)
    vectors = values.reshape(int(line["frames"]), -1)
    return Screensaver(int(line["id"]), str(line["video"]), float(line["start"]), str(line["space"]), vectors,
                       str(line["who"]), str(line["time"]))  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def common_weights(videos: Sequence[Rows], above: int) -> list[Weights]:
    """Weigh frames down that many videos contain: with n others that contain it, `above / n` where n is larger.

    Two blocks of frames are in memory at a time, so that a `Spool` of any length may be given.

    Args:
        videos: unit rows of all videos that are compared, each once.
        above: the number of other videos that may contain a frame (a cosine of .9 or more) at full weight.
    """
    lengths = lengths_of(videos)
    blocks = list(runs_of(lengths, _FRAMES_A_BLOCK))
    weights: list[Weights] = []
    for places in blocks:
        rows = _joined(videos, places)
        containing = np.zeros(len(rows), np.int64)
        for others in blocks:
            columns = rows if others == places else _joined(videos, others)
            begins = np.cumsum([0, *(lengths[place] for place in others)])[:-1]
            for begin in range(0, len(rows), _BLOCK):
                near = rows[begin : begin + _BLOCK] @ columns.T >= _COMMON
                containing[begin : begin + _BLOCK] += np.logical_or.reduceat(near, begins, axis=1).sum(1)
        beside = np.maximum(containing - 1, 1)  # its own video contains it too
        ends = np.cumsum([lengths[place] for place in places])
        weights += np.split(np.minimum(1, above / beside).astype(np.float32), ends[:-1])
    return weights


def _joined(videos: Sequence[Rows], places: range) -> npt.NDArray[np.float32]:
    return np.concatenate([np.asarray(videos[place], np.float32) for place in places])


def background_rows(videos: Sequence[Rows], background: Rows, *, nearest: int = 10, share: float = 1.0) -> list[Rows]:
    """Extend rows so that their products are cosines less what each frame has in common with unrelated frames.

    A frame's excess is the mean cosine of its `nearest` frames of the background; from each product half of both
    frames' excesses is subtracted. The two numbers are two more columns, so that a score stays one product: a query is
    [row, -excess / 2, 1], a gallery row [row, 1, -excess / 2]. Returned are queries; `as_gallery_rows` makes gallery
    rows of them.

    Source: score normalisation of the Video Similarity Challenge 2022's baseline (which takes the query's alone).

    Args:
        videos: unit rows, times their weights.
        background: unit rows [frame, dim] of videos that are known to share no footage with these.
    """
    extended: list[Rows] = []
    for video in videos:
        count = min(nearest, len(background))
        cosines = np.asarray(video, np.float32) @ background.T
        excess = np.partition(cosines, -count, axis=1)[:, -count:].mean(1)
        extra = np.stack([-share * excess / 2, np.ones(len(video), np.float32)], 1)
        extended.append(np.concatenate([video, extra], 1).astype(np.float32))
    return extended


def as_gallery_rows(rows: Rows) -> Rows:
    """Make gallery rows of the queries that `background_rows` returns: swap the last two columns."""
    return np.concatenate([rows[:, :-2], rows[:, [-1, -2]]], 1)
