"""Cutting videos into the clips that are indexed: of fixed length, or along the camera's cuts."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from reelseek.library.records import Video
from reelseek.library.store import Library
from reelseek.library.tokens import Clip

__all__ = ["ClipRule", "clips_by_video", "clips_of"]

_VIDEOS_A_BLOCK = 1000


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ClipRule:
    """How long clips are.

    Args:
        kind: `fixed` cuts every `seconds`; `shots` cuts where the camera does, and shots longer than `seconds` evenly.
        seconds: length of a clip, or the most of a shot.
    """

    kind: Literal["fixed", "shots"] = "shots"
    seconds: float = Field(default=8.0, gt=0.5)


def clips_of(library: Library, rule: ClipRule) -> Iterator[Clip]:
    """Clips of every video, in order of video and time; one whole clip where the length is not known."""
    return (clip for _, clips in clips_by_video(library, library.videos(), rule) for clip in clips)


def clips_by_video(library: Library, videos: Sequence[Video], rule: ClipRule) -> Iterator[tuple[Video, list[Clip]]]:
    """Some videos with the clips of each in order of time; one whole clip where the length is not known."""
    for start in range(0, len(videos), _VIDEOS_A_BLOCK):
        block = videos[start : start + _VIDEOS_A_BLOCK]
        contents = [video.content for video in block if video.duration and video.content]
        cuts = library.catalog.contents.cuts_of(contents) if rule.kind == "shots" else {}
        for video in block:
            if not video.duration or video.content is None:
                yield video, [Clip(video.id)]
            else:
                yield video, list(_cut(video, cuts.get(video.content, []), rule.seconds))


def _cut(video: Video, cuts: Sequence[float], seconds: float) -> Iterator[Clip]:
    assert video.duration is not None
    edges = [0.0, *(cut for cut in cuts if 0.5 < cut < video.duration - 0.5), video.duration]
    for start, end in pairwise(edges):
        pieces = max(1, round((end - start) / seconds))
        step = (end - start) / pieces
        for piece in range(pieces):
            stop = end if piece == pieces - 1 else start + (piece + 1) * step
            yield Clip(video.id, start + piece * step, stop)
