"""Subtitle files as cues: SubRip and WebVTT by their time lines, ASS and SSA by their events.

pysubs2 1.8 and FFmpeg's readers lose what is common in the wild: hours beyond 99, times without milliseconds, lines
that hold two word times, a whole file for one bad field. Here a place that cannot be read costs that place alone.
"""

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from reelseek.media.markup import ass_words, plain_text

__all__ = ["Cue", "CueFile", "read_cues", "without_rolling"]

_TIME = r"(-?)(?:(\d+)\s?:\s?)?(-?\d{1,2})\s?:\s?(-?\d{1,2})(?:\s?[.,:]\s?(\d{1,9}))?"
_ARROW = "(?:-{1,2} ?>|--&gt;|[\u2013\u2014]>|\u2192)"
_TIMES = re.compile(rf"\s*{_TIME}\s*{_ARROW}\s*{_TIME}(?:\s+(.*)|\s*)$")
_ALMOST = re.compile(rf"\s*-?\d[\d:.,;\s-]{{2,40}}{_ARROW}")
_EVENTS = re.compile(r"^[ \t]{0,9}(?:\[Events\]|Dialogue:)", re.IGNORECASE | re.MULTILINE)
_SETTINGS = re.compile(r"(?:[\w-]+:\S*\s*)*$")
_WORD_TIME = re.compile(r"<\d+:[\d:]*\d(?:[.,]\d+)?>")
_BLOCK = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")
_DIGITS = frozenset("-0123456789")
_LONGEST = 400  # characters of a time line
_GAP = 0.15  # seconds between two cues that follow upon each other
_FLASH = 0.05  # seconds; YouTube shows a finished line so long by itself
_ASS_FIELDS = ["layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect", "text"]


@dataclass(frozen=True)
class Cue:
    """Lines of plain text, none of them empty, and when they are shown, in seconds."""

    lines: tuple[str, ...]
    start: float
    end: float


@dataclass
class CueFile:
    """What a subtitle file holds.

    Args:
        cues: in the file's order; those without words are left out.
        events: cues that the file has, with words or without.
        unreadable: lines, counted from 1, at which a time should stand and cannot be read.
    """

    cues: list[Cue] = field(default_factory=list)
    events: int = 0
    unreadable: list[int] = field(default_factory=list)

    def add(self, lines: list[str], start: float, end: float) -> None:
        self.events += 1
        if words := tuple(plain for line in lines if (plain := plain_text(line))):
            self.cues.append(Cue(words, start, end))


def read_cues(text: str) -> CueFile:
    """Parse the cues of a file by its content, whatever its name; lines that roll up the screen come once."""
    text = text.replace("\r\r\n", "\n").replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if _EVENTS.search(text):
        return _events(lines)
    file = _timed(lines)
    file.cues = without_rolling(file.cues, word_times=_WORD_TIME.search(text) is not None)
    return file


def _timed(lines: list[str]) -> CueFile:
    """SubRip and WebVTT: all between two time lines belongs to the first, but for what names the second."""
    result, web = CueFile(), next((line for line in lines if line.strip()), "").lstrip("\ufeff").startswith("WEBVTT")
    places = [(at, match) for at, line in enumerate(lines) if line and (match := _times(line)) is not None]
    number = _number(lines[places[0][0] - 1]) if places and places[0][0] else None
    stops = [*(at for at, _ in places[1:]), len(lines)]
    for (at, match), stop in zip(places, stops, strict=False):
        body = lines[at + 1 : stop]
        if stop < len(lines) and body:
            named, number = _names_next(body, number, web=web)
            body = body[:-1] if named else body
        if match is False:
            result.unreadable.append(at + 1)
            continue
        extra = match[11] or ""
        if extra and not _SETTINGS.match(extra):
            body = [extra, *body]
        result.add(_without_blocks(body) if web else body, _seconds(match, 1), _seconds(match, 6))
    return result


