"""How near a search that does not score every clip comes to one that does, measured with everyday queries."""

import math

import numpy as np
import numpy.typing as npt
import torch

from reelseek.models.embed import similarity_matrix
from reelseek.models.embedding import Embedding, similarity
from reelseek.models.model import RetrievalModel
from reelseek.search.index import Index
from reelseek.search.scoring import candidate_rows
from reelseek.search.topk import TopK
from reelseek.search.vectors import Rows

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
    """How many candidates a pairwise system scores again: as many as a recall of .99 takes, twice.

    Args:
        index: of one segment.

    Returns:
        None where that is every clip.
    """
    clips = index.live
    if not index.patterns or clips <= 4 * _TOP:
        return None
    texts = _trial_texts(model, index)
    _, best = _exact_best(model, index, texts)
    with torch.inference_mode():
        coarse_texts = model.coarse_texts(texts)
    depths = np.sort(_coarse_places(model, index, coarse_texts, best), axis=None)
    fewest = int(depths[math.ceil(_WANTED * len(depths)) - 1]) + 1
    candidates = max(2 * fewest, 4 * _TOP)  # twice, since other queries are not these
    return candidates if candidates < clips else None


def _coarse_places(model: RetrievalModel, index: Index, texts: Embedding, best: Rows) -> Rows:
    """At which place, from 0, coarse embeddings put some clips [text, clip]."""
    (segment,) = index.segments

    def scores(values: npt.NDArray[np.float32], present: npt.NDArray[np.bool_]) -> Scores:
        videos = Embedding.even(torch.from_numpy(values), torch.from_numpy(present))
        near: Scores = similarity(texts, videos, renormalise=model.renormalise).numpy()
        return near

    flat = best.reshape(-1)
    of_best = scores(segment.coarse.values(flat), segment.coarse.present(flat))
    targets = np.take_along_axis(of_best, np.arange(best.size).reshape(best.shape), axis=1)  # each text's own
    places = np.zeros(best.shape, np.int64)
    for start in range(0, len(segment), _ROWS_A_TIME):
        evident = segment.slots.present(slice(start, start + _ROWS_A_TIME)).any(1)
        rows = start + np.flatnonzero(evident)
        values, present = segment.coarse.block(start, start + _ROWS_A_TIME)
        near = scores(values[evident], present[evident])[:, None]
        before = (near > targets[..., None]) | ((near == targets[..., None]) & (rows < best[..., None]))
        places += before.sum(2)
    return places


def measured_recall(model: RetrievalModel, index: Index) -> float | None:
    """Recall at 10 of an index's search against scoring every clip; None where it scores every clip itself.

    Of equal scores any are right.
    """
    exact = all(part.neighbours.exact for parts in index.patterns.values() for part in parts)
    if (index.candidates is None if model.pairwise else exact) or not index.has_any(slice(None)):
        return None
    texts = _trial_texts(model, index)
    scores, _ = _exact_best(model, index, texts)
    least = scores[:, -1] - _SAME * np.maximum(1, np.abs(scores[:, -1]))
    depth = scores.shape[1]
    reached = []
    for query, rows in enumerate(candidate_rows(model, index, texts, np.eye(len(texts), dtype=np.float32), depth)):
        near = similarity_matrix(model, texts[query : query + 1], index.embedding(rows))[0].numpy()
        reached.append(min(depth, int((near >= least[query]).sum())) / depth)
    return round(float(np.mean(reached)), 4)


def _trial_texts(model: RetrievalModel, index: Index) -> Embedding:
    """As many of the unrelated queries as can be compared with every clip in good time."""
    slots = index.segments[0].slots
    width = math.prod((index.unrelated.values.shape[1], slots.patterns.shape[1], slots.dim)) if model.pairwise else 1
    affordable = _WORK // max(1, width * index.live)
    return index.unrelated[: max(_FEWEST_QUERIES, min(_QUERIES, affordable))]


def _exact_best(model: RetrievalModel, index: Index, texts: Embedding) -> tuple[Scores, Rows]:
    """The best ten scores and rows [text, place] of clips that have evidence, a block of them in memory at a time."""
    best = TopK(len(texts), _TOP)
    for rows, videos in index.blocks(_ROWS_A_TIME):
        evident = videos.present.any(1)
        near = similarity_matrix(model, texts, videos[evident.nonzero()[:, 0]]).numpy()
        best.add(near, rows[evident.numpy()])
    return best.scores, best.places
