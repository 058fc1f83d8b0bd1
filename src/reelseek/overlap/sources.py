"""Frames to compare, one per second: from a library, a folder of videos, or a folder of feature files."""

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from reelseek.cluster import Cluster
from reelseek.errors import CollectionError, FeatureError, UsageError, suggest
from reelseek.library import Library, Video, add
from reelseek.library.folders import walk_folder
from reelseek.library.readers.containers import read_npy
from reelseek.library.store import TrackRow
from reelseek.library.texts import read_text, split_lines
from reelseek.media.address import FilePath, absolute, is_address, parse_path
from reelseek.media.notice import Notice
from reelseek.media.store import is_file
from reelseek.overlap.ids import matching

__all__ = ["DEFAULT_EXPERT", "LibrarySource", "Part", "Source", "library_splits", "name_splits", "open_source"]

Frames = npt.NDArray[np.floating]
Progress = Callable[[str, int, int, str], None]
DEFAULT_EXPERT = "copy"
_EVIDENCE = ("plain", "audio")  # experts: frames of one colour, and the sound
_LARGEST = 1e15
_STEP_SECONDS, _SILENT_DECIBELS, _LONGEST_SOUND = 0.01, -100.0, 6 * 3600.0  # of the log-mel expert


@dataclass(frozen=True)
class Part:
    """Videos of a source by name; `without` names those of them that have no frame."""

    names: tuple[str, ...]
    without: tuple[str, ...] = ()


