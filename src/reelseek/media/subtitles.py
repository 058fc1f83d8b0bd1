"""Subtitles beside a video (.srt, .vtt, .ass) and inside it, as plain text with times."""

import re
from pathlib import Path

import pysubs2

from reelseek.media.notice import Notice
from reelseek.media.streams import Subtitle

__all__ = ["MACHINE_WRITTEN", "plain_text", "sidecar_subtitles"]

MACHINE_WRITTEN = ".machine-written"  # in the names of subtitles that nobody said

_SUFFIXES = (".srt", ".vtt", ".ass", ".ssa")
_LARGEST = 20 * 2**20  # a day of subtitles is well under a megabyte
_MARKUP = re.compile(r"<[^>]*>|\{[^}]*\}")


def plain_text(text: str) -> str:
    """Text without markup, line breaks or NULs."""
    text = _MARKUP.sub("", text.replace("\\N", " ").replace("\\n", " ").replace("\\h", " ").replace("\0", ""))
    return " ".join(text.split())


def sidecar_subtitles(video: Path) -> tuple[list[Subtitle], list[Notice]]:
    """Lines of every subtitle file named after the video (`film.srt`, `film.en.vtt`), and what could not be read.

    Returns:
        The lines in order of time, and what was guessed or left out.
    """
    lines: list[Subtitle] = []
    notices: list[Notice] = []
    try:
        beside = sorted(p for p in video.parent.iterdir() if p.suffix.lower() in _SUFFIXES)
    except OSError:
        return [], []
    for path in beside:
        name = path.name[: -len(path.suffix)]
        if MACHINE_WRITTEN in path.name:
            continue
        if name != video.stem and name.rsplit(".", 1)[0] not in (video.stem, video.name) and name != video.name:
            continue
        try:
            lines += _read(path)
        except (OSError, ValueError, pysubs2.exceptions.Pysubs2Error) as error:
            notices.append(Notice(path.name, f"{error}; its lines are left out", lost=True))
    return sorted(lines, key=lambda line: (line.start_seconds, line.end_seconds, line.text)), notices


def _read(path: Path) -> list[Subtitle]:
    if not path.is_file() or path.stat().st_size > _LARGEST:
        raise ValueError("not a file of at most 20 MB")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1")
    events = pysubs2.SSAFile.from_string(text, format_=path.suffix.lower()[1:])
    return [
        Subtitle(spoken, event.start / 1000, max(event.end, event.start) / 1000, "sidecar")
        for event in events
        if not event.is_comment and (spoken := plain_text(event.text))
    ]