def _times(line: str) -> "re.Match[str] | Literal[False] | None":
    """Two times; False where they should stand and cannot be read; None for any other line."""
    if len(line) > _LONGEST or line.lstrip()[:1] not in _DIGITS:
        return None
    return _TIMES.match(line) or (False if _ALMOST.match(line) else None)


def _seconds(match: "re.Match[str]", group: int) -> float:
    sign, hours, minutes, seconds, fraction = match.group(*range(group, group + 5))
    negative = sign or minutes.startswith("-") or seconds.startswith("-")
    value = int(hours or 0) * 3600 + abs(int(minutes)) * 60 + abs(int(seconds)) + float(f"0.{fraction or 0}")
    return -value if negative else value


def _number(line: str) -> int | None:
    text = line.strip().lstrip("\ufeff")
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _names_next(body: list[str], before: int | None, *, web: bool) -> tuple[bool, int | None]:
    """Whether the last line before a time line is that cue's number or name, and the number then reached.

    A line of text that is a number stays text: it has no blank line before it and does not go on counting.
    """
    number = _number(body[-1])
    alone = len(body) > 1 and not body[-2].strip()
    if not body[-1].strip():
        return False, before
    if number is not None and (alone or (before is not None and number == before + 1)):
        return True, number
    return alone and web, before


def _without_blocks(body: list[str]) -> list[str]:
    """A WebVTT cue without the notes and style sheets that follow it after an empty line."""
    words: list[str] = []
    skipping, empty = False, False
    for line in body:
        if empty:
            skipping = _BLOCK.match(line) is not None
        empty = not line
        if not skipping:
            words.append(line)
    return words


def _events(lines: list[str]) -> CueFile:
    """ASS and SSA. Where a template made karaoke, the whole line is a comment, and the events are its syllables."""
    result, fields = CueFile(), _ASS_FIELDS
    karaoke = any(re.match(r"Comment:.*,karaoke,", line, re.IGNORECASE) for line in lines if len(line) < 2000)
    section = ""
    for at, line in enumerate(lines, 1):
        kind, colon, rest = line.strip().partition(":")
        kind = kind.lower()
        if line.lstrip().startswith("["):
            section = line.strip().lower()
        if kind == "format" and section in ("[events]", ""):
            fields = [name.strip().lower() for name in rest.split(",")]
        if not colon or kind not in ("dialogue", "comment"):
            continue
        row = dict(zip(fields, rest.split(",", len(fields) - 1), strict=False))
        effect = row.get("effect", "").strip().lower()
        if (kind == "comment") != (karaoke and effect == "karaoke") or (karaoke and effect == "fx"):
            continue
        match = _TIMES.match(f"{row.get('start', '')} --> {row.get('end', '')}")
        if match is None or "text" not in row:
            result.unreadable.append(at)
        else:
            result.add([ass_words(row["text"])], _seconds(match, 1), _seconds(match, 6))
    return result


def without_rolling(cues: list[Cue], *, word_times: bool = False) -> list[Cue]:
    """Each line once, when it is new: in files that carry the last lines on while the next is spoken (YouTube's).

    Files with word times do, others where it happens throughout; elsewhere who says "No." twice says it twice.
    """
    carried, follows = [0], 0
    for one, two in pairwise(cues):
        near = abs(two.start - one.end) < _GAP
        follows += near
        sizes = range(min(len(one.lines), len(two.lines)), 0, -1)
        carried.append(next((n for n in sizes if near and one.lines[-n:] == two.lines[:n]), 0))
    again = sum(size > 0 for size in carried)
    flashes = any(size and cue.end - cue.start < _FLASH for size, cue in zip(carried, cues, strict=False))
    if not (word_times or flashes or (again >= 3 and again >= 0.4 * follows)):
        return cues
    return [Cue(cue.lines[n:], cue.start, cue.end) for n, cue in zip(carried, cues, strict=False) if cue.lines[n:]]
