"""A first description of videos: what a machine writes of each shot, as subtitles, and as text that search finds."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelseek.errors import UsageError
from reelseek.experts.efficientnet import imagenet_labels
from reelseek.experts.expert import Text
from reelseek.library.clips import ClipRule, clips_of
from reelseek.library.files import write_whole
from reelseek.library.records import GENERATED_CAPTIONS, Video
from reelseek.library.store import Library
from reelseek.library.tokens import Clip, TokenReader
from reelseek.media.subtitles import MACHINE_WRITTEN, format_subtitles
from reelseek.models.device import resolve_device
from reelseek.training.captions import Writer, load_writer

__all__ = ["Described", "Line", "caption", "write_subtitles"]

_LIKELY = 0.2  # a label is named if its mean probability over a shot is as high
_AT_ONCE = 8  # videos


@dataclass(frozen=True)
class Line:
    """What was written of a span; times are None where the video's length is not known."""

    start: float | None
    end: float | None
    text: str


@dataclass(frozen=True)
class Described:
    """One video's lines, in order; spans of which nothing could be said have none."""

    video: str
    model: str
    lines: tuple[Line, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values in the documented order."""
        return {"video": self.video, "model": self.model, "lines": [asdict(line) for line in self.lines]}


def caption(
    library: Library,
    videos: Sequence[str],
    *,
    model: Writer | str | Path = "concepts",
    segments: Sequence[Clip] | None = None,
    beam: int = 4,
    index: bool = True,
    device: str | torch.device | None = None,
    progress: Callable[[str, int, int, str], None] = lambda *_: None,
) -> list[Described]:
    """Write a sentence of every shot of some videos.

    Args:
        model: a trained captioner or its folder; `concepts` says what labels, writing and speech tell, untrained.
        segments: spans to describe; None takes the videos' shots, of eight seconds at most.
        index: keep what was written in the library, marked as machine-written, where search finds it as text; it takes
            the place of what was written of the same video before.
        device: where the captioner computes, see `resolve_device`; one that is loaded already moves only if a device
            is named. `concepts` computes nothing.

    Raises:
        UsageError: a video is unknown, a segment is of another video or has no length.
        ModelError: the folder holds no captioner.
    """
    rows = [library.video(name) for name in dict.fromkeys(videos)]
    if not rows:
        raise UsageError("there is no video to describe; name at least one")
    clips = _spans(library, rows, segments)
    plain = isinstance(model, str) and model == "concepts"
    writer = None if plain else model if isinstance(model, Writer) else load_writer(Path(str(model)))
    if device is not None or writer is not model:
        place = resolve_device(device)  # with `concepts` too: a device that is not here is a mistake
        writer = None if writer is None else writer.to(place)
    name = "concepts" if writer is None else "mart"
    described: list[Described] = []
    evidence = _Evidence(library)
    for begin in range(0, len(rows), _AT_ONCE):
        batch = rows[begin : begin + _AT_ONCE]
        if writer is None:
            texts = [[evidence.sentence(video, clip) for clip in clips[video.id]] for video in batch]
        else:
            texts = writer.write(library, [clips[video.id] for video in batch], beam=beam)
        for video, sentences in zip(batch, texts, strict=True):
            lines = [
                Line(clip.start_seconds, clip.end_seconds, text)
                for clip, text in zip(clips[video.id], sentences, strict=True)
                if text
            ]
            described.append(Described(video.id, name, tuple(lines)))
            progress("writing", len(described), len(rows), video.id)
    if index:
        _index(library, rows, described)
    return described


def _spans(library: Library, videos: Sequence[Video], segments: Sequence[Clip] | None) -> dict[str, list[Clip]]:
    spans: dict[str, list[Clip]] = {video.id: [] for video in videos}
    for clip in clips_of(library, ClipRule(), {v.id: v for v in videos}.values()) if segments is None else segments:
        if segments is not None:
            if clip.video not in spans:
                raise UsageError(f"a segment is of {clip.video!r}, which is not one of the videos to describe")
            start, end = clip.start_seconds, clip.end_seconds
            if start is None or end is None or not 0 <= start < end < np.inf:
                raise UsageError(f"a segment of {clip.video} is from {clip.start_seconds} to {clip.end_seconds} s")
        if clip.video in spans:
            spans[clip.video].append(clip)
    empty = [name for name, clips in spans.items() if not clips]
    if empty:
        raise UsageError(f"there is no segment of {', '.join(empty[:3])}")
    return {name: sorted(clips, key=lambda clip: clip.start_seconds or 0.0) for name, clips in spans.items()}


class _Evidence:
    """What labels, writing and speech tell of a span, as a sentence."""

    def __init__(self, library: Library) -> None:
        self._library = library
        have = [name for name in ("object",) if name in library.experts()]
        self._reader = TokenReader(library, have) if have else None

    def sentence(self, video: Video, clip: Clip) -> str:
        parts = []
        if self._reader is not None:
            values, _ = self._reader.steps(clip, "object")
            if len(values):
                mean = values.mean(0)
                best = [place for place in np.argsort(-mean)[:2] if mean[place] >= _LIKELY]
                parts += [" and ".join(imagenet_labels()[place].partition(",")[0] for place in best)] if best else []
        start, end = clip.start_seconds or 0.0, clip.end_seconds if clip.end_seconds is not None else np.inf
        texts = [text for owner in video.owners for _, text in self._library.texts(owner)]
        for kind, words in (("written", "the words"), ("said", "somebody says")):
            lines = [t.text for t in texts if t.kind == kind and t.start_seconds < end and t.end_seconds > start]
            if lines:
                parts.append(f'{words} "{" ".join(dict.fromkeys(lines))[:120]}"')
        return ", ".join(parts)


def _index(library: Library, videos: Sequence[Video], descriptions: Sequence[Described]) -> None:
    with library.writing(), library.saving():
        for video, described in zip(videos, descriptions, strict=True):
            owner = video.owners[0]
            texts = [
                Text(line.text, line.start or 0.0, line.end if line.end is not None else 1e9, "told")
                for line in described.lines
            ]
            library.put_texts(owner, GENERATED_CAPTIONS, texts)


def write_subtitles(described: Described, folder: Path) -> list[Path]:
    """The lines as `.srt` and `.vtt`, whose names say that a machine wrote them; returns what was written.

    Raises:
        UsageError: the video's length is not known, so nothing has a time; or a line ends after 100 hours.
    """
    if any(line.start is None or line.end is None for line in described.lines):
        raise UsageError(f"{described.video} has no known length, so its lines have no times for subtitles")
    parts = [part for part in Path(described.video).parts if part not in ("..", "/")]
    target = folder.joinpath(*parts)
    lines = [(line.start or 0.0, line.end or 0.0, line.text) for line in described.lines]
    note = f"WEBVTT\n\nNOTE machine-written by reelseek ({described.model})"
    texts = {".srt": format_subtitles(lines, "srt"), ".vtt": format_subtitles(lines, "vtt").replace("WEBVTT", note, 1)}
    written = []
    for suffix, text in texts.items():
        # the video's own ending stays in the name: film.mp4 and film.avi are two videos
        path = target.with_name(f"{target.name}{MACHINE_WRITTEN}{suffix}")
        write_whole(path, text)
        written.append(path)
    return written
