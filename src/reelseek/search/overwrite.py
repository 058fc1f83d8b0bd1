"""Which bytes of a segment belong to a video, and what takes their place when the video is erased.

What remains is what the others need: how many clips there were and which slots they had, and the number that the video
had in its library, which no other one ever has.
"""

from collections.abc import Iterator

import numpy as np

from reelseek.search.columns import COARSE
from reelseek.search.generation import StoredFile
from reelseek.search.patches import Patch
from reelseek.search.segment import Segment
from reelseek.search.vectors import Rows

__all__ = ["patches_of"]


def patches_of(segment: Segment, videos: Rows) -> dict[str, list[Patch]]:
    """What to overwrite in the files of a segment so that nothing of some videos is left, by what follows its name.

    Args:
        segment: its clips of these videos are deleted.
        videos: their numbers in it.

    Raises:
        DamagedError: its lists cannot be read.
    """
    videos = np.sort(videos)
    patches = {
        "ids.npy": list(_id_patches(segment, videos)),
        "videos.npy": list(_fact_patches(segment, videos)),
        "clips.npy": list(_span_patches(segment, videos)),
        "id_hashes.npy": _hash_patches(segment, videos),
        **dict(_slot_patches(segment, videos)),
    }
    rows = segment.rows_of(videos)
    for pattern in segment.patterns:
        patches |= _neighbour_patches(segment, pattern, rows)
    return {name: several for name, several in patches.items() if several}


def _id_patches(segment: Segment, videos: Rows) -> Iterator[Patch]:
    file, ends = segment.file("ids.npy"), segment.file("videos.npy").array()["id_end"]
    for video in videos.tolist():
        start, end = int(ends[video - 1]) if video else 0, int(ends[video])
        yield Patch.zeros(file.offset(start), end - start)


def _fact_patches(segment: Segment, videos: Rows) -> Iterator[Patch]:
    file = segment.file("videos.npy")
    facts = file.array()
    for video in videos.tolist():
        row = facts[video : video + 1].copy()
        row["content"], row["signature"] = b"", b""
        yield Patch(file.offset(video), row.tobytes())


def _span_patches(segment: Segment, videos: Rows) -> Iterator[Patch]:
    file = segment.file("clips.npy")
    clips = file.array()
    for first, end in _spans(segment, videos):
        rows = clips[first:end].copy()
        rows["start"] = rows["end"] = 0
        yield Patch(file.offset(first), rows.tobytes())


def _spans(segment: Segment, videos: Rows) -> list[tuple[int, int]]:
    """First clip of each video, and the one behind its last."""
    return list(zip(segment.first_rows(videos).tolist(), segment.end_rows(videos).tolist(), strict=True))


def _hash_patches(segment: Segment, videos: Rows) -> list[Patch]:
    """The hash of each id becomes the one before it, since they have to stay in order."""
    file = segment.file("id_hashes.npy")
    hashes = file.array()
    new: dict[int, np.uint64] = {}
    for place in np.flatnonzero(np.isin(segment.file("id_order.npy").array(), videos)).tolist():
        new[place] = new.get(place - 1, hashes[place - 1]) if place else np.uint64(0)
    return [Patch(file.offset(place), number.tobytes()) for place, number in new.items()]


def _slot_patches(segment: Segment, videos: Rows) -> Iterator[tuple[str, list[Patch]]]:
    """Zeros for embeddings."""
    for prefix, slots in (("", segment.slots), (COARSE, segment.coarse)):
        if prefix and slots is segment.slots:
            continue
        file, counts = segment.file(f"{prefix}values.npy"), slots.patterns.sum(1)
        patches = []
        for first, end in _spans(segment, videos):
            start = int(slots.places["start"][first])
            stop = int(slots.places["start"][end - 1]) + int(counts[slots.places["pattern"][end - 1]])
            patches.append(Patch.zeros(file.offset(start), file.offset(stop) - file.offset(start)))
        yield f"{prefix}values.npy", [patch for patch in patches if patch.content]


def _neighbour_patches(segment: Segment, pattern: str, rows: Rows) -> dict[str, list[Patch]]:
    """Zeros for the codes of vectors that no clip has any more; another clip speaks for the others."""
    neighbours = segment.neighbours(pattern)
    places = np.flatnonzero(np.isin(neighbours.rows, rows))
    if not len(places):
        return {}
    deleted = segment.deleted[neighbours.rows] if segment.deleted is not None else np.zeros(len(neighbours.rows), bool)
    regrouped, gone = neighbours.without(places, deleted)
    patches: dict[str, list[Patch]] = {}
    if regrouped:
        file: StoredFile = segment.file(f"{pattern}.groups.npy")
        patches[f"{pattern}.groups.npy"] = [
            Patch(file.offset(position), np.uint32(place).tobytes()) for position, place in regrouped.items()
        ]
    if not neighbours.exact:
        path = segment.folder / segment.file_name(f"{pattern}.faiss")
        patches[f"{pattern}.faiss"] = [Patch.zeros(*span) for span in neighbours.code_spans(path, gone)]
    return patches
