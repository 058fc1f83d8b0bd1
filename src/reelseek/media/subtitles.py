"""Subtitles beside a video (.srt, .vtt, .ass, .ssa) as plain text with times; which files they are; writing them."""

import contextlib
import html
import math
import os
import re
import shutil
import tempfile
import time
import unicodedata
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Literal

import pysubs2

from reelseek.errors import UsageError
from reelseek.media.address import FilePath
from reelseek.media.beside import files_in
from reelseek.media.charset import decode_text
from reelseek.media.cues import Cue, CueFile, read_cues
from reelseek.media.local_copy import local_copy
from reelseek.media.notice import Notice
from reelseek.media.streams import Subtitle

__all__ = [
    "MACHINE_WRITTEN",
    "SUBTITLES_VERSION",
    "FolderSubtitles",
    "format_subtitles",
    "local_subtitles",
    "sidecar_subtitles",
]

MACHINE_WRITTEN = ".machine-written"  # in the names of subtitles that nobody said

SUBTITLES_VERSION = 2
"""Part of the fingerprint of what is made of subtitles: raise it whenever lines could come out differently."""

_READ = (".srt", ".vtt", ".ass", ".ssa")
_NOT_READ = (".sub", ".idx", ".sup", ".smi", ".sami", ".sbv", ".ttml", ".dfxp", ".lrc", ".stl")
_VIDEOS = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".m2ts", ".wmv", ".flv", ".ogv")
_STILL_NS = 5_000_000_000
_LARGEST = 20 * 2**20  # a day of subtitles is well under a megabyte
_LATEST_MS = 100 * 3600 * 1000 - 1  # that SubRip can express
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*")
_KINDS = frozenset("default forced foreign sdh cc hi full signs songs commentary auto orig original normal dub".split())


class FolderSubtitles:
    """The subtitle files of a folder as it is now.

    A file belongs to the video whose name begins its own for longest: `film.srt`, `film.pt-BR.forced.srt` and
    `film.mp4.srt` to `film.mp4`, but `film.2.srt` to `film.2.mp4` where there is one.
    """

    def __init__(self, folder: FilePath) -> None:
        self.files = files_in(folder)
        self._subtitles = sorted(
            (_form(name), name)
            for name in self.files
            if name.lower().endswith((*_READ, *_NOT_READ)) and MACHINE_WRITTEN not in name and not name.startswith("._")
        )

    @cached_property
    def _videos(self) -> frozenset[str]:
        """Forms of the names that look like a video, with and without what they end in."""
        forms = [_form(name) for name in self.files if name.lower().endswith(_VIDEOS)]
        return frozenset(forms).union(os.path.splitext(form)[0] for form in forms)

    def beside(self, video: str) -> list[str]:
        """Names of the files that belong to a video of the folder, whether or not its name looks like one."""
        forms = {_form(video), _form(os.path.splitext(video)[0])}
        start = f"{min(forms, key=len)}."
        names = []
        for form, name in islice(self._subtitles, bisect_left(self._subtitles, (start, "")), None):
            if not form.startswith(start):
                break
            if self._longest_owner(form, forms) in forms:
                names.append(name)
        return sorted(names)

    def _longest_owner(self, form: str, forms: Collection[str]) -> str:
        while "." in form:
            form = form.rpartition(".")[0]
            if form in forms or form in self._videos:
                return form
        return ""


def _form(name: str) -> str:
    """Names are compared without letter case, and with accents as one character, as file systems differ in both."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def _folder_subtitles(folder: Path) -> FolderSubtitles:
    """The subtitle files of a folder; one that did not change of late is listed once, however many videos it holds."""
    try:
        changed = folder.stat().st_mtime_ns
    except OSError:
        return FolderSubtitles(folder)
    if time.time_ns() - changed < _STILL_NS:  # clocks of file systems are coarse
        return FolderSubtitles(folder)
    return _list_folder(folder, changed)


@lru_cache(maxsize=4)
def _list_folder(folder: Path, changed: int) -> FolderSubtitles:
    return FolderSubtitles(folder)


def _tags(name: str, video: str) -> list[str]:
    """What stands between the video's name and the suffix: `en`, `forced`."""
    stem = unicodedata.normalize("NFC", os.path.splitext(name)[0])
    for start in (unicodedata.normalize("NFC", video), unicodedata.normalize("NFC", os.path.splitext(video)[0])):
        if stem.casefold().startswith(start.casefold()):
            return [tag for tag in stem[len(start) :].split(".") if tag]
    return []


def sidecar_subtitles(
    video: Path, copies: Sequence[Path] = (), *, duration: float | None = None
) -> tuple[list[Subtitle], list[Notice]]:
    """Read every subtitle file beside a video, and note what of them was guessed or could not be read.

    Args:
        copies: other files of the same bytes; subtitles beside them belong to this video too.
        duration: seconds as the file states them, which may be a little off; lines far beyond are left out.

    Returns:
        The lines in order of time, each once, and the notices; their place is the subtitle file's name.
    """
    lines: list[Subtitle] = []
    notices: list[Notice] = []
    for path in dict.fromkeys([video, *copies]):
        for name in _folder_subtitles(path.parent).beside(path.name):
            lines_of_file, remarks = _read(path.with_name(name), _tags(name, path.name), duration)
            lines += lines_of_file
            notices += [Notice(name, message, lost) for message, lost in remarks]
    ordered = sorted(set(lines), key=lambda line: (line.start_seconds, line.end_seconds, line.text))
    return ordered, list(dict.fromkeys(notices))


