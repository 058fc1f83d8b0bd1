"""Classes of videos, sounds and pictures, in the layouts that their datasets are given out in."""

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reelseek.errors import CollectionError

__all__ = ["Labelled", "read_image_folders", "read_labels"]


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


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CollectionError(f"{path} cannot be read: {error}") from error


def _ucf(folder: Path, split: int) -> Iterator[Labelled]:
    for name, fold in (("trainlist", "train"), ("testlist", "test")):
        for line in _text(folder / f"{name}{split:02}.txt").splitlines():
            if line.strip():
                video = line.split()[0]
                yield Labelled(video, (video.partition("/")[0],), fold)


def _hmdb(folder: Path, split: int) -> Iterator[Labelled]:
    for file in sorted(folder.glob(f"*_test_split{split}.txt")):
        label = file.name.removesuffix(f"_test_split{split}.txt")
        for line in _text(file).splitlines():
            fields = line.split()
            if not fields:
                continue
            if len(fields) != 2 or fields[1] not in ("0", "1", "2"):
                raise CollectionError(f"{file}: {line!r} is not a file and 0, 1 or 2")
            if fields[1] != "0":
                yield Labelled(fields[0], (label,), "train" if fields[1] == "1" else "test")


def _audioset(folder: Path) -> Iterator[Labelled]:
    for name, fold in (("balanced_train_segments.csv", "train"), ("eval_segments.csv", "test")):
        for line in _text(folder / name).splitlines():
            if line.strip() and not line.startswith("#"):
                row = next(csv.reader([line], skipinitialspace=True))
                if len(row) != 4:
                    raise CollectionError(f"{folder / name}: {line!r} is not YTID, start, end, labels")
                try:
                    yield Labelled(row[0], tuple(row[3].split(",")), fold, *_span(row[1], row[2]))
                except ValueError as error:
                    raise CollectionError(f"{folder / name}: {line!r}: {error}") from error


def _span(start: str | None, end: str | None) -> tuple[float | None, float | None]:
    """Two cells as seconds; none where both are empty."""
    if not start and not end:
        return None, None
    one, two = float(start or 0), float(end or "nan")
    if not 0 <= one < two < math.inf:
        raise ValueError(f"a span from {start} to {end} s")
    return one, two


def _table(path: Path) -> Iterator[Labelled]:
    rows = list(csv.DictReader(io.StringIO(_text(path), newline="")))
    if not rows:
        raise CollectionError(f"{path} has no rows; wanted a table with the columns video, label and split")
    columns = {name.strip().lower(): name for name in rows[0] if name}
    video = next((columns[name] for name in ("video", "video_id", "filename", "file", "id") if name in columns), None)
    label = next((columns[name] for name in ("label", "labels", "category", "class") if name in columns), None)
    fold = columns.get("split") or columns.get("fold")
    if video is None or label is None:
        raise CollectionError(f"{path} has the columns {', '.join(columns)}; wanted video and label, and split or fold")
    for number, row in enumerate(rows, 2):
        try:
            start, end = _span(*(row.get(columns.get(name, "")) for name in ("start", "end")))
            labels = tuple(each.strip() for each in row[label].split(";") if each.strip())
            told = "" if fold is None else row[fold].strip()
            if not row[video].strip() or not labels or (fold is not None and not told):
                raise ValueError("an empty video, label or split")
        except (ValueError, AttributeError) as error:
            raise CollectionError(f"{path}, line {number}: {error}") from error
        yield Labelled(row[video], labels, told, start, end)


def read_image_folders(folder: Path) -> list[tuple[Path, str, str]]:
    """Pictures as (file, class, split): `train/CLASS/x.jpg` and `test/CLASS/x.jpg`, or `CLASS/x.jpg`, of which every
    fifth of a class is for testing.

    Raises:
        CollectionError: there are no pictures in folders.
    """
    suffixes = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    found: list[tuple[Path, str, str]] = []
    count: dict[str, int] = {}
    for path in files:
        parts = path.relative_to(folder).parts
        if len(parts) >= 3 and parts[0] in ("train", "test", "val"):
            found.append((path, parts[1], "train" if parts[0] == "train" else "test"))
        elif len(parts) >= 2:
            count[parts[0]] = count.get(parts[0], 0) + 1
            found.append((path, parts[0], "test" if count[parts[0]] % 5 == 0 else "train"))
    if not found:
        raise CollectionError(f"{folder} holds no pictures in folders named after classes")
    return found
