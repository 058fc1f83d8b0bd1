"""Removing: rows first, then every byte that was derived from them.

What is to be erased commits with the deletion of the rows and is cleared when all of it is gone, so that a removal
stopped at any instant is finished by the same call again, or by the next command that writes.
"""

import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from reelseek.errors import LibraryError, UsageError
from reelseek.library.caption_sets import erase_caption_features
from reelseek.library.catalog.tracks import Tracks
from reelseek.library.files import delete_folder
from reelseek.library.records import TrackRow, Video
from reelseek.library.shards import Shards, folder_name
from reelseek.library.storage import Storage

__all__ = ["compact", "count_removable", "finish_interrupted", "has_removable", "remove_expert", "remove_videos"]

_log = logging.getLogger("reelseek")
_UNFINISHED = "removal"  # its key in `meta`
_SMALL_DATABASE = 2**26  # bytes that are rewritten at once
_REWRITTEN, _REWRITTEN_ROWS = 2**22, 4096  # bytes and rows of a shard that is written anew at once
_REMOVALS = "removals"  # its key in `meta`: rows that were removed since the database was rewritten
_REWRITTEN_SHARE = 0.02  # of all videos


@dataclass(frozen=True)
class _Removal:
    """Rows that are gone, whose bytes may still be on disk.

    Attributes:
        videos: ids by the names that they were removed by.
        contents: those of the videos.
        experts: how many tracks each had.
        words: whether captions or texts were among them.
    """

    videos: Mapping[str, str] = field(default_factory=dict)
    contents: Sequence[str] = ()
    experts: Mapping[str, int] = field(default_factory=dict)
    words: bool = True

    def __str__(self) -> str:
        parts = [f"{len(set(self.videos.values()))} videos"] if self.videos else []
        return " and ".join([*parts, *(f"the tracks of {expert}" for expert in self.experts)])


def _unfinished(storage: Storage) -> _Removal:
    return _Removal(**json.loads(storage.catalog.meta(_UNFINISHED) or "{}"))


def _note(storage: Storage, new: _Removal) -> None:
    """Keep what is to be erased, with the rows' deletion; call it inside a transaction."""
    old = _unfinished(storage)
    both = _Removal(
        {**old.videos, **new.videos},
        sorted({*old.contents, *new.contents}),
        {**old.experts, **new.experts},
        new.words or (old != _Removal() and old.words),
    )
    storage.catalog.set_meta(_UNFINISHED, json.dumps(asdict(both)))


def remove_videos(
    storage: Storage,
    names: Sequence[str],
    resolve: Callable[[str], Video],
    erase: Callable[[Sequence[str]], None] | None = None,
) -> list[str]:
    """Remove videos; see `Library.remove`.

    Args:
        resolve: the video that a name means; raises UsageError where it means none, or several.
        erase: leaves no byte of videos of these ids in any index; without it indexes are deleted.
    """
    catalog = storage.catalog
    with storage.writing(finish=False):
        removed = _unfinished(storage).videos
        gone = {*removed, *removed.values(), *(failure.video for failure in catalog.failures.of_videos(names))}
        # A name whose rows are gone already, or that stands for a file that never became a video, has no row.
        videos = {name: resolve(name) if catalog.videos.get(name) or name not in gone else None for name in names}
        ids = {name: video.id if video else removed.get(name, name) for name, video in videos.items()}
        contents = sorted({video.content for video in videos.values() if video and video.content})
        owners = {*contents, *(f"id:{identifier}" for identifier in ids.values())}
        words = catalog.have_words({*ids.values()}, owners)
        noted, rows = {(hole[0], hole[3]) for hole in catalog.tracks.holes()}, [*catalog.tracks.of_owners(owners)]
        with catalog.transaction():
            for identifier in ids.values():
                catalog.failures.remove(identifier)
                catalog.videos.remove(identifier)
                catalog.remove_owner(f"id:{identifier}")
            for content in contents:
                storage.drop_content(content)
            _note(storage, _Removal(ids, contents, words=words))
        removed_rows = set(rows).difference(catalog.tracks.of_owners(owners))
        _finish(storage, erase, _spans_by_shard(row for row in removed_rows if _shard_of(row) not in noted))
    return [ids[name] for name in names]


_Spans = Mapping[tuple[str, int], Sequence[tuple[int, int]]]
"""First rows, and the ones behind the last, by fingerprint and shard."""


def _shard_of(row: TrackRow) -> tuple[str, int]:
    return row.fingerprint, row.place[0]