Remarks = list[tuple[str, bool]]


def _read(path: Path, tags: Sequence[str], duration: float | None) -> tuple[list[Subtitle], Remarks]:
    """Lines of one file; remarks are a message and whether something was lost."""
    if path.suffix.lower() in _NOT_READ:
        return [], [("subtitles of this kind are not read; convert them to .srt", False)]
    if sum(_LANGUAGE.fullmatch(tag) is None and tag.lower() not in _KINDS for tag in tags) > 1:
        return [], [(f"was not read: {'.'.join(tags)!r} is no language; rename it if it belongs to this video", False)]
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return [], [("not a file of at most 20 MB; its lines are left out", True)]
        raw = path.read_bytes()
    except OSError as error:
        return [], [(f"cannot be read: {error.strerror or error}; its lines are left out", True)]
    decoded = decode_text(raw, tags)
    cues = read_cues(decoded.text)
    remarks: Remarks = [(decoded.message, False)] if decoded.message else []
    lines = [line for cue in cues.cues if (line := _subtitle(cue)) is not None]
    remarks += _remarks(cues, len(lines), empty=not decoded.text.strip())
    last = 1.1 * duration + 60 if duration else math.inf
    if late := sum(line.start_seconds > last for line in lines):
        remarks.append((f"{late} lines begin long after the video ends (at {duration:.0f} s) and are left out", False))
    return [line for line in lines if line.start_seconds <= last], remarks


def _subtitle(cue: Cue) -> Subtitle | None:
    """None for what is over before the video begins; a line that ends before it starts lasts a second."""
    end = cue.end if cue.end > cue.start else cue.start + 1
    return Subtitle(" ".join(cue.lines), max(cue.start, 0.0), end, "sidecar") if end > 0 else None


def _remarks(cues: CueFile, lines: int, *, empty: bool) -> Remarks:
    remarks: Remarks = []
    if cues.unreadable:
        places = ", ".join(map(str, cues.unreadable[:5])) + (" ..." if len(cues.unreadable) > 5 else "")
        remarks.append((f"{len(cues.unreadable)} times cannot be read (line {places}); their text is left out", True))
    if early := len(cues.cues) - lines:
        remarks.append((f"{early} lines are over before the video begins and are left out", False))
    if backwards := sum(cue.end < cue.start for cue in cues.cues):
        remarks.append((f"{backwards} lines end before they start; they were taken to last a second", False))
    if not lines and not remarks:
        if cues.events:
            remarks.append((f"none of its {cues.events} cues holds words", False))
        else:
            remarks.append(("is empty" if empty else "no time line was recognised, so no line was read", not empty))
    return remarks


def format_subtitles(lines: Iterable[tuple[float, float, str]], form: Literal["srt", "vtt"]) -> str:
    """Format lines as SubRip or WebVTT, their text as it stands: braces, angle brackets and backslashes are no markup.

    Args:
        lines: start and end in seconds, at least a millisecond apart in the output, and text.

    Raises:
        UsageError: a line ends after 100 hours.

    >>> format_subtitles([(1.5, 2.0, "a giraffe")], "srt")
    '1\\n00:00:01,500 --> 00:00:02,000\\na giraffe\\n'
    """
    file = pysubs2.SSAFile()
    for start_seconds, end_seconds, text in lines:
        start = round(1000 * start_seconds)
        end = max(start + 1, round(1000 * end_seconds))
        if end > _LATEST_MS:
            raise UsageError(f"a line ends at {end_seconds:.0f} s; subtitles reach up to 99:59:59")
        words = " ".join(text.split()).replace("-->", "->")
        words = html.escape(words, quote=False) if form == "vtt" else words
        # pysubs2 reads backslashes as codes of ASS even so: a character that no text contains stands for them.
        file.append(pysubs2.SSAEvent(start, end, words.replace("\\", "\0")))
    written = file.to_string(form, keep_ssa_tags=True).replace("\0", "\\").strip("\n")
    return f"{written}\n" if written else ""


@contextmanager
def local_subtitles(copies: Sequence[FilePath]) -> Iterator[list[Path]]:
    """Yield where the subtitles beside some copies of a video lie on this machine while the block runs.

    Of a video by address, they are copied into a folder that is otherwise empty; the video itself is not.
    """
    with tempfile.TemporaryDirectory(prefix="reelseek-") as scratch:
        paths = []
        for number, path in enumerate(copies):
            if isinstance(path, Path):
                paths.append(path)
                continue
            folder = Path(scratch) / str(number)
            folder.mkdir()
            beside = FolderSubtitles(path.parent)
            for name in beside.beside(path.name):
                with local_copy(beside.files[name]) as copy, contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(copy, folder / name)
            paths.append(folder / path.name)
        yield paths
