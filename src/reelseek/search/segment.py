"""A segment of an index: clips that were embedded and written together, and never change.

Its columns are files that are memory-mapped, so that opening one costs the same however many clips it has. Clips stand
in order of video and time. A clip is deleted by a bit in a file that the manifest names beside the segment.
"""

import copy
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import LibraryError
from reelseek.library.tokens import Clip
from reelseek.search.columns import COARSE, Block
from reelseek.search.generation import StoredFile, Sums, array_file, write_files
from reelseek.search.neighbours import Neighbours
from reelseek.search.patches import Patches
from reelseek.search.vectors import Floats, PatternVectors, Rows, Slots, expand, pattern_name

__all__ = ["DamagedError", "Record", "Segment"]


@dataclass(frozen=True)
class Record:
    """What a manifest says of a segment.

    Args:
        name: what the names of its files begin with.
        clips, videos: how many it has, deleted ones among them.
        background: the best score that each unrelated query reaches in it.
        lists: for each presence pattern that has inverted lists, how they are searched.
        coarse: whether its candidates are found by coarse embeddings; None where every clip is scored.
        candidates: how many clips of it a pairwise system scores again; None is all.
        recall: at 10, of its search against scoring every clip; None where it does just that.
        deletions: the file that tells which clips are deleted; '' where none are.
        deleted: how many.
    """

    name: str
    clips: int
    videos: int
    background: Sequence[float] = ()
    lists: Mapping[str, Any] | None = None
    coarse: bool | None = False
    candidates: int | None = None
    recall: float | None = None
    deletions: str = ""
    deleted: int = 0

    @property
    def live(self) -> int:
        """Clips that are not deleted."""
        return self.clips - self.deleted

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class DamagedError(LibraryError):
    """A segment turned out to be damaged while it was used; `segment` is it."""

    def __init__(self, message: str, segment: "Segment") -> None:
        super().__init__(message)
        self.segment = segment


