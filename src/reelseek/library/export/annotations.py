"""Captions, splits and videos of a library in the forms that other tools open: Hugging Face `datasets`, FiftyOne, Label
Studio, and shards of WebDataset. Nothing reads these back into a library but the tools themselves (shards: `add`)."""

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet

from reelseek.errors import LibraryError, MediaError
from reelseek.library.export.write import ExportReport, Progress, whole_folder
from reelseek.library.files import make_folder, write_whole
from reelseek.library.names import printable
from reelseek.library.records import Caption, Video
from reelseek.library.store import Library
from reelseek.library.texts import is_unicode
from reelseek.media.local_copy import local_copy

__all__ = ["ANNOTATIONS", "export_annotations"]

_NO_FILE = "its file is not at hand"
_NOT_UNICODE = "the name of its file is no Unicode, which this form cannot write"
_SHARD_BYTES = 10**9
_DEFAULT_FPS = 25.0  # of what has no frames, for a tool that counts in them
_CAPTIONS = arrow.schema(
    [
        ("video", arrow.string()), ("path", arrow.string()), ("caption", arrow.string()),
        ("start_seconds", arrow.float64()), ("end_seconds", arrow.float64()), ("duration", arrow.float64()),
    ]
)  # fmt: skip


def export_annotations(library: Library, folder: Path, *, to: str, progress: Progress | None = None) -> ExportReport:
    """Write captions and splits of a library for another tool into a new folder.

    Args:
        to: `datasets`, for `load_dataset(folder)`: a row a caption, a split a file. `fiftyone`, for
            `Dataset.from_dir(..., FiftyOneTemporalDetectionDataset)`. `label-studio`: tasks and the interface that
            shows them. `webdataset`: shards with the videos' files, captions and tracks.

    Returns:
        Rows by file; `damaged` are the videos and tracks that were left out, with the reason.

    Raises:
        UsageError: the folder exists and is not empty.
        LibraryError: the library was changed meanwhile, or the folder cannot be written.

    Example:
        export_annotations(library, Path("tasks"), to="label-studio")
    """
    report = ExportReport(digest="")
    with whole_folder(folder) as partial:
        try:
            revision = library.revision()
            ANNOTATIONS[to](library, partial, report, progress or (lambda *_: None))
            if library.revision() != revision:
                raise LibraryError(f"{library.path} was changed while it was exported; export it again")
        except (OSError, arrow.ArrowException) as error:
            raise LibraryError(f"{folder} cannot be written: {error}; nothing of it stays") from error
    return report


# Hugging Face datasets


def _write_datasets(library: Library, folder: Path, report: ExportReport, progress: Progress) -> None:
    """A Parquet file a split, and a card that names them; a video of several splits is a row in each."""
    splits = _videos_of_splits(library)
    names = _plain_names(splits)
    for done, (split, videos) in enumerate(splits.items(), 1):
        path = folder / "data" / f"{names[split]}.parquet"
        report.rows[names[split]] = 0
        make_folder(path.parent)
        with parquet.ParquetWriter(path, _CAPTIONS, compression="zstd") as writer:
            for rows in _caption_rows(library, split, videos):
                report.rows[names[split]] += len(rows)
                writer.write_batch(arrow.RecordBatch.from_pylist(rows, schema=_CAPTIONS))
        progress("exporting", done, len(splits), split or "no split")
    files = "".join(f"  - split: {names[split]}\n    path: data/{names[split]}.parquet\n" for split in splits)
    renamed = "".join(f"- `{names[split]}` is the split {split!r}\n" for split in splits if names[split] != split)
    card = f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n\nCaptions of {library.path.name}.\n"
    write_whole(folder / "README.md", card + (f"\n{renamed}" if renamed else ""))


def _videos_of_splits(library: Library) -> dict[str, list[str] | None]:
    """The videos of each split that a list names; None for one that only captions name ('' those of no split)."""
    splits: dict[str, list[str] | None] = dict.fromkeys(library.splits())
    return splits | dict(library.memberships())


def _plain_names(splits: Sequence[str] | dict[str, Any]) -> dict[str, str]:
    """Names that `datasets` takes for splits, each once: letters, digits and underscores."""
    names: dict[str, str] = {}
    for split in splits:
        plain = name = re.sub(r"\W+", "_", split, flags=re.ASCII).strip("_") or "unsplit"
        count = 1
        while name.lower() == "all" or name in names.values():  # `all` is what `datasets` calls the union of splits
            count += 1
            name = f"{plain}_{count}"
        names[split] = name
    return names


