"""Frames to compare, one a second: from a library, a folder of videos, or a folder of feature files."""

import difflib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import CollectionError, FeatureError, UsageError
from reelseek.library import Library, Video, add
from reelseek.library.folders import walk_folder
from reelseek.library.readers.containers import read_npy
from reelseek.library.store import TrackRow
from reelseek.library.texts import read_text, split_lines
from reelseek.media.notice import Notice
from reelseek.overlap.ids import matching

__all__ = ["DEFAULT_EXPERT", "LibrarySource", "Part", "Source", "library_splits", "name_splits", "open_source"]

Frames = npt.NDArray[np.floating]
Progress = Callable[[str, int, int, str], None]
DEFAULT_EXPERT = "copy"
_WITNESSES = ("plain", "audio")
_LARGEST = 1e15
_STEP_SECONDS, _SILENT_DECIBELS, _LONGEST_SOUND = 0.01, -100.0, 6 * 3600.0  # of the log-mel expert; of a witness


@dataclass(frozen=True)
class Part:
    """Videos of a source by name; `without` names those of them that have no frame."""

    names: tuple[str, ...]
    without: tuple[str, ...] = ()


@dataclass
class Source:
    """Where frames come from; this one is a folder of `.npy` files.

    Attributes:
        path: what was opened.
        names: of all videos.
        splits: names of parts, with their videos.
        space: names what made the features; vectors of two spaces never meet.
        files: of those videos that have one, by name.
        notices: what of a folder was passed over.
    """

    path: Path
    names: tuple[str, ...]
    splits: dict[str, tuple[str, ...]]
    space: str = "files"
    files: dict[str, Path] = field(default_factory=dict, repr=False)
    notices: list[Notice] = field(default_factory=list, repr=False)
    _widths: dict[int, str] = field(default_factory=dict, repr=False)

    def videos(self, given: str) -> tuple[str, ...]:
        """The videos of a split, or those that a file lists, one a line.

        Raises:
            UsageError: there is no such split or file, or the file names unknown videos.
        """
        if given in self.splits:
            return self.splits[given]
        if Path(given).is_file():
            return self._listed(Path(given))
        raise UsageError(f"{given!r} is neither a file nor a split of {self.path}; {name_splits(given, self.splits)}")

    def part(self, given: str) -> Part:
        """Those videos, and which of them have no frame; songs may have none at all.

        Raises:
            UsageError: as above, or nothing was extracted from any of them.
        """
        chosen = self.videos(given)
        kept = tuple(name for name in chosen if self.has_frames(name))
        if not kept and not any(self.has_no_picture(name) for name in chosen):
            raise UsageError(f"not one of the {len(chosen)} videos of {given!r} has a frame in {self.path}")
        return Part(kept, tuple(name for name in chosen if name not in set(kept)))

    def _listed(self, path: Path) -> tuple[str, ...]:
        """Videos that a list names by id, by file (from where the list lies), or by the end of its path."""
        by_file = {os.path.abspath(file): name for name, file in self.files.items()}
        names = set(self.names)
        lines = [line if line in names else line.strip() for line in split_lines(read_text(path)) if line.strip()]
        by_line = {
            line: name
            for line in lines
            if line not in names and (name := by_file.get(os.path.abspath(path.parent / line)))
        }
        matches, unknown = matching((line for line in lines if line not in by_line), self.names)
        if unknown:
            raise UsageError(
                f"{path} lists {len(unknown)} videos that {self.path} does not have, such as {', '.join(unknown[:3])}"
            )
        for line, videos in matches.items():
            if len(videos) > 1:
                raise UsageError(f"{path} lists {line!r}, which may be {' or '.join(videos[:3])}; say which")
            by_line[line] = videos[0]
        return tuple(dict.fromkeys(by_line[line] for line in lines))

    def has_frames(self, name: str) -> bool:
        """Whether there is anything of a video to compare."""
        frames = self.read(name)
        return frames is not None and len(frames) > 0

    def has_no_picture(self, name: str) -> bool:
        """Whether a video was looked at and has no picture, as a song; files of arrays do not say."""
        return False

    def read(self, name: str) -> Frames | None:
        """A video's features [second, dim], or None.

        Raises:
            CollectionError: the file cannot be read, or is of another form or width than the others.
        """
        file = self.path / f"{name}.npy"
        try:
            frames: Frames = np.array(read_npy(file))
        except FeatureError as error:
            raise CollectionError(f"{file} cannot be read: it {error}") from error
        if frames.ndim != 2 or frames.dtype.kind != "f" or not np.isfinite(frames).all():
            raise CollectionError(f"{file} holds {frames.dtype} {frames.shape}; wanted finite [second, dim]")
        if frames.size and np.abs(frames).max() > _LARGEST:
            raise CollectionError(f"{file} holds values above {_LARGEST:.0e}, whose squares are no numbers any more")
        self._widths.setdefault(frames.shape[1], name)
        if len(self._widths) > 1:
            told = ", ".join(f"{width} in {first}" for width, first in self._widths.items())
            raise CollectionError(f"features of different widths cannot be compared: {told}")
        return frames

    def examine(self, names: Sequence[str], progress: Progress) -> None:
        """Look at the pictures and hear the sound of some videos, where that was not done and can be."""

    def shares(self, name: str) -> Frames | None:
        """Share of each second's frame that its most common colour covers, where pictures are at hand."""
        return None

    def decibels(self, name: str) -> Frames | None:
        """Log-mel spectrogram [step, 40] of a video's sound, where that is at hand."""
        return None

    def video(self, name: str) -> Video | None:
        """The library's row of a video, where there is one."""
        return None


