"""The nearest clips of several segments, merged: lists of all of them first say which clips may be the best.

What is read of a segment is a `Call`. Who runs the calls is a parameter: this process, or replicas on a cluster that
have the segments open, see `replicas`. Either gives the same answers.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from reelseek.search.neighbours import Neighbours
from reelseek.search.segment import Segment
from reelseek.search.vectors import Floats, Matrix, Rows

__all__ = ["Best", "Bits", "Call", "Method", "Part", "Run", "run_here", "search_parts"]

Best = tuple[Matrix, Rows]
"""Scores and rows of clips, the best first."""
Bits = npt.NDArray[np.uint8]
"""A bit for every clip of a segment, eight in a byte."""
Method = Literal["search", "estimate", "score", "slots"]


@dataclass(frozen=True)
class Part:
    """The clips of a presence pattern in one segment, whose first row in the index is `base`; '' is all its clips."""

    base: int
    segment: Segment
    pattern: str = ""

    @property
    def neighbours(self) -> Neighbours:
        return self.segment.neighbours(self.pattern)

    @property
    def exact(self) -> bool:
        """Whether every clip is looked at; known without opening the neighbours."""
        return self.pattern not in (self.segment.record.lists or {})

    def search(self, queries: Matrix, count: int, selected: Bits | None = None) -> list[Best]:
        """For each query the best clips that are not deleted.

        Args:
            selected: a bit for every clip of the segment; None selects all.
        """
        deleted, neighbours = self.segment.deleted, self.neighbours
        if selected is not None:
            among = np.unpackbits(selected, count=len(self.segment)).astype(bool)
            among = among if deleted is None else among & ~deleted
            return [(scores, rows + self.base) for scores, rows in neighbours.search_among(queries, count, among)]
        depth = count if deleted is None else count + min(count, self.segment.record.deleted)
        while True:
            scores, rows = neighbours.search(queries, depth)
            answers = [self.live(*answer) for answer in zip(scores, rows, strict=True)]
            if deleted is None or depth >= len(neighbours.rows) or all(len(rows) >= count for _, rows in answers):
                return [(scores[:count], rows[:count]) for scores, rows in answers]
            depth *= 4

    def estimate(self, queries: Matrix, count: int) -> tuple[Matrix, Rows, int]:
        """What `Neighbours.estimate` gives, and how many clips there are."""
        return (*self.neighbours.estimate(queries, count), len(self.neighbours.rows))

    def score(self, queries: Matrix, candidates: Sequence[Rows], count: int) -> list[Best]:
        """For each query the best of what `estimate` gave that are not deleted."""
        return [
            self.live(*self.neighbours.score(query, rows, count))
            for query, rows in zip(queries, candidates, strict=True)
        ]

    def live(self, scores: Matrix, rows: Rows) -> Best:
        """Without deleted clips, as rows of the index."""
        if self.segment.deleted is not None:
            live = ~self.segment.deleted[rows]
            scores, rows = scores[live], rows[live]
        return scores, rows + self.base

    def slots(self, rows: Rows) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """The slots that some clips have, packed, and which those are, by rows of the segment."""
        return self.segment.slots.packed(rows), self.segment.slots.present(rows)


@dataclass(frozen=True)
class Call:
    """Something that is read of a part: one of its methods, and the arguments."""

    part: Part
    method: Method
    arguments: tuple[Any, ...]

    def run(self) -> Any:
        """Read it in this process."""
        return getattr(self.part, self.method)(*self.arguments)


Run = Callable[[Sequence[Call]], list[Any]]
"""Runs calls, and returns what each gives in their order."""
_NONE: Best = (np.zeros(0, np.float32), np.zeros(0, np.int64))
_Search = Generator[list[Call], list[Any], list[Best]]


def run_here(calls: Sequence[Call]) -> list[Any]:
    """Run calls in this process."""
    return [call.run() for call in calls]


def search_parts(
    searches: Sequence[tuple[Sequence[Part], Matrix]],
    count: int,
    run: Run = run_here,
    selected: npt.NDArray[np.bool_] | None = None,
) -> list[list[Best]]:
    """For each search and each of its queries the best clips of some parts that are not deleted.

    Args:
        searches: parts and queries [query, dim]; all take as few rounds of calls as one of them.
        selected: rows of the index that count [row]; None is all.
    """
    answers: list[list[Best]] = [[] for _ in searches]
    running = {place: _search(*search, count, selected) for place, search in enumerate(searches)}
    replies: dict[int, list[Any] | None] = dict.fromkeys(running)
    while running:
        rounds: dict[int, list[Call]] = {}
        for place, search in list(running.items()):
            try:
                rounds[place] = search.send(replies[place])  # type: ignore[arg-type]  # None starts it
            except StopIteration as end:
                answers[place] = end.value
                del running[place]
        results = iter(run([call for calls in rounds.values() for call in calls]) if rounds else [])
        replies = {place: [next(results) for _ in calls] for place, calls in rounds.items()}
    return answers


def _search(
    parts: Sequence[Part], queries: Matrix, count: int, selected: npt.NDArray[np.bool_] | None = None
) -> _Search:
    """One search; yields the calls of a round, and is sent what they give."""
    if selected is not None:
        masks = [(part, selected[part.base : part.base + len(part.segment)]) for part in parts]
        calls = [Call(part, "search", (queries, count, np.packbits(mask))) for part, mask in masks if mask.any()]
        results = yield calls
        return [_merge([_NONE, *(result[place] for result in results)], count) for place in range(len(queries))]
    lists = [part for part in parts if not part.exact]
    together = lists if len(lists) > 1 else []
    alone = [part for part in parts if part not in together]
    calls = [Call(part, "search", (queries, count)) for part in alone]
    results = yield calls + [Call(part, "estimate", (queries, count)) for part in together]
    answers: list[list[Best]] = results[: len(alone)]
    if together:
        answers.append((yield from _score_candidates(together, results[len(alone) :], queries, count)))
    return [_merge([answer[place] for answer in answers], count) for place in range(len(queries))]


def _score_candidates(
    parts: Sequence[Part], estimates: Sequence[tuple[Matrix, Rows, int]], queries: Matrix, count: int
) -> _Search:
    """Score again the clips that the lists of several segments think best, as many as two segments alone would take."""
    most = 2 * max(scores.shape[1] for scores, _, _ in estimates)
    owner = np.repeat(np.arange(len(parts)), [scores.shape[1] for scores, _, _ in estimates])
    scores = np.hstack([scores for scores, _, _ in estimates])
    candidates = np.hstack([candidates for _, candidates, _ in estimates])
    scores[candidates < 0] = -np.inf
    selected: list[list[Rows]] = [[] for _ in parts]
    for place in range(len(queries)):
        best = np.argpartition(-scores[place], most)[:most] if most < scores.shape[1] else np.arange(scores.shape[1])
        for number, rows in enumerate(selected):
            rows.append(candidates[place, best[owner[best] == number]])
    results = yield [Call(part, "score", (queries, rows, count)) for part, rows in zip(parts, selected, strict=True)]
    answers = [_merge([result[place] for result in results], count) for place in range(len(queries))]
    enough = min(count, sum(clips for _, _, clips in estimates))
    short = [place for place, (best, _) in enumerate(answers) if len(best) < enough]  # many are deleted, or sought
    if short:
        results = yield [Call(part, "search", (queries[place : place + 1], count)) for place in short for part in parts]
        for number, place in enumerate(short):
            several = results[number * len(parts) : (number + 1) * len(parts)]
            answers[place] = _merge([best for (best,) in several], count)
    return answers


def _merge(parts: Sequence[Best], count: int) -> Best:
    if len(parts) == 1:
        return parts[0]
    scores, rows = np.concatenate([scores for scores, _ in parts]), np.concatenate([rows for _, rows in parts])
    order = np.lexsort((rows, -scores))[:count]
    return scores[order], rows[order]
