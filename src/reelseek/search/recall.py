"""How near a search that does not score every clip comes to one that does, measured with everyday queries."""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from reelseek.models.embed import similarity_matrix
from reelseek.models.model import Embedding, RetrievalModel, similarity
from reelseek.search.index import Index
from reelseek.search.scoring import candidate_rows

__all__ = ["fewest_candidates", "measured_recall"]

_TOP = 10
_WANTED = 0.99
_QUERIES = 64
_FEWEST_QUERIES = 4
_WORK = 2**34  # numbers that pairs of the trial queries and all clips may be compared by
_SAME = 1e-5  # scores this near to each other, as a share, are equal: they were added up in another order
_ROWS_A_TIME = 4096
Scores = npt.NDArray[np.float32]


def fewest_candidates(model: RetrievalModel, index: Index) -> int | None:
    """How many candidates a pairwise system scores again: its own number, or as many as a recall of .99 takes, twice.

    Returns:
        None where that is every clip.
    """
    clips = len(index.clips)
    if not index.patterns:
        return None
    if model.candidates is not None:
        return model.candidates if model.candidates < clips else None
    if clips <= 4 * _TOP:
        return None
    texts = _trial_texts(model, index)
    exact = _exact_scores(model, index, texts)
    with torch.inference_mode():
        coarse_texts = model.coarse_texts(texts)
        coarse = torch.cat([
            similarity(coarse_texts, model.coarse_videos(part), renormalise=model.renormalise)
            for part in _parts(index)
        ], 1).numpy()  # fmt: skip
    coarse[:, ~index.present.any(1)] = -np.inf
    best = np.argsort(-exact, axis=1, kind="stable")[:, :_TOP]
    places = np.argsort(np.argsort(-coarse, axis=1, kind="stable"), axis=1)
    depths = np.sort(np.take_along_axis(places, best, axis=1), axis=None)
    fewest = int(depths[math.ceil(_WANTED * len(depths)) - 1]) + 1
    candidates = max(2 * fewest, 4 * _TOP)  # twice, since other queries are not these
    return candidates if candidates < clips else None


def measured_recall(model: RetrievalModel, index: Index) -> float | None:
    """Recall at 10 of an index's search against scoring every clip; None where it scores every clip itself.

    Of equal scores any are right.
    """
    exhaustive = index.candidates is None if model.pairwise else all(n.exact for n in index.patterns.values())
    if exhaustive or not index.present.any():
        return None
    texts = _trial_texts(model, index)
    exact = _exact_scores(model, index, texts)
    depth = min(_TOP, int(index.present.any(1).sum()))
    least = np.partition(exact, -depth, axis=1)[:, -depth]
    least -= _SAME * np.maximum(1, np.abs(least))
    rows = candidate_rows(model, index, texts, np.eye(len(texts), dtype=np.float32), depth)
    reached = [
        min(depth, int((exact[query, selected] >= least[query]).sum())) / depth for query, selected in enumerate(rows)
    ]
    return round(float(np.mean(reached)), 4)


def _trial_texts(model: RetrievalModel, index: Index) -> Embedding:
    """As many of the unrelated queries as can be compared with every clip in good time."""
    width = math.prod((index.unrelated.values.shape[1], *index.values.shape[1:])) if model.pairwise else 1
    affordable = _WORK // max(1, width * len(index.clips))
    return index.unrelated[: max(_FEWEST_QUERIES, min(_QUERIES, affordable))]


def _parts(index: Index) -> Iterator[Embedding]:
    return (index.embedding(slice(at, at + _ROWS_A_TIME)) for at in range(0, len(index.clips), _ROWS_A_TIME))


def _exact_scores(model: RetrievalModel, index: Index, texts: Embedding) -> Scores:
    """The similarity of every clip; a clip without evidence, which no search finds, is below all others."""
    scores: Scores = torch.cat([similarity_matrix(model, texts, part) for part in _parts(index)], 1).numpy()
    scores[:, ~index.present.any(1)] = -np.inf
    return scores
