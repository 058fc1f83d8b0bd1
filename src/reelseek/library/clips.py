"""Cutting videos into the clips that are indexed: of fixed length, or along the camera's cuts."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from reelseek.library.records import Video
from reelseek.library.store import Library
from reelseek.library.tokens import Clip

__all__ = ["ClipRule", "clips_of"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ClipRule:
    """How long clips are.

    Args:
        kind: `fixed` cuts every `seconds`; `shots` cuts where the camera does, and shots longer than `seconds` evenly.
        seconds: length of a clip, or the most of a shot.
    """

    kind: Literal["fixed", "shots"] = "shots"
    seconds: float = Field(default=8.0, gt=0.5)


def clips_of(library: Library, rule: ClipRule, videos: Iterable[Video] | None = None) -> Iterator[Clip]:
    """Clips of every video, in order of video and time; one whole clip where the length is not known.

    Args:
        videos: only of these, in their order.
    """
    for video in library.catalog.videos.pages() if videos is None else videos:
        if not video.duration or video.content is None:
            yield Clip(video.id)
            continue
        cuts = library.cuts(video.content) if rule.kind == "shots" else []
        yield from _cut(video, cuts, rule.seconds)


def _cut(video: Video, cuts: Sequence[float], seconds: float) -> Iterator[Clip]:
    assert video.duration is not None
    edges = [0.0, *(cut for cut in cuts if 0.5 < cut < video.duration - 0.5), video.duration]
    for start, end in pairwise(edges):
        pieces = max(1, round((end - start) / seconds))
        step = (end - start) / pieces
        for piece in range(pieces):
            stop = end if piece == pieces - 1 else start + (piece + 1) * step
            yield Clip(video.id, start + piece * step, stop)
