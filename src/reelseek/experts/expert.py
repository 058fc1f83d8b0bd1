"""The interface of experts, which turn the decoded streams of one video into a track of features of one modality."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from reelseek.errors import ExpertUnavailable, FeatureError
from reelseek.media.streams import DECODE_VERSION, FrameBatch, Stream

__all__ = [
    "MODALITIES",
    "Expert",
    "PerFrame",
    "Session",
    "Text",
    "Track",
    "check_expert",
    "check_track",
    "fingerprint",
    "hash_files",
    "likeliest",
    "spans_of_cells",
]

MODALITIES = ("appearance", "motion", "object", "scene", "face", "audio", "speech", "ocr")


@dataclass(frozen=True)
class Text:
    """Words of a video: said (speech), written (on screen), an expert's label, or told by a captioner."""

    text: str
    start_seconds: float
    end_seconds: float
    kind: Literal["said", "written", "label", "told"]
    score: float = 1.0


@dataclass(frozen=True)
class Track:
    """An expert's output for one video; no steps means that it was examined and has nothing of this modality.

    Args:
        values: float16 or float32 [step, dim], finite.
        spans: float64 [step, 2], start and end of each step in seconds.
        texts: the words behind the values, if any.
        note: one short sentence for people, such as why there are no steps.
    """

    values: npt.NDArray[np.float16] | npt.NDArray[np.float32]
    spans: npt.NDArray[np.float64]
    texts: tuple[Text, ...] = field(default=())
    note: str = ""

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.dtype not in (np.float16, np.float32):
            raise FeatureError(
                f"a track's values must be float16 or float32 [step, dim], got {self.values.dtype} {self.values.shape}"
            )
        if self.spans.shape != (len(self.values), 2):
            raise FeatureError(f"{len(self.values)} steps need spans [{len(self.values)}, 2], got {self.spans.shape}")
        if not np.isfinite(self.values).all() or not np.isfinite(self.spans).all():
            raise FeatureError("a track holds NaN or infinity; what is absent has no step instead")
        if (self.spans[:, 1] < self.spans[:, 0]).any():
            raise FeatureError("a track has a step that ends before it starts")


class Session(Protocol):
    """The examination of one video: fed batch by batch, then closed."""

    def feed(self, batch: Any) -> None: ...

    def close(self, end_seconds: float) -> Track: ...


