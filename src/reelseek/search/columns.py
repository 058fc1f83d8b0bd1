"""The columns of a segment: videos and clips in blocks, and what writes them."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelseek.search.generation import ArrayWriter, Write, array_file, drop_files
from reelseek.search.vectors import PLACES, Floats, Rows, expand

__all__ = ["COARSE", "Block", "SegmentWriter", "hash_ids"]

_VIDEOS = np.dtype(
    [("id_end", np.uint64), ("row_end", np.uint32), ("number", np.int64), ("content", "S16"), ("signature", "S32")]
)
_CLIPS = np.dtype([("video", np.uint32), ("start", np.float64), ("end", np.float64)])
COARSE = "coarse."


@dataclass(frozen=True)
class Block:
    """Neighbouring videos with their clips.

    Args:
        ids, numbers, contents, signatures: of the videos: id, number in the library, what the file held (shortened),
            and what its clips' embeddings depend on.
        counts: clips of each video.
        spans: start and end of each clip in seconds [clip, 2]; NaN where the video's own is meant.
        present: which slots each clip has [clip, slot].
        packed: the slots that are present, clip after clip [slot, dim].
        coarse: the same two of coarse embeddings, where candidates are found by such.
    """

    ids: Sequence[str]
    numbers: npt.NDArray[np.int64]
    contents: npt.NDArray[np.bytes_]
    signatures: npt.NDArray[np.bytes_]
    counts: npt.NDArray[np.int64]
    spans: npt.NDArray[np.float64]
    present: npt.NDArray[np.bool_]
    packed: Floats
    coarse: tuple[npt.NDArray[np.bool_], Floats] | None = None

    @classmethod
    def merged(cls, blocks: Sequence["Block"]) -> "Block":
        """The videos of several blocks in order of id."""
        if len(blocks) == 1:
            return blocks[0]
        ids = [video for block in blocks for video in block.ids]
        order = np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)
        counts = np.concatenate([block.counts for block in blocks])
        rows = expand((np.cumsum(counts) - counts)[order], counts[order])
        numbers, contents, signatures = (
            np.concatenate([getattr(block, name) for block in blocks])[order]
            for name in ("numbers", "contents", "signatures")
        )
        coarse = [block.coarse for block in blocks if block.coarse is not None]
        return cls(
            [ids[place] for place in order], numbers, contents, signatures, counts[order],
            np.concatenate([block.spans for block in blocks])[rows],
            *_reordered([(block.present, block.packed) for block in blocks], rows),
            _reordered(coarse, rows) if len(coarse) == len(blocks) else None,
        )  # fmt: skip


def _reordered(
    parts: Sequence[tuple[npt.NDArray[np.bool_], Floats]], rows: Rows
) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Which slots some clips have and these slots, of clips in another order."""
    present, packed = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    counts = present.sum(1)
    return present[rows], packed[expand((np.cumsum(counts) - counts)[rows], counts[rows])]


