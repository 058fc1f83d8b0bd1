"""An index: segments of embeddings under one model, whose clips are numbered as one.

For clips that have the same slots present the score of a query is a plain dot product up to a constant, so one
structure per presence pattern orders them exactly, and the few patterns and segments are merged. Clips of a pairwise
system are found by its coarse embeddings in the same way, and scored again by its similarity.

Rows number the clips of all segments, one segment's behind the other's, those that are deleted among them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reelseek.library.clips import ClipRule
from reelseek.library.tokens import Clip
from reelseek.models.embedding import Embedding
from reelseek.search.columns import hash_ids
from reelseek.search.generation import Sums
from reelseek.search.nearest import Call, Part, Run, run_here
from reelseek.search.segment import Segment
from reelseek.search.vectors import Rows, unpack

__all__ = ["Clips", "DamagedSegment", "Index", "LeftOut"]


@dataclass(frozen=True)
class LeftOut:
    """A video that could not be embedded, how many clips it has, and why."""

    video: str
    clips: int
    reason: str


@dataclass(frozen=True)
class DamagedSegment:
    """A segment that cannot be read, how many clips it has, and why."""

    name: str
    clips: int
    reason: str


class Clips(Sequence[Clip]):
    """The clip of every row, made when it is asked for."""

    def __init__(self, index: "Index") -> None:
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        segment, place = self._index.locate(int(row) + (len(self) if row < 0 else 0))
        return segment.clip(place)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Index:
    """Clips of a library under one model.

    Args:
        system, slots: of the model.
        revision: of the library that it was made from.
        mark: which the library's database has noted for it, see `Catalog.add_index_mark`; empty for one in memory, and
            of earlier releases.
        experts: whose tracks it was made from.
        unrelated: the embeddings of a fixed set of everyday queries.
        candidates: how many clips are scored again by a pairwise similarity; None where every clip is.
        left_out: videos whose tracks are damaged.
        damaged: segments that are, whose clips are not searched.
        sums: of the files of the unrelated queries, by name.
    """

    folder: Path
    segments: tuple[Segment, ...]
    system: str
    slots: tuple[str, ...]
    rule: ClipRule
    revision: int
    experts: tuple[str, ...]
    unrelated: Embedding
    candidates: int | None = None
    left_out: tuple[LeftOut, ...] = ()
    damaged: tuple[DamagedSegment, ...] = ()
    sums: Mapping[str, Sums] = field(default_factory=dict)
    mark: str = ""

    # What it has

    def __len__(self) -> int:
        """Rows of all segments."""
        return int(self._ends[-1]) if self.segments else 0

    @property
    def live(self) -> int:
        """Clips that are not deleted."""
        return sum(segment.record.live for segment in self.segments)

    @cached_property
    def _ends(self) -> Rows:
        return np.cumsum([len(segment) for segment in self.segments])

    @property
    def parts(self) -> Iterator[tuple[int, Segment]]:
        """Every segment and its first row."""
        return zip((self._ends - [len(segment) for segment in self.segments]).tolist(), self.segments, strict=True)

    @property
    def clips(self) -> Clips:
        """The clip of every row."""
        return Clips(self)

    @cached_property
    def background(self) -> npt.NDArray[np.float64]:
        """The best score that each unrelated query reaches."""
        scores = [segment.record.background for segment in self.segments]
        if not scores:
            return np.zeros(len(self.unrelated))
        best: npt.NDArray[np.float64] = np.max(np.array(scores, np.float64), axis=0)
        return best

    @property
    def recall(self) -> float | None:
        """At 10, of a search against scoring every clip, as segments measured it; None where it does just that."""
        records = [segment.record for segment in self.segments if len(segment)]
        if all(record.recall is None for record in records):
            return None
        reached = sum(record.clips * (1.0 if record.recall is None else record.recall) for record in records)
        return round(reached / sum(record.clips for record in records), 4)

    def locate(self, row: int) -> tuple[Segment, int]:
        """The segment of a row, and its row in it.

        Raises:
            IndexError: there is no such row.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        number = int(np.searchsorted(self._ends, row, side="right"))
        segment = self.segments[number]
        return segment, row - int(self._ends[number]) + len(segment)

    def _split(self, rows: Rows) -> Iterator[tuple[int, npt.NDArray[np.bool_] | slice, Rows]]:
        """Number of each segment that has any of some rows, which of them it has, and their rows in it."""
        if len(self.segments) <= 1:
            yield from ((number, slice(None), rows) for number in range(len(self.segments)))
            return
        numbers = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(numbers).tolist():
            selected = numbers == number
            yield number, selected, rows[selected] - int(self._ends[number]) + len(self.segments[number])

    def embedding(self, rows: Rows | slice, run: Run = run_here) -> Embedding:
        """The embeddings of some clips.

        Args:
            run: reads them.
        """
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        first = self.segments[0].slots if self.segments else None
        if first is not None and len(self.segments) == 1 and run is run_here:  # nothing to put together
            return Embedding.even(torch.from_numpy(first.values(rows)), torch.from_numpy(first.present(rows)))
        shape = (len(rows), len(self.slots) if first is None else first.patterns.shape[1])
        values = np.zeros((*shape, 1 if first is None else first.dim), np.float32)
        present = np.zeros(shape, bool)
        split = list(self._split(rows))
        slots = run([Call(Part(0, self.segments[number]), "slots", (local,)) for number, _, local in split])
        for (_, selected, _), (packed, has) in zip(split, slots, strict=True):
            values[selected], present[selected] = unpack(packed, has), has
        return Embedding.even(torch.from_numpy(values), torch.from_numpy(present))

    def blocks(self, clips: int) -> Iterator[tuple[Rows, Embedding]]:
        """All clips that are not deleted, so many at a time, read past the map."""
        for base, segment in self.parts:
            for start in range(0, len(segment), clips):
                values, present = segment.slots.block(start, start + clips)
                rows = np.arange(start, start + len(values))
                if segment.deleted is not None:
                    live = ~segment.deleted[rows]
                    values, present, rows = values[live], present[live], rows[live]
                yield base + rows, Embedding.even(torch.from_numpy(values), torch.from_numpy(present))

    def has_any(self, slots: npt.NDArray[np.bool_] | slice) -> bool:
        """Whether any clip has any of some slots."""
        patterns = (segment.slots.patterns for segment in self.segments if segment.record.live)
        return any(bool(rows[:, slots].any()) for rows in patterns)

    def rows_with_evidence(self) -> Rows:
        """Rows of clips that have any slot and are not deleted."""
        rows = [np.zeros(0, np.int64)]
        for base, segment in self.parts:
            live = segment.live_rows()
            evident = np.asarray(segment.slots.patterns.any(1))[segment.slots.places["pattern"][live]]
            rows.append(base + live[evident])
        return np.concatenate(rows)

    def live_rows(self) -> Rows:
        """Rows of clips that are not deleted."""
        return np.concatenate([np.zeros(0, np.int64), *(base + segment.live_rows() for base, segment in self.parts)])

    # Videos

    def rows_of(self, video: str) -> Sequence[int]:
        """Row numbers of a video's clips."""
        _, rows = self.rows_during([video], np.array([-np.inf]), np.array([np.inf]))
        return rows.tolist()

    def rows_during(
        self, videos: Sequence[str], starts: npt.NDArray[np.float64], ends: npt.NDArray[np.float64]
    ) -> tuple[Rows, Rows]:
        """Clips of some videos that overlap a span of seconds each.

        Returns:
            Places in `videos`, ascending, and rows.
        """
        hashes = hash_ids(videos)
        which, rows = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for base, segment in self.parts:
            numbers = segment.find(videos, hashes)
            places = np.flatnonzero(numbers >= 0)
            if not len(places):
                continue
            numbers = numbers[places]
            owner = np.repeat(places, segment.end_rows(numbers) - segment.first_rows(numbers))
            local = segment.rows_of(numbers)
            clips = segment.clips[local]
            overlaps = (ends[owner] > np.nan_to_num(clips["start"])) & ~(starts[owner] >= clips["end"])
            which.append(owner[overlaps])
            rows.append(base + local[overlaps])
        places, matches = np.concatenate(which), np.concatenate(rows)
        order = np.lexsort((matches, places))
        return places[order], matches[order]

    def spans(self, rows: Rows) -> tuple[Rows, npt.NDArray[np.float64]]:
        """For some clips a number that clips of one video share, and start and end [clip, 2]; NaN: its own."""
        keys, spans = np.zeros(len(rows), np.int64), np.zeros((len(rows), 2))
        bases = np.cumsum([0, *(segment.record.videos for segment in self.segments)])
        for number, selected, local in self._split(rows):
            clips = self.segments[number].clips[local]
            keys[selected] = clips["video"] + int(bases[number])
            spans[selected, 0], spans[selected, 1] = clips["start"], clips["end"]
        return keys, spans

    def lookup_numbers(self, numbers: npt.NDArray[np.int64]) -> Iterator[tuple[int, Segment, Rows]]:
        """For every segment its first row, and the numbers in it of videos by theirs in the library; -1 for none."""
        return ((base, segment, segment.find_numbers(numbers)) for base, segment in self.parts)

    # Nearest neighbours

    @cached_property
    def patterns(self) -> dict[tuple[bool, ...], list[Part]]:
        """For each presence pattern of what candidates are found by the segments that have it, and their first rows."""
        patterns: dict[tuple[bool, ...], list[Part]] = {}
        if any(segment.record.coarse is None for segment in self.segments):
            return patterns
        for base, segment in self.parts:
            for name in segment.patterns:
                patterns.setdefault(tuple(digit == "1" for digit in name), []).append(Part(base, segment, name))
        return patterns

    def without(self, segment: Segment, reason: str) -> "Index":
        """The index without a segment that turned out to be damaged."""
        damaged = DamagedSegment(segment.record.name, segment.record.live, reason)
        rest = tuple(other for other in self.segments if other is not segment)
        return replace(self, segments=rest, damaged=(*self.damaged, damaged))

    # On disk

    def description(self) -> dict[str, Any]:
        """What its manifest says."""
        return {
            "system": self.system,
            "slots": self.slots,
            "rule": asdict(self.rule),
            "revision": self.revision,
            "mark": self.mark,
            "clips": self.live,
            "experts": self.experts,
            "candidates": self.candidates,
            "recall": self.recall,
            "left_out": [asdict(video) for video in self.left_out],
            "segments": [segment.record.as_json() for segment in self.segments],
            "unrelated": list(self.sums),
        }

    def files(self) -> dict[str, Sums]:
        """All its files with their sums."""
        files = dict(self.sums)
        for segment in self.segments:
            files |= {segment.file_name(name): sums for name, sums in segment.sums.items()}
        return files
