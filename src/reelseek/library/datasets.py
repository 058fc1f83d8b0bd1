"""Published datasets in a library: their captions, splits and features, and what is wrong with them."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from reelseek.errors import FeatureError, UsageError
from reelseek.library.imports import ImportReport, TrackWriter, track_of
from reelseek.library.names import same_name
from reelseek.library.readers import ANNOTATIONS, FEATURES, read_annotations, read_feature_files
from reelseek.library.readers.annotations import EXPECTED
from reelseek.library.store import Caption, Library
from reelseek.media.notice import Notice

__all__ = ["DataReport", "check_data", "import_annotations", "import_feature_files"]


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
    found = read_annotations(kind, paths)
    prefix = f"{dataset}/" if dataset else ""
    report = DataReport(rows=found.rows, problems=found.problems)
    forms = {same_name(video.id): video.id for video in library.videos()}

    def library_id(name: str) -> str:
        return forms.get(same_name(prefix + name), prefix + name)

    captions = [
        Caption(library_id(c.video), c.text, c.start_seconds, c.end_seconds, prefix + c.split if c.split else None)
        for c in found.captions
    ]
    splits = {prefix + split: [library_id(video) for video in members] for split, members in found.splits.items()}
    videos = dict.fromkeys([video for members in splits.values() for video in members] + [c.video for c in captions])
    with library.writing(), library.db:
        for video in videos:
            report.videos += library.db.execute("INSERT OR IGNORE INTO videos(id) VALUES (?)", (video,)).rowcount
        there: dict[str, set[tuple[object, ...]]] = {}
        for old in library.captions():
            there.setdefault(old.video, set()).add((old.text, old.start_seconds, old.end_seconds, old.split))
        positions = {video: len(rows) for video, rows in there.items()}
        for caption in captions:
            key = (caption.text, caption.start_seconds, caption.end_seconds, caption.split)
            rows = there.setdefault(caption.video, set())
            if key in rows:
                continue
            rows.add(key)
            place = positions.get(caption.video, 0)
            positions[caption.video] = place + 1
            library.db.execute("INSERT INTO captions VALUES (?, ?, ?, ?, ?, ?)", (caption.video, place, *key))
            report.captions += 1
        for split, members in splits.items():
            listed = split.removeprefix(prefix) in found.listed
            report.problems += _put_split(library, split, members, listed=listed)
            report.splits[split] = len(members)
        kinds = json.loads(library.meta("datasets") or "{}") | {dataset or "": kind}
        library.db.execute("INSERT OR REPLACE INTO meta VALUES ('datasets', ?)", (json.dumps(kinds),))
    return report


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
        library.db.execute("DELETE FROM memberships WHERE split = ?", (split,))
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
    tracks: dict[str, set[str]] = {name: set() for name in library.experts()}
    for row in library.track_rows():
        if row.steps:
            tracks[row.expert].add(row.owner)
    owners = {video.id: set(video.owners) for video in library.videos()}
    members = library.memberships()
    told = {split: set(rows) for split, rows in members.items()}
    for caption in captions:
        if caption.split and caption.split not in members:
            told.setdefault(caption.split, set()).add(caption.video)
    for video in library.videos():
        if video.split:
            told.setdefault(video.split, set()).add(video.id)
    expected = _expected(library)
    splits = {}
    for split, videos in sorted(told.items()):
        said = [c for v in videos for c in by_video.get(v, []) if c.split in (None, split)]
        own = [c for c in said if c.split == split] or said
        splits[split] = {
            "videos": len(videos),
            "expected_videos": expected.get(split),
            "captions": len(own),
            "words_a_caption": round(sum(len(c.text.split()) for c in own) / len(own), 2) if own else 0.0,
            "videos_without_captions": len(videos - {c.video for c in own}),
            "without_features": {name: sum(not (owners[v] & have) for v in videos) for name, have in tracks.items()},
        }
    texts = Counter(c.text.lower() for c in captions)
    return {
        "videos": len(owners),
        "captions": len(captions),
        "splits": splits,
        "shared": {
            f"{one} | {two}": len(told[one] & told[two])
            for one, two in combinations(sorted(told), 2)
            if told[one] & told[two] and _rivals(one, two)
        },
        "empty_captions": sum(not c.text.strip() for c in captions),
        "repeated_captions": sum(count - 1 for count in texts.values() if count > 1),
        "unexpected": [s for s, about in splits.items() if about["expected_videos"] not in (None, about["videos"])],
    }


def _expected(library: Library) -> dict[str, int]:
    kinds = json.loads(library.meta("datasets") or "{}")
    return {
        f"{dataset}/{split}" if dataset else split: count
        for dataset, kind in kinds.items()
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
            f"no format is called {kind!r}; annotations: {', '.join(ANNOTATIONS)}; features: {', '.join(FEATURES)}"
        )
    return kind in FEATURES
