"""Removing: rows first, then every byte that was derived from them.

What is to be erased commits with the deletion of the rows and is cleared when all of it is gone, so that a removal
stopped at any instant is finished by the same call again, or by the next command that writes.
"""

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from reelseek.errors import LibraryError, UsageError
from reelseek.library.files import sync_folder
from reelseek.library.records import TrackRow, Video
from reelseek.library.shards import Shards, folder_name
from reelseek.library.storage import Storage

__all__ = ["compact", "finish_interrupted", "remove_expert", "remove_videos"]

_log = logging.getLogger("reelseek")
_UNFINISHED = "removal"  # its key in `meta`
_DERIVED = ("index", "copies", "texts")  # folders that are made anew from what is left


@dataclass(frozen=True)
class _Removal:
    """Rows that are gone, whose bytes may still be on disk.

    Attributes:
        videos: ids by the names that they were removed by.
        contents: those of the videos.
        experts: how many tracks each had.
    """

    videos: Mapping[str, str] = field(default_factory=dict)
    contents: Sequence[str] = ()
    experts: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{len(set(self.videos.values()))} videos"] if self.videos else []
        return " and ".join([*parts, *(f"the tracks of {expert}" for expert in self.experts)])


def _unfinished(storage: Storage) -> _Removal:
    return _Removal(**json.loads(storage.catalog.meta(_UNFINISHED) or "{}"))


def _note(storage: Storage, new: _Removal) -> None:
    """Keep what is to be erased, with the rows' deletion; call it inside a transaction."""
    old = _unfinished(storage)
    both = _Removal(
        {**old.videos, **new.videos}, sorted({*old.contents, *new.contents}), {**old.experts, **new.experts}
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
        gone = {*removed, *removed.values(), *(failure.video for failure in catalog.failures.all())}
        # A name whose rows are gone already, or that stands for a file that never became a video, has no row.
        videos = {name: resolve(name) if catalog.videos.get(name) or name not in gone else None for name in names}
        ids = {name: video.id if video else removed.get(name, name) for name, video in videos.items()}
        contents = sorted({video.content for video in videos.values() if video and video.content})
        with catalog.transaction():
            for identifier in ids.values():
                catalog.failures.remove(identifier)
                catalog.videos.remove(identifier)
                catalog.remove_owner(f"id:{identifier}")
            for content in contents:
                storage.drop_content(content)
            _note(storage, _Removal(ids, contents))
        _finish(storage, erase)
    return [ids[name] for name in names]


def remove_expert(storage: Storage, expert: str) -> int:
    """Remove all that one expert made; see `Library.remove_expert`."""
    catalog = storage.catalog
    with storage.writing(finish=False):
        removed = _unfinished(storage).experts
        count = len(catalog.tracks.all(expert)) or catalog.texts.count_owners(expert)
        if not count and expert not in removed:
            names = ", ".join(catalog.tracks.experts()) or "none"
            raise UsageError(f"{storage.path} has no tracks of {expert!r}; it has {names}")
        count = count or removed[expert]
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


def _finish(storage: Storage, erase: Callable[[Sequence[str]], None] | None = None) -> None:
    catalog = storage.catalog
    removal = _unfinished(storage)
    contents = set(removal.contents) - {video.content for video in catalog.videos.all()}
    compact(storage)
    for name in _DERIVED:
        if name == "index" and erase is not None and not removal.experts:
            erase(sorted({*removal.videos.values()}))
        elif (storage.path / name).is_dir():
            shutil.rmtree(storage.path / name)
            sync_folder(storage.path)
    if (storage.path / "overlap" / "library.db").is_file():  # what an overlap search looked at besides
        with type(storage).open(storage.path / "overlap") as beside, beside.writing():
            copies = {video.id: video for video in beside.catalog.videos.all() if video.content in contents}
            remove_videos(beside, list(copies), copies.__getitem__)
    with catalog.transaction():
        catalog.remove_meta(_UNFINISHED)
    catalog.empty_log()


def compact(storage: Storage) -> None:
    """Rewrite shards that hold bytes no row names; see `Library.compact`."""
    catalog = storage.catalog
    with storage.writing(finish=False):
        named: dict[str, list[TrackRow]] = {}
        for row in catalog.tracks.all():
            named.setdefault(folder_name(row.fingerprint), []).append(row)
        for folder in sorted((storage.path / "tracks").glob("*")):
            if folder.is_dir():
                _compact_folder(storage, folder, sorted(named.get(folder.name, []), key=lambda row: row.place))
        with catalog.transaction():
            catalog.texts.rebuild_words()
        _empty_log(storage)
        catalog.rewrite()
        _empty_log(storage)


def _empty_log(storage: Storage) -> None:
    if not storage.catalog.empty_log():
        raise LibraryError(
            f"what was removed from {storage.path} is forgotten, but another process reads the library at this moment "
            "and keeps some of its bytes in library.db-wal; any command that writes erases them once that has ended"
        )


def _compact_folder(storage: Storage, folder: Path, rows: list[TrackRow]) -> None:
    """Move what is named out of shards that hold anything else; then, with the new places on disk, delete those."""
    catalog = storage.catalog
    present = [row for row in rows if row.steps]
    shards = storage.shards(rows[0]) if rows else Shards(folder, 1, np.float16)
    old = shards.holey((row.place, row.steps) for row in present) if present else shards.numbers()
    moved = [row for row in present if row.place[0] in old]
    places = shards.move([(row.place, row.steps) for row in moved], catalog.deleted_below())
    with catalog.transaction():
        catalog.tracks.move((row, place) for row, place in zip(moved, places, strict=True) if place)
        if old:
            catalog.set_deleted_below(old[-1] + 1)
    shards.drop(old)