class LibrarySource(Source):
    """The videos of a library, compared by the tracks of one expert.

    Args:
        witnesses: a library beside it that keeps what the pictures and the sound of its videos tell.
        folder: the library was made from a folder of videos, which are called by where they lie in it now.

    Raises:
        UsageError: the library has no such expert, or tracks of it that cannot be compared.
    """

    def __init__(
        self,
        library: Library,
        expert: str | None,
        witnesses: Path | None = None,
        *,
        folder: Path | None = None,
    ) -> None:
        self.library = library
        self._videos = {video.id: video for video in library.videos()} if folder is None else _within(library, folder)
        about = library.experts()
        name = None if expert is None else expert.partition("@")[0]
        if name is None:
            seen = [each for each, facts in about.items() if facts["modality"] == "appearance" and each != "plain"]
            name = next((each for each in (DEFAULT_EXPERT, "appearance") if each in seen), seen[0] if seen else None)
        if name not in about:
            there = ", ".join(f"{each} ({facts['modality']})" for each, facts in about.items()) or "none"
            raise UsageError(f"{library.path} has no tracks of {expert or 'appearance'}; it has {there}")
        if len(about[name]["fingerprints"]) > 1:
            raise UsageError(f"{library.path} has tracks of {name!r} made in different ways, which cannot be compared")
        names = tuple(self._videos)
        if folder is not None:  # a damaged video is none of the library's, and yet a video of the folder
            failed = {str(each["video"]) for each in library.failures()}
            names = tuple(dict.fromkeys((*names, *sorted(each for each in failed if (folder / each).is_file()))))
        super().__init__(
            folder or library.path,
            names,
            library_splits(library) if folder is None else _folders(names),
            str(about[name]["fingerprints"][0]),
            {name: video.path for name, video in self._videos.items() if video.path is not None},
        )
        self._name, self._rows, self._beside = name, _rows(library, name), witnesses
        self._heard: dict[str, tuple[Library, dict[str, TrackRow]]] = {
            each: (library, _rows(library, each)) for each in _WITNESSES
        }

    @property
    def spec(self) -> str:
        """What its expert was asked for by: `name` or `name@model`."""
        asked: list[str] = json.loads(self.library.meta("experts") or "[]")
        return next((spec for spec in asked if spec.partition("@")[0] == self._name), self._name)

    def has_frames(self, name: str) -> bool:
        return self._track(self.library, self._rows, name) is not None

    def has_no_picture(self, name: str) -> bool:
        video = self._videos.get(name)
        return any(owner in self._rows for owner in (video.owners if video else ())) and not self.has_frames(name)

    def read(self, name: str) -> Frames | None:
        found = self._track(self.library, self._rows, name)
        return _by_second(*found) if found else None

    def examine(self, names: Sequence[str], progress: Progress) -> None:
        known = self._heard["plain"][1]
        files = [
            video.path
            for video in (self._videos.get(name) for name in dict.fromkeys(names))
            if video and video.path and video.path.is_file() and not any(owner in known for owner in video.owners)
        ]
        if not files or self._beside is None:
            return
        lacks = [each for each in _WITNESSES if each == "plain" or not self._heard[each][1]]
        beside = Library.open(self._beside, create=True)
        add(beside, files, experts=lacks, progress=progress)
        self._heard |= {each: (beside, _rows(beside, each)) for each in lacks}

    def shares(self, name: str) -> Frames | None:
        found = self._track(*self._heard["plain"], name)
        return _by_second(*found)[:, 0] if found else None

    def decibels(self, name: str) -> Frames | None:
        found = self._track(*self._heard["audio"], name)
        return _on_clock(*found) if found else None

    def video(self, name: str) -> Video | None:
        return self._videos.get(name)

    def _track(
        self, library: Library, rows: dict[str, TrackRow], name: str
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]] | None:
        video = self._videos.get(name)
        found = [rows[owner] for owner in (video.owners if video else ()) if owner in rows]
        return library.read(found[-1]) if found and found[-1].steps else None