@dataclass
class Source:
    """Where frames come from; this class reads a folder of `.npy` files. Use it in a `with`, or close it.

    Attributes:
        path: library or folder.
        names: of all videos.
        splits: videos of each part, by the part's name.
        space: fingerprint of the features; vectors of two spaces are never compared.
        files: of those videos that have one, by name.
        notices: files of a folder that were skipped.
    """

    path: Path
    names: tuple[str, ...]
    splits: dict[str, tuple[str, ...]]
    space: str = "files"
    files: Mapping[str, FilePath] = field(default_factory=dict, repr=False)
    notices: list[Notice] = field(default_factory=list, repr=False)
    _widths: dict[int, str] = field(default_factory=dict, repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the libraries that it reads; a folder of files has none."""

    def videos(self, part: str) -> tuple[str, ...]:
        """Return the videos of a split, or those that a file lists, one per line.

        Raises:
            UsageError: there is no such split or file, or the file names unknown videos.
        """
        if part in self.splits:
            return self.splits[part]
        if Path(part).is_file():
            return self._listed_videos(Path(part))
        raise UsageError(f"{part!r} is neither a file nor a split of {self.path}; {name_splits(part, self.splits)}")

    def part(self, name: str) -> Part:
        """Return the videos of a split or list, divided by whether they have a frame; a part of songs may have none.

        Raises:
            UsageError: as above, or nothing was extracted from any of them.
        """
        videos = self.videos(name)
        with_frames = tuple(filter(self.has_frames, videos))
        if not with_frames and not any(map(self.has_no_picture, videos)):
            raise UsageError(f"not one of the {len(videos)} videos of {name!r} has a frame in {self.path}")
        return Part(with_frames, tuple(video for video in videos if video not in set(with_frames)))

    def _listed_videos(self, path: Path) -> tuple[str, ...]:
        """Videos that a list names by id, by file (relative to the list), or by the end of its path."""
        by_file = {absolute(file): name for name, file in self.files.items()}
        names = set(self.names)
        lines = [line if line in names else line.strip() for line in split_lines(read_text(path)) if line.strip()]
        by_line = {
            line: name
            for line in lines
            if line not in names
            and (name := by_file.get(absolute(parse_path(line) if is_address(line) else path.parent / line)))
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
        """Whether a video has a frame to compare."""
        frames = self.read(name)
        return frames is not None and len(frames) > 0

    def has_no_picture(self, name: str) -> bool:
        """Whether a video was decoded and has no picture, like a song; files of arrays do not tell."""
        return False

    def read(self, name: str) -> Frames | None:
        """Read a video's features [second, dim], or None.

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
            widths = ", ".join(f"{width} in {first}" for width, first in self._widths.items())
            raise CollectionError(f"features of different widths cannot be compared: {widths}")
        return frames

    def examine(self, names: Sequence[str], progress: Progress, cluster: Cluster | None = None) -> None:
        """Extract plain frames and sound of videos that lack them, where their files are available."""

    def shares(self, name: str) -> Frames | None:
        """Share of each second's frame that its most common colour covers, where pictures are available."""
        return None

    def decibels(self, name: str) -> Frames | None:
        """Log-mel spectrogram [step, 40] of a video's sound, where it is available."""
        return None

    def video(self, name: str) -> Video | None:
        """The library's row of a video, where there is one."""
        return None


class LibrarySource(Source):
    """The videos of a library, compared by the tracks of one expert.

    Args:
        library: closed with the source.
        evidence: folder of a second library, for the plain frames and the sound that the first one lacks.
        folder: the library was made from a folder of videos, which are named by their paths in it now.

    Raises:
        UsageError: the library has no such expert, or tracks of it that cannot be compared.
    """

    def __init__(
        self,
        library: Library,
        expert: str | None,
        evidence: Path | None = None,
        *,
        folder: Path | None = None,
    ) -> None:
        self.library = library
        self._videos = {video.id: video for video in library.videos()} if folder is None else _within(library, folder)
        self._expert, space = _comparable_expert(library, expert)
        names = tuple(self._videos)
        if folder is not None:  # a damaged video is not in the library, and yet a video of the folder
            failed = sorted({str(failure["video"]) for failure in library.failures()})
            names = tuple(dict.fromkeys((*names, *(name for name in failed if (folder / name).is_file()))))
        super().__init__(
            folder or library.path,
            names,
            library_splits(library) if folder is None else _folders(names),
            space,
            {name: video.path for name, video in self._videos.items() if video.path is not None},
        )
        self._rows, self._evidence_folder = _rows_by_owner(library, self._expert), evidence
        self._evidence_library: Library | None = None
        self._evidence: dict[str, tuple[Library, dict[str, TrackRow]]] = {
            name: (library, _rows_by_owner(library, name)) for name in _EVIDENCE
        }

    @classmethod
    def open(
        cls, path: Path, expert: str | None, evidence: Path | None = None, *, folder: Path | None = None
    ) -> "LibrarySource":
        """Open the library at a path as a source.

        Raises:
            LibraryError: it cannot be opened.
            UsageError: as for the class.
        """
        with ExitStack() as stack:
            source = cls(stack.enter_context(Library.open(path)), expert, evidence, folder=folder)
            stack.pop_all()
        return source

    def close(self) -> None:
        self.library.close()
        if self._evidence_library is not None:
            self._evidence_library.close()

    @property
    def spec(self) -> str:
        """The expert as it was requested: `name` or `name@model`."""
        specs: list[str] = json.loads(self.library.meta("experts") or "[]")
        return next((spec for spec in specs if spec.partition("@")[0] == self._expert), self._expert)

    def has_frames(self, name: str) -> bool:
        return self._track(self.library, self._rows, name) is not None

    def has_no_picture(self, name: str) -> bool:
        video = self._videos.get(name)
        return any(owner in self._rows for owner in (video.owners if video else ())) and not self.has_frames(name)

    def read(self, name: str) -> Frames | None:
        track = self._track(self.library, self._rows, name)
        return _by_second(*track) if track else None

    def examine(self, names: Sequence[str], progress: Progress, cluster: Cluster | None = None) -> None:
        examined = self._evidence["plain"][1]
        files = [
            str(video.path)
            for video in (self._videos.get(name) for name in dict.fromkeys(names))
            if video and video.path and is_file(video.path) and not any(owner in examined for owner in video.owners)
        ]
        if not files or self._evidence_folder is None:
            return
        missing = [name for name in _EVIDENCE if name == "plain" or not self._evidence[name][1]]
        if self._evidence_library is None:
            self._evidence_library = Library.open(self._evidence_folder, create=True)
        add(self._evidence_library, files, experts=missing, progress=progress, cluster=cluster)
        self._evidence |= {
            name: (self._evidence_library, _rows_by_owner(self._evidence_library, name)) for name in missing
        }

    def shares(self, name: str) -> Frames | None:
        track = self._track(*self._evidence["plain"], name)
        return _by_second(*track)[:, 0] if track else None

    def decibels(self, name: str) -> Frames | None:
        track = self._track(*self._evidence["audio"], name)
        return _on_clock(*track) if track else None

    def video(self, name: str) -> Video | None:
        return self._videos.get(name)

    def _track(
        self, library: Library, rows: dict[str, TrackRow], name: str
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]] | None:
        video = self._videos.get(name)
        tracks = [rows[owner] for owner in (video.owners if video else ()) if owner in rows]
        return library.read(tracks[-1]) if tracks and tracks[-1].steps else None


