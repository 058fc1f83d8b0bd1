"""The pairs of the highest scores, gathered block by block; the order of the blocks does not matter."""

from typing import Self

import numpy as np
import numpy.typing as npt

from reelseek.overlap.blocks import Scores
from reelseek.overlap.screen import Repeated

__all__ = ["BestPairs"]


_LOWEST = np.finfo(np.float32).min  # minus infinity, of windows that do not fit, is below


class BestPairs:
    """At most so many pairs, best first; of equal scores those of lower indices.

    Args:
        most: number of pairs.
        repeated: pairs that do not count.

    Attributes:
        scores: [pair].
        pairs: [pair, 2], indices of a query and a gallery video.
    """

    def __init__(self, most: int, repeated: Repeated | None) -> None:
        self._most, self._repeated = most, repeated
        self.scores = np.zeros(0, np.float32)
        self.pairs = np.zeros((0, 2), np.int64)

    def add_block(self, block: Scores) -> None:
        """Take a block of scores into account."""
        rows_of, columns_of, values = block
        scores = values.numpy()
        floor = self.scores[-1] if len(self.scores) >= self._most else _LOWEST
        rows, columns = np.nonzero(scores >= floor)
        if len(rows):
            pairs = np.stack([rows_of.numpy()[rows], columns_of.numpy()[columns]], 1)
            counted = np.ones(len(pairs), bool) if self._repeated is None else ~self._repeated.pairs(pairs)
            self.add(scores[rows, columns][counted], pairs[counted])

    def add(self, scores: npt.NDArray[np.float32], pairs: npt.NDArray[np.int64]) -> None:
        """Take pairs with their scores into account."""
        scores, pairs = np.concatenate([self.scores, scores]), np.concatenate([self.pairs, pairs])
        order = np.lexsort((pairs[:, 1], pairs[:, 0], -scores))[: self._most]
        self.scores, self.pairs = scores[order], pairs[order]

    def without_rule(self) -> Self:
        """Return this without what excludes pairs, which is large; to be sent to who gathers many of them."""
        self._repeated = None
        return self
