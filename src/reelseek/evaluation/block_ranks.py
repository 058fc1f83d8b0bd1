"""Ranks from blocks of a similarity matrix that does not fit into memory; the same as those of the whole matrix."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reelseek.evaluation.ranks import TieRule, rank_from_counts, text_to_video_ranks

__all__ = ["BlockRanks", "ScoreBlocks", "ranks_in_blocks"]

Floats = npt.NDArray[np.float64]
ScoreBlocks = Callable[[], Iterable[tuple[int, npt.NDArray[np.floating]]]]
"""Gives the rows of a similarity matrix anew at each call: blocks [text, video] with the number of their first text."""
_PAIRS_A_TIME = 2**24  # comparisons, each some bytes


@dataclass(frozen=True)
class BlockRanks:
    """Ranks of both directions, in the order of `text_to_video_ranks` and `video_to_text_ranks`."""

    text_to_video: Floats
    video_to_text: Floats


def ranks_in_blocks(
    blocks: ScoreBlocks,
    video_of_text: Sequence[int],
    videos: int,
    scorable: npt.NDArray[np.bool_] | None = None,
    *,
    ties: TieRule = "mean",
    same_words: Sequence[int] | None = None,
    each: bool = False,
    temperature: float | None = None,
) -> BlockRanks:
    """Rank as `text_to_video_ranks` and `video_to_text_ranks` do, with one block of scores in memory at a time.

    Args:
        blocks: called twice; four times with a temperature.
        videos: how many there are.
        temperature: of `dual_softmax`, through which the scores go first; None leaves them as they are.

    Example:
        ranks_in_blocks(lambda: [(0, matrix[:500]), (500, matrix[500:])], video_of_text, matrix.shape[1])
    """
    owners = np.asarray(video_of_text)
    scores = blocks if temperature is None else _dual_softmax(blocks, videos, temperature)
    carriers = _Carriers(same_words, owners)
    target_scores, ranks = np.empty(len(owners)), np.empty(len(owners))
    for top, block in scores():
        rows = slice(top, top + len(block))
        _refuse_nan(top, block)
        target_scores[rows] = block[np.arange(len(block)), owners[rows]]
        hidden = np.array(block, np.float64)
        if same_words is not None:
            carriers.hide(hidden, top, -np.inf)
            hidden[np.arange(len(block)), owners[rows]] = target_scores[rows]
        ranks[rows] = text_to_video_ranks(hidden, owners[rows].tolist(), scorable, ties=ties)
    return BlockRanks(ranks, _reverse_ranks(scores, owners, target_scores, carriers, scorable, ties, each=each))


class _Carriers:
    """Which videos carry the words of each text; every text has words of its own where none are numbered."""

    def __init__(self, same_words: Sequence[int] | None, owners: npt.NDArray[np.int64]) -> None:
        words = np.arange(len(owners)) if same_words is None else np.asarray(same_words)
        _, first, self._words = np.unique(words, return_index=True, return_inverse=True)
        self.once = np.zeros(len(owners), bool)  # the first text of its words
        self.once[first] = True
        pairs = np.unique(np.stack([self._words, owners], 1), axis=0)
        self._videos = pairs[:, 1]
        self._starts = np.searchsorted(pairs[:, 0], np.arange(len(first) + 1))

    def hide(self, block: Floats, top: int, value: float) -> None:
        """Replace the scores of a block's texts by the videos that carry their words."""
        words = self._words[top : top + len(block)]
        counts = self._starts[words + 1] - self._starts[words]
        rows = np.repeat(np.arange(len(block)), counts)
        places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        block[rows, self._videos[self._starts[words][rows] + places]] = value

    def texts_beside(self, videos: int) -> npt.NDArray[np.int64]:
        """How many texts with words of their own each video's captions are ranked among."""
        return len(self._starts) - 1 - np.bincount(self._videos, minlength=videos)


def _reverse_ranks(
    scores: ScoreBlocks, owners: npt.NDArray[np.int64], target_scores: Floats, carriers: _Carriers,
    scorable: npt.NDArray[np.bool_] | None, ties: TieRule, *, each: bool,
) -> Floats:  # fmt: skip
    """Rank each text among those that its video does not carry, or each video's best text."""
    if each:
        columns, targets = owners, target_scores
    else:
        columns, inverse = np.unique(owners, return_inverse=True)
        targets = np.full(len(columns), -np.inf)
        np.maximum.at(targets, inverse, target_scores)
    better, equal = np.zeros(len(columns), np.int64), np.zeros(len(columns), np.int64)
    for top, block in scores():
        hidden = np.array(block, np.float64)
        carriers.hide(hidden, top, np.nan)  # which is neither better nor equal
        hidden = hidden[carriers.once[top : top + len(block)]]
        step = max(1, _PAIRS_A_TIME // max(1, len(hidden)))
        for start in range(0, len(columns), step):
            part = slice(start, start + step)
            values = hidden[:, columns[part]]
            better[part] += (values > targets[part]).sum(0)
            equal[part] += (values == targets[part]).sum(0)
    ranks = rank_from_counts(better, equal, ties)
    if scorable is not None:
        beside = carriers.texts_beside(len(scorable))[columns]
        ranks = np.where(scorable[columns], ranks, beside + 1.0)
    return ranks


def _dual_softmax(blocks: ScoreBlocks, videos: int, temperature: float) -> ScoreBlocks:
    """The blocks of `dual_softmax` of the whole matrix, sums added in its order."""
    highest, sums = np.full((1, videos), -np.inf), np.zeros((1, videos))
    for _, block in blocks():
        highest = np.maximum(highest, block.max(0, keepdims=True))

    def shifted(scores: Floats) -> Floats:
        result: Floats = np.exp((scores - highest) / temperature)
        return result

    for _, block in blocks():
        sums = np.concatenate([sums, shifted(block.astype(np.float64))]).sum(0, keepdims=True)

    def normalised() -> Iterable[tuple[int, Floats]]:
        for top, block in blocks():
            scores = block.astype(np.float64)
            yield top, scores * shifted(scores) / sums

    return normalised


def _refuse_nan(top: int, block: npt.NDArray[np.floating]) -> None:
    if np.isnan(block).any():
        row = top + int(np.flatnonzero(np.isnan(block).any(axis=1))[0])
        raise ValueError(f"similarity holds NaN, first in row {row}; a NaN cannot be ranked")