def _spans_by_shard(rows: Iterable[TrackRow]) -> _Spans:
    spans: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for row in rows:
        if row.steps:
            spans.setdefault(_shard_of(row), []).append((row.place[1], row.place[1] + row.steps))
    return spans


def count_removable(storage: Storage, expert: str) -> int:
    """How many tracks, or texts where there are none, a removal of an expert would remove.

    Raises:
        UsageError: there are none.
    """
    count = _count(storage, expert)
    if not count:
        names = ", ".join(storage.catalog.tracks.experts()) or "none"
        raise UsageError(f"{storage.path} has no tracks of {expert!r}; it has {names}")
    return count


def has_removable(storage: Storage, expert: str) -> bool:
    """Whether a removal of an expert would remove anything."""
    return _count(storage, expert) > 0


def _count(storage: Storage, expert: str) -> int:
    tracks = sum(group.tracks for group in storage.catalog.tracks.groups(expert))
    return tracks or storage.catalog.texts.count_owners(expert) or _unfinished(storage).experts.get(expert, 0)


def remove_expert(storage: Storage, expert: str) -> int:
    """Remove all that one expert made; see `Library.remove_expert`."""
    catalog = storage.catalog
    with storage.writing(finish=False):
        count = count_removable(storage, expert)
        with catalog.transaction():
            catalog.remove_expert(expert)
            _note(storage, _Removal(experts={expert: count}))
        _finish(storage)
    return count


def finish_interrupted(storage: Storage) -> None:
    """Finish a removal that was stopped, and say so; call it as the writer."""
    removal = _unfinished(storage)
    if removal == _Removal():
        return
    try:
        _finish(storage)
        _log.warning("%s: a removal of %s had been interrupted; it is finished now", storage.path, removal)
    except LibraryError as error:  # it can wait, what the user wants now need not
        _log.warning("%s", error)


def _finish(
    storage: Storage, erase: Callable[[Sequence[str]], None] | None = None, spans: _Spans | None = None
) -> None:
    """Erase what is noted.

    Args:
        erase: see `remove_videos`.
        spans: all that tracks no longer name in some shards; other shards are looked through.
    """
    catalog, removal = storage.catalog, _unfinished(storage)
    contents = [content for content in removal.contents if not catalog.videos.has_content(content)]
    _erase_tracks(storage, spans or {})
    _erase_rows(storage, removal)
    for content in contents:
        storage.remove_copy(content)
    if removal.experts:  # of which unfinished work may hold as much
        shutil.rmtree(storage.path / "parts", ignore_errors=True)
    for name in ("index", *(("texts",) if removal.words else ())):  # what is made anew from what remains
        if name == "index" and erase is not None and not removal.experts:
            erase(sorted({*removal.videos.values()}))
        else:
            delete_folder(storage.path / name)
    if removal.words:
        erase_caption_features(storage)
    if (storage.path / "overlap" / "library.db").is_file():  # what an overlap search looked at besides
        with type(storage).open(storage.path / "overlap") as beside, beside.writing():
            copies = {video.id: video for video in beside.catalog.videos.of_contents(contents)}
            remove_videos(beside, list(copies), copies.__getitem__)
    with catalog.transaction():
        catalog.remove_meta(_UNFINISHED)
    catalog.empty_log()


def _erase_rows(storage: Storage, removal: _Removal) -> None:
    """Erase what remains of removed rows in the database.

    SQLite overwrites a row where it lies, and has seldom copied it to another page before. To rewrite a large database
    for that would make each removal cost as much as all rows do, so this waits until the removals are worth it.
    """
    catalog = storage.catalog
    removals = int(catalog.meta(_REMOVALS) or 0) + len(set(removal.videos.values()))
    is_due = removal.experts or removals >= _REWRITTEN_SHARE * catalog.changes.highest_number()
    if is_due or catalog.size() <= _SMALL_DATABASE:
        _rewrite(storage)
        return
    with catalog.transaction():
        catalog.set_meta(_REMOVALS, str(removals))
    _empty_log(storage)
    _log.warning(
        "%s: what was removed is overwritten in library.db, of which single rows%s may have a second copy; they go "
        "when more is removed, or at once with: reelseek remove %s --compact",
        storage.path, " and words of the full text" if removal.words else "", storage.path,
    )  # fmt: skip


