"""The work on one long video as far as it has come, a part a minute, so that a pass that ends early is taken up there.

A part is what a session adds to the parts before it. It counts only with all of those, so that parts of which the last
was not written whole, whatever ended the process, are an earlier, complete state.
"""

import contextlib
import glob
import hashlib
import json
import os
import time
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from reelseek.experts.expert import Text

__all__ = [
    "PART_SECONDS",
    "Parts",
    "Resumable",
    "State",
    "clear_progress",
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


class Parts:
    """Parts of the work on one video in a folder of its own.

    Args:
        folder: made when the first part is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error = ""
        self._counts: dict[str, int] = {}
        self._told = time.monotonic()

    def load(self, fingerprint: str) -> tuple[int, list[State]]:
        """Read the parts of one expert: how many batches they are of, and what its session saved, in order."""
        states: list[State] = []
        batches = 0
        while True:
            try:
                with np.load(BytesIO(self._file(fingerprint, len(states)).read_bytes()), allow_pickle=False) as arrays:
                    state = dict(arrays)
                batches = int(state.pop("_batches"))
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                break
            states.append(state)
        self._counts[fingerprint] = len(states)
        stem = self._file(fingerprint, 0).name.rpartition("-")[0]
        for file in self.folder.glob(f"{glob.escape(stem)}-*.npz"):  # those behind a damaged one begin where it ended
            number = file.stem.rpartition("-")[2]
            if number.isdigit() and int(number) >= len(states):
                file.unlink(missing_ok=True)
        return batches, states

    def forget(self, fingerprint: str) -> None:
        """Delete the parts of one expert."""
        while self._file(fingerprint, self._counts.get(fingerprint, 0) - 1).is_file():
            self._counts[fingerprint] -= 1
            self._file(fingerprint, self._counts[fingerprint]).unlink()

    def save(self, fingerprint: str, batches: int, state: State) -> None:
        """Keep one more part; where the disk is full, the work goes on without, and `error` says so."""
        number = self._counts.get(fingerprint, 0)
        path = self._file(fingerprint, number)
        content = BytesIO()
        arrays: dict[str, Any] = {**state, "_batches": np.array(batches)}
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

    def tell(self, seconds: float) -> None:
        """Note, at most once a second, how far the pass has come; `read_progress` reads it in another process."""
        if time.monotonic() - self._told < _PROGRESS_EVERY:
            return
        self._told = time.monotonic()
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{_PROGRESS}-{os.getpid()}").write_text(f"{seconds:.1f}")

    def _file(self, fingerprint: str, number: int) -> Path:
        return self.folder / f"{hashlib.sha256(fingerprint.encode()).hexdigest()[:24]}-{number:05}.npz"


def read_progress(folder: Path) -> float:
    """Return how many seconds of a video all processes that work on it have come to; 0.0 while none has said."""
    seconds = []
    for file in folder.glob(f"{_PROGRESS}-*"):
        with contextlib.suppress(OSError, ValueError):
            seconds.append(float(file.read_text()))
    return min(seconds, default=0.0)


def clear_progress(folder: Path) -> None:
    """Forget what processes that have ended said of their progress."""
    for file in folder.glob(f"{_PROGRESS}-*"):
        file.unlink(missing_ok=True)


def pack_texts(texts: list[Text]) -> npt.NDArray[np.uint8]:
    """Texts as bytes of JSON."""
    rows = [[text.text, text.start_seconds, text.end_seconds, text.kind, text.score] for text in texts]
    return np.frombuffer(json.dumps(rows).encode(), np.uint8)


def unpack_texts(packed: npt.NDArray[np.uint8]) -> list[Text]:
    """Texts that `pack_texts` packed."""
    return [Text(*row) for row in json.loads(packed.tobytes())]
