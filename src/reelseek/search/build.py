"""Embedding the clips of a library, and bringing their index up to date: what has changed costs work, nothing else."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reelseek.cluster import Cluster
from reelseek.errors import LibraryError, ModelError
from reelseek.library.clips import ClipRule
from reelseek.library.cluster_work import require_library
from reelseek.library.damage import Damage, note_damage
from reelseek.library.files import make_folder
from reelseek.library.store import Library
from reelseek.models.embed import embed_texts
from reelseek.models.embedding import Embedding
from reelseek.models.model import RetrievalModel
from reelseek.models.systems.concepts import background_queries
from reelseek.models.text import caption_features_of
from reelseek.search.changes import Source, Stale, find_stale
from reelseek.search.columns import Block
from reelseek.search.embedding import EmbeddedVideos, embed_on, embed_videos
from reelseek.search.finish import candidates_of, finish
from reelseek.search.generation import Sums, drop_files
from reelseek.search.index import Index, LeftOut, index_folder, mark_index, open_index, put_index
from reelseek.search.merge import due, is_few, is_small, write_segments
from reelseek.search.merging import merge_due
from reelseek.search.segment import Segment

__all__ = ["build_index", "update_index"]

_ATTEMPTS = 3
_log = logging.getLogger("reelseek")
Progress = Callable[[int, int], None]


def update_index(
    library: Library,
    model: RetrievalModel,
    rule: ClipRule | None = None,
    progress: Progress | None = None,
    *,
    experts: Sequence[str] | None = None,
    unrelated: Embedding | None = None,
    index: Index | None = None,
    quiet: bool = False,
    write: bool = True,
    merge: bool = True,
    cluster: Cluster | None = None,
) -> Index:
    """Bring an index up to date with its library, or build it where there is none.

    What changed since is embedded and becomes a segment of its own, and what is gone is deleted. When that can be
    searched, segments of one size are merged, see `merge_due`; others may write meanwhile. A video whose tracks are
    damaged is left out, which is said, and stands in `Index.left_out`; the next `add` makes its tracks again.

    Args:
        rule: how clips are cut; None keeps the index's own.
        progress: called with how many clips are embedded, and of how many.
        experts: embed clips from these alone; None takes all of the model's that the library has.
        unrelated: the embeddings of the background queries, if they are at hand.
        index: the open index, if it is at hand.
        quiet: what is wrong with an index that cannot be used was said already.
        write: False leaves the library as it is: what is new is this process's alone.
        merge: False leaves segments to a later merge; so does a caller that is the writer itself, and goes on being it.
        cluster: whose nodes embed, each of which reads the library at its path; the index is the same.

    Raises:
        ClusterError: a node reads another library, or none.
        LibraryError: another process is writing, or the disk is full; the old index stays.
        UsageError: the library has none of the model's experts.
        ModelError: the model makes NaN or infinity of a clip, or reads caption features instead of words.
    """
    if cluster is not None:
        require_library(cluster, library.path)
    merge = merge and write and not library.is_writer
    with _place(library, index_folder(library, model, experts), write=write) as folder:
        if write:  # another process may have replaced it before this one became the writer
            index = open_index(library, model, experts, previous=index, quiet=quiet)
        rule = rule or (index.rule if index else ClipRule())
        updated = _bring_up_to_date(
            Source(library, model, rule, experts), folder, index, unrelated, progress, write=write, anew=False,
            cluster=cluster,
        )  # fmt: skip
    return (merge_due(library, model, experts) if merge and due(updated.segments) else None) or updated


def build_index(
    library: Library,
    model: RetrievalModel,
    rule: ClipRule | None = None,
    progress: Progress | None = None,
    *,
    embed_again: bool = False,
    cluster: Cluster | None = None,
) -> Index:
    """Build an index anew: as few segments as there can be. Clips that are embedded already are taken over.

    Args, errors: as for `update_index`; clips are embedded from all of the model's experts that the library has.
        embed_again: take nothing over.
    """
    if cluster is not None:
        require_library(cluster, library.path)
    with _place(library, index_folder(library, model), write=True) as folder:
        index = None if embed_again else open_index(library, model)
        source = Source(library, model, rule or ClipRule(), None)
        return _bring_up_to_date(source, folder, index, None, progress, write=True, anew=True, cluster=cluster)


def _bring_up_to_date(
    source: Source, folder: Path, index: Index | None, unrelated: Embedding | None, progress: Progress | None, *,
    write: bool, anew: bool, cluster: Cluster | None = None,
) -> Index:  # fmt: skip
    """The index as its library is now; again, where another process changed what was being read."""
    if (name := caption_features_of(source.model)) is not None:
        raise ModelError(
            f"{source.model.system} reads the caption features {name!r} instead of words, and cannot read what is "
            "searched for; search with a model that was trained with another model.text.encoder, and measure this one "
            "with: reelseek evaluate"
        )
    library = source.library
    home = index_folder(library, source.model, source.named)
    sums = index.sums if index is not None else {}
    texts = index.unrelated if index is not None else unrelated
    if index is not None:  # these are copied
        index = _without_damage(index, [segment for segment in index.segments if anew or is_small(segment)])
    for attempt in range(1, _ATTEMPTS + 1):
        revision = library.revision()
        try:
            exact = anew and index is not None and is_few(index.live)
            stale = find_stale(source, index, retry=True, everything=anew, exact=exact)
            if index is not None and not (anew or stale or stale.changes or index.damaged):
                return index
            for segment in index.damaged if index is not None else ():
                _log.info("%d clips of a damaged segment are embedded again: %s", segment.clips, segment.reason)
            texts = texts or embed_texts(source.model, background_queries())
            update = _Update(source, home, folder, write, texts, sums, stale, progress, cluster)
            updated = update.run(index, anew=anew)
        except LibraryError:
            if write or attempt == _ATTEMPTS or library.revision() == revision:
                raise
            source = Source(library, source.model, source.rule, source.named)
        else:
            if write or attempt == _ATTEMPTS or library.revision() == revision:
                break
    if write:
        note_damage(library, [pair for pairs in update.damage.values() for pair in pairs])
    for video in updated.left_out:
        _log.warning("left out of the index: %s (%d clips): %s", video.video, video.clips, video.reason)
    return updated


@contextmanager
def _place(library: Library, folder: Path, *, write: bool) -> Iterator[Path]:
    """Be the one writer of a folder of the library; or have one of this process alone, whose files stay open."""
    if write:
        with library.writing():
            yield folder
        return
    with tempfile.TemporaryDirectory(prefix="reelseek-") as scratch:
        try:
            yield Path(scratch) / "index"  # a failed update deletes it, and what is above it if that is empty
        except OSError as error:
            if error.filename is not None and not os.fsdecode(error.filename).startswith(scratch):
                raise
            raise LibraryError(
                f"an index for this process alone cannot be written to {scratch}: {error}; set TMPDIR to a folder "
                "with room"
            ) from error


@dataclass
class _Update:
    """One run over an index.

    Args:
        home: where the library's index lies.
        folder: where segments are written.
        write: name them in the manifest of the library's index.
        cluster: whose nodes embed.

    Attributes:
        damage: tracks that could not be read, by video.
        left_out: these videos.
    """

    source: Source
    home: Path
    folder: Path
    write: bool
    texts: Embedding
    sums: Mapping[str, Sums]
    stale: Stale
    progress: Progress | None = None
    cluster: Cluster | None = None
    damage: dict[str, Damage] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    _embedded: int = 0

    def run(self, index: Index | None, *, anew: bool) -> Index:
        """Write what is new, and put it beside what stays."""
        old = index.segments if index is not None else ()
        absorbed = [s for s in old if anew or (self.stale.lacking and is_small(s))]
        new: list[Segment] = []
        changed: list[Segment] = []
        try:
            for segment in old:
                if segment not in absorbed:
                    changed.append(self._without_stale(segment, write=self.write))
            remaining = [segment for segment in changed if segment.record.live]
            merged = [self._without_stale(segment, write=False) for segment in absorbed]
            clips = self.stale.clips + sum(segment.record.live for segment in merged)
            fresh = sorted((video, clips) for video, (clips, _) in self.stale.lacking.items())
            total = clips + sum(segment.record.live for segment in remaining)
            make_folder(self.folder)
            for segment in write_segments(self.folder, merged, fresh, self._embed, clips):
                new.append(segment)
                new[-1] = finish(self.source.library, self.source.model, segment, self._index([]), total)
            updated = self._index([*remaining, *new])
            if self.write:
                updated = put_index(mark_index(self.source.library, updated))
        except BaseException:
            if self.write:
                names = [f"{s.record.name}-{name}" for s in new for name in s.sums]
                drop_files(self.folder, [*names, *(s.record.deletions for s in changed if s not in old)])
            raise
        return updated

    def _without_stale(self, segment: Segment, *, write: bool) -> Segment:
        rows = self.stale.rows.get(segment.record.name)
        return segment if rows is None else segment.delete(np.concatenate(rows), write=write)

    def _index(self, segments: Sequence[Segment]) -> Index:
        model = self.source.model
        return Index(
            self.home, tuple(segments), model.system, model.slots, self.source.rule, self.stale.revision,
            self.source.experts, self.texts, candidates_of(model, segments), tuple(self.left_out), (), self.sums,
        )  # fmt: skip

    def _embed(self, lists: Iterable[Sequence[str]]) -> Iterator[Block | None]:
        """Embed videos, list by list; see `embed_videos`."""
        parts = ({video: self.stale.lacking[video][1] for video in ids} for ids in lists)
        for embedded in self._embed_parts(parts):
            self.damage |= embedded.damage
            self.left_out += embedded.left_out
            self._embedded += embedded.clips
            if self.cluster is not None and embedded.clips:
                self._report(0, 0)
            yield embedded.block

    def _embed_parts(self, parts: Iterable[dict[str, int]]) -> Iterator[EmbeddedVideos]:
        if self.cluster is not None:
            return embed_on(self.cluster, self.source, parts)
        return (embed_videos(self.source, part, self._report) for part in parts)

    def _report(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(self._embedded + done, self.stale.clips)


def _without_damage(index: Index, segments: Iterable[Segment]) -> Index:
    """The index without those of some segments that do not hold what was written: a copy would have checksums of its
    own, and hide it."""
    for segment in segments:
        try:
            segment.check()
        except (LibraryError, OSError) as error:
            index = index.without(segment, str(error))
    return index
