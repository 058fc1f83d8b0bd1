"""Annotations and split lists of published datasets, as their owners give them out.

Each reader takes one file and adds what it holds; which file is which is told by its content and, for splits that stand
in no file, by its name. Files of one dataset can be given in any order and number.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelseek.errors import CollectionError, UsageError
from reelseek.library.readers.pickles import read_pickle
from reelseek.library.store import Caption

__all__ = ["ANNOTATIONS", "EXPECTED", "Annotations", "read_annotations"]


@dataclass
class Annotations:
    """Attributes:
    captions: of any video; one that belongs to a single split says so.
    splits: the videos of each split, in the order of its list.
    problems: rows that could not be used (where, why).
    """

    captions: list[Caption] = field(default_factory=list)
    splits: dict[str, list[str]] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def say(
        self, video: str, text: Any, start: float | None = None, end: float | None = None, split: str | None = None
    ) -> None:
        """One caption; an empty one is a problem and no caption."""
        words = " ".join(str(text).split())
        if not words:
            self.problems.append((video, "an empty caption"))
            return
        if start is not None and end is not None and not end > start:
            self.problems.append((video, f"a caption from {start:g} to {end:g} seconds"))
            return
        self.captions.append(Caption(video, words, start, end, split))

    def member(self, split: str, video: str) -> None:
        rows = self.splits.setdefault(split, [])
        if video not in self._known.setdefault(split, set()):
            self._known[split].add(video)
            rows.append(video)

    _known: dict[str, set[str]] = field(default_factory=dict, repr=False)


Read = Callable[[Annotations, Path], None]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CollectionError(f"{path} cannot be read as JSON: {error}") from error


def _rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [
                {str(k).strip(): (v or "").strip() for k, v in row.items() if k is not None}
                for row in csv.DictReader(file, delimiter=delimiter)
            ]
    except (OSError, ValueError, csv.Error) as error:
        raise CollectionError(f"{path} cannot be read as a table: {error}") from error


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise CollectionError(f"{path} cannot be read: {error}") from error


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
    for line in _lines(path):
        found.member(split, clean(line))


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
        whole = _json(path)
        for video in whole.get("videos", []):
            split = {"validate": "val"}.get(str(video.get("split")), str(video.get("split")))
            found.member(f"full/{split}", str(video["video_id"]))
        for sentence in whole.get("sentences", []):
            found.say(str(sentence["video_id"]), sentence["caption"])
    elif path.suffix == ".csv":
        for row in _rows(path):
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
        for row in _rows(path):
            if row.get("Language", "English") == "English":
                found.say(f"{row['VideoID']}_{row['Start']}_{row['End']}", row["Description"])
    elif "list" in path.name.lower():
        _list(found, path, _split_of(path))
    else:  # AllVideoDescriptions.txt
        for line in _lines(path):
            video, _, text = line.partition(" ")
            if not line.startswith("#") and text:
                found.say(video, text)


def _lsmdc(found: Annotations, path: Path) -> None:
    split = _split_of(path)
    if path.suffix == ".txt":
        _list(found, path, split)
        return
    for line in _lines(path):
        columns = line.split("\t")
        if len(columns) < 6:
            found.problems.append((line[:40], f"{len(columns)} columns, wanted 6"))
            continue
        found.member(split, columns[0])
        found.say(columns[0], columns[5], split=split)


def _activitynet(found: Annotations, path: Path) -> None:
    if path.suffix != ".json":
        _list(found, path, _split_of(path))
        return
    split = _split_of(path)
    whole = _json(path)
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
        for row in _rows(path):
            found.member(_split_of(path, "val"), row["video_id"])
            found.say(row["video_id"], row["text"], float(row["start"]), float(row["end"]), _split_of(path, "val"))
        return
    names = {"training": "train", "validation": "val", "testing": "test"}
    for video, about in _json(path)["database"].items():
        split = names.get(about["subset"], about["subset"])
        found.member(split, video)
        for each in about.get("annotations", []):
            found.say(video, each["sentence"], float(each["segment"][0]), float(each["segment"][1]), split)


def _didemo(found: Annotations, path: Path) -> None:
    split = _split_of(path)
    if path.suffix != ".json":
        _list(found, path, split, lambda line: line.rsplit(".", 1)[0] if "." in line else line)
        return
    for each in _json(path):
        video = str(each["video"])
        found.member(split, video)
        times = sorted(map(tuple, each.get("times", [])))
        middle = times[len(times) // 2] if times else None  # the middle of what the annotators chose
        start, end = (5.0 * middle[0], 5.0 * (middle[1] + 1)) if middle else (None, None)
        found.say(video, each["description"], start, end, split)


def _vatex(found: Annotations, path: Path) -> None:
    split = _split_of(path)
    for each in _json(path):
        found.member(split, each["videoID"])
        for text in each.get("enCap", []):
            found.say(each["videoID"], text)


def _tgif(found: Annotations, path: Path) -> None:
    def name(url: str) -> str:
        return url.rsplit("/", 1)[-1].removesuffix(".gif")

    if path.suffix == ".tsv":
        for line in _lines(path):
            url, _, text = line.partition("\t")
            found.say(name(url), text)
    else:
        _list(found, path, _split_of(path), name)


def _vines(found: Annotations, path: Path) -> None:
    """TRECVID's video-to-text tasks: a number, then a url or a description."""
    for line in _lines(path):
        video, _, rest = line.replace("\t", " ").partition(" ")
        found.member(_split_of(path, "test"), video)
        if rest and not rest.startswith("http"):
            found.say(video, rest)


