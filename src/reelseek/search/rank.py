"""Clips in the order of their scores, and the moments that neighbouring clips make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reelseek.library.store import Library
from reelseek.models.model import RetrievalModel
from reelseek.search.current import CurrentIndex
from reelseek.search.exact import ExactGallery
from reelseek.search.fulltext import Line, lines_with_phrase, matching_lines
from reelseek.search.index import Index
from reelseek.search.question import Question
from reelseek.search.scoring import candidate_rows, lines_by_row, literal_scores, rows_of_line

__all__ = ["Ranking", "merge_moments", "rank", "rows_with_phrases"]

_MERGE = 0.9  # a neighbouring clip joins a moment if it scores at least this share of the moment's best
_LONGEST_MOMENT = 60.0
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ranking:
    """Clip rows with their scores, best first, and the line of text that each has for the query."""

    rows: Rows
    scores: npt.NDArray[np.float64]
    lines: Mapping[int, Line]


def rank(
    library: Library,
    model: RetrievalModel,
    current: CurrentIndex,
    question: Question,
    count: int | None,
    exact: ExactGallery | None = None,
) -> Ranking:
    """Candidates by vectors and by full text, all scored alike.

    Args:
        exact: finds candidates instead of the index's neighbours.
        count: how many candidates of each presence pattern are looked at; None scores every clip.
    """
    index, query = current.index, question.query
    lines = lines_by_row(index, current.owners, matching_lines(library, query.words))
    if query.phrases and count is not None:
        rows = rows_with_phrases(library, current, query.phrases)
    else:
        if count is None:
            nearest = np.arange(len(index.clips))
        elif exact is not None:
            nearest = exact.nearest(question, count)
        else:
            (nearest,) = candidate_rows(model, index, question.texts, question.mix, count)
        rows = current.present_rows(np.union1d(nearest, np.fromiter(lines, np.int64, len(lines))))
    if query.refused and count is not None:
        rows = np.setdiff1d(rows, np.concatenate([rows_with_phrases(library, current, [p]) for p in query.refused]))
    scores = question.scores(model, index.embedding(rows)) + literal_scores(lines, rows)
    order = np.lexsort((rows, -scores))
    return Ranking(rows[order], scores[order], lines)


def rows_with_phrases(library: Library, current: CurrentIndex, phrases: Sequence[str]) -> Rows:
    """Clips during which every one of some phrases is said or written."""
    matches = [
        {
            row
            for line in lines_with_phrase(library, phrase)
            for row in rows_of_line(current.index, current.owners, line)
        }
        for phrase in phrases
    ]
    return current.present_rows(np.array(sorted(set.intersection(*matches)), np.int64))


def merge_moments(index: Index, ranking: Ranking, k: int, group_by: str) -> list[list[int]]:
    """Places in the ranking of each moment's clips, the best clip first."""
    place = {int(row): index for index, row in enumerate(ranking.rows)}
    taken: set[int] = set()
    videos: set[str] = set()
    moments: list[list[int]] = []
    for at, row in enumerate(ranking.rows):
        clip = index.clips[row]
        if int(row) in taken or (group_by == "video" and clip.video in videos):
            continue
        moment = [at, *_neighbours(index, ranking, place, taken, at)]
        taken |= {int(ranking.rows[i]) for i in moment}
        videos.add(clip.video)
        moments.append(moment)
        if len(moments) == k:
            break
    return moments


def _neighbours(index: Index, ranking: Ranking, place: Mapping[int, int], taken: set[int], at: int) -> list[int]:
    row, floor = int(ranking.rows[at]), _MERGE * ranking.scores[at]
    clips, joined = index.clips, []
    first = last = clips[row]
    for step in (-1, 1):
        near = row + step
        while near in place and near not in taken and clips[near].video == first.video:
            start = min(first.start_seconds or 0.0, clips[near].start_seconds or 0.0)
            end = max(last.end_seconds or 0.0, clips[near].end_seconds or 0.0)
            if ranking.scores[at] <= 0 or ranking.scores[place[near]] < floor or end - start > _LONGEST_MOMENT:
                break
            first, last = (clips[near], last) if step < 0 else (first, clips[near])
            joined.append(place[near])
            near += step
    return joined