def compact(storage: Storage) -> None:
    """Rewrite shards that hold bytes no row names, and the database; see `Library.compact`."""
    catalog = storage.catalog
    with storage.writing():
        groups = {group.fingerprint: group for group in catalog.tracks.groups()}
        with catalog.transaction():
            for fingerprint, (shard, end) in catalog.tracks.shard_ends():
                if end:
                    catalog.tracks.add_hole(fingerprint, groups[fingerprint].dim, groups[fingerprint].dtype, shard)
        _erase_tracks(storage, None)
        _rewrite(storage)


def _rewrite(storage: Storage) -> None:
    catalog = storage.catalog
    with catalog.transaction():
        catalog.texts.rebuild_words()
        catalog.about.rebuild_words()
        catalog.remove_meta(_REMOVALS)
    _empty_log(storage)
    catalog.rewrite()
    _empty_log(storage)


def _empty_log(storage: Storage) -> None:
    if not storage.catalog.empty_log():
        raise LibraryError(
            f"what was removed from {storage.path} is forgotten, but another process reads the library at this moment "
            "and keeps some of its bytes in library.db-wal; any command that writes erases them once that has ended"
        )


def _erase_tracks(storage: Storage, spans: _Spans | None) -> None:
    """Leave no byte that no row names in any shard: those noted, and ends that a killed writer never named.

    Args:
        spans: such bytes of large shards are overwritten where they lie, see `_finish`; None writes every shard anew.
    """
    tracks = storage.catalog.tracks
    files: dict[str, Shards] = {}
    holes: dict[str, set[int]] = {}
    for fingerprint, dim, dtype, shard in tracks.holes():
        files[fingerprint] = storage.shards_of(fingerprint, dim, dtype)
        holes.setdefault(fingerprint, set()).add(shard)
    for group in tracks.groups():
        shards = files[group.fingerprint] = storage.shards_of(group.fingerprint, group.dim, group.dtype)
        last, row = end = tracks.end(group.fingerprint)
        if not shards.has_more(end):
            continue
        overwritten = spans is not None and row > 0 and not _is_small(shards, last)
        if overwritten:
            shards.erase(last, [], row)
        more = {number for number in shards.numbers() if number >= last + overwritten}
        holes.setdefault(group.fingerprint, set()).update(more)
    for fingerprint, numbers in sorted(holes.items()):
        shards = files[fingerprint]
        in_place: set[int] = set()
        for shard in numbers:
            if spans is None:
                break
            gaps = spans.get((fingerprint, shard))
            if _is_overwritten(tracks, fingerprint, shards, shard):
                shards.erase(shard, *((gaps, None) if gaps is not None else tracks.gaps(fingerprint, shard)))
                in_place.add(shard)
        with storage.catalog.transaction():
            tracks.clear_holes(fingerprint, in_place)
        _compact_files(storage, fingerprint, shards, numbers - in_place)
    named = {folder_name(fingerprint) for fingerprint in files}
    for folder in sorted((storage.path / "tracks").glob("*")):
        if folder.is_dir() and folder.name not in named:
            unnamed = Shards(folder, 1, np.float16)
            _compact_files(storage, "", unnamed, unnamed.numbers())


def _is_overwritten(tracks: Tracks, fingerprint: str, shards: Shards, shard: int) -> bool:
    """Whether a shard is large, and tracks name half of it at least."""
    if _is_small(shards, shard):
        return False
    return 2 * tracks.count_steps(fingerprint, shard) * shards.row_bytes >= shards.size(shard)


def _is_small(shards: Shards, shard: int) -> bool:
    """Whether a shard is written anew; of one with many short rows it is their places in the database that cost."""
    return shards.size(shard) <= min(_REWRITTEN, _REWRITTEN_ROWS * shards.row_bytes)


def _compact_files(storage: Storage, fingerprint: str, shards: Shards, numbers: Collection[int]) -> None:
    """Move what is named out of shards that hold anything else; then, with the new places on disk, delete those."""
    catalog = storage.catalog
    rows = [row for shard in sorted(numbers) for row in catalog.tracks.of_fingerprint(fingerprint, shard) if row.steps]
    old = shards.holey(((row.place, row.steps) for row in rows), numbers)
    moves = shards.move([(row.place, row.steps) for row in rows if row.place[0] in old], catalog.deleted_below())
    with catalog.transaction():
        for move in moves:
            catalog.tracks.move(fingerprint, move.old, move.rows, move.new)
        if old:
            catalog.set_deleted_below(old[-1] + 1)
    shards.drop(old)
    with catalog.transaction():
        catalog.tracks.clear_holes(fingerprint, numbers)
