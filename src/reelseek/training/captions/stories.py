"""Videos as stories: their captioned clips in order of time, and the features that captions are written from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reelseek.errors import ModelError
from reelseek.library.store import Library
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.blocks.arrange import align_experts
from reelseek.models.embed import embed_clips, reader_for
from reelseek.models.model import RetrievalModel
from reelseek.training.split import Split

__all__ = ["Story", "read_features", "stories_of"]

_STEPS = 12  # of a clip, where raw tracks are read


@dataclass(frozen=True)
class Story:
    """The clips of one video in order, with what people said of each."""

    video: str
    clips: tuple[Clip, ...]
    captions: tuple[tuple[str, ...], ...]


def stories_of(split: Split) -> list[Story]:
    """Return the videos of a split whose clips have captions, clips in order of time."""
    rows = split.captions_by_clip()
    by_video: dict[str, list[int]] = {}
    for index, clip in enumerate(split.clips):
        if rows[index]:
            by_video.setdefault(clip.video, []).append(index)
    stories = []
    for video, indexes in by_video.items():
        indexes.sort(key=lambda index: split.clips[index].start_seconds or 0.0)
        captions = tuple(tuple(split.texts[row] for row in rows[index]) for index in indexes)
        stories.append(Story(video, tuple(split.clips[index] for index in indexes), captions))
    return stories


def read_features(
    library: Library, videos: Sequence[Sequence[Clip]], model: RetrievalModel | None, experts: Mapping[str, int]
) -> tuple[Tensor, Tensor]:
    """Return features [video, clip, step, dim] of the clips, and which are present [video, clip, step].

    Args:
        model: read its embeddings of each clip and of its whole video; None reads the tracks of `experts`.
    """
    clips = [clip for video in videos for clip in video]
    if model is not None:
        rows, present = _embeddings(library, videos, clips, model)
    else:
        reader = TokenReader(library, list(experts), most_steps=_STEPS)
        wrong = {name: dim for name, dim in reader.dims.items() if dim != experts[name]}
        if wrong:
            raise ModelError(f"the captioner reads {dict(experts)}, and {library.path} has {wrong}")
        steps = align_experts(reader.batch(clips), list(experts))
        rows, present = steps.clean, steps.present
    values = rows.new_zeros(len(videos), max(map(len, videos)), *rows.shape[1:])
    present_values = torch.zeros(values.shape[:3], dtype=torch.bool)
    begin = 0
    for index, video in enumerate(videos):
        end = begin + len(video)
        values[index, : len(video)], present_values[index, : len(video)] = rows[begin:end], present[begin:end]
        begin = end
    return values, present_values


def _embeddings(
    library: Library, videos: Sequence[Sequence[Clip]], clips: Sequence[Clip], model: RetrievalModel
) -> tuple[Tensor, Tensor]:
    """Each clip's embedding beside that of its whole video, as one step."""
    embedding = embed_clips(model, reader_for(model, library), [*clips, *map(_span, videos)])
    flat, present = embedding.flat, embedding.present.any(1)
    video_rows = torch.tensor([index for index, video in enumerate(videos) for _ in video]) + len(clips)
    rows = torch.cat([flat[: len(clips)], flat[video_rows]], 1)[:, None]
    return rows, present[: len(clips), None]


def _span(clips: Sequence[Clip]) -> Clip:
    """From the start of the first clip to the end of the last."""
    starts, ends = [clip.start_seconds for clip in clips], [clip.end_seconds for clip in clips]
    timed = None not in starts and None not in ends
    return Clip(
        clips[0].video,
        min(s for s in starts if s is not None) if timed else None,
        max(e for e in ends if e is not None) if timed else None,
    )
