"""Annotations and split lists of published datasets, as their owners give them out.

Each reader takes one file and adds what it holds; which file is which is told by its content and, for splits that stand
in no file, by its name. Files of one dataset can be given in any order and number.
"""

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelseek.errors import CollectionError, UsageError
from reelseek.library.cells import caption_text
from reelseek.library.names import printable
from reelseek.library.readers.pickles import read_pickle
from reelseek.library.records import Caption
from reelseek.library.tables import read_json, read_table
from reelseek.library.texts import is_unicode, read_text, split_lines
from reelseek.media.notice import Notice

__all__ = ["ANNOTATIONS", "EXPECTED", "Annotations", "read_annotations"]


@dataclass
class Annotations:
    """Attributes:
    captions: of any video; one that belongs to a single split says so.
    splits: the videos of each split, in the order of its list.
    listed: splits that a list names, which wins over what an annotation file says besides.
    rows: captions and lines of lists that were read.
    problems: what was guessed, and rows that could not be used.
    """

    captions: list[Caption] = field(default_factory=list)
    splits: dict[str, list[str]] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)
    rows: int = 0
    problems: list[Notice] = field(default_factory=list)
    _members: dict[str, dict[tuple[int, str], dict[str, None]]] = field(default_factory=dict, repr=False)
    _file: str = field(default="", repr=False)

    def say(
        self, video: str, text: Any, start: float | None = None, end: float | None = None, split: str | None = None
    ) -> None:
        """One caption; an empty one, or what is none, is a problem and no caption."""
        try:
            words = caption_text("" if text is None else text)
            if start is not None and end is not None and not end > start:
                raise ValueError(f"a caption from {start:g} to {end:g} seconds")
        except ValueError as error:
            self.lose(video, str(error))
            return
        if not words:
            self.problems.append(Notice(video, "an empty caption"))
        elif self._is_name(video):
            self.rows += 1
            self.captions.append(Caption(video, words, start, end, split))

    def member(self, split: str, video: str, rank: int = 0) -> None:
        """One video of a split.

        Args:
            rank: of its file: 0 for annotations, more for lists; of one split the highest counts.
        """
        if self._is_name(video):
            self.rows += rank > 0
            self._members.setdefault(split, {}).setdefault((rank, self._file), {})[video] = None

    def lose(self, place: str, message: str) -> None:
        """Note a row that cannot be used."""
        self.problems.append(Notice(ascii(place)[1:-1] if not is_unicode(place) else place, message, lost=True))

    def _is_name(self, video: str) -> bool:
        if video and "\0" not in video and is_unicode(video):
            return True
        self.lose(video or self._file, "a video's name is empty or holds what is no text")
        return False

    def read_file(self, read: "Read", path: Path) -> None:
        """Add what one file holds."""
        self._file = path.name
        read(self, path)

    def settle_splits(self) -> None:
        """Decide which files name each split, and say so where they differ."""
        for split, files in self._members.items():
            best = max(rank for rank, _ in files)
            winners = {name: videos for (rank, name), videos in files.items() if rank == best}
            videos = dict.fromkeys(video for members in winners.values() for video in members)
            self.splits[split] = list(videos)
            if best:
                self.listed.add(split)
            names = " and ".join(winners)
            others = {name: members for (rank, name), members in files.items() if rank < best}
            if gone := {video for members in others.values() for video in members} - set(videos):
                message = (
                    f"{split} is the {len(videos)} videos of this list; {len(gone)} more that "
                    f"{' and '.join(others)} would put into it are not in it"
                )
                self.problems.append(Notice(names, message))
            if best and any(len(members) < len(videos) for members in winners.values()):
                self.problems.append(Notice(names, f"{split} is put together of these lists: {len(videos)} videos"))


Read = Callable[[Annotations, Path], None]


def _json(found: Annotations, path: Path) -> Any:
    return read_json(path, found.problems)


def _rows(found: Annotations, path: Path) -> list[dict[str, str]]:
    table = read_table(path, notices=found.problems)
    found.problems += table.notices + table.lost
    return [{name: cell.strip() for name, cell in row.cells.items()} for row in table.rows]


