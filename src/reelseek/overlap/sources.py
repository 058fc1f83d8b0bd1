"""Frames to compare, one a second: from a library, a folder of videos, or a folder of feature files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import CollectionError, UsageError
from reelseek.library import Library, add
from reelseek.library.store import TrackRow
from reelseek.media.container import MEDIA_SUFFIXES

__all__ = ["FrameSet", "library_splits", "open_source"]

Frames = npt.NDArray[np.floating]
Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class FrameSet:
    """Videos by name with a feature a second [second, dim]; `without` names those that have no frame."""

    names: tuple[str, ...]
    frames: tuple[Frames, ...]
    without: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """Where frames come from.

    Attributes:
        names: of all videos.
        splits: names of parts, with their videos.
        read: a video's features, or None.
    """

    where: str
    names: tuple[str, ...]
    splits: dict[str, tuple[str, ...]]
    read: Callable[[str], Frames | None]

    def videos(self, given: str) -> tuple[str, ...]:
        """The videos of a split, or those that a file lists, one a line.

        Raises:
            UsageError: there is no such split or file, or the file names unknown videos.
        """
        if given in self.splits:
            return self.splits[given]
        if Path(given).is_file():
            return self._listed(Path(given))
        there = ", ".join(sorted(self.splits)) or "none"
        raise UsageError(f"{given!r} is neither a file nor a split of {self.where}; its splits are: {there}")

    def part(self, given: str) -> FrameSet:
        """The frames of those videos.

        Raises:
            UsageError: as above, or not one has a frame.
        """
        chosen = self.videos(given)
        found = [(name, self.read(name)) for name in chosen]
        kept = [(name, frames) for name, frames in found if frames is not None and len(frames)]
        if not kept:
            raise UsageError(f"not one of the {len(chosen)} videos of {given!r} has a frame in {self.where}")
        named = {name for name, _ in kept}
        without = tuple(name for name in chosen if name not in named)
        return FrameSet(tuple(name for name, _ in kept), tuple(frames for _, frames in kept), without)

    def _listed(self, path: Path) -> tuple[str, ...]:
        known = dict.fromkeys(self.names) | {Path(name).stem: name for name in reversed(self.names)}
        listed = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
        unknown = [name for name in listed if name not in known]
        if unknown:
            raise UsageError(
                f"{path} lists {len(unknown)} videos that {self.where} does not have, such as {', '.join(unknown[:3])}"
            )
        return tuple(dict.fromkeys(known[name] or name for name in listed))


def open_source(path: Path, expert: str | None, work: Path, progress: Progress = lambda *_: None) -> _Source:
    """A library, a folder of videos (whose frames are extracted into a library at `work`), or a folder of `.npy`.

    Args:
        expert: whose features are compared; None takes the library's own of appearance. Features in files have none.

    Raises:
        UsageError: the path is none of these, or the library has no such expert.
    """
    if (path / "library.db").is_file():
        return _of_library(Library.open(path), expert)
    if not path.is_dir():
        raise UsageError(f"{path} is no library and no folder")
    files = sorted(path.rglob("*.npy"))
    if files:
        if expert is not None:
            raise UsageError(f"{path} holds feature files, which know of no expert; leave --expert out")
        return _of_files(path, files)
    if not any(file.suffix.lower() in MEDIA_SUFFIXES for file in path.rglob("*")):
        raise UsageError(f"{path} holds no library, no .npy and no video")
    library = Library.open(work, create=True)
    report = add(library, [path], experts=[expert or "appearance"], progress=progress)
    source = _of_library(library, expert)
    failed = {name for name, *_ in report.failed}
    return _Source(
        str(path), tuple(dict.fromkeys((*source.names, *sorted(failed)))), _folders(source.names), source.read
    )


def _folders(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What lies in each folder below, as its split."""
    found: dict[str, list[str]] = {}
    for name in names:
        for parent in Path(name).parents:
            if str(parent) != ".":
                found.setdefault(str(parent), []).append(name)
    return {folder: tuple(inside) for folder, inside in found.items()}


def _of_files(folder: Path, files: Sequence[Path]) -> _Source:
    paths = {str(file.relative_to(folder).with_suffix("")): file for file in files}
    widths: dict[int, str] = {}

    def read(name: str) -> Frames:
        try:
            frames = np.load(paths[name], allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CollectionError(f"{paths[name]} cannot be read: {error}") from error
        if frames.ndim != 2 or frames.dtype.kind != "f" or not np.isfinite(frames).all():
            raise CollectionError(f"{paths[name]} holds {frames.dtype} {frames.shape}; wanted finite [second, dim]")
        widths.setdefault(frames.shape[1], name)
        if len(widths) > 1:
            told = ", ".join(f"{width} in {first}" for width, first in widths.items())
            raise CollectionError(f"features of different widths cannot be compared: {told}")
        found: Frames = frames
        return found

    return _Source(str(folder), tuple(paths), _folders(tuple(paths)), read)


def _of_library(library: Library, expert: str | None) -> _Source:
    about = library.experts()
    if expert is None:
        seen = [name for name, each in about.items() if each["modality"] == "appearance"]
        expert = next((name for name in seen if name == "appearance"), seen[0] if seen else None)
    if expert not in about:
        there = ", ".join(f"{name} ({each['modality']})" for name, each in about.items()) or "none"
        raise UsageError(f"{library.path} has no tracks of {expert or 'appearance'}; it has {there}")
    if len(about[expert]["fingerprints"]) > 1:
        raise UsageError(f"{library.path} has tracks of {expert!r} made in different ways, which cannot be compared")
    rows: dict[str, TrackRow] = {row.owner: row for row in library.track_rows(expert)}
    videos = {video.id: video for video in library.videos()}

    def read(name: str) -> Frames | None:
        found = [rows[owner] for owner in videos[name].owners if owner in rows]
        return _by_second(*library.read(found[-1])) if found and found[-1].steps else None

    return _Source(str(library.path), tuple(videos), library_splits(library), read)


def library_splits(library: Library) -> dict[str, tuple[str, ...]]:
    """The videos of each split that captions, videos or lists of a library name."""
    known = {video.id for video in library.videos()}
    splits: dict[str, dict[str, None]] = {}
    for caption in library.captions():
        if caption.split:
            splits.setdefault(caption.split, {})[caption.video] = None
    for video in library.videos():
        if video.split:
            splits.setdefault(video.split, {})[video.id] = None
    splits |= {split: dict.fromkeys(members) for split, members in library.memberships().items()}
    return {split: tuple(name for name in members if name in known) for split, members in splits.items()}


def _by_second(values: npt.NDArray[Any], spans: npt.NDArray[np.float64]) -> Frames:
    """The step whose middle is nearest to each second's middle."""
    seconds = max(1, int(np.floor(spans[-1, 1])))
    middles = spans.mean(1)
    nearest = np.abs(np.arange(seconds)[:, None] + 0.5 - middles[None]).argmin(1)
    chosen: Frames = np.asarray(values[nearest], np.float32)
    return chosen