def _caption_rows(library: Library, split: str, videos: list[str] | None) -> Iterator[list[dict[str, Any]]]:
    """Rows of the captions of a split, a block of videos or captions at a time."""
    if videos is None:
        captions = (caption for caption in library.catalog.captions.pages() if (caption.split or "") == split)
    else:
        captions = (caption for video in videos for caption in library.catalog.captions.of_video(video))
    block: list[Caption] = []
    for caption in captions:
        block.append(caption)
        if len(block) >= 4096:
            yield _rows(library, block)
            block = []
    if block:
        yield _rows(library, block)


def _rows(library: Library, captions: Sequence[Caption]) -> list[dict[str, Any]]:
    videos = {name: library.catalog.videos.get(name) for name in {caption.video for caption in captions}}
    rows = []
    for caption in captions:
        video = videos[caption.video]
        path = None if video is None or video.path is None else printable(video.path)
        rows.append(
            {
                "video": caption.video, "path": path, "caption": caption.text,
                "start_seconds": caption.start_seconds, "end_seconds": caption.end_seconds,
                "duration": None if video is None else video.duration,
            }
        )  # fmt: skip
    return rows


# FiftyOne and Label Studio


def _write_fiftyone(library: Library, folder: Path, report: ExportReport, progress: Progress) -> None:
    """`data.json` says where each video lies, `labels.json` its captions as detections in seconds."""
    paths, labels = {}, {}
    for number, video in enumerate(_videos_with_files(library, report, progress)):
        if not isinstance(video.path, Path):
            report.damaged.append((video.id, "its file lies in a store, which FiftyOne does not open"))
            continue
        detections = []
        for caption in library.catalog.captions.of_video(video.id):
            span = _span(caption, video)
            if span is None:
                report.damaged.append((video.id, f"how long it is is not known, so {caption.text!r} has no place"))
                continue
            detections.append({"label": caption.text, "timestamps": list(span)})
        key = f"{number:08d}"  # FiftyOne takes what follows a dot in a name for a suffix
        paths[key], labels[key] = printable(video.path), detections
    _write_json(folder / "data.json", paths)
    _write_json(folder / "labels.json", {"classes": None, "labels": labels})
    report.rows |= {"videos": len(paths), "captions": sum(map(len, labels.values()))}


_INTERFACE = """<View>
  <Header value="$name"/>
  <Video name="video" value="$video" frameRate="$fps" timelineHeight="120"/>
  <TimelineLabels name="span" toName="video"><Label value="caption"/></TimelineLabels>
  <TextArea name="caption" toName="video" perRegion="true" required="true"/>
</View>
"""


def _write_label_studio(library: Library, folder: Path, report: ExportReport, progress: Progress) -> None:
    """`tasks.json` to import, with captions as annotations, and `interface.xml` to paste into the project."""
    tasks = []
    count = 0
    for video in _videos_with_files(library, report, progress):
        fps = (library.media_info(video.content) if video.content else {}).get("fps") or _DEFAULT_FPS
        regions = []
        for number, caption in enumerate(library.catalog.captions.of_video(video.id)):
            span = _span(caption, video)
            if span is None:
                report.damaged.append((video.id, f"how long it is is not known, so {caption.text!r} has no place"))
                continue
            regions += _regions(f"caption{number}", caption.text, _frames(span, fps))
            count += 1
        data = {"video": _served_address(video), "name": video.id, "fps": fps}
        if tags := [tag.text for tag in library.tags(video.id) if tag.start_seconds is None]:
            data["tags"] = ", ".join(tags)
        tasks.append({"data": data, "annotations": [{"result": regions}] if regions else []})
    _write_json(folder / "tasks.json", tasks)
    write_whole(folder / "interface.xml", _INTERFACE)
    report.rows |= {"videos": len(tasks), "captions": count}


def _served_address(video: Video) -> str:
    """Where Label Studio finds a file: its own address of local files counts from its document root, here `/`."""
    path = printable(video.path or "")
    return f"/data/local-files/?d={quote(path.lstrip('/'))}" if isinstance(video.path, Path) else path


def _regions(name: str, text: str, frames: tuple[int, int]) -> list[dict[str, Any]]:
    """A span of the timeline, and the text that belongs to it by its id."""
    ranges = [{"start": frames[0], "end": frames[1]}]
    shared = {"id": name, "to_name": "video"}
    return [
        shared | {"from_name": "span", "type": "timelinelabels",
                  "value": {"ranges": ranges, "timelinelabels": ["caption"]}},
        shared | {"from_name": "caption", "type": "textarea", "value": {"ranges": ranges, "text": [text]}},
    ]  # fmt: skip


