"""Metrics against recorded numbers of other projects' metric code, their quirks among them.

Ours are `reelseek.evaluation`; what other code does beyond a rule for ties is written out here, where it can be seen
and is offered to nobody.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reelseek.evaluation.ranks import TieRule, ranks_of
from reelseek.parity.fixture import Fixture, Found

__all__ = ["metrics"]

Array = npt.NDArray[np.float64]


def metrics(fixture: Fixture) -> Found:
    config = fixture.config
    found: dict[str, Array] = {}
    for case in config["square"]:
        scores = _array(fixture, f"{case}.sims")
        for direction, rows in (("t2v", scores), ("v2t", scores.T)):
            found |= _square(f"{case}.{direction}", rows, config["complete_size"])
    for case, about in config["multi"].items():
        found |= _multi(fixture, case, about["captions"])
    return {name: torch.from_numpy(np.asarray(value)) for name, value in found.items()}


def _array(fixture: Fixture, name: str) -> Array:
    return fixture.inputs[name].double().numpy()


def _six(ranks: Array, *, of: int | None = None, single: bool = False) -> Array:
    """R@1, 5, 10, 50 in percent, of so many queries; median and mean of the ranks that there are.

    Counted as CE does: a mean rank of 5.5 is within the first five, one of 1.5 is not the first. With `single`
    recalls are rounded to single precision, as they are where its code is given a mask.
    """
    count = len(ranks) if of is None else of
    recalls = np.array([(ranks == 1).sum(), *((ranks - 1 < k).sum() for k in (5, 10, 50))]) * 100.0 / count
    if single:
        recalls = recalls.astype(np.float32).astype(np.float64)
    return np.array([*recalls, float(np.median(ranks)), float(ranks.mean())])


def _six_mdmmt(ranks: Array) -> Array:
    """MDMMT's: the lower median, and a mean in single precision of ranks counted from 0."""
    found = _six(ranks)
    found[4:] = np.sort(ranks)[(len(ranks) - 1) // 2], 1 + float(np.float32((ranks - 1).mean()))
    return found


def _every_equal_column(scores: Array, *, of: int | None = None) -> Array:
    """All positions whose score equals the own one are pooled into one list, as if each were a query's rank."""
    own = scores.diagonal()[:, None]
    ordered = -np.sort(-scores, axis=1)
    places = np.nonzero(ordered == own)[1]
    count = len(places) if of is None else of
    return np.array([*(float((places < k).sum()) / count for k in (1, 5, 10)), float(np.median(places) + 1)])


def _square(name: str, scores: Array, complete: int) -> dict[str, Array]:
    own = scores.diagonal()
    ties: dict[str, TieRule] = {"average": "mean", "average_ce": "mean", "optimistic": "optimistic"}
    found = {f"{name}.{theirs}": _six(ranks_of(scores, own, rule)) for theirs, rule in ties.items()}
    mean, worst = ranks_of(scores, own, "mean"), ranks_of(scores, own, "pessimistic")
    return found | {
        f"{name}.average.fixed_denominator{complete}": _six(mean, of=complete),
        f"{name}.every_equal_column": _every_equal_column(scores),
        f"{name}.every_equal_column.denominator1000": _every_equal_column(scores, of=1000),
        f"{name}.mdmmt_count_ge": _six_mdmmt(worst),
        f"{name}.mdmmt_ranks": (worst - 1).astype(np.float32),
    }


def _multi(fixture: Fixture, case: str, captions: int) -> dict[str, Array]:
    scores = _array(fixture, f"{case}.sims")
    owner = fixture.inputs[f"{case}.caption_video"].numpy()
    mask = fixture.inputs[f"{case}.query_mask"].numpy().reshape(-1) > 0
    found: dict[str, Array] = {}
    for suffix, kept in (("", mask), (".nomask", np.ones_like(mask))):
        for theirs, rule in _RULES.items():
            rows = scores[kept]
            ranks = ranks_of(rows, rows[np.arange(len(rows)), owner[kept]], rule)
            found[f"{case}.t2v.{theirs}{suffix}"] = _six(ranks, single=not suffix)
            best = _best_own_caption(np.where(kept[:, None], scores, -np.inf), captions, rule)
            found[f"{case}.v2t.best_own_caption.{theirs}{suffix}"] = _six(best)
    texts = fixture.inputs[f"{case}.text_id"].numpy()
    for direction, ranks in (("t2v", _mdmmt_t2v(scores, owner, texts)), ("v2t", _mdmmt_v2t(scores, owner, texts))):
        found[f"{case}.{direction}.mdmmt"] = _six_mdmmt(ranks)
        found[f"{case}.{direction}.mdmmt_ranks"] = (ranks - 1).astype(np.float32)
    return found | _max_over_captions(case, np.where(mask[:, None], scores, -np.inf), captions)


_RULES: dict[str, TieRule] = {"average": "mean", "optimistic": "optimistic"}


def _best_own_caption(scores: Array, captions: int, rule: TieRule) -> Array:
    """For each video the best rank of its own captions among all captions, its other ones among them."""
    ranks = []
    for video in range(scores.shape[1]):
        column = scores[:, video]
        own = column[video * captions : (video + 1) * captions]
        ranks.append(ranks_of(np.tile(column, (len(own), 1)), own, rule).min())
    return np.array(ranks)


def _mdmmt_t2v(scores: Array, owner: Any, texts: Any) -> Array:
    """Worst ranks; other videos that carry the same text are not counted."""
    ranks = []
    for row, (video, text) in enumerate(zip(owner, texts, strict=True)):
        same = set(owner[texts == text]) - {video}
        others = np.array([other for other in range(scores.shape[1]) if other != video and other not in same], int)
        ranks.append(1 + (scores[row, others] >= scores[row, video]).sum())
    return np.array(ranks, np.float64)


def _mdmmt_v2t(scores: Array, owner: Any, texts: Any) -> Array:
    """Worst rank of each caption among different texts, its video's other captions not counted."""
    first = np.unique(texts, return_index=True)[1]
    ranks = []
    for row, video in enumerate(owner):
        own_texts = set(texts[owner == video])
        others = [index for index in first if texts[index] not in own_texts]
        ranks.append(1 + (scores[others, video] >= scores[row, video]).sum())
    return np.array(ranks, np.float64)


def _max_over_captions(case: str, scores: Array, captions: int) -> dict[str, Array]:
    matrix = scores.reshape(-1, captions, scores.shape[1]).max(1).T
    name = f"{case}.v2t.max_over_captions"
    own = matrix.diagonal()
    rules: dict[str, TieRule] = {"average": "mean", "optimistic": "optimistic", "pessimistic": "pessimistic"}
    found = {f"{name}.{theirs}": _six(ranks_of(matrix, own, rule)) for theirs, rule in rules.items()}
    found[f"{name}.matrix"] = matrix.astype(np.float32)
    found[f"{name}.every_equal_column"] = _every_equal_column(matrix)
    return found