class Segment:
    """An open segment.

    Args:
        folder: where its files lie.
        sums: of its files by what follows its name, and of the file of its deletions.
        check: compare every byte with the checksums; else only those of small files.
        patches: of its files by what follows its name, see `Generation`.

    Raises:
        LibraryError: a file is damaged.
        FileNotFoundError: a file is gone.
    """

    def __init__(
        self, folder: Path, record: Record, sums: Mapping[str, Sums], *, check: bool, patches: Patches | None = None
    ) -> None:
        self.folder, self.record, self.sums = folder, record, dict(sums)
        self._files = {
            name: StoredFile(folder / self.file_name(name), *sums[name], (patches or {}).get(name, ())) for name in sums
        }
        if check:
            self.check()
        self._ids, self._videos = self._array("ids.npy"), self._array("videos.npy")
        self.clips = self._array("clips.npy")
        if len(self.clips) != record.clips or len(self._videos) != record.videos:
            raise LibraryError(f"{folder / record.name} has other clips or videos than its manifest says")
        self.deleted: npt.NDArray[np.bool_] | None = None
        if record.deletions:
            bits = self._array(record.deletions)
            self.deleted = np.unpackbits(bits, count=record.clips).astype(bool)
        self.slots = self._slots("")
        self._neighbours: dict[str, Neighbours] = {}

    def file_name(self, name: str) -> str:
        """The name in the folder of one of its files."""
        return name if name == self.record.deletions else f"{self.record.name}-{name}"

    def file(self, name: str) -> StoredFile:
        """One of its files.

        Raises:
            LibraryError: it has none of this name.
        """
        if name not in self._files:
            raise LibraryError(f"{self.folder / self.record.name} has no {name}")
        return self._files[name]

    def _array(self, name: str) -> npt.NDArray[Any]:
        return self.file(name).array()

    def _slots(self, prefix: str) -> Slots:
        places = self._array(f"{prefix}places.npy")
        return Slots(self._array(f"{prefix}patterns.npy"), places, self._files[f"{prefix}values.npy"])

    def check(self) -> None:
        """Compare every byte of every file with its checksum.

        Raises:
            LibraryError: they are not what was written.
        """
        for file in self._files.values():
            file.check()

    def __len__(self) -> int:
        return self.record.clips

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(size for size, _ in self.sums.values())

    def has_columns_of(self, other: "Segment") -> bool:
        """Whether all its files but that of its deletions are those of another one: nothing was erased in between."""
        columns, others = (
            {name: sums for name, sums in segment.sums.items() if name != segment.record.deletions}
            for segment in (self, other)
        )
        return columns == others

    # Videos and clips

    def ids(self, videos: Rows) -> list[str]:
        """The ids of some videos, by their numbers in the segment."""
        ends = self._videos["id_end"]
        starts = np.where(videos > 0, ends[np.maximum(videos - 1, 0)], 0).tolist()
        spans = zip(starts, ends[videos].tolist(), strict=True)
        return [self._ids[start:end].tobytes().decode("utf-8", "surrogatepass") for start, end in spans]

    def find(self, ids: Sequence[str], hashes: npt.NDArray[np.uint64], *, deleted: bool = False) -> Rows:
        """Numbers in the segment of videos by their ids; -1 for those that it has not, or that are deleted.

        Args:
            hashes: of the ids, see `hash_ids`.
            deleted: find those, too.
        """
        sorted_hashes, order = self._array("id_hashes.npy"), self._array("id_order.npy")
        videos = np.full(len(ids), -1, np.int64)
        places = np.searchsorted(sorted_hashes, hashes)
        equal = places < len(sorted_hashes)
        equal[equal] = sorted_hashes[places[equal]] == hashes[equal]
        queries = np.flatnonzero(equal)
        videos[queries] = order[places[queries]]
        for query, name in zip(queries.tolist(), self.ids(videos[queries]), strict=True):
            if name != ids[query]:
                videos[query] = self._find_among_equal(ids[query], int(places[query]))
        return videos if deleted else self._live(videos)

    def _find_among_equal(self, identifier: str, place: int) -> int:
        """The number of a video whose hash others have too, from the first place of it; -1 where it is none of them."""
        hashes, order = self._array("id_hashes.npy"), self._array("id_order.npy")
        equal = order[place : int(np.searchsorted(hashes, hashes[place], side="right"))].astype(np.int64)
        names = self.ids(equal)
        return int(equal[names.index(identifier)]) if identifier in names else -1

    def find_numbers(self, numbers: npt.NDArray[np.int64]) -> Rows:
        """Numbers in the segment of videos by their numbers in the library; -1 as for `find`."""
        sorted_numbers, order = self._array("numbers.npy"), self._array("number_order.npy")
        places = np.searchsorted(sorted_numbers, numbers)
        videos = np.full(len(numbers), -1, np.int64)
        equal = places < len(sorted_numbers)
        equal[equal] = sorted_numbers[places[equal]] == numbers[equal]
        videos[equal] = order[places[equal]]
        return self._live(videos)

    def _live(self, videos: Rows) -> Rows:
        if self.deleted is not None:
            present = videos >= 0
            present[present] = ~self.deleted[self.first_rows(videos[present])]
            videos = np.where(present, videos, -1)
        return videos

    def first_rows(self, videos: Rows) -> Rows:
        """The first clip of some videos."""
        ends = self._videos["row_end"]
        return np.where(videos > 0, ends[np.maximum(videos - 1, 0)], 0).astype(np.int64)

    def end_rows(self, videos: Rows) -> Rows:
        """The clip behind the last one of some videos."""
        return self._videos["row_end"][videos].astype(np.int64)

    def rows_of(self, videos: Rows) -> Rows:
        """All clips of some videos, video after video."""
        firsts = self.first_rows(videos)
        counts = self.end_rows(videos) - firsts
        return expand(firsts, counts)

    def contents(self, videos: Rows) -> npt.NDArray[np.bytes_]:
        """What the files of some videos held, shortened."""
        return self._videos["content"][videos]

    def signatures(self, videos: Rows) -> npt.NDArray[np.bytes_]:
        """What the embeddings of some videos depend on."""
        return self._videos["signature"][videos]

    def clip(self, row: int) -> Clip:
        """A clip by its row."""
        video, start, end = self.clips[row].item()
        ends = self._videos["id_end"]
        encoded = self._ids[int(ends[video - 1]) if video else 0 : int(ends[video])].tobytes()
        name = encoded.decode("utf-8", "surrogatepass")
        return Clip(name, None if np.isnan(start) else start, None if np.isnan(end) else end)

    def live_rows(self) -> Rows:
        """Rows of all clips that are not deleted."""
        return np.arange(len(self)) if self.deleted is None else np.flatnonzero(~self.deleted)

    # Neighbours

    @cached_property
    def coarse(self) -> Slots:
        """What candidates are found by."""
        return self._slots(COARSE) if self.record.coarse else self.slots

    @property
    def patterns(self) -> list[str]:
        """Presence patterns of what candidates are found by, those without any slot left out."""
        if self.record.coarse is None:
            return []
        return [pattern_name(pattern) for pattern in self.coarse.patterns if pattern.any()]

    def neighbours(self, pattern: str) -> Neighbours:
        """The nearest neighbours among the clips of a pattern; opened when they are first asked for.

        Raises:
            DamagedError: a file of theirs cannot be read.
        """
        if pattern not in self._neighbours:
            rows, vectors = self.vectors(pattern)
            plan = (self.record.lists or {}).get(pattern)
            try:
                self._neighbours[pattern] = Neighbours.load(rows, vectors, pattern, self._files, plan)
            except LibraryError as error:
                raise DamagedError(str(error), self) from error
        return self._neighbours[pattern]

    def vectors(self, pattern: str) -> tuple[Rows, PatternVectors]:
        """Rows of a pattern's clips, and their vectors."""
        slots = self.coarse
        number = [pattern_name(row) for row in slots.patterns].index(pattern)
        rows = np.flatnonzero(slots.places["pattern"] == number)
        return rows, PatternVectors(slots, rows, number)

    # Deleting and copying

    def delete(self, rows: Rows, *, write: bool) -> "Segment":
        """The same segment without some more clips.

        Args:
            write: write a file of what is deleted, which is on disk when this returns.
        """
        deleted = np.zeros(len(self), bool) if self.deleted is None else self.deleted.copy()
        deleted[rows] = True
        rest = copy.copy(self)
        rest.deleted, rest.sums = deleted, {n: s for n, s in self.sums.items() if n != self.record.deletions}
        name = f"{self.record.name}-{secrets.token_hex(4)}.deleted.npy" if write else ""
        rest.record = replace(self.record, deletions=name, deleted=int(deleted.sum()))
        if write:
            rest.sums |= write_files(self.folder, {name: array_file(np.packbits(deleted))})
        return rest

    def live_videos(self) -> Rows:
        """Numbers in the segment of its videos that are not deleted, in order of id."""
        return np.flatnonzero(self._live(np.arange(self.record.videos)) >= 0)

    def block(self, videos: Rows) -> Block:
        """Some of its videos, ascending; what lies between them is read, too."""
        rows, counts = self.rows_of(videos), self.end_rows(videos) - self.first_rows(videos)
        clips, facts = self.clips[rows], self._videos[videos]
        return Block(
            self.ids(videos), facts["number"], facts["content"], facts["signature"], counts,
            np.stack([clips["start"], clips["end"]], 1), *_rows_of(self.slots, rows),
            _rows_of(self.coarse, rows) if self.record.coarse else None,
        )  # fmt: skip


def _rows_of(slots: Slots, rows: Rows) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Which slots some clips have, ascending, and these slots; what lies between the clips is read, too."""
    first, last = int(rows[0]), int(rows[-1]) + 1
    present, packed = slots.present(slice(first, last)), slots.packed_block(first, last)
    if len(rows) < last - first:
        selected = np.zeros(last - first, bool)
        selected[rows - first] = True
        packed = packed[np.repeat(selected, present.sum(1))]
        present = present[selected]
    return present, packed