def _rows(library: Library, expert: str) -> dict[str, TrackRow]:
    return {row.owner: row for row in library.track_rows(expert)}


def open_source(
    path: Path,
    expert: str | None,
    work: Path,
    progress: Progress = lambda *_: None,
    *,
    parts: Sequence[str] = (),
) -> Source:
    """A library, a folder of videos (whose frames are extracted into a library at `work`), or a folder of `.npy`.

    Args:
        expert: whose features are compared; None takes `copy`, or if a library lacks that its own of appearance.
            Features in files have none.
        parts: what will be compared, looked up before anything is extracted.

    Raises:
        UsageError: the path is none of these, the library has no such expert, or the folder no such part.
    """
    if (path / "library.db").is_file():
        return LibrarySource(Library.open(path), expert, path / "overlap")
    if not path.is_dir():
        raise UsageError(f"{path} is no library and no folder")
    files, notices = walk_folder(path, (".npy",))
    if files:
        if expert is not None:
            raise UsageError(f"{path} holds feature files, which know of no expert; leave --expert out")
        return _folder_source(path, {str(file.relative_to(path).with_suffix("")): file for file in files}, notices)
    files, notices = walk_folder(path)
    if not files:
        raise UsageError(f"{path} holds no library, no .npy and no video")
    by_name = _folder_source(path, {str(file.relative_to(path)): file for file in files}, notices)
    for part in parts:
        by_name.videos(part)
    library = Library.open(work, create=True)
    add(library, [path], experts=[expert or DEFAULT_EXPERT, *_WITNESSES], progress=progress)
    gone = [video.id for video in library.videos() if video.path is None or not video.path.exists()]
    if gone:  # deleted since; what was made of them, perhaps by another release, is of no use
        library.remove(gone)
    source = LibrarySource(library, expert or DEFAULT_EXPERT, folder=path)
    source.notices = notices
    return source


def _folder_source(path: Path, files: dict[str, Path], notices: list[Notice]) -> Source:
    return Source(path, tuple(files), _folders(tuple(files)), files=files, notices=notices)


def name_splits(given: str, splits: Iterable[str]) -> str:
    """Say which splits there are, those that are spelt alike first."""
    names = sorted(splits)
    near = difflib.get_close_matches(given, names, n=3, cutoff=0.6)
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{guess}its splits are: {shown or 'none'}"


def _within(library: Library, folder: Path) -> dict[str, Video]:
    """Videos by where they lie in a folder, be it by a link."""
    inside: dict[str, Video] = {}
    for video in library.videos():
        if video.path is None:
            continue
        for root, path in ((folder.absolute(), video.path), (folder.resolve(), video.path.resolve())):
            if path.is_relative_to(root):
                inside.setdefault(str(path.relative_to(root)), video)
                break
    return dict(sorted(inside.items()))


def _folders(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What lies in each folder below, as its split."""
    found: dict[str, list[str]] = {}
    for name in names:
        for parent in Path(name).parents:
            if str(parent) != ".":
                found.setdefault(str(parent), []).append(name)
    return {folder: tuple(inside) for folder, inside in found.items()}


def library_splits(library: Library) -> dict[str, tuple[str, ...]]:
    """The videos of each split that captions, videos or lists of a library name."""
    known = {video.id: video for video in library.videos()}
    splits: dict[str, dict[str, None]] = {}
    for caption in library.captions():
        if caption.split:
            splits.setdefault(caption.split, {})[caption.video] = None
    for video in known.values():
        if video.split:
            splits.setdefault(video.split, {})[video.id] = None
    splits |= {split: dict.fromkeys(members) for split, members in library.memberships().items()}
    return {split: tuple(name for name in members if name in known) for split, members in splits.items()}


def _on_clock(values: npt.NDArray[Any], spans: npt.NDArray[np.float64]) -> Frames | None:
    """Decibels with a row every 10 ms from 0 on, silent where there is no sound; None if that would be over 6 hours."""
    steps = np.round(spans[:, 0] / _STEP_SECONDS).astype(np.int64)
    if np.array_equal(steps, np.arange(len(steps))):
        return np.asarray(values, np.float32)
    if steps[-1] * _STEP_SECONDS > _LONGEST_SOUND:
        return None
    rows = np.full((int(steps[-1]) + 1, values.shape[1]), _SILENT_DECIBELS, np.float32)
    rows[steps] = values
    return rows


def _by_second(values: npt.NDArray[Any], spans: npt.NDArray[np.float64]) -> Frames:
    """The step whose middle is nearest to each second's middle."""
    seconds = max(1, int(np.floor(spans[-1, 1])))
    middles = spans.mean(1)
    nearest = np.abs(np.arange(seconds)[:, None] + 0.5 - middles[None]).argmin(1)
    chosen: Frames = np.asarray(values[nearest], np.float32)
    return chosen
