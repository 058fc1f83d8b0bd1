"""How good written captions are, beside copying the nearest clip's."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from reelseek.evaluation.captions import CaptionScores, score_captions
from reelseek.library.store import Library
from reelseek.library.tokens import TokenReader
from reelseek.models.model import RetrievalModel
from reelseek.training.captions.stories import Story, read_features, stories_of
from reelseek.training.captions.writer import Writer
from reelseek.training.data import read_split

__all__ = ["MeasuredCaptions", "measure_captions", "nearest_captions", "score_stories"]


@dataclass(frozen=True)
class MeasuredCaptions:
    """What was written of a split, in the order of its stories, and how good it is."""

    scores: CaptionScores
    stories: tuple[Story, ...]
    written: tuple[tuple[str, ...], ...]


def measure_captions(writer: Writer, library: Library, split: str = "test", *, beam: int = 1) -> MeasuredCaptions:
    """Write the captions of a split's clips and score them against what people said.

    Raises:
        UsageError: it has no captions.
    """
    stories = stories_of(read_split(library, split))
    return score_stories(stories, writer.write(library, [story.clips for story in stories], beam=beam))


def score_stories(stories: Sequence[Story], written: Sequence[Sequence[str]]) -> MeasuredCaptions:
    """Score a sentence for each clip of each story."""
    sentences = [sentence for story in written for sentence in story]
    references = [texts for story in stories for texts in story.captions]
    scores = score_captions(sentences, references, [" ".join(story) for story in written])
    return MeasuredCaptions(scores, tuple(stories), tuple(tuple(story) for story in written))


def nearest_captions(
    library: Library, *, model: RetrievalModel | None = None, train: str = "train", split: str = "test"
) -> MeasuredCaptions:
    """Score what copying gives: each clip takes the first caption of the training clip whose embedding is nearest.

    Args:
        model: whose embeddings; None takes the means of all tracks, standardised.
    """
    learnt, queries = (stories_of(read_split(library, name)) for name in (train, split))
    dims = TokenReader(library).dims if model is None else {}
    rows = []
    for stories in (learnt, queries):
        values, present = read_features(library, [story.clips for story in stories], model, dims)
        weights = present[..., None].float()
        mean = (values * weights).sum(2) / weights.sum(2).clamp(min=1)
        is_clip = torch.tensor([[clip < len(story.clips) for clip in range(mean.shape[1])] for story in stories])
        rows.append(mean[is_clip])
    shift, scale = rows[0].mean(0), rows[0].std(0).clamp(min=1e-6)
    references, targets = (functional.normalize((part - shift) / scale, dim=-1) for part in rows)
    nearest = (targets @ references.T).argmax(1).tolist()
    captions = [texts[0] for story in learnt for texts in story.captions]
    copies = iter([captions[index] for index in nearest])
    return score_stories(queries, [[next(copies) for _ in story.clips] for story in queries])
