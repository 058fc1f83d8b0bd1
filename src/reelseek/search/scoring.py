"""How near clips are to a query: by vectors, and by lines of text that hold its words."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from reelseek.library.store import Library, Video
from reelseek.models.embed import embed_texts
from reelseek.models.model import Embedding, RetrievalModel
from reelseek.models.systems.concepts import background_queries
from reelseek.search.fulltext import Line, matching_lines
from reelseek.search.index import Index, flat_vectors

__all__ = ["LITERAL", "background_scores", "lines_by_row", "nearest_rows", "rows_of_line", "similarities",
           "videos_by_owner"]  # fmt: skip

LITERAL = 0.5  # what a line that holds all of the query's words adds to the similarity
_CANDIDATES = 5
Matrix = npt.NDArray[np.float32]


def similarities(
    slots: npt.NDArray[np.floating],
    present: npt.NDArray[np.bool_],
    vectors: Matrix,
    scale: npt.NDArray[np.float32],
    *,
    renormalise: bool,
) -> npt.NDArray[np.float64]:
    """Of clips, as slots [clip, slot, dim] of which some are present [clip, slot], to a query [slot, dim].

    Args:
        scale: what each slot of the query weighs.
        renormalise: divide by the weight of the slots that a clip has.
    """
    if not len(slots):
        return np.zeros(0)
    values = np.where(present[..., None], slots, 0).astype(np.float32)
    scores = np.einsum("csd,sd->c", values, vectors).astype(np.float64)
    if renormalise:
        total = present @ scale
        scores = np.where(total > 0, scores / np.maximum(total, 1e-9), 0.0)
    return scores


def nearest_rows(
    index: Index, vectors: Matrix, scale: npt.NDArray[np.float32], count: int
) -> list[npt.NDArray[np.int64]]:
    """For each query [query, slot, dim] the rows of the best clips of every presence pattern.

    Args:
        scale: what each slot of the queries weighs [query, slot]; patterns without one that counts are stepped over.
    """
    rows: list[list[npt.NDArray[np.int64]]] = [[np.zeros(0, np.int64)] for _ in vectors]
    for pattern, neighbours in index.patterns.items():
        if scale[:, list(pattern)].any():
            _, best = neighbours.search(flat_vectors(vectors, pattern), count)
            for query, row in enumerate(best):
                rows[query].append(row)
    return [np.concatenate(parts) for parts in rows]


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


def background_scores(
    library: Library,
    model: RetrievalModel,
    index: Index,
    owners: Mapping[str, Sequence[str]],
    factors: npt.NDArray[np.float32],
    texts: Embedding | None = None,
) -> npt.NDArray[np.float64]:
    """The best similarity that each query of a fixed, unrelated set reaches on a library.

    Args:
        factors: what each slot counts.
        texts: the embeddings of the background queries, if they are at hand.
    """
    queries = background_queries()
    texts = embed_texts(model, queries) if texts is None else texts
    scale = texts.weights.numpy() * factors
    vectors = (texts.values.numpy() * scale[..., None]).astype(np.float32)
    best = []
    for query, near in enumerate(nearest_rows(index, vectors, scale, _CANDIDATES)):
        lines = lines_by_row(index, owners, matching_lines(library, queries[query]))
        rows = np.unique(np.concatenate([near, np.fromiter(lines, np.int64, len(lines))]))
        slots, present = index.values[rows], index.present[rows]
        scores = similarities(slots, present, vectors[query], scale[query], renormalise=model.renormalise)
        scores += [LITERAL * lines[row].coverage if row in lines else 0.0 for row in rows.tolist()]
        best.append(float(scores.max()) if len(scores) else 0.0)
    return np.array(best)
