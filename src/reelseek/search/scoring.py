"""Which clips may answer a question: by nearest neighbours, and by lines of text that hold its words."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from reelseek.library.store import Library, Video
from reelseek.models.embed import similarity_matrix
from reelseek.models.model import Embedding, RetrievalModel
from reelseek.models.systems.concepts import background_queries
from reelseek.search.fulltext import Line, matching_lines
from reelseek.search.index import Index
from reelseek.search.neighbours import flat_vectors

__all__ = ["LITERAL", "background_scores", "candidate_rows", "lines_by_row", "literal_scores", "rows_of_line",
           "videos_by_owner"]  # fmt: skip

LITERAL = 0.5  # what a line that holds all of the query's words adds to the similarity
_FOR_BACKGROUND = 5
Rows = npt.NDArray[np.int64]


def candidate_rows(
    model: RetrievalModel, index: Index, texts: Embedding, mix: npt.NDArray[np.float32], count: int
) -> list[Rows]:
    """For each question the rows of the best clips of every presence pattern; without neighbours all with evidence.

    Args:
        texts: of the terms of all questions.
        mix: what each of them counts in each question [question, text].
    """
    if model.pairwise:
        count = max(count, index.candidates or len(index.clips))
        if not index.patterns or count >= len(index.clips):
            return [np.flatnonzero(index.present.any(1))] * len(mix)
        with torch.inference_mode():
            texts = model.coarse_texts(texts)
    rows: list[list[Rows]] = [[np.zeros(0, np.int64)] for _ in mix]
    for pattern, neighbours in index.patterns.items():
        vectors = _directions(texts, pattern, renormalise=model.renormalise)
        if vectors is None:
            continue
        _, nearest = neighbours.search(flat_vectors(np.einsum("qt,tsd->qsd", mix, vectors), pattern), count)
        for query, row in enumerate(nearest):
            rows[query].append(row)
    return [np.concatenate(parts) for parts in rows]


def _directions(texts: Embedding, pattern: Sequence[bool], *, renormalise: bool) -> npt.NDArray[np.float32] | None:
    """Vectors [text, slot, dim] whose dot product with a clip of this pattern is its similarity; None if all are 0."""
    weights = (texts.weights * texts.present).float().numpy()
    total = weights[:, list(pattern)].sum(1)
    if not weights[:, list(pattern)].any():
        return None
    scale = np.where(total > 0, 1 / np.maximum(total, 1e-12), 0) if renormalise else np.ones_like(total)
    vectors: npt.NDArray[np.float32] = texts.values.float().numpy() * (weights * scale[:, None])[..., None]
    return vectors.astype(np.float32)


def videos_by_owner(videos: Iterable[Video]) -> dict[str, list[str]]:
    """Which videos the tracks and texts of an owner belong to."""
    owners: dict[str, list[str]] = {}
    for video in videos:
        for owner in video.owners:
            owners.setdefault(owner, []).append(video.id)
    return owners


def rows_of_line(index: Index, owners: Mapping[str, Sequence[str]], line: Line) -> list[int]:
    """Rows of the clips during which a line is said or shown."""
    rows = []
    for video in owners.get(line.owner, ()):
        for row in index.rows_of(video):
            clip = index.clips[row]
            start, end = clip.start_seconds or 0.0, clip.end_seconds
            if line.end_seconds > start and (end is None or line.start_seconds < end):
                rows.append(row)
    return rows


def lines_by_row(index: Index, owners: Mapping[str, Sequence[str]], lines: Iterable[Line]) -> dict[int, Line]:
    """For each clip the first of the lines that it has."""
    best: dict[int, Line] = {}
    for line in lines:
        for row in rows_of_line(index, owners, line):
            best.setdefault(row, line)
    return best


def literal_scores(lines: Mapping[int, Line], rows: Iterable[int]) -> npt.NDArray[np.float64]:
    """What the line of each clip adds for the words of the query that it holds."""
    return np.array([LITERAL * lines[row].coverage if row in lines else 0.0 for row in map(int, rows)], np.float64)


def background_scores(
    library: Library, model: RetrievalModel, index: Index, owners: Mapping[str, Sequence[str]], texts: Embedding
) -> npt.NDArray[np.float64]:
    """The best score that each query of a fixed, unrelated set reaches on a library.

    Args:
        texts: the embeddings of these queries, weighed.
    """
    queries = background_queries()
    nearest = candidate_rows(model, index, texts, np.eye(len(queries), dtype=np.float32), _FOR_BACKGROUND)
    best = []
    for query, near in enumerate(nearest):
        lines = lines_by_row(index, owners, matching_lines(library, queries[query]))
        rows = np.union1d(near, np.fromiter(lines, np.int64, len(lines)))
        scores = similarity_matrix(model, texts[query : query + 1], index.embedding(rows))[0].numpy().astype(np.float64)
        scores += literal_scores(lines, rows.tolist())
        best.append(float(scores.max()) if len(scores) else 0.0)
    return np.array(best)
