"""Annotations and split lists of published datasets, as their owners give them out.

Each reader takes one file and adds what it holds; which file is which is told by its content and, for splits that stand
in no file, by its name. Files of one dataset can be given in any order and number.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from reelseek.errors import CollectionError, UsageError, suggest
from reelseek.library.names import printable
from reelseek.library.readers.collected import Annotations
from reelseek.library.readers.pickles import read_pickle
from reelseek.library.tables import read_json, read_table, split_cells
from reelseek.library.texts import is_unicode, read_text, split_lines
from reelseek.media.notice import Notice

__all__ = ["ANNOTATIONS", "EXPECTED", "Annotations", "read_annotations"]


Read = Callable[[Annotations, Path], None]


def _json(annotations: Annotations, path: Path) -> Any:
    return read_json(path, annotations.problems)


def _rows(annotations: Annotations, path: Path) -> list[dict[str, str]]:
    table = read_table(path, notices=annotations.problems)
    annotations.problems += table.notices + table.lost
    return [{name: cell.strip() for name, cell in row.cells.items()} for row in table.rows]


def _lines(annotations: Annotations, path: Path) -> list[str]:
    lines = []
    for number, line in enumerate(split_lines(read_text(path, annotations.problems)), 1):
        if "\0" in line or not is_unicode(line):
            annotations.lose(f"{printable(path)}, line {number}", "it holds bytes that are no text")
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


def _list(annotations: Annotations, path: Path, split: str, clean: Callable[[str], str] = str) -> None:
    videos = [clean(line) for line in _lines(annotations, path)]
    for video in videos:
        annotations.member(split, video, rank=2 if "clean" in path.stem.lower() else 1)
    if repeated := len(videos) - len(set(videos)):
        message = f"{repeated} of {len(videos)} lines name a video that an earlier line names; it counts once"
        annotations.problems.append(Notice(path.name, message))


def _captions_pickle(annotations: Annotations, path: Path) -> None:
    """CE's raw captions: id -> captions, each a list of words or a string."""
    for video, captions in _mapping(path).items():
        for caption in captions:
            annotations.say(str(video), caption if isinstance(caption, str) else " ".join(map(str, caption)))


def _mapping(path: Path) -> dict[Any, Any]:
    document = read_pickle(path)
    if not isinstance(document, dict):
        raise CollectionError(f"{path} holds a {type(document).__name__}; wanted a mapping from video ids")
    return document


# MSR-VTT

_MSRVTT = {"full": "full", "jsfusion": "1k-a", "miech": "1k-b"}


def _msrvtt(annotations: Annotations, path: Path) -> None:
    name = path.name.lower()
    if path.suffix == ".json":
        document = _json(annotations, path)
        for video in document.get("videos", []):
            split = {"validate": "val"}.get(str(video.get("split")), str(video.get("split")))
            annotations.member(f"full/{split}", str(video["video_id"]))
        for sentence in document.get("sentences", []):
            annotations.say(str(sentence["video_id"]), sentence["caption"])
    elif path.suffix == ".csv":
        for row in _rows(annotations, path):
            if row.get("sentence"):
                annotations.member("1k-a/test", row["video_id"])
                annotations.say(row["video_id"], row["sentence"], split="1k-a/test")
            else:
                annotations.member("1k-a/train-7k" if "7k" in name else "1k-a/train", row["video_id"])
    elif path.suffix in (".pkl", ".pickle"):
        _captions_pickle(annotations, path)
    else:
        kind = next((value for key, value in _MSRVTT.items() if key in name), "full")
        split = _split_of(path)
        # What CE calls the validation list of 1k-A is the test set of everyone else.
        split = "test" if kind != "full" and split == "val" else split
        _list(annotations, path, f"{kind}/{split}")
        if "clean" in name:  # MDMMT's M_c: a split of its own too, which the full list cannot take the place of
            for line in _lines(annotations, path):
                annotations.member(f"{kind}-clean/{split}", line, rank=2, count=False)


# One file, one shape


def _msvd(annotations: Annotations, path: Path) -> None:
    if path.suffix in (".pkl", ".pickle"):
        _captions_pickle(annotations, path)
    elif path.suffix == ".csv":
        for row in _rows(annotations, path):
            if row.get("Language", "English") == "English":
                annotations.say(f"{row['VideoID']}_{row['Start']}_{row['End']}", row["Description"])
    elif "list" in path.name.lower():
        _list(annotations, path, _split_of(path))
    else:  # AllVideoDescriptions.txt
        for line in _lines(annotations, path):
            video, _, text = line.partition(" ")
            if not line.startswith("#") and text:
                annotations.say(video, text)


def _lsmdc(annotations: Annotations, path: Path) -> None:
    split = _split_of(path)
    if path.suffix == ".txt":
        _list(annotations, path, split)
        return
    for line in _lines(annotations, path):
        columns = line.split("\t")
        if len(columns) < 6:
            annotations.lose(line[:40], f"{len(columns)} columns, wanted 6")
            continue
        annotations.member(split, columns[0])
        annotations.say(columns[0], columns[5], split=split)


def _activitynet(annotations: Annotations, path: Path) -> None:
    if path.suffix != ".json":
        _list(annotations, path, _split_of(path))
        return
    split = _split_of(path)
    document = _json(annotations, path)
    if isinstance(document, list):  # a list of ids
        for video in document:
            annotations.member(split, str(video))
        return
    for video, entry in document.items():
        annotations.member(split, video)
        for (start, end), text in zip(entry["timestamps"], entry["sentences"], strict=False):
            annotations.say(video, text, float(start), float(end), split)


