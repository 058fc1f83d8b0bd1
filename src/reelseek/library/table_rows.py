"""What tables and lists say of videos, on its way into the library: rows, splits and captions."""

from dataclasses import replace

from reelseek.library.catalog import Catalog
from reelseek.library.collection import Collection
from reelseek.library.records import Caption
from reelseek.library.report import AddReport
from reelseek.library.video_lookup import VideoLookup
from reelseek.media.notice import Notice

__all__ = ["write_beside", "write_rows"]


def write_rows(catalog: Catalog, collection: Collection, report: AddReport, *, media: bool) -> None:
    """Captions, splits and rows for videos that a table names; their files come later, or never."""
    collection.use_names_of(VideoLookup(catalog))
    named = {caption.video for caption in collection.captions} | set(collection.splits)
    entries = {entry.id for entry in collection.entries}
    rows = {c.id for c in collection.entries if c.path is None or c.id in named or not media}
    present = catalog.videos.existing(rows | named)
    unmatched = named - present - entries
    report.rows, report.lost_rows = collection.rows, collection.lost_rows
    report.failed += [_failed_row(notice) for notice in collection.problems if notice.lost]
    report.notices += [("", notice) for notice in collection.problems if not notice.lost]
    report.unmatched = sorted(unmatched)
    with catalog.transaction():
        for identifier in sorted(rows - present):
            catalog.videos.add(identifier)
            report.videos_new += not media
        for identifier, split in collection.splits.items():
            catalog.videos.set_split(identifier, split)
        report.captions += catalog.captions.add(c for c in collection.captions if c.video not in unmatched)


def write_beside(catalog: Catalog, collection: Collection, report: AddReport) -> None:
    """Captions and splits that lie beside videos in their shards, once the videos have ids; of no others."""
    if not collection.beside:
        return
    beside: list[Caption] = []
    with catalog.transaction():
        for path, (captions, split) in collection.beside.items():
            video = catalog.videos.at_path(path)
            if video is None:
                continue
            beside += [replace(caption, video=video.id) for caption in captions]
            if split:
                catalog.videos.set_split(video.id, split)
        report.captions += catalog.captions.add(beside)


def _failed_row(notice: Notice) -> tuple[str, str, str]:
    """What was lost of a table or folder, as `failed` has it: the reason says in which line."""
    file, _, row = notice.place.rpartition(", ")
    if file and row.startswith(("line ", "row ", "item ")):
        return file, "", f"{row}: {notice.message}"
    return notice.place, "", notice.message
