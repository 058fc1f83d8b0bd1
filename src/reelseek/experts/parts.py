"""The work on one long video as far as it has come, a part a minute, so that a pass that ends early is taken up there.

A part is what a session adds to the parts before it. It counts only with all of those, so that parts of which the last
was not written whole, whatever ended the process, are an earlier, complete state. A video can be divided into stretches
on which processes work side by side; each stretch has parts of its own, and is itself again divided where work is left.
"""

import contextlib
import glob
import hashlib
import json
import math
import os
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from reelseek.experts.expert import Text

__all__ = [
    "PART_SECONDS",
    "WHOLE",
    "Divisible",
    "Parts",
    "Resumable",
    "State",
    "Stretch",
    "clear_progress",
    "kept_stretches",
    "pack_texts",
    "read_progress",
    "unpack_texts",
]

PART_SECONDS = 60.0
"""Of video, after which a part is kept."""
_PROGRESS = "progress"
_PROGRESS_EVERY = 1.0  # seconds of wall time

State = Mapping[str, npt.NDArray[Any]]


@runtime_checkable
class Resumable(Protocol):
    """A session whose work can be kept in the middle of a video."""

    def save_part(self) -> State:
        """Return what came since the last call, or `restore_parts`, as arrays that NumPy stores without pickling."""

    def restore_parts(self, states: list[State]) -> None:
        """Take up the work of another session that saved these, one after the other; called before `feed`."""


@runtime_checkable
class Divisible(Resumable, Protocol):
    """A session that can work on a stretch of a video: parts of several, one after the other, are those of one.

    Attributes:
        follows_pictures: `follow` looks at pictures; else it may get black ones.
    """

    follows_pictures: bool

    def follow(self, batch: Any) -> None:
        """Take note of a batch before the stretch, for what the work on the stretch depends on; called in order."""


@dataclass(frozen=True)
class Stretch:
    """The batches of a video that begin in [start, end), in whole seconds.

    Attributes:
        passing: what a second of video before it costs, which is only decoded, of what a second in it does.
    """

    start: int = 0
    end: float = math.inf
    passing: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole video."""
        return self.start == 0 and math.isinf(self.end)

    def work(self, seconds: float) -> float:
        """Return the work that is done when a pass has come to a time, in seconds of video inside the stretch."""
        return self.passing * min(seconds, self.start) + max(0.0, min(seconds, self.end) - self.start)


WHOLE = Stretch()


class Parts:
    """Parts of the work on one stretch of one video.

    Args:
        folder: of the video; made when the first part is kept.
        stretch: without it, the whole video.
        piece: tells passes apart that work on the video at the same time.
    """

    def __init__(self, folder: Path, stretch: Stretch = WHOLE, piece: int = 0) -> None:
        self.folder, self.stretch = folder, stretch
        self.error = ""
        self._piece = piece
        self._counts: dict[str, int] = {}
        self._reported = time.monotonic()
        self._kept: dict[str, float] = {}

    def load(self, fingerprint: str) -> tuple[tuple[int, ...], list[State]]:
        """Read the parts of one expert: how many batches of each stream they are of, and what its session saved."""
        states: list[State] = []
        batches: tuple[int, ...] = ()
        while (state := _read(self._file(fingerprint, len(states)))) is not None:
            batches = tuple(np.atleast_1d(state.pop("_batches")).tolist())
            self._kept[fingerprint] = float(state.pop("_until"))
            state.pop("_end")
            states.append(state)
        self._counts[fingerprint] = len(states)
        for number, file in _parts_of(self.folder, fingerprint, self.stretch.start):
            if number >= len(states):  # those behind a damaged one begin where it ended
                file.unlink(missing_ok=True)
        return batches, states

    def kept_until(self, fingerprint: str) -> float:
        """The second of the video to which the parts of one expert have come."""
        return self._kept.get(fingerprint, 0.0)

    def forget(self, fingerprint: str) -> None:
        """Delete the parts of one expert."""
        while self._file(fingerprint, self._counts.get(fingerprint, 0) - 1).is_file():
            self._counts[fingerprint] -= 1
            self._file(fingerprint, self._counts[fingerprint]).unlink()
        self._kept.pop(fingerprint, None)

    def save(
        self, fingerprint: str, batches: Sequence[int], state: State, *, until: float = 0.0, ended: bool = False
    ) -> None:
        """Keep one more part; where the disk is full, the work goes on without, and `error` says so.

        Args:
            batches: of each stream of the expert, how many of the stretch the work is of.
            until: the second of the video to which it has come.
            ended: whether it is the last of the stretch.
        """
        number = self._counts.get(fingerprint, 0)
        end = self.stretch.end if ended else 0.0
        path = self._file(fingerprint, number)
        content = BytesIO()
        place = {"_batches": np.array(batches, np.int64), "_until": np.array(until), "_end": np.array(end)}
        arrays: dict[str, Any] = {**state, **place}
        np.savez(content, **arrays)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content.getvalue())
            os.replace(partial, path)
        except OSError as error:
            self.error = self.error or str(error.strerror)
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            return
        self._counts[fingerprint] = number + 1
        self._kept[fingerprint] = until

    def report(self, seconds: float, resumable: Sequence[str]) -> None:
        """Note, at most once a second, how far the pass has come; `read_progress` reads it in another process.

        Args:
            seconds: of the video.
            resumable: fingerprints of the experts that it runs, whose parts count as kept.
        """
        if time.monotonic() - self._reported < _PROGRESS_EVERY:
            return
        self._reported = time.monotonic()
        saved = min((self._kept.get(fingerprint, 0.0) for fingerprint in resumable), default=0.0)
        numbers = f"{self.stretch.work(seconds):.1f} {max(0.0, min(saved, self.stretch.end) - self.stretch.start):.1f}"
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{_PROGRESS}-{self._piece}").write_text(numbers)

    def _file(self, fingerprint: str, number: int) -> Path:
        return self.folder / f"{_stem(fingerprint)}-{self.stretch.start:06}-{number:05}.npz"


def _stem(fingerprint: str) -> str:
    return hashlib.sha256(fingerprint.encode()).hexdigest()[:24]


def _parts_of(folder: Path, fingerprint: str, start: int | str = "*") -> list[tuple[int, Path]]:
    """Files of one expert's parts of a stretch, or of all, in order, each with its number in its stretch."""
    place = f"{start:06}" if isinstance(start, int) else start
    files = sorted(folder.glob(f"{glob.escape(_stem(fingerprint))}-{place}-*.npz"))
    return [(int(number), file) for file in files if (number := file.stem.rpartition("-")[2]).isdigit()]