def _lines(found: Annotations, path: Path) -> list[str]:
    lines = []
    for number, line in enumerate(split_lines(read_text(path, found.problems)), 1):
        if "\0" in line or not is_unicode(line):
            found.lose(f"{printable(path)}, line {number}", "it holds bytes that are no text")
        elif line.strip():
            lines.append(line.strip())
    return lines


def _split_of(path: Path, default: str | None = None) -> str:
    """The split that a file's name tells.

    Raises:
        UsageError: it tells none.
    """
    name = path.stem.lower()
    for pattern, split in (
        (r"val(idation)?[_-]?(list)?[_-]?2", "val2"), (r"val(idation)?[_-]?(list)?[_-]?1", "val1"),
        (r"test|publictect", "test"), (r"val|dev", "val"), (r"train", "train"),
    ):  # fmt: skip
        if re.search(pattern, name):
            return split
    if default is not None:
        return default
    raise UsageError(f"{path.name}: which split is it? Its name should hold train, val or test")


def _list(found: Annotations, path: Path, split: str, clean: Callable[[str], str] = str) -> None:
    for line in _lines(found, path):
        found.member(split, clean(line), rank=2 if "clean" in path.stem.lower() else 1)


def _captions_pickle(found: Annotations, path: Path) -> None:
    """CE's raw captions: id -> captions, each a list of words or a string."""
    for video, captions in _mapping(path).items():
        for caption in captions:
            found.say(str(video), caption if isinstance(caption, str) else " ".join(map(str, caption)))


def _mapping(path: Path) -> dict[Any, Any]:
    whole = read_pickle(path)
    if not isinstance(whole, dict):
        raise CollectionError(f"{path} holds a {type(whole).__name__}; wanted a mapping from video ids")
    return whole


# MSR-VTT

_MSRVTT = {"full": "full", "jsfusion": "1k-a", "miech": "1k-b"}


def _msrvtt(found: Annotations, path: Path) -> None:
    name = path.name.lower()
    if path.suffix == ".json":
        whole = _json(found, path)
        for video in whole.get("videos", []):
            split = {"validate": "val"}.get(str(video.get("split")), str(video.get("split")))
            found.member(f"full/{split}", str(video["video_id"]))
        for sentence in whole.get("sentences", []):
            found.say(str(sentence["video_id"]), sentence["caption"])
    elif path.suffix == ".csv":
        for row in _rows(found, path):
            if row.get("sentence"):
                found.member("1k-a/test", row["video_id"])
                found.say(row["video_id"], row["sentence"], split="1k-a/test")
            else:
                found.member("1k-a/train-7k" if "7k" in name else "1k-a/train", row["video_id"])
    elif path.suffix in (".pkl", ".pickle"):
        _captions_pickle(found, path)
    else:
        kind = next((value for key, value in _MSRVTT.items() if key in name), "full")
        split = _split_of(path)
        # What CE calls the validation list of 1k-A is the test set of everyone else.
        _list(found, path, f"{kind}/{'test' if kind != 'full' and split == 'val' else split}")


# One file, one shape


def _msvd(found: Annotations, path: Path) -> None:
    if path.suffix in (".pkl", ".pickle"):
        _captions_pickle(found, path)
    elif path.suffix == ".csv":
        for row in _rows(found, path):
            if row.get("Language", "English") == "English":
                found.say(f"{row['VideoID']}_{row['Start']}_{row['End']}", row["Description"])
    elif "list" in path.name.lower():
        _list(found, path, _split_of(path))
    else:  # AllVideoDescriptions.txt
        for line in _lines(found, path):
            video, _, text = line.partition(" ")
            if not line.startswith("#") and text:
                found.say(video, text)


def _lsmdc(found: Annotations, path: Path) -> None:
    split = _split_of(path)
    if path.suffix == ".txt":
        _list(found, path, split)
        return
    for line in _lines(found, path):
        columns = line.split("\t")
        if len(columns) < 6:
            found.lose(line[:40], f"{len(columns)} columns, wanted 6")
            continue
        found.member(split, columns[0])
        found.say(columns[0], columns[5], split=split)