def _frames(span: tuple[float, float], fps: float) -> tuple[int, int]:
    """First and last frame of a span, counted from 1."""
    first = int(span[0] * fps + 1e-6) + 1
    return first, max(first, int(np.ceil(span[1] * fps - 1e-6)))


def _videos_with_files(library: Library, report: ExportReport, progress: Progress) -> Iterator[Video]:
    """The videos whose files another tool can open; the others are reported."""
    total = library.catalog.videos.totals()[0]
    for done, video in enumerate(library.catalog.videos.pages(), 1):
        progress("exporting", done, total, video.id)
        if video.path is None:
            report.damaged.append((video.id, _NO_FILE))
        elif not is_unicode(str(video.path)):
            report.damaged.append((video.id, _NOT_UNICODE))
        else:
            yield video


def _span(caption: Caption, video: Video) -> tuple[float, float] | None:
    """Start and end of a caption in seconds; None where its end is the video's, whose length is not known."""
    end = caption.end_seconds if caption.end_seconds is not None else video.duration
    return None if end is None else (caption.start_seconds or 0.0, end)


def _write_json(path: Path, value: object) -> None:
    write_whole(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


# WebDataset


def _write_webdataset(library: Library, folder: Path, report: ExportReport, progress: Progress) -> None:
    """Shards of about a gigabyte: each video's file, what is said of it as JSON, and its tracks as NumPy arrays."""
    shard: tarfile.TarFile | None = None
    memberships: dict[str, list[str]] = {}
    for split, members in library.memberships().items():
        for name in members:
            memberships.setdefault(name, []).append(split)
    report.rows |= {"shards": 0, "videos": 0}
    total = library.catalog.videos.totals()[0]
    with ExitStack() as opened:
        for number, video in enumerate(library.catalog.videos.pages()):
            if shard is None or shard.offset >= _SHARD_BYTES:
                opened.close()
                path = folder / f"shard-{report.rows['shards']:06d}.tar"
                shard = opened.enter_context(tarfile.open(path, "w", format=tarfile.PAX_FORMAT))
                report.rows["shards"] += 1
            _add_sample(library, shard, f"{number:08d}", video, memberships.get(video.id, []), report)
            report.rows["videos"] += 1
            progress("exporting", number + 1, total, video.id)


def _add_sample(
    library: Library, shard: tarfile.TarFile, key: str, video: Video, splits: list[str], report: ExportReport
) -> None:
    captions = [vars(caption) for caption in library.catalog.captions.of_video(video.id)]
    record = {"id": video.id, "duration": video.duration, "split": video.split, "splits": splits, "captions": captions}
    if tags := library.tags(video.id):
        record["tags"] = [{key: value for key, value in vars(tag).items() if key != "video"} for tag in tags]
    _add_bytes(shard, f"{key}.json", json.dumps(record, ensure_ascii=False).encode())
    if video.path is None:
        report.damaged.append((video.id, _NO_FILE))
    else:
        try:
            with local_copy(video.path) as file:
                shard.add(file, f"{key}{video.path.suffix.lower() or '.bin'}", recursive=False, filter=_anonymous)
        except (MediaError, FileNotFoundError, PermissionError) as error:
            report.damaged.append((video.id, f"its file cannot be read: {error}"))
    for row in library.catalog.tracks.of_owners(video.owners):
        problem = library.damage(row) if row.steps else None
        if problem is not None:
            report.damaged.append((f"{video.id} {row.expert}", problem))
            continue
        values, spans = library.read(row)
        expert = re.sub(r"[^\w-]", "_", row.expert)
        _add_bytes(shard, f"{key}.{expert}.npy", _npy(values))
        _add_bytes(shard, f"{key}.{expert}.spans.npy", _npy(spans))


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same member without whose file it is on this machine; a shard of the same library is the same bytes."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode, info.mtime, info.type = 0o644, 0, tarfile.REGTYPE
    return info


def _npy(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values), allow_pickle=False)
    return buffer.getvalue()


def _add_bytes(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    shard.addfile(_anonymous(info), io.BytesIO(data))


ANNOTATIONS: dict[str, Callable[[Library, Path, ExportReport, Progress], None]] = {
    "datasets": _write_datasets,
    "fiftyone": _write_fiftyone,
    "label-studio": _write_label_studio,
    "webdataset": _write_webdataset,
}
"""By the name that `export --to` takes."""
