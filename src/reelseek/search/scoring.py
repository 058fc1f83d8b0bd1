"""Which clips may answer a question: by nearest neighbours, and by lines of text that hold its words."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from reelseek.library.store import Library
from reelseek.models.embed import similarity_matrix
from reelseek.models.embedding import Embedding
from reelseek.models.model import RetrievalModel
from reelseek.models.systems.concepts import background_queries
from reelseek.search.fulltext import ABOUT, Line, matching_lines
from reelseek.search.index import Index
from reelseek.search.nearest import Run, run_here, search_parts
from reelseek.search.neighbours import flat_vectors

__all__ = ["LITERAL", "Owners", "add_line", "background_scores", "candidate_rows", "lines_by_row", "literal_scores",
           "rows_of_lines"]  # fmt: skip

LITERAL = 0.5  # what a line that holds all of the query's words adds to the similarity
_FOR_BACKGROUND = 5
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def candidate_rows(
    model: RetrievalModel,
    index: Index,
    texts: Embedding,
    mix: npt.NDArray[np.float32],
    count: int,
    run: Run = run_here,
    selected: Mask | None = None,
    coarse: Embedding | None = None,
) -> list[Rows]:
    """For each question the rows of the best clips of every presence pattern; without neighbours all with evidence.

    Args:
        texts: of the terms of all questions.
        mix: what each of them counts in each question [question, text].
        run: reads the segments.
        selected: rows that count [row]; None is all.
        coarse: of a pairwise system the coarse embeddings of examples, which come behind the texts in `mix`.
    """
    if model.pairwise:
        count = max(count, index.candidates or index.live)
        if not index.patterns or count >= index.live:
            evident = index.rows_with_evidence()
            return [evident if selected is None else evident[selected[evident]]] * len(mix)
        with torch.inference_mode():
            texts = model.coarse_texts(texts)
        texts = texts if coarse is None else Embedding.concat([texts, coarse])
    rows: list[list[Rows]] = [[np.zeros(0, np.int64)] for _ in mix]
    searches = []
    for pattern, parts in index.patterns.items():
        vectors = _directions(texts, pattern, renormalise=model.renormalise)
        if vectors is not None:
            searches.append((parts, flat_vectors(np.einsum("qt,tsd->qsd", mix, vectors), pattern)))
    for answers in search_parts(searches, count, run, selected):
        for query, (_, best) in enumerate(answers):
            rows[query].append(best)
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


class Owners:
    """Which videos the tracks and texts of an owner belong to, looked up once for each state of a library."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._videos: dict[str, list[str]] = {}

    def videos(self, owners: Iterable[str]) -> Mapping[str, Sequence[str]]:
        """Ids of videos by owner, for these owners at least."""
        new = dict.fromkeys(owner for owner in owners if owner not in self._videos)
        if new:
            self._videos.update(
                {owner: [owner.removeprefix("id:")] if owner.startswith("id:") else [] for owner in new}
            )
            contents = [owner for owner in new if not owner.startswith("id:")]
            for video in self._library.catalog.videos.of_contents(contents):
                self._videos[video.content or ""].append(video.id)
        return self._videos


def rows_of_lines(index: Index, owners: Owners, lines: Sequence[Line]) -> tuple[Rows, Rows]:
    """Clips during which lines are said or shown.

    Returns:
        Places in `lines`, ascending, and rows.
    """
    videos = owners.videos(line.owner for line in lines)
    pairs = [(place, video) for place, line in enumerate(lines) for video in videos.get(line.owner, ())]
    places = np.array([place for place, _ in pairs], np.int64)
    spans = np.array([(line.start_seconds, line.end_seconds) for line in lines], np.float64).reshape(-1, 2)[places]
    which, rows = index.rows_during([video for _, video in pairs], spans[:, 0], spans[:, 1])
    return places[which], rows


def lines_by_row(index: Index, owners: Owners, lines: Sequence[Line]) -> dict[int, tuple[Line, ...]]:
    """For each clip the first of the lines that it has: of those said or written, of names, and of captions."""
    places, rows = rows_of_lines(index, owners, lines)
    best: dict[int, tuple[Line, ...]] = {}
    for place, row in zip(places.tolist(), rows.tolist(), strict=True):
        add_line(best, row, lines[place])
    return best


def add_line(best: dict[int, tuple[Line, ...]], row: int, line: Line) -> None:
    """Note a line of a clip, unless it has one that comes before it and tells of the video in the same way."""
    lines = best.get(row, ())
    if all((other.kind in ABOUT or line.kind in ABOUT) and other.kind != line.kind for other in lines):
        best[row] = (*lines, line)


def literal_scores(lines: Mapping[int, Sequence[Line]], rows: Iterable[int]) -> npt.NDArray[np.float64]:
    """What the lines of each clip add for the words of the query that they hold."""
    return np.array([sum(LITERAL * line.coverage for line in lines.get(int(row), ())) for row in rows], np.float64)


def background_scores(
    library: Library, model: RetrievalModel, index: Index, owners: Owners, texts: Embedding, *, lines: bool = True
) -> npt.NDArray[np.float64]:
    """The best score that each query of a fixed, unrelated set reaches on a library.

    Args:
        texts: the embeddings of these queries, weighed.
        lines: count what is said and written, too.
    """
    queries = background_queries()
    nearest = candidate_rows(model, index, texts, np.eye(len(queries), dtype=np.float32), _FOR_BACKGROUND)
    best = []
    for query, near in enumerate(nearest):
        matches = lines_by_row(index, owners, matching_lines(library, queries[query]) if lines else [])
        rows = np.union1d(near, np.fromiter(matches, np.int64, len(matches)))
        scores = similarity_matrix(model, texts[query : query + 1], index.embedding(rows))[0].numpy().astype(np.float64)
        scores += literal_scores(matches, rows.tolist())
        best.append(float(scores.max()) if len(scores) else 0.0)
    return np.array(best)
