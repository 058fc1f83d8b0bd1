"""Clips in the order of their scores, and the moments that neighbouring clips make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reelseek.library.store import Library
from reelseek.models.model import RetrievalModel
from reelseek.search.current import CurrentIndex
from reelseek.search.exact import ExactGallery
from reelseek.search.fulltext import Line, lines_with_phrase
from reelseek.search.index import Index
from reelseek.search.nearest import Run, run_here
from reelseek.search.question import Question
from reelseek.search.scoring import candidate_rows, lines_by_row, literal_scores, rows_of_lines

__all__ = ["Ranking", "extend", "merge_moments", "rank", "rows_with_phrases", "score_rows"]

_MERGE = 0.9  # a neighbouring clip joins a moment if it scores at least this share of the moment's best
_LONGEST_MOMENT = 60.0
_BLOCK = 2**16  # clips that are scored at once
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ranking:
    """Clip rows with their scores, best first, and the lines of text that each has for the query."""

    rows: Rows
    scores: npt.NDArray[np.float64]
    lines: Mapping[int, Sequence[Line]]


def rank(
    library: Library,
    model: RetrievalModel,
    current: CurrentIndex,
    question: Question,
    lines: Sequence[Line],
    count: int | None,
    exact: ExactGallery | None = None,
    run: Run = run_here,
    selected: npt.NDArray[np.bool_] | None = None,
) -> Ranking:
    """Candidates by vectors and by full text, all scored alike.

    Args:
        lines: those that hold words of the query, best first.
        run: reads the segments.
        exact: finds candidates instead of the index's neighbours.
        count: how many candidates of each presence pattern are looked at; None scores every clip.
        selected: rows that count [row]; None is all.
    """
    index, query = current.index, question.query
    by_row = lines_by_row(index, current.owners, lines)
    if query.phrases and count is not None:
        rows = rows_with_phrases(library, current, query.phrases)
    else:
        if count is None:
            nearest = index.live_rows()
        elif exact is not None:
            nearest = exact.nearest(question, count, selected)
        else:
            (nearest,) = candidate_rows(
                model, index, question.texts, question.mix, count, run, selected, question.coarse
            )
        rows = current.present_rows(np.union1d(nearest, np.fromiter(by_row, np.int64, len(by_row))))
    if query.refused and count is not None:
        rows = np.setdiff1d(rows, np.concatenate([rows_with_phrases(library, current, [p]) for p in query.refused]))
    rows = rows if selected is None else rows[selected[rows]]
    scores = score_rows(model, index, question, rows, run) + literal_scores(by_row, rows)
    order = np.lexsort((_places(index, rows, scores), -scores))
    return Ranking(rows[order], scores[order], by_row)


def extend(ranking: Ranking, rows: Rows, scores: npt.NDArray[np.float64]) -> Ranking:
    """The ranking with some more clips; of equal scores these come last."""
    rows, scores = np.concatenate([ranking.rows, rows]), np.concatenate([ranking.scores, scores])
    order = np.argsort(-scores, kind="stable")
    return Ranking(rows[order], scores[order], ranking.lines)


def score_rows(
    model: RetrievalModel, index: Index, question: Question, rows: Rows, run: Run
) -> npt.NDArray[np.float64]:
    """The model's similarity to some clips, a block of their embeddings in memory at a time."""
    if len(rows) > _BLOCK:
        run = run_here  # so many are scored where they are read
    blocks = (rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK))
    return np.concatenate([np.zeros(0), *(question.scores(model, index.embedding(block, run)) for block in blocks)])


def _places(index: Index, rows: Rows, scores: npt.NDArray[np.float64]) -> Rows:
    """What orders clips of equal scores: video and time, in whatever segments they lie."""
    if len(index.segments) == 1:
        return rows
    _, which, counts = np.unique(scores, return_inverse=True, return_counts=True)
    places = rows.copy()
    tied = np.flatnonzero(counts[which] > 1)  # of whatever score: only places of one score are compared
    order = sorted(tied.tolist(), key=lambda at: (index.clips[rows[at]].video, int(rows[at])))
    places[order] = np.arange(len(order))
    return places


def rows_with_phrases(library: Library, current: CurrentIndex, phrases: Sequence[str]) -> Rows:
    """Clips during which every one of some phrases is said or written."""
    matches = []
    for phrase in phrases:
        _, rows = rows_of_lines(current.index, current.owners, lines_with_phrase(library, phrase))
        matches.append(np.unique(rows))
    common = matches[0]
    for rows in matches[1:]:
        common = np.intersect1d(common, rows)
    return current.present_rows(common)


def merge_moments(index: Index, ranking: Ranking, k: int, group_by: str) -> list[list[int]]:
    """Places in the ranking of each moment's clips, the best clip first."""
    rows = ranking.rows.tolist()
    place = {row: at for at, row in enumerate(rows)}
    videos, spans = index.spans(ranking.rows)
    clips = _Spans(videos.tolist(), np.nan_to_num(spans).tolist())
    taken: set[int] = set()
    shown: set[int] = set()
    moments: list[list[int]] = []
    for at, row in enumerate(rows):
        if row in taken or (group_by == "video" and clips.videos[at] in shown):
            continue
        moment = [at, *_neighbours(clips, ranking, place, taken, at)]
        taken |= {rows[i] for i in moment}
        shown.add(clips.videos[at])
        moments.append(moment)
        if len(moments) == k:
            break
    return moments


@dataclass(frozen=True)
class _Spans:
    """Of each clip of a ranking what its video's clips have in common, and start and end in seconds."""

    videos: Sequence[int]
    seconds: Sequence[Sequence[float]]


def _neighbours(clips: _Spans, ranking: Ranking, place: Mapping[int, int], taken: set[int], at: int) -> list[int]:
    """Places of the clips before and after one that make a moment with it."""
    row, floor = int(ranking.rows[at]), _MERGE * ranking.scores[at]
    joined = []
    start, end = clips.seconds[at]
    for step in (-1, 1):
        near = row + step
        while near in place and near not in taken and clips.videos[place[near]] == clips.videos[at]:
            near_start, near_end = clips.seconds[place[near]]
            longer = max(end, near_end) - min(start, near_start)
            if ranking.scores[at] <= 0 or ranking.scores[place[near]] < floor or longer > _LONGEST_MOMENT:
                break
            start, end = min(start, near_start), max(end, near_end)
            joined.append(place[near])
            near += step
    return joined
