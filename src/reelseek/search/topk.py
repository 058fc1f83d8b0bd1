"""The best of scores that come a block at a time."""

import numpy as np

from reelseek.search.vectors import Matrix, Rows

__all__ = ["TopK"]


class TopK:
    """The best scores of each query so far; of equal ones those that came first.

    Args:
        queries: how many there are.
        count: scores of each that stay.

    Attributes:
        scores, places: [query, count] or fewer, the best first.
    """

    def __init__(self, queries: int, count: int) -> None:
        self._count = count
        self.scores: Matrix = np.zeros((queries, 0), np.float32)
        self.places: Rows = np.zeros((queries, 0), np.int64)

    def add(self, scores: Matrix, places: Rows) -> None:
        """Add candidates.

        Args:
            scores: [query, candidate].
            places: of the candidates [candidate], or of each query's [query, candidate].
        """
        places = np.broadcast_to(places, scores.shape)
        width = scores.shape[1]
        if width > 2 * self._count:  # sorting all of them would cost more than computing them
            least = np.partition(scores, width - self._count, axis=1)[:, width - self._count]
            columns = np.flatnonzero((scores >= least[:, None]).any(0))
            scores, places = scores[:, columns], places[:, columns]
        scores, places = np.hstack([self.scores, scores]), np.hstack([self.places, places])
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self._count]
        self.scores, self.places = np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)