class Expert(Protocol):
    """One expert. `dim` is the width of its values; `fingerprint` changes whenever its values could.

    Three more methods are looked for. `labels(values [step, dim]) -> [(label, how sure), ...]`, likeliest first (see
    `likeliest`), tells people what an expert saw whose values have names. `prepare()` loads its weights, once a worker
    process and before that process's memory is limited. One that computes with PyTorch may have `to(device)`, which
    moves its model: a worker process calls it once, before its first video, if extraction is to run on an accelerator.
    One whose forward pass is an `encoder` (`reelseek.experts.encoder`) can leave that to a model server. One whose
    sessions are `reelseek.experts.parts.Resumable` is not run anew over a long video whose pass was interrupted. One
    that says `divisible = True`, and whose sessions are `reelseek.experts.parts.Divisible`, shares a long video among
    several processes.
    """

    @property
    def name(self) -> str: ...
    @property
    def modality(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def streams(self) -> Sequence[Stream]: ...
    def open(self) -> Session: ...


def check_expert(expert: Expert, name: str) -> None:
    """Refuse an expert whose description a library cannot store tracks under.

    Args:
        name: what it is registered as.

    Raises:
        ExpertUnavailable: names the attribute, its value and what it has to be.
    """
    expert_name, modality, dim, mark = expert.name, expert.modality, expert.dim, expert.fingerprint
    marked = isinstance(mark, str) and re.fullmatch(rf"{re.escape(name)}:[\w.-]+", mark) is not None
    streams = expert.streams
    streaming = isinstance(streams, Sequence) and all(isinstance(stream, Stream) for stream in streams) and streams
    checks: list[tuple[str, object, bool, str]] = [
        ("name", expert_name, expert_name == name, f"{name!r}, as it is registered"),
        ("modality", modality, modality in MODALITIES, f"one of {', '.join(MODALITIES)}"),
        ("dim", dim, type(dim) is int and dim > 0, "a whole number above 0"),
        ("fingerprint", mark, marked, f"what `fingerprint({name!r}, ...)` makes"),
        ("streams", streams, bool(streaming), "at least one of reelseek.media.streams"),
        ("open", expert.open, callable(expert.open), "a method"),
    ]
    for what, value, fits, expected in checks:
        if not fits:
            raise ExpertUnavailable(f"{name} is faulty: its {what} is {value!r}; wanted {expected}")


def check_track(track: Track, expert: Expert) -> None:
    """Refuse a track that does not keep what its expert declares.

    Raises:
        FeatureError: it has another width, spans that do not rise, or texts that cannot be written down.
    """
    if not isinstance(track, Track):
        raise FeatureError(f"the expert gave a {type(track).__name__}; wanted a Track")
    Track(track.values, track.spans, track.texts, track.note)  # arrays can change after a track was made
    if track.values.shape[1] != expert.dim:
        raise FeatureError(f"a track {track.values.shape[1]} wide of an expert that says it is {expert.dim} wide")
    if track.spans.dtype != np.float64 or (np.diff(track.spans[:, 0]) < 0).any():
        raise FeatureError(f"spans must be float64 seconds that rise, got {track.spans.dtype}")
    for text in track.texts:
        if not isinstance(text, Text) or not isinstance(text.text, str):
            raise FeatureError(f"{text!r} is no Text")
        if not np.isfinite([text.start_seconds, text.end_seconds, text.score]).all():
            raise FeatureError(f"the text {text.text[:40]!r} has no finite times and score")


def hash_files(paths: Sequence[Path], report: Callable[[float], None] = lambda share: None) -> str:
    """Hash the bytes of files, in their order, by SHA-256.

    Args:
        report: called with the share of the bytes that has been read.
    """
    digest = hashlib.sha256()
    total, done = max(1, sum(path.stat().st_size for path in paths)), 0
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
                done += len(block)
                report(done / total)
    return digest.hexdigest()


def fingerprint(name: str, **identity: Any) -> str:
    """Hash an expert's weights, preprocessing and dtype to a short string; vectors of two fingerprints never meet."""
    text = json.dumps({"media": DECODE_VERSION, **identity}, sort_keys=True, default=str)
    return f"{name}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def likeliest(names: Sequence[str], values: npt.NDArray[np.floating], count: int = 5) -> list[tuple[str, float]]:
    """The classes that are likeliest over some steps, each with its mean probability.

    Args:
        names: of the classes.
        values: their probabilities [step, class].
    """
    mean = values.astype(np.float32).mean(axis=0)
    best = np.argsort(-mean)[:count]
    return [(names[place], float(mean[place])) for place in best.tolist() if mean[place] > 0]


def spans_of_cells(cells: npt.NDArray[np.float64], end_seconds: float) -> npt.NDArray[np.float64]:
    """Tile the time from the first cell's start to the end: a step lasts until the next one starts."""
    if not len(cells):
        return np.zeros((0, 2))
    ends = np.append(cells[1:], max(end_seconds, cells[-1]))
    return np.stack([cells, ends], axis=1)


class PerFrame:
    """A session that maps every batch of frames to as many rows of features.

    Args:
        encode: FrameBatch -> float [frame, dim], or a function without arguments that returns it later.
        dim: width of the rows.
        describe: called at the end with all rows and spans, gives the words behind them.
    """

    follows_pictures = False

    def __init__(
        self,
        encode: Callable[[FrameBatch], npt.NDArray[Any] | Callable[[], npt.NDArray[Any]]],
        dim: int,
        describe: Callable[[npt.NDArray[Any], npt.NDArray[np.float64]], tuple[Text, ...]] | None = None,
    ) -> None:
        self._encode, self._dim, self._describe = encode, dim, describe
        self._rows: list[npt.NDArray[np.float16] | Callable[[], npt.NDArray[Any]]] = []
        self._cells: list[npt.NDArray[np.float64]] = []
        self._saved = 0  # batches of rows

    def save_part(self) -> dict[str, npt.NDArray[Any]]:
        """See `reelseek.experts.parts.Resumable`."""
        self._rows = [(rows() if callable(rows) else rows).astype(np.float16) for rows in self._rows]
        new = slice(self._saved, None)
        self._saved = len(self._rows)
        empty = np.zeros((0, self._dim), np.float16)
        rows = [empty, *(row for row in self._rows[new] if not callable(row))]
        return {"rows": np.concatenate(rows), "cells": np.concatenate([np.zeros(0), *self._cells[new]])}

    def restore_parts(self, states: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        """See `reelseek.experts.parts.Resumable`."""
        self._rows, self._cells = [state["rows"] for state in states], [state["cells"] for state in states]
        self._saved = len(self._rows)

    def follow(self, batch: FrameBatch) -> None:
        """See `reelseek.experts.parts.Divisible`; no row depends on frames before it."""

    def feed(self, batch: FrameBatch) -> None:
        rows = self._encode(batch)
        self._rows.append(rows if callable(rows) else rows.astype(np.float16))
        self._cells.append(batch.cells)

    def close(self, end_seconds: float) -> Track:
        empty = np.zeros((0, self._dim), np.float16)
        rows = [(rows() if callable(rows) else rows).astype(np.float16) for rows in self._rows]
        values = np.concatenate([empty, *rows])
        if not len(values):
            return Track(empty, np.zeros((0, 2)), note="no pictures")
        spans = spans_of_cells(np.concatenate(self._cells), end_seconds)
        texts = self._describe(values, spans) if self._describe else ()
        return Track(values, spans, texts)
