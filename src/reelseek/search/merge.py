"""Writing segments out of those that there are and of what is embedded anew, and which ones are due to be merged.

As in search engines, a change becomes a small segment of its own. Segments of about one size are merged when they are
several, so that there are few of every size, and a clip is copied a few times, however many are added later.
"""

import heapq
import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from reelseek.search.columns import Block, SegmentWriter
from reelseek.search.generation import write_files
from reelseek.search.neighbours import EXACT_UP_TO
from reelseek.search.segment import Record, Segment

__all__ = ["Embed", "due", "is_few", "is_small", "write_segments"]

_CLIPS_A_BLOCK = 8192
_LARGEST = 2**20  # clips; so that writing, checking and erasing one segment stay short
_SMALL = 1024  # clips; a smaller segment is written anew together with what is added
_SEVERAL = 4  # segments of one size that are merged
_GROWTH = 4  # how much larger the next size is
Embed = Callable[[Iterable[Sequence[str]]], Iterator[Block | None]]
"""Embeds lists of videos by their ids, list by list, without those that cannot be; None where none of a list can."""
_Video = tuple[str, int, int, int]
"""Id, number of the source, number in the source, and clips."""


def write_segments(
    folder: Path, segments: Sequence[Segment], fresh: Iterable[tuple[str, int]], embed: Embed, clips: int
) -> Iterator[Segment]:
    """Write what is left of some segments together with videos that are embedded anew.

    Args:
        folder: it exists.
        fresh: ids of the videos to be embedded, in order, and how many clips each has.
        clips: how many there will be in all.

    Yields:
        segments of about a million clips at most, whose columns are on disk; neighbours they have none yet.
    """
    precise = is_few(clips) and all(segment.slots.dtype == np.float32 for segment in segments)
    writer = None
    try:
        for block in _blocks(segments, fresh, embed):
            writer = writer or SegmentWriter(folder, secrets.token_hex(4), np.float32 if precise else np.float16)
            writer.append(block)
            if writer.clips >= _LARGEST:
                yield _opened(writer)
                writer = None
        if writer is not None:
            yield _opened(writer)
            writer = None
    finally:
        if writer is not None:
            writer.drop()


def _opened(writer: SegmentWriter) -> Segment:
    sums = write_files(writer.folder, writer.files())
    names = {name.removeprefix(f"{writer.name}-"): entry for name, entry in sums.items()}
    return Segment(
        writer.folder, Record(writer.name, writer.clips, writer.videos, coarse=writer.coarse), names, check=False
    )


def _blocks(segments: Sequence[Segment], fresh: Iterable[tuple[str, int]], embed: Embed) -> Iterator[Block]:
    """Videos of all sources in order of id, some thousand clips at a time."""
    streams: list[Iterable[_Video]] = [_videos(segment, source) for source, segment in enumerate(segments)]
    streams.append((video, len(segments), place, clips) for place, (video, clips) in enumerate(fresh))
    here, ahead = itertools.tee(_cut(heapq.merge(*streams)))  # what is embedded may be read before it is written
    lists = ([video for video, source, *_ in rows if source == len(segments)] for rows in ahead)
    embedded = embed(ids for ids in lists if ids)
    for rows in here:
        by_source: dict[int, list[_Video]] = {}
        for row in rows:
            by_source.setdefault(row[1], []).append(row)
        blocks: list[Block | None] = [
            segments[source].block(np.array([number for _, _, number, _ in videos], np.int64))
            if source < len(segments)
            else next(embedded)
            for source, videos in by_source.items()
        ]
        present = [block for block in blocks if block is not None]
        if present:
            yield Block.merged(present)


def _videos(segment: Segment, source: int) -> Iterator[_Video]:
    videos = segment.live_videos()
    for start in range(0, len(videos), _CLIPS_A_BLOCK):
        block = videos[start : start + _CLIPS_A_BLOCK]
        counts = segment.end_rows(block) - segment.first_rows(block)
        yield from zip(segment.ids(block), itertools.repeat(source), block.tolist(), counts.tolist())


def _cut(videos: Iterable[_Video]) -> Iterator[list[_Video]]:
    rows: list[_Video] = []
    clips = 0
    for row in videos:
        rows.append(row)
        clips += row[3]
        if clips >= _CLIPS_A_BLOCK:
            yield rows
            rows, clips = [], 0
    if rows:
        yield rows


def is_few(clips: int) -> bool:
    """Whether so many clips are kept in single precision, and searched exactly."""
    return clips <= EXACT_UP_TO


def is_small(segment: Segment) -> bool:
    """Whether a segment is written anew whenever anything is added."""
    return segment.record.live < _SMALL


def due(segments: Sequence[Segment]) -> list[Segment]:
    """Which segments are to be merged now, if any are.

    Those that are mostly deleted are written anew; exact ones are merged where they have more clips together than are
    searched exactly; others where several are of one size.
    """
    for segment in segments:
        if 2 * segment.record.deleted > len(segment):
            return [segment]
    exact = [segment for segment in segments if is_few(len(segment))]
    if len(exact) > 1 and sum(segment.record.live for segment in exact) > EXACT_UP_TO:
        return exact
    sizes: dict[int, list[Segment]] = {}
    for segment in sorted(segments, key=lambda segment: segment.record.live):
        size = int(np.log2(max(1, segment.record.live / _SMALL)) / np.log2(_GROWTH))
        sizes.setdefault(size, []).append(segment)
    for group in sizes.values():
        several = group[:_SEVERAL]
        if len(several) == _SEVERAL and sum(segment.record.live for segment in several) <= _LARGEST:
            return several
    return []