def _youcook2(annotations: Annotations, path: Path) -> None:
    if path.suffix == ".csv":  # MIL-NCE's: end, start, task, text, video_id
        for row in _rows(annotations, path):
            annotations.member(_split_of(path, "val"), row["video_id"])
            annotations.say(
                row["video_id"], row["text"], float(row["start"]), float(row["end"]), _split_of(path, "val")
            )
        return
    names = {"training": "train", "validation": "val", "testing": "test"}
    for video, entry in _json(annotations, path)["database"].items():
        split = names.get(entry["subset"], entry["subset"])
        annotations.member(split, video)
        for row in entry.get("annotations", []):
            annotations.say(video, row["sentence"], float(row["segment"][0]), float(row["segment"][1]), split)


def _didemo(annotations: Annotations, path: Path) -> None:
    split = _split_of(path)
    if path.suffix != ".json":
        _list(annotations, path, split, lambda line: line.rsplit(".", 1)[0] if "." in line else line)
        return
    for row in _json(annotations, path):
        video = str(row["video"])
        annotations.member(split, video)
        times = sorted(map(tuple, row.get("times", [])))
        middle = times[len(times) // 2] if times else None  # the middle of what the annotators chose
        start, end = (5.0 * middle[0], 5.0 * (middle[1] + 1)) if middle else (None, None)
        annotations.say(video, row["description"], start, end, split)


def _vatex(annotations: Annotations, path: Path) -> None:
    split = _split_of(path)
    for row in _json(annotations, path):
        annotations.member(split, row["videoID"])
        for text in row.get("enCap", []):
            annotations.say(row["videoID"], text)


def _tgif(annotations: Annotations, path: Path) -> None:
    def name(url: str) -> str:
        return url.rsplit("/", 1)[-1].removesuffix(".gif")

    if path.suffix == ".tsv":
        for line in _lines(annotations, path):
            url, _, text = line.partition("\t")
            annotations.say(name(url), text)
    else:
        _list(annotations, path, _split_of(path), name)


def _vines(annotations: Annotations, path: Path) -> None:
    """TRECVID's video-to-text tasks: a number, then a url or a description."""
    for line in _lines(annotations, path):
        video, _, rest = line.replace("\t", " ").partition(" ")
        annotations.member(_split_of(path, "test"), video)
        if rest and not rest.startswith("http"):
            annotations.say(video, rest)


def _ssv2(annotations: Annotations, path: Path) -> None:
    document = _json(annotations, path)
    if isinstance(document, dict):  # the list of templates
        return
    split = _split_of(path)
    for row in document:
        annotations.member(split, str(row["id"]))
        if row.get("label"):
            annotations.say(str(row["id"]), row["label"], split=split)


def _howto100m(annotations: Annotations, path: Path) -> None:
    if path.suffix in (".json", ".pickle", ".pkl"):
        document = _json(annotations, path) if path.suffix == ".json" else _mapping(path)
        for video, entry in document.items():
            annotations.member("train", str(video))
            for start, end, text in zip(entry["start"], entry["end"], entry["text"], strict=False):
                annotations.say(str(video), text, float(start), float(end))
    elif "path" in (header := _lines(Annotations(), path)[0]) and "," not in header:
        for line in _lines(annotations, path)[1:]:
            annotations.member("train", line.rsplit("/", 1)[-1])
    else:
        for row in _rows(annotations, path):
            annotations.member("train", row["video_id"])


def _audioset(annotations: Annotations, path: Path) -> None:
    split = "eval" if "eval" in path.name else _split_of(path)
    for line in _lines(annotations, path):
        if line.startswith("#"):
            continue
        parts = split_cells(line)
        if len(parts) < 4:
            annotations.lose(line[:40], "wanted id, start, end, labels")
            continue
        # Its labels are classes, which `reelseek probe --labels` reads, and no text.
        annotations.member(split, parts[0], rank=1)


def _kinetics(annotations: Annotations, path: Path) -> None:
    for row in _rows(annotations, path):
        split = {"validate": "val", "validation": "val"}.get(row.get("split", ""), row.get("split") or _split_of(path))
        video = row.get("youtube_id") or row["YouTube_id"]
        annotations.member(split, video)
        if row.get("label"):
            annotations.say(video, row["label"], float(row["time_start"]), float(row["time_end"]), split)


def _crosstask(annotations: Annotations, path: Path) -> None:
    if path.suffix == ".txt":  # tasks: blocks of id, title, url, count and steps
        return
    for line in _lines(annotations, path):
        task, video, *_ = line.split(",")
        annotations.member("val" if "val" in path.stem else "train", video)
        annotations.say(video, f"task {task}")


def _coot(annotations: Annotations, path: Path) -> None:
    for video, entry in _json(annotations, path).items():
        split = str(entry.get("split", "train"))
        annotations.member(split, video)
        for row in entry.get("segments", []):
            annotations.say(video, row["text"], float(row["start_sec"]), float(row["stop_sec"]), split)


def _umi(annotations: Annotations, path: Path) -> None:
    """UMI's parts of MSR-VTT by which modalities a video has: a list of ids, named by its file."""
    _list(annotations, path, path.stem)


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
        raise UsageError(
            f"no annotations are called {kind!r}{suggest(kind, ANNOTATIONS)}; there are {', '.join(ANNOTATIONS)}"
        )
    annotations = Annotations()
    for path in _files(paths):
        try:
            annotations.read_file(ANNOTATIONS[kind], path)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise CollectionError(
                f"{path} is not an annotation file of {kind} as it is known here: {type(error).__name__}: {error}"
            ) from error
    annotations.settle_splits()
    if not annotations.captions and not annotations.splits:
        raise CollectionError(f"{', '.join(map(str, paths))}: neither a caption nor a split is in them")
    return annotations


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
        elif path.is_file():
            files.append(path)
        else:
            raise CollectionError(f"{path}: no such file or folder")
    return files
