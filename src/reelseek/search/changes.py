"""What an index lacks of a library, and what it has that the library has no more: found in the library's own record of
changes, so that it costs what has changed."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from reelseek.library.catalog import Change
from reelseek.library.clips import ClipRule, clips_of
from reelseek.library.records import Video
from reelseek.library.store import Library
from reelseek.library.tokens import Clip
from reelseek.models.embed import reader_for
from reelseek.models.model import RetrievalModel
from reelseek.search.index import Index
from reelseek.search.segment import Segment
from reelseek.search.vectors import Rows

__all__ = ["Entry", "Source", "Stale", "find_stale", "short_content"]

_VIDEOS_A_BLOCK = 1000
_CONTENT_LETTERS = 16
_EVERYTHING = -1  # below every revision


@dataclass(frozen=True)
class Entry:
    """A video to be embedded.

    Args:
        number: its own in the library.
        signature: what the embeddings of its clips depend on.
    """

    video: Video
    number: int
    clips: Sequence[Clip]
    signature: bytes


class Source:
    """The videos of a library as a model reads them.

    Args:
        experts: clips are embedded from these alone; None takes all of the model's that the library has.

    Raises:
        UsageError: the library has none of the model's experts.
    """

    def __init__(self, library: Library, model: RetrievalModel, rule: ClipRule, experts: Sequence[str] | None) -> None:
        self.library, self.model, self.rule = library, model, rule
        self.named, self.reader = experts, reader_for(model, library, experts)
        self.experts = tuple(self.reader.dims)

    def entries(self, numbers: dict[str, int]) -> list[Entry]:
        """Videos of these ids, in order of id.

        Args:
            numbers: of the videos in the library, by id.
        """
        catalog, reader = self.library.catalog, self.reader
        videos = {video.id: video for video in sorted(catalog.videos.with_ids(numbers), key=lambda video: video.id)}
        hashes = catalog.tracks.hashes_of({owner for video in videos.values() for owner in video.owners})
        reader.prepare(videos)
        entries = []
        cut = clips_of(self.library, self.rule, videos.values())
        for name, group in itertools.groupby(cut, lambda clip: clip.video):
            clips = list(group)
            rows = [reader.row(name, expert) for expert in reader.dims]
            tracks = [hashes.get((row.owner, row.expert), "") if row else "" for row in rows]
            spans = [(clip.start_seconds, clip.end_seconds) for clip in clips]
            text = json.dumps([list(reader.dims), tracks, spans])
            signature = hashlib.blake2b(text.encode(), digest_size=16).hexdigest().encode()
            entries.append(Entry(videos[name], numbers[name], clips, signature))
        return entries


@dataclass
class Stale:
    """How an index differs from its library.

    Attributes:
        revision: of the library when this was found.
        lacking: clips of each video that is to be embedded, and its number in the library, by id.
        rows: for each segment of the index, by name, its rows whose videos are gone or are to be embedded anew.
        hidden: rows of the index whose videos are gone, or have another file now.
        unindexed: videos of which the index has nothing, or another file.
        changes: how many changes of the library were looked at.
    """

    revision: int
    lacking: dict[str, tuple[int, int]] = field(default_factory=dict)
    rows: dict[str, list[Rows]] = field(default_factory=dict)
    hidden: list[Rows] = field(default_factory=list)
    unindexed: list[str] = field(default_factory=list)
    changes: int = 0

    def __bool__(self) -> bool:
        return bool(self.lacking or self.rows)

    @property
    def clips(self) -> int:
        """Clips to be embedded."""
        return sum(clips for clips, _ in self.lacking.values())

    def delete(self, segment: Segment, rows: Rows) -> None:
        """Note rows of a segment that are to be deleted."""
        if len(rows):
            self.rows.setdefault(segment.record.name, []).append(rows)


def short_content(content: str | None) -> bytes:
    """What tells the contents of files apart, shortened."""
    return (content or "").encode()[:_CONTENT_LETTERS]


def find_stale(
    source: Source, index: Index | None, *, retry: bool = False, everything: bool = False, exact: bool = False
) -> Stale:
    """Compare an index with its library.

    Args:
        retry: embed again the videos that could not be embedded, for their tracks may be whole by now.
        everything: compare every video, whatever the library says of changes.
        exact: embed again what the index has in half precision alone.
    """
    library = source.library
    stale = Stale(library.revision())
    if index is None:
        comparison = None
        changes: Iterable[Change] = library.catalog.changed_since(_EVERYTHING)
    else:
        same_form = index.rule == source.rule and index.experts == source.experts and not index.damaged
        everything |= exact or not same_form or not _is_of_library(index, library, stale.revision)
        comparison = _Comparison(index, stale, exact=exact, everything=everything)
        changes = library.catalog.changed_since(_EVERYTHING if everything else index.revision)
        if retry and not everything:
            again = library.catalog.changes.numbers(video.video for video in index.left_out)
            changes = itertools.chain(changes, (Change(number, video, 0) for video, number in again.items()))
    for block in _blocks(changes):
        stale.changes += len(block)
        entries = source.entries({change.video: change.number for change in block if change.video is not None})
        gone = np.array([change.number for change in block if change.video is None], np.int64)
        if comparison is not None:
            comparison.compare(entries, gone)
        else:
            stale.lacking.update({entry.video.id: (len(entry.clips), entry.number) for entry in entries})
    if comparison is not None:
        comparison.finish()
    else:
        stale.unindexed = list(stale.lacking)
    return stale


def _is_of_library(index: Index, library: Library, revision: int) -> bool:
    """Whether an index was made from a library's database as it was earlier.

    Else it is another library's, or the database was put back from a copy since, which may have had as many changes.
    """
    is_noted = not index.mark or index.mark in library.catalog.index_marks(index.folder.name)
    return is_noted and revision >= index.revision


def _blocks(changes: Iterable[Change]) -> Iterator[list[Change]]:
    iterator = iter(changes)
    while block := list(itertools.islice(iterator, _VIDEOS_A_BLOCK)):
        yield block


class _Comparison:
    """Notes what an index has of a library's videos that is not as it should be, and what it lacks."""

    def __init__(self, index: Index, stale: Stale, *, exact: bool, everything: bool) -> None:
        self._index, self._stale, self._exact = index, stale, exact
        self._compared = [np.zeros(segment.record.videos, bool) for segment in index.segments] if everything else []

    def compare(self, entries: Sequence[Entry], gone: npt.NDArray[np.int64]) -> None:
        """Compare some videos of the library.

        Args:
            gone: numbers of videos that it has no more.
        """
        ids = np.array([entry.video.id for entry in entries], object)
        signatures = np.array([entry.signature for entry in entries], "S32")
        contents = np.array([short_content(entry.video.content) for entry in entries], "S16")
        numbers = np.array([entry.number for entry in entries], np.int64)
        current, same_file = np.zeros(len(entries), bool), np.zeros(len(entries), bool)
        for place, (base, segment, videos) in enumerate(self._index.lookup_numbers(np.concatenate([numbers, gone]))):
            inside, lost = videos[: len(entries)], videos[len(entries) :]
            places, lost = np.flatnonzero(inside >= 0), lost[lost >= 0]
            inside = inside[places]
            if self._compared:
                self._compared[place][inside] = self._compared[place][lost] = True
            same_id = np.array(segment.ids(inside), object) == ids[places]
            same = same_id & (segment.signatures(inside) == signatures[places])
            same &= segment.slots.dtype == np.float32 or not self._exact
            same_content = same_id & (segment.contents(inside) == contents[places])
            current[places[same]], same_file[places[same_content]] = True, True
            self._stale.delete(segment, segment.rows_of(np.concatenate([inside[~same], lost])))
            self._stale.hidden.append(base + segment.rows_of(np.concatenate([inside[~same_content], lost])))
        for entry, is_current, has_file in zip(entries, current.tolist(), same_file.tolist(), strict=True):
            if not is_current:
                self._stale.lacking[entry.video.id] = (len(entry.clips), entry.number)
                self._stale.unindexed += [] if has_file else [entry.video.id]

    def finish(self) -> None:
        """Where every video was compared: note what the index has beside."""
        for (base, segment), compared in zip(self._index.parts, self._compared, strict=False):
            rows = segment.rows_of(np.setdiff1d(segment.live_videos(), np.flatnonzero(compared)))
            self._stale.delete(segment, rows)
            self._stale.hidden.append(base + rows)
