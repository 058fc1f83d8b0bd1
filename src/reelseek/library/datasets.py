"""Published datasets in a library: their captions, splits and features, and what is wrong with them."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from reelseek.errors import FeatureError, UsageError, suggest
from reelseek.library.imports import ImportReport, TrackWriter, track_of
from reelseek.library.names import name_some
from reelseek.library.readers import ANNOTATIONS, FEATURES, read_annotations, read_feature_files
from reelseek.library.readers.annotations import EXPECTED
from reelseek.library.records import Caption
from reelseek.library.store import Library
from reelseek.media.notice import Notice

__all__ = ["DataReport", "check_data", "import_annotations", "import_feature_files"]

_DATASETS = "datasets"  # key in `meta`: formats by dataset


@dataclass
class DataReport:
    """What an import of annotations added; `rows` were read, and `problems` say what was guessed or not used."""

    videos: int = 0
    captions: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    problems: list[Notice] = field(default_factory=list)

    @property
    def lost_rows(self) -> int:
        return sum(notice.lost for notice in self.problems)


def import_annotations(library: Library, kind: str, paths: Sequence[Path], *, dataset: str | None = None) -> DataReport:
    """Add a dataset's videos, captions and splits; what is there already is not doubled.

    Args:
        kind: one of ANNOTATIONS.
        dataset: put before the names of videos and splits (`msrvtt/video7`, `msrvtt/1k-a/test`), so that several
            datasets can share a library.

    Raises:
        UsageError, CollectionError: see `read_annotations`; nothing was written.
    """
    annotations = read_annotations(kind, paths)
    prefix = f"{dataset}/" if dataset else ""
    report = DataReport(rows=annotations.rows, problems=annotations.problems)
    ids = _LibraryIds(library, prefix)
    captions = [
        Caption(ids[c.video], c.text, c.start_seconds, c.end_seconds, prefix + c.split if c.split else None)
        for c in annotations.captions
    ]
    splits = {prefix + split: [ids[video] for video in members] for split, members in annotations.splits.items()}
    videos = dict.fromkeys([video for members in splits.values() for video in members] + [c.video for c in captions])
    catalog = library.catalog
    with library.writing(), catalog.transaction():
        report.problems += _unknown_ids(library, splits, annotations.listed, {c.video for c in captions}, prefix)
        report.videos = sum(catalog.videos.add(video) for video in videos)
        report.captions = catalog.captions.add(captions)
        for split, members in splits.items():
            is_listed = split.removeprefix(prefix) in annotations.listed
            report.problems += _put_split(library, split, members, listed=is_listed)
            report.splits[split] = len(members)
        kinds = _kinds(library) | {dataset or "": kind}
        catalog.set_meta(_DATASETS, json.dumps(kinds))
    return report


def _unknown_ids(
    library: Library, splits: dict[str, list[str]], listed: set[str], captioned: set[str], prefix: str
) -> list[Notice]:
    """Count the ids of lists that neither the library nor the annotations know: they are videos of which nothing is."""
    if not captioned and not library.catalog.videos.totals()[0]:  # a list that begins a library has nothing to fit
        return []
    notices = []
    for split, members in splits.items():
        if split.removeprefix(prefix) not in listed:
            continue
        existing = library.catalog.videos.existing(members)
        unknown = [video for video in members if video not in captioned and video not in existing]
        if unknown:
            message = f"{len(unknown)} of {len(members)} ids of the list have no caption and were no videos before"
            notices.append(Notice(split, f"{message}: {name_some(unknown)}"))
    return notices


class _LibraryIds(dict[str, str]):
    """The library's ids of a dataset's videos: those that it has in any form of the letters, else new ones."""

    def __init__(self, library: Library, prefix: str) -> None:
        super().__init__()
        self._names, self._prefix = library.names(), prefix

    def __missing__(self, name: str) -> str:
        matches = self._names.same(self._prefix + name)
        if len(matches) > 1:
            candidates = name_some([video.id for video in matches])
            raise UsageError(f"the video {self._prefix + name} could be {candidates}; remove one of them first")
        self[name] = matches[0].id if matches else self._prefix + name
        return self[name]


def _kinds(library: Library) -> dict[str, str]:
    """Formats of annotations that were imported, by dataset."""
    return dict(json.loads(library.meta(_DATASETS) or "{}"))


def _put_split(library: Library, split: str, members: Sequence[str], *, listed: bool) -> list[Notice]:
    """A list replaces what the library has of a split; other annotations add to it. Either is said."""
    old = set(library.memberships().get(split, ()))
    notices = []
    if old and listed and (gone := len(old - set(members))):
        message = f"now the {len(members)} videos of the list; {gone} that it had before are in it no more"
        notices.append(Notice(split, message))
    elif old and not listed and (new := len(set(members) - old)):
        notices.append(Notice(split, f"{new} videos are added to the {len(old)} that it had"))
    if listed:
        library.catalog.captions.clear_members(split)
    library.put_split(split, members)
    return notices


def import_feature_files(
    library: Library,
    kind: str,
    paths: Sequence[Path],
    *,
    dataset: str | None = None,
    progress: Callable[[str, int, int, str], None] | None = None,
) -> ImportReport:
    """Add the features of other projects' files as tracks of the library's videos.

    A file that says that a video has nothing becomes a track without steps: examined, nothing there.

    Raises:
        UsageError, CollectionError: unknown format, or no file of it.
    """
    with library.writing(), library.saving():
        writer = TrackWriter(library)
        for count, features in enumerate(read_feature_files(kind, paths, writer.report.failed), 1):
            names = [(name, ()) for name in ([f"{dataset}/{features.video}"] if dataset else []) + [features.video]]
            video = writer.find(features.video, names)
            if video is None:
                continue
            if features.problem:
                writer.report.failed.append((f"{features.expert} of {features.video}", features.problem))
                continue
            if features.values is None:
                writer.report.empty += 1
                continue
            try:
                dim = writer.prepare(features.expert, features.modality, None)
                track = track_of(features.values, video, None, dim, features.spans)
                writer.write(features.video, video, features.expert, features.modality, None, track)
            except (FeatureError, UsageError) as error:
                writer.report.failed.append((f"{features.expert} of {features.video}", str(error)))
            if progress:
                progress("importing", count, 0, features.video)
    return writer.report


def check_data(library: Library) -> dict[str, Any]:
    """Counts a split, and what is wrong: absent features, shared ids, empty and repeated captions, unexpected sizes."""
    captions = library.captions()
    by_video: dict[str, list[Caption]] = {}
    for caption in captions:
        by_video.setdefault(caption.video, []).append(caption)
    owners = {video.id: set(video.owners) for video in library.videos()}
    members = _split_members(library, captions)
    expected, tracks = _expected(library), _owners_by_expert(library)
    splits: dict[str, dict[str, Any]] = {}
    for split, videos in sorted(members.items()):
        usable = [c for v in videos for c in by_video.get(v, []) if c.split in (None, split)]
        counted = [c for c in usable if c.split == split] or usable
        words = sum(len(c.text.split()) for c in counted)
        splits[split] = {
            "videos": len(videos),
            "expected_videos": expected.get(split),
            "captions": len(counted),
            "words_a_caption": round(words / len(counted), 2) if counted else 0.0,
            "videos_without_captions": len(videos - {c.video for c in counted}),
            "without_features": {name: sum(not (owners[v] & have) for v in videos) for name, have in tracks.items()},
        }
    texts = Counter(c.text.lower() for c in captions)
    return {
        "videos": len(owners),
        "captions": len(captions),
        "splits": splits,
        "shared": {
            f"{one} | {two}": len(members[one] & members[two])
            for one, two in combinations(sorted(members), 2)
            if members[one] & members[two] and _rivals(one, two)
        },
        "empty_captions": sum(not c.text.strip() for c in captions),
        "repeated_captions": sum(count - 1 for count in texts.values() if count > 1),
        "unexpected": [name for name, row in splits.items() if row["expected_videos"] not in (None, row["videos"])],
    }


def _split_members(library: Library, captions: Sequence[Caption]) -> dict[str, set[str]]:
    """Videos by split: of a list where there is one, else those whose captions or rows say so."""
    listed = library.memberships()
    members = {split: set(videos) for split, videos in listed.items()}
    for caption in captions:
        if caption.split and caption.split not in listed:
            members.setdefault(caption.split, set()).add(caption.video)
    for video in library.videos():
        if video.split:
            members.setdefault(video.split, set()).add(video.id)
    return members


def _owners_by_expert(library: Library) -> dict[str, set[str]]:
    """Owners of tracks with steps."""
    owners: dict[str, set[str]] = {name: set() for name in library.experts()}
    for row in library.track_rows():
        if row.steps:
            owners[row.expert].add(row.owner)
    return owners


def _expected(library: Library) -> dict[str, int]:
    return {
        f"{dataset}/{split}" if dataset else split: count
        for dataset, kind in _kinds(library).items()
        for split, count in EXPECTED.get(kind, {}).items()
    }


def _rivals(one: str, two: str) -> bool:
    """Whether two splits are parts of one division, `1k-a/train` and `1k-a/test`, which may share nothing.

    ActivityNet's two validation lists describe the same videos, and MSR-VTT's list of 7,000 is part of that of 9,000.
    """
    parts = {one.rpartition("/")[2], two.rpartition("/")[2]}
    same = one.rpartition("/")[0] == two.rpartition("/")[0]
    return same and parts not in ({"val1", "val2"}, {"train", "train-7k"})


def is_features(kind: str) -> bool:
    """Whether a format holds features.

    Raises:
        UsageError: there is no such format.
    """
    if kind not in ANNOTATIONS and kind not in FEATURES:
        raise UsageError(
            f"no format is called {kind!r}{suggest(kind, [*ANNOTATIONS, *FEATURES])}; annotations: "
            f"{', '.join(ANNOTATIONS)}; features: {', '.join(FEATURES)}"
        )
    return kind in FEATURES
