"""What a segment has beside its columns: nearest neighbours, their recall, and what unrelated queries reach in it."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reelseek.library.store import Library
from reelseek.models.model import RetrievalModel
from reelseek.search.generation import Write, write_files
from reelseek.search.index import Index
from reelseek.search.neighbours import Neighbours, flat_vectors
from reelseek.search.recall import fewest_candidates, measured_recall
from reelseek.search.scoring import Owners, background_scores
from reelseek.search.segment import Segment

__all__ = ["candidates_of", "finish", "with_neighbours"]

_SHARE_WITH_LINES = 8
_log = logging.getLogger("reelseek")


def finish(library: Library, model: RetrievalModel, segment: Segment, index: Index, total: int) -> Segment:
    """Write the neighbours of a segment, and measure it.

    Unrelated queries are looked for in all that is said and written where the segment is a good part of the index;
    elsewhere that would cost far more than the segment itself, and what is said counts once it is merged.

    Args:
        index: whose segment it will be; its own segments are not looked at.
        total: clips of all segments.
    """
    trials = _trials(model, segment, index)
    if trials is None:
        segment.record = replace(segment.record, coarse=None)
    else:
        segment = with_neighbours(segment, trials)
    index = replace(index, segments=(segment,), candidates=candidates_of(model, [segment]))
    record = segment.record
    if model.pairwise and model.candidates is None:
        record = replace(record, candidates=fewest_candidates(model, index))
        segment.record = record
        index = replace(index, candidates=candidates_of(model, [segment]))
    with_lines = _SHARE_WITH_LINES * len(segment) >= total
    scores = background_scores(library, model, index, Owners(library), index.unrelated, lines=with_lines)
    segment.record = replace(record, recall=measured_recall(model, index), background=scores.tolist())
    return segment


def _trials(model: RetrievalModel, segment: Segment, index: Index) -> npt.NDArray[np.float32] | None:
    """Queries that lists are tuned with [query, slot, dim]; None where a system has no coarse embeddings."""
    with torch.inference_mode():
        texts = model.coarse_texts(index.unrelated)
    if (segment.coarse.patterns.shape[1], segment.coarse.dim) != tuple(texts.values.shape[1:]):
        _log.warning(
            "%s compares in a way of its own, and has no coarse embeddings of one width: a search scores every clip",
            model.system,
        )
        return None
    trials: npt.NDArray[np.float32] = (texts.values * (texts.weights * texts.present)[..., None]).float().numpy()
    return trials


def with_neighbours(segment: Segment, trials: npt.NDArray[np.float32]) -> Segment:
    """Write the nearest neighbours of each presence pattern.

    Args:
        trials: queries that lists are tuned with [query, slot, dim].
    """
    files: dict[str, Write] = {}
    lists: dict[str, Any] = {}
    for name in segment.patterns:
        pattern = [digit == "1" for digit in name]
        neighbours = Neighbours.build(*segment.vectors(name), flat_vectors(trials, pattern))
        files.update(neighbours.files(name))
        plan = neighbours.plan()
        if plan is not None:
            lists[name] = plan
    if not files:
        return segment
    prefix = f"{segment.record.name}-"
    sums = write_files(segment.folder, {prefix + name: write for name, write in files.items()})
    names = {name.removeprefix(prefix): entry for name, entry in sums.items()}
    return Segment(segment.folder, replace(segment.record, lists=lists), {**segment.sums, **names}, check=False)


def candidates_of(model: RetrievalModel, segments: Sequence[Segment]) -> int | None:
    """How many clips of some segments a pairwise system scores again; None where it is every clip, or not pairwise."""
    clips = sum(segment.record.live for segment in segments)
    if not model.pairwise or any(segment.record.coarse is None for segment in segments):
        return None
    records = [segment.record for segment in segments]
    counts = (record.clips if record.candidates is None else record.candidates for record in records)
    candidates = model.candidates if model.candidates is not None else sum(counts)
    return candidates if candidates < clips else None