def _activitynet(found: Annotations, path: Path) -> None:
    if path.suffix != ".json":
        _list(found, path, _split_of(path))
        return
    split = _split_of(path)
    whole = _json(found, path)
    if isinstance(whole, list):  # a list of ids
        for video in whole:
            found.member(split, str(video))
        return
    for video, about in whole.items():
        found.member(split, video)
        for (start, end), text in zip(about["timestamps"], about["sentences"], strict=False):
            found.say(video, text, float(start), float(end), split)


def _youcook2(found: Annotations, path: Path) -> None:
    if path.suffix == ".csv":  # MIL-NCE's: end, start, task, text, video_id
        for row in _rows(found, path):
            found.member(_split_of(path, "val"), row["video_id"])
            found.say(row["video_id"], row["text"], float(row["start"]), float(row["end"]), _split_of(path, "val"))
        return
    names = {"training": "train", "validation": "val", "testing": "test"}
    for video, about in _json(found, path)["database"].items():
        split = names.get(about["subset"], about["subset"])
        found.member(split, video)
        for each in about.get("annotations", []):
            found.say(video, each["sentence"], float(each["segment"][0]), float(each["segment"][1]), split)


def _didemo(found: Annotations, path: Path) -> None:
    split = _split_of(path)
    if path.suffix != ".json":
        _list(found, path, split, lambda line: line.rsplit(".", 1)[0] if "." in line else line)
        return
    for each in _json(found, path):
        video = str(each["video"])
        found.member(split, video)
        times = sorted(map(tuple, each.get("times", [])))
        middle = times[len(times) // 2] if times else None  # the middle of what the annotators chose
        start, end = (5.0 * middle[0], 5.0 * (middle[1] + 1)) if middle else (None, None)
        found.say(video, each["description"], start, end, split)


def _vatex(found: Annotations, path: Path) -> None:
    split = _split_of(path)
    for each in _json(found, path):
        found.member(split, each["videoID"])
        for text in each.get("enCap", []):
            found.say(each["videoID"], text)


def _tgif(found: Annotations, path: Path) -> None:
    def name(url: str) -> str:
        return url.rsplit("/", 1)[-1].removesuffix(".gif")

    if path.suffix == ".tsv":
        for line in _lines(found, path):
            url, _, text = line.partition("\t")
            found.say(name(url), text)
    else:
        _list(found, path, _split_of(path), name)


def _vines(found: Annotations, path: Path) -> None:
    """TRECVID's video-to-text tasks: a number, then a url or a description."""
    for line in _lines(found, path):
        video, _, rest = line.replace("\t", " ").partition(" ")
        found.member(_split_of(path, "test"), video)
        if rest and not rest.startswith("http"):
            found.say(video, rest)


def _ssv2(found: Annotations, path: Path) -> None:
    whole = _json(found, path)
    if isinstance(whole, dict):  # the list of templates
        return
    split = _split_of(path)
    for each in whole:
        found.member(split, str(each["id"]))
        if each.get("label"):
            found.say(str(each["id"]), each["label"], split=split)


def _howto100m(found: Annotations, path: Path) -> None:
    if path.suffix in (".json", ".pickle", ".pkl"):
        whole = _json(found, path) if path.suffix == ".json" else _mapping(path)
        for video, about in whole.items():
            found.member("train", str(video))
            for start, end, text in zip(about["start"], about["end"], about["text"], strict=False):
                found.say(str(video), text, float(start), float(end))
    elif "path" in (header := _lines(Annotations(), path)[0]) and "," not in header:
        for line in _lines(found, path)[1:]:
            found.member("train", line.rsplit("/", 1)[-1])
    else:
        for row in _rows(found, path):
            found.member("train", row["video_id"])


def _audioset(found: Annotations, path: Path) -> None:
    split = "eval" if "eval" in path.name else _split_of(path)
    for line in _lines(found, path):
        if line.startswith("#"):
            continue
        parts = next(csv.reader([line], skipinitialspace=True))
        if len(parts) < 4:
            found.lose(line[:40], "wanted id, start, end, labels")
            continue
        found.member(split, parts[0])
        found.say(parts[0], ", ".join(parts[3].split(",")), float(parts[1]), float(parts[2]), split)


def _kinetics(found: Annotations, path: Path) -> None:
    for row in _rows(found, path):
        split = {"validate": "val", "validation": "val"}.get(row.get("split", ""), row.get("split") or _split_of(path))
        video = row.get("youtube_id") or row["YouTube_id"]
        found.member(split, video)
        if row.get("label"):
            found.say(video, row["label"], float(row["time_start"]), float(row["time_end"]), split)


def _crosstask(found: Annotations, path: Path) -> None:
    if path.suffix == ".txt":  # tasks: blocks of id, title, url, count and steps
        return
    for line in _lines(found, path):
        task, video, *_ = line.split(",")
        found.member("val" if "val" in path.stem else "train", video)
        found.say(video, f"task {task}")


def _coot(found: Annotations, path: Path) -> None:
    for video, about in _json(found, path).items():
        split = str(about.get("split", "train"))
        found.member(split, video)
        for each in about.get("segments", []):
            found.say(video, each["text"], float(each["start_sec"]), float(each["stop_sec"]), split)


def _umi(found: Annotations, path: Path) -> None:
    """UMI's parts of MSR-VTT by which modalities a video has: a list of ids, named by its file."""
    _list(found, path, path.stem)


ANNOTATIONS: dict[str, Read] = {
    "msrvtt": _msrvtt, "msvd": _msvd, "lsmdc": _lsmdc, "activitynet": _activitynet, "youcook2": _youcook2,
    "didemo": _didemo, "vatex": _vatex, "tgif": _tgif, "vines": _vines, "ssv2": _ssv2, "howto100m": _howto100m,
    "audioset": _audioset, "kinetics": _kinetics, "crosstask": _crosstask, "coot": _coot, "umi": _umi,
}  # fmt: skip

# Videos of each split as published; what `data check` compares with.
EXPECTED: dict[str, dict[str, int]] = {
    "msrvtt": {
        "full/train": 6513, "full/val": 497, "full/test": 2990, "1k-a/train": 9000, "1k-a/test": 1000,
        "1k-b/train": 6656, "1k-b/test": 1000, "1k-a/train-7k": 7010,
    },
    "msvd": {"train": 1200, "val": 100, "test": 670},
    "lsmdc": {"train": 101046, "val": 7408, "test": 1000},
    "activitynet": {"train": 10009, "val1": 4917, "val2": 4885},
    "didemo": {"train": 8392, "val": 1065, "test": 1004},
    "youcook2": {"train": 1333, "val": 457, "test": 210},
    "vatex": {"train": 25991, "val": 3000, "test": 6000},
    "tgif": {"train": 78799, "val": 10705, "test": 11351},
    "ssv2": {"train": 168913, "val": 24777, "test": 27157},
}  # fmt: skip


def read_annotations(kind: str, paths: Sequence[Path]) -> Annotations:
    """Everything that some files of one dataset hold; a folder stands for the files in it.

    Raises:
        UsageError: no such dataset, or a file whose split cannot be told.
        CollectionError: a file cannot be read, or is of another shape.
    """
    if kind not in ANNOTATIONS:
        raise UsageError(f"no annotations are called {kind!r}; there are {', '.join(ANNOTATIONS)}")
    found = Annotations()
    for path in _files(paths):
        try:
            found.read_file(ANNOTATIONS[kind], path)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise CollectionError(
                f"{path} is not an annotation file of {kind} as it is known here: {type(error).__name__}: {error}"
            ) from error
    found.settle_splits()
    if not found.captions and not found.splits:
        raise CollectionError(f"{', '.join(map(str, paths))}: neither a caption nor a split was found")
    return found


def _files(paths: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
        elif path.is_file():
            found.append(path)
        else:
            raise CollectionError(f"{path}: no such file or folder")
    return found
