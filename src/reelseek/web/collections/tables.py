"""Moments as text: CSV, JSON lines, subtitles."""

import csv
import io
import json
import re
from collections.abc import Sequence

from reelseek.web.collections.rows import ExportRow, one_line

__all__ = ["to_csv", "to_jsonl", "to_srt"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "|", "%")
_CUE = re.compile(r"(\d+):(\d+):(\d+[.,]\d+)")  # some readers take a line with two of them for the times of a cue
_COLUMNS = ("moment", "video", "start", "end", "note", "tags", "by", "added")


def to_csv(rows: Sequence[ExportRow]) -> str:
    """A table with a header; no cell is taken for a formula by a program of tables."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for row in rows:
        moment = row.moment
        cells = (row.id, row.name, moment.note, ", ".join(moment.tags), moment.by)
        identifier, name, note, tags, by = map(_plain_cell, cells)
        writer.writerow([identifier, name, f"{moment.start:.3f}", f"{moment.end:.3f}", note, tags, by, moment.added])
    return text.getvalue()


def _plain_cell(text: str) -> str:
    """A text with an apostrophe before what would begin a formula, also behind blanks and quotes."""
    text = text.replace("\0", "")
    return f"'{text}" if text.lstrip(" '\"").startswith(_FORMULA) or text.startswith(_FORMULA) else text


def to_jsonl(rows: Sequence[ExportRow]) -> str:
    """An object a line."""
    lines = []
    for row in rows:
        moment = row.moment
        facts = {
            "moment": row.id, "video": row.name, "start": moment.start, "end": moment.end, "note": moment.note,
            "tags": list(moment.tags), "by": moment.by, "added": moment.added, "duration": row.duration,
            "fps": row.fps, "present": row.content is not None,
        }  # fmt: skip
        lines.append(json.dumps(facts))
    return "".join(f"{line}\n" for line in lines)


def to_srt(rows: Sequence[ExportRow]) -> str:
    """A subtitle a moment, one after the other as a cut of them all plays: its note, else the name of its video."""
    blocks, at = [], 0.0
    for number, row in enumerate(rows, 1):
        moment = row.moment
        length = moment.end - moment.start
        lines = [one_line(line) for line in moment.note.splitlines() if one_line(line)] or [one_line(row.name)]
        text = "\n".join(_CUE.sub(r"\1.\2.\3", line.replace("-->", "->")) for line in lines)
        blocks.append(f"{number}\n{_srt_time(at)} --> {_srt_time(at + length)}\n{text}\n")
        at += length
    return "\n".join(blocks)


def _srt_time(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02},{rest % 1000:03}"