def _read(file: Path) -> dict[str, npt.NDArray[Any]] | None:
    """The arrays of a part; None where it is absent or was not written whole."""
    try:
        with np.load(BytesIO(file.read_bytes()), allow_pickle=False) as arrays:
            state = dict(arrays)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return state if {"_batches", "_until", "_end"} <= set(state) else None


def kept_stretches(folder: Path, fingerprint: str) -> dict[int, tuple[float, float]]:
    """Find the stretches of which parts of one expert are kept: to which second each has come, and where it ends if its
    parts are complete (else 0), by start."""
    stretches: dict[int, tuple[float, float]] = {}
    next_number: dict[int, int] = {}
    for number, file in _parts_of(folder, fingerprint):
        start = int(file.stem.split("-")[-2])
        state = _read(file) if next_number.setdefault(start, 0) == number else None
        if state is not None:
            stretches[start] = float(state["_until"]), float(state["_end"])
            next_number[start] += 1
    return stretches


def read_progress(folder: Path) -> dict[int, tuple[float, float]]:
    """Read how far each pass over a video has come, by its piece: the work that is done, and the seconds kept."""
    progress = {}
    for file in folder.glob(f"{_PROGRESS}-*"):
        with contextlib.suppress(OSError, ValueError):
            work, saved = file.read_text().split()
            progress[int(file.name.rpartition("-")[2])] = float(work), float(saved)
    return progress


def clear_progress(folder: Path) -> None:
    """Forget what earlier passes said of their progress."""
    for file in folder.glob(f"{_PROGRESS}-*"):
        file.unlink(missing_ok=True)


def pack_texts(texts: list[Text]) -> npt.NDArray[np.uint8]:
    """Texts as bytes of JSON."""
    rows = [[text.text, text.start_seconds, text.end_seconds, text.kind, text.score] for text in texts]
    return np.frombuffer(json.dumps(rows).encode(), np.uint8)


def unpack_texts(packed: npt.NDArray[np.uint8]) -> list[Text]:
    """Texts that `pack_texts` packed."""
    return [Text(*row) for row in json.loads(packed.tobytes())]