def _ssv2(found: Annotations, path: Path) -> None:
    whole = _json(path)
    if isinstance(whole, dict):  # the list of templates
        return
    split = _split_of(path)
    for each in whole:
        found.member(split, str(each["id"]))
        if each.get("label"):
            found.say(str(each["id"]), each["label"], split=split)


def _howto100m(found: Annotations, path: Path) -> None:
    if path.suffix in (".json", ".pickle", ".pkl"):
        whole = _json(path) if path.suffix == ".json" else _mapping(path)
        for video, about in whole.items():
            found.member("train", str(video))
            for start, end, text in zip(about["start"], about["end"], about["text"], strict=False):
                found.say(str(video), text, float(start), float(end))
    elif "path" in (header := _lines(path)[0]) and "," not in header:
        for line in _lines(path)[1:]:
            found.member("train", line.rsplit("/", 1)[-1])
    else:
        for row in _rows(path):
            found.member("train", row["video_id"])


def _audioset(found: Annotations, path: Path) -> None:
    split = "eval" if "eval" in path.name else _split_of(path)
    for line in _lines(path):
        if line.startswith("#"):
            continue
        parts = next(csv.reader([line], skipinitialspace=True))
        if len(parts) < 4:
            found.problems.append((line[:40], "wanted id, start, end, labels"))
            continue
        found.member(split, parts[0])
        found.say(parts[0], ", ".join(parts[3].split(",")), float(parts[1]), float(parts[2]), split)


def _kinetics(found: Annotations, path: Path) -> None:
    for row in _rows(path):
        split = {"validate": "val", "validation": "val"}.get(row.get("split", ""), row.get("split") or _split_of(path))
        video = row.get("youtube_id") or row["YouTube_id"]
        found.member(split, video)
        if row.get("label"):
            found.say(video, row["label"], float(row["time_start"]), float(row["time_end"]), split)


def _crosstask(found: Annotations, path: Path) -> None:
    if path.suffix == ".txt":  # tasks: blocks of id, title, url, count and steps
        return
    for line in _lines(path):
        task, video, *_ = line.split(",")
        found.member("val" if "val" in path.stem else "train", video)
        found.say(video, f"task {task}")


def _coot(found: Annotations, path: Path) -> None:
    for video, about in _json(path).items():
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
            ANNOTATIONS[kind](found, path)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise CollectionError(
                f"{path} is not an annotation file of {kind} as it is known here: {type(error).__name__}: {error}"
            ) from error
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
