"""The nearest clips of several segments, merged: lists of all of them first say which clips may be the best."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reelseek.search.neighbours import Neighbours
from reelseek.search.segment import Segment
from reelseek.search.vectors import Matrix, Rows

__all__ = ["Best", "Part", "nearest"]

Best = tuple[Matrix, Rows]
"""Scores and rows of clips, the best first."""


@dataclass(frozen=True)
class Part:
    """The clips of a presence pattern in one segment, whose first row in the index is `base`."""

    base: int
    segment: Segment
    pattern: str

    @property
    def neighbours(self) -> Neighbours:
        return self.segment.neighbours(self.pattern)

    def search(self, queries: Matrix, count: int) -> list[Best]:
        """For each query the best clips that are not deleted."""
        deleted, neighbours = self.segment.deleted, self.neighbours
        depth = count if deleted is None else count + min(count, self.segment.record.deleted)
        while True:
            scores, rows = neighbours.search(queries, depth)
            answers = [self.live(*answer) for answer in zip(scores, rows, strict=True)]
            if deleted is None or depth >= len(neighbours.rows) or all(len(rows) >= count for _, rows in answers):
                return [(scores[:count], rows[:count]) for scores, rows in answers]
            depth *= 4

    def live(self, scores: Matrix, rows: Rows) -> Best:
        """Without deleted clips, as rows of the index."""
        if self.segment.deleted is not None:
            live = ~self.segment.deleted[rows]
            scores, rows = scores[live], rows[live]
        return scores, rows + self.base


def nearest(parts: Sequence[Part], queries: Matrix, count: int) -> list[Best]:
    """For each query the best clips of some segments that are not deleted."""
    lists = [part for part in parts if not part.neighbours.exact]
    together = lists if len(lists) > 1 else []
    answers: list[list[Best]] = [[] for _ in queries]
    for part in parts:
        if part not in together:
            for answer, best in zip(answers, part.search(queries, count), strict=True):
                answer.append(best)
    if together:
        for answer, best in zip(answers, _search_lists(together, queries, count), strict=True):
            answer.append(best)
    return [_merge(answer, count) for answer in answers]


def _search_lists(parts: Sequence[Part], queries: Matrix, count: int) -> list[Best]:
    """Score again the clips that the lists of several segments think best, as many as two segments alone would take."""
    estimates = [part.neighbours.estimate(queries, count) for part in parts]
    most = 2 * max(scores.shape[1] for scores, _ in estimates)
    owner = np.repeat(np.arange(len(parts)), [scores.shape[1] for scores, _ in estimates])
    scores = np.hstack([scores for scores, _ in estimates])
    candidates = np.hstack([candidates for _, candidates in estimates])
    scores[candidates < 0] = -np.inf
    answers = []
    for place, query in enumerate(queries):
        best = np.argpartition(-scores[place], most)[:most] if most < scores.shape[1] else np.arange(scores.shape[1])
        merged = _merge([
            part.live(*part.neighbours.score(query, candidates[place, best[owner[best] == number]], count))
            for number, part in enumerate(parts)
        ], count)  # fmt: skip
        if len(merged[0]) < min(count, sum(len(part.neighbours.rows) for part in parts)):  # many are deleted, or sought
            merged = _merge([part.search(query[None], count)[0] for part in parts], count)
        answers.append(merged)
    return answers


def _merge(parts: Sequence[Best], count: int) -> Best:
    if len(parts) == 1:
        return parts[0]
    scores, rows = np.concatenate([scores for scores, _ in parts]), np.concatenate([rows for _, rows in parts])
    order = np.lexsort((rows, -scores))[:count]
    return scores[order], rows[order]