def hash_ids(ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """A number for each id, by which segments look videos up."""
    digests = b"".join(hashlib.blake2b(_encode(video), digest_size=8).digest() for video in ids)
    return np.frombuffer(digests, np.uint64)


def _encode(video: str) -> bytes:
    return video.encode("utf-8", "surrogatepass")


class SegmentWriter:
    """Writes the columns of a segment, block after block in order of id.

    Args:
        folder: where its files will lie; it exists.
        dtype: of the embeddings.
    """

    def __init__(self, folder: Path, name: str, dtype: npt.DTypeLike) -> None:
        self.folder, self.name, self.dtype = folder, name, np.dtype(dtype)
        self.clips = self.videos = 0
        self._slots = _SlotWriter(folder, f"{name}-", dtype)
        self._coarse = _SlotWriter(folder, f"{name}-{COARSE}", dtype)
        self._ids: list[bytes] = []
        self._facts: list[npt.NDArray[np.void]] = []
        self._clips: list[npt.NDArray[np.void]] = []
        self._hashes: list[npt.NDArray[np.uint64]] = []
        self._id_bytes = 0

    @property
    def coarse(self) -> bool:
        """Whether clips have coarse embeddings."""
        return self._coarse.clips > 0

    def append(self, block: Block) -> None:
        """Add videos, whose ids are behind those of all before."""
        ids = [_encode(video) for video in block.ids]
        facts = np.zeros(len(ids), _VIDEOS)
        facts["id_end"] = self._id_bytes + np.cumsum([len(video) for video in ids])
        facts["row_end"] = self.clips + np.cumsum(block.counts)
        facts["number"], facts["content"], facts["signature"] = block.numbers, block.contents, block.signatures
        clips = np.zeros(len(block.spans), _CLIPS)
        clips["video"] = self.videos + np.repeat(np.arange(len(ids)), block.counts)
        clips["start"], clips["end"] = block.spans[:, 0], block.spans[:, 1]
        self._slots.append(block.packed, block.present)
        if block.coarse is not None:
            self._coarse.append(block.coarse[1], block.coarse[0])
        self._ids += ids
        self._facts.append(facts)
        self._clips.append(clips)
        self._hashes.append(hash_ids(block.ids))
        self._id_bytes += sum(len(video) for video in ids)
        self.clips, self.videos = self.clips + len(clips), self.videos + len(ids)

    def files(self) -> dict[str, Write]:
        """What writes its columns, by file name; the embeddings are written already."""
        facts, hashes = np.concatenate(self._facts), np.concatenate(self._hashes)
        by_id, by_number = np.argsort(hashes, kind="stable"), np.argsort(facts["number"], kind="stable")
        columns = {
            "ids.npy": np.frombuffer(b"".join(self._ids), np.uint8),
            "videos.npy": facts,
            "clips.npy": np.concatenate(self._clips),
            "id_hashes.npy": hashes[by_id],
            "id_order.npy": by_id.astype(np.uint32),
            "numbers.npy": facts["number"][by_number],
            "number_order.npy": by_number.astype(np.uint32),
        }
        files = {f"{self.name}-{name}": array_file(column) for name, column in columns.items()}
        return {**files, **self._slots.files(), **self._coarse.files()}

    def drop(self) -> None:
        """Delete what was written."""
        for slots in (self._slots, self._coarse):
            slots.close()
        drop_files(self.folder, [f"{self.name}-values.npy", f"{self.name}-{COARSE}values.npy"])


class _SlotWriter:
    """Writes embeddings block after block.

    Args:
        prefix: of the names of their files.
    """

    def __init__(self, folder: Path, prefix: str, dtype: npt.DTypeLike) -> None:
        self._folder, self._prefix, self._dtype = folder, prefix, dtype
        self._values: ArrayWriter | None = None
        self._numbers: dict[bytes, int] = {}
        self._patterns: list[npt.NDArray[np.bool_]] = []
        self._places: list[npt.NDArray[np.void]] = []
        self.clips = 0

    def append(self, packed: Floats, present: npt.NDArray[np.bool_]) -> None:
        """Add clips.

        Args:
            packed: their slots that are present [slot, dim].
            present: which these are [clip, slot].
        """
        if self._values is None:
            self._values = ArrayWriter(self._folder / f"{self._prefix}values.npy", self._dtype, packed.shape[1:])
        patterns, which = np.unique(present, axis=0, return_inverse=True)
        numbers = np.array([self._number(pattern) for pattern in patterns], np.uint32)
        places = np.zeros(len(present), PLACES)
        places["pattern"] = numbers[which.reshape(-1)]
        counts = present.sum(1)
        places["start"] = self._values.rows + np.cumsum(counts) - counts
        self._places.append(places)
        self._values.append(packed)
        self.clips += len(present)

    def _number(self, pattern: npt.NDArray[np.bool_]) -> int:
        key = pattern.tobytes()
        if key not in self._numbers:
            self._numbers[key] = len(self._patterns)
            self._patterns.append(pattern)
        return self._numbers[key]

    def files(self) -> dict[str, Write]:
        """What writes the other files; that of the values is written already."""
        self.close()
        if self._values is None:
            return {}
        return {
            f"{self._prefix}values.npy": lambda path: None,
            f"{self._prefix}patterns.npy": array_file(np.stack(self._patterns)),
            f"{self._prefix}places.npy": array_file(np.concatenate(self._places)),
        }

    def close(self) -> None:
        if self._values is not None:
            self._values.close()