def _comparable_expert(library: Library, spec: str | None) -> tuple[str, str]:
    """Name and fingerprint of the expert whose tracks are compared; None takes `copy`, else one of appearance.

    Raises:
        UsageError: the library has no tracks of it, or tracks of several fingerprints.
    """
    experts = library.experts()
    name = None if spec is None else spec.partition("@")[0]
    if name is None:
        candidates = [key for key, facts in experts.items() if facts["modality"] == "appearance" and key != "plain"]
        name = next((key for key in (DEFAULT_EXPERT, "appearance", *candidates) if key in candidates), None)
    if name not in experts:
        available = ", ".join(f"{key} ({facts['modality']})" for key, facts in experts.items()) or "none"
        raise UsageError(
            f"{library.path} has no tracks of {spec or 'appearance'}{suggest(name or '', experts)}; it has {available}"
        )
    if len(experts[name]["fingerprints"]) > 1:
        raise UsageError(f"{library.path} has tracks of {name!r} made in different ways, which cannot be compared")
    return name, str(experts[name]["fingerprints"][0])


def _rows_by_owner(library: Library, expert: str) -> dict[str, TrackRow]:
    return {row.owner: row for row in library.track_rows(expert)}


def open_source(
    path: Path,
    expert: str | None,
    work: Path,
    progress: Progress = lambda *_: None,
    *,
    parts: Sequence[str] = (),
    device: str | None = None,
    cluster: Cluster | None = None,
) -> Source:
    """Open a library, a folder of videos (whose frames are extracted into a library at `work`), or a folder of `.npy`.

    Use it in a `with`, or close it.

    Args:
        expert: whose features are compared; None takes `copy`, or if a library lacks it one of its own of appearance.
            Files of features have none.
        parts: what will be compared, looked up before anything is extracted.
        device, cluster: where the expert of a folder of videos computes, see `library.add`.

    Raises:
        UsageError: the path is none of these, the library has no such expert, or the folder no such part.
    """
    if (path / "library.db").is_file():
        return LibrarySource.open(path, expert, path / "overlap")
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
    with Library.open(work, create=True) as library:
        experts = [expert or DEFAULT_EXPERT, *_EVIDENCE]
        add(library, [path], experts=experts, device=device, progress=progress, cluster=cluster)
        gone = [video.id for video in library.videos() if video.path is None or not is_file(video.path)]
        if gone:  # deleted since; their features, perhaps of another release, are of no use
            library.remove(gone)
    source = LibrarySource.open(work, expert or DEFAULT_EXPERT, folder=path)
    source.notices = notices
    return source


def _folder_source(path: Path, files: dict[str, Path], notices: list[Notice]) -> Source:
    return Source(path, tuple(files), _folders(tuple(files)), files=files, notices=notices)


def name_splits(unknown: str, splits: Iterable[str]) -> str:
    """Name the splits in a sentence, those of similar spelling first."""
    names = sorted(splits)
    near = difflib.get_close_matches(unknown, names, n=3, cutoff=0.6)
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{guess}its splits are: {shown or 'none'}"


def _within(library: Library, folder: Path) -> dict[str, Video]:
    """Videos by their paths in a folder, also through links."""
    inside: dict[str, Video] = {}
    for video in library.videos():
        if not isinstance(video.path, Path):
            continue
        for root, path in ((folder.absolute(), video.path), (folder.resolve(), video.path.resolve())):
            if path.is_relative_to(root):
                inside.setdefault(str(path.relative_to(root)), video)
                break
    return dict(sorted(inside.items()))


def _folders(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The videos of each folder below, as its split."""
    splits: dict[str, list[str]] = {}
    for name in names:
        for parent in Path(name).parents:
            if str(parent) != ".":
                splits.setdefault(str(parent), []).append(name)
    return {folder: tuple(inside) for folder, inside in splits.items()}


def library_splits(library: Library) -> dict[str, tuple[str, ...]]:
    """Return the videos of each split that captions, videos or lists of a library name."""
    videos = {video.id: video for video in library.videos()}
    splits: dict[str, dict[str, None]] = {}
    for caption in library.captions():
        if caption.split:
            splits.setdefault(caption.split, {})[caption.video] = None
    for video in videos.values():
        if video.split:
            splits.setdefault(video.split, {})[video.id] = None
    splits |= {split: dict.fromkeys(members) for split, members in library.memberships().items()}
    return {split: tuple(name for name in members if name in videos) for split, members in splits.items()}


def _on_clock(values: npt.NDArray[Any], spans: npt.NDArray[np.float64]) -> Frames | None:
    """Decibels with a row every 10 ms from 0 on, silent in gaps; None if that would be more than 6 hours."""
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
    rows: Frames = np.asarray(values[nearest], np.float32)
    return rows
