"""Classes of videos, sounds and pictures, in the layouts that their datasets are given out in."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelseek.errors import CollectionError
from reelseek.library.cells import cell_name, cell_seconds
from reelseek.library.tables import read_table, split_cells
from reelseek.library.texts import read_lines

__all__ = ["Labelled", "read_image_folders", "read_labels"]

_COLUMNS = ("video", "video_id", "filename", "id", "label", "labels", "category", "class", "split", "fold")
_TIMES = ("start", "end")


@dataclass(frozen=True)
class Labelled:
    """A video, or a span of it, and what it shows.

    Attributes:
        labels: one, or several where classes do not exclude each other.
        fold: `train`, `test`, or the number of a fold that is tested in its turn; empty where that is not told.
    """

    video: str
    labels: tuple[str, ...]
    fold: str
    start: float | None = None
    end: float | None = None


def read_labels(path: Path, *, split: int = 1) -> list[Labelled]:
    """Labels of a file or folder, its layout told by what is there.

    UCF101's folder of `trainlist01.txt` and `testlist01.txt`; HMDB51's of `CLASS_test_split1.txt`; ESC-50's
    `esc50.csv`; AudioSet's folder of `balanced_train_segments.csv` and `eval_segments.csv`; or a table with the columns
    video, label (several with `;` between), and if known split or fold, and start and end where it is of a span.

    Args:
        split: which of the three of UCF101 and HMDB51.

    Raises:
        CollectionError: it is none of these, or a row is not of its form.
    """
    if path.is_dir():
        if (path / f"trainlist{split:02}.txt").is_file():
            return [*_ucf(path, split)]
        if any(path.glob(f"*_test_split{split}.txt")):
            return [*_hmdb(path, split)]
        if (path / "eval_segments.csv").is_file():
            return [*_audioset(path)]
        if (path / "esc50.csv").is_file():
            return read_labels(path / "esc50.csv")
        raise CollectionError(f"{path} holds no labels of UCF101, HMDB51, ESC-50 or AudioSet, split {split}")
    return [*_table(path)]


def _lines(path: Path) -> list[str]:
    return [line for _, line in read_lines(path)]


def _ucf(folder: Path, split: int) -> Iterator[Labelled]:
    for name, fold in (("trainlist", "train"), ("testlist", "test")):
        for line in _lines(folder / f"{name}{split:02}.txt"):
            video = line.split()[0]
            yield Labelled(video, (video.partition("/")[0],), fold)


def _hmdb(folder: Path, split: int) -> Iterator[Labelled]:
    for file in sorted(folder.glob(f"*_test_split{split}.txt")):
        label = file.name.removesuffix(f"_test_split{split}.txt")
        for line in _lines(file):
            fields = line.split()
            if len(fields) != 2 or fields[1] not in ("0", "1", "2"):
                raise CollectionError(f"{file}: {line!r} is not a file and 0, 1 or 2")
            if fields[1] != "0":
                yield Labelled(fields[0], (label,), "train" if fields[1] == "1" else "test")


def _audioset(folder: Path) -> Iterator[Labelled]:
    for name, fold in (("balanced_train_segments.csv", "train"), ("eval_segments.csv", "test")):
        for line in _lines(folder / name):
            if not line.startswith("#"):
                row = split_cells(line)
                if len(row) != 4:
                    raise CollectionError(f"{folder / name}: {line!r} is not YTID, start, end, labels")
                try:
                    yield Labelled(row[0], tuple(row[3].split(",")), fold, *_span(row[1], row[2]))
                except ValueError as error:
                    raise CollectionError(f"{folder / name}: {line!r}: {error}") from error


def _span(start: str | float | None, end: str | float | None) -> tuple[float, float]:
    one, two = float(start or 0), float("nan" if end is None else end)
    if not 0 <= one < two < math.inf:
        raise ValueError(f"a span from {start} to {end} s")
    return one, two


def _table(path: Path) -> Iterator[Labelled]:
    rows = read_table(path, _COLUMNS).require_all()
    if not rows:
        raise CollectionError(f"{path} has no rows; wanted a table with the columns video, label and split")
    columns = {name.strip().lower(): name for row in rows for name in row.cells}
    video = next((columns[name] for name in ("video", "video_id", "filename", "file", "id") if name in columns), None)
    label = next((columns[name] for name in ("label", "labels", "category", "class") if name in columns), None)
    fold = columns.get("split") or columns.get("fold")
    if video is None or label is None:
        raise CollectionError(f"{path} has the columns {', '.join(columns)}; wanted video and label, and split or fold")
    for row in rows:
        try:
            start, end = (cell_seconds(row.cells, [columns[name]] if name in columns else []) for name in _TIMES)
            if start is not None or end is not None:
                start, end = _span(start, end)
            name, member = cell_name(row.cells, [video]), cell_name(row.cells, [fold] if fold else [])
            labels = _labels(row.cells.get(label))
            if not name or not labels or (fold is not None and not member):
                raise ValueError("an empty video, label or split")
        except ValueError as error:
            raise CollectionError(f"{row.place}: {error}") from error
        yield Labelled(name, labels, member, start, end)


def _labels(cell: Any) -> tuple[str, ...]:
    """The labels of a cell: several with `;` between, or a list of them; numbers name classes too."""
    if isinstance(cell, int | str) and not isinstance(cell, bool):
        texts = str(cell).split(";")
    elif isinstance(cell, list) and all(isinstance(text, str) for text in cell):
        texts = cell
    else:
        raise ValueError(f"{cell!r} is no label"[:200])
    return tuple(text.strip() for text in texts if text.strip())


def read_image_folders(folder: Path) -> list[tuple[Path, str, str]]:
    """Pictures as (file, class, split): `train/CLASS/x.jpg` and `test/CLASS/x.jpg`, or `CLASS/x.jpg`, of which every
    fifth of a class is for testing.

    Raises:
        CollectionError: there are no pictures in folders.
    """
    suffixes = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    pictures: list[tuple[Path, str, str]] = []
    count: dict[str, int] = {}
    for path in files:
        parts = path.relative_to(folder).parts
        if len(parts) >= 3 and parts[0] in ("train", "test", "val"):
            pictures.append((path, parts[1], "train" if parts[0] == "train" else "test"))
        elif len(parts) >= 2:
            count[parts[0]] = count.get(parts[0], 0) + 1
            pictures.append((path, parts[0], "test" if count[parts[0]] % 5 == 0 else "train"))
    if not pictures:
        raise CollectionError(f"{folder} holds no pictures in folders named after classes")
    return pictures
