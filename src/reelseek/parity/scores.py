"""Metrics compared with recorded numbers of other projects' metric code, quirks included.

Ours are `reelseek.evaluation`; whatever other code does beyond a rule for ties is reproduced here only.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reelseek.evaluation.ranks import TieRule, ranks_of
from reelseek.parity.fixture import Fixture, Outputs

__all__ = ["metrics"]

Array = npt.NDArray[np.float64]


def metrics(fixture: Fixture) -> Outputs:
    config = fixture.config
    outputs: dict[str, Array] = {}
    for case in config["square"]:
        scores = _array(fixture, f"{case}.sims")
        for direction, rows in (("t2v", scores), ("v2t", scores.T)):
            outputs |= _square(f"{case}.{direction}", rows, config["complete_size"])
    for case, settings in config["multi"].items():
        outputs |= _multi(fixture, case, settings["captions"])
    return {name: torch.from_numpy(np.asarray(value)) for name, value in outputs.items()}


def _array(fixture: Fixture, name: str) -> Array:
    return fixture.inputs[name].double().numpy()


def _six(ranks: Array, *, of: int | None = None, single: bool = False) -> Array:
    """R@1, 5, 10, 50 in percent of `of` queries (default: all ranks), then median and mean rank.

    Counted as in CE: a mean rank of 5.5 is within the first five, one of 1.5 is not the first. With `single` recalls
    are rounded to single precision, as CE's code does when it has a mask.
    """
    count = len(ranks) if of is None else of
    recalls = np.array([(ranks == 1).sum(), *((ranks - 1 < k).sum() for k in (5, 10, 50))]) * 100.0 / count
    if single:
        recalls = recalls.astype(np.float32).astype(np.float64)
    return np.array([*recalls, float(np.median(ranks)), float(ranks.mean())])


def _six_mdmmt(ranks: Array) -> Array:
    """MDMMT's form: the lower median, and a mean in single precision of ranks counted from 0."""
    values = _six(ranks)
    values[4:] = np.sort(ranks)[(len(ranks) - 1) // 2], 1 + float(np.float32((ranks - 1).mean()))
    return values


def _every_equal_column(scores: Array, *, of: int | None = None) -> Array:
    """Pool all positions whose score equals the positive's into one list, as if each were the rank of a query."""
    positive = scores.diagonal()[:, None]
    ordered = -np.sort(-scores, axis=1)
    places = np.nonzero(ordered == positive)[1]
    count = len(places) if of is None else of
    return np.array([*(float((places < k).sum()) / count for k in (1, 5, 10)), float(np.median(places) + 1)])


def _square(name: str, scores: Array, complete: int) -> dict[str, Array]:
    positive = scores.diagonal()
    ties: dict[str, TieRule] = {"average": "mean", "average_ce": "mean", "optimistic": "optimistic"}
    outputs = {f"{name}.{theirs}": _six(ranks_of(scores, positive, rule)) for theirs, rule in ties.items()}
    mean, worst = ranks_of(scores, positive, "mean"), ranks_of(scores, positive, "pessimistic")
    return outputs | {
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
    outputs: dict[str, Array] = {}
    for suffix, query_mask in (("", mask), (".nomask", np.ones_like(mask))):
        for theirs, rule in _RULES.items():
            rows = scores[query_mask]
            ranks = ranks_of(rows, rows[np.arange(len(rows)), owner[query_mask]], rule)
            outputs[f"{case}.t2v.{theirs}{suffix}"] = _six(ranks, single=not suffix)
            best = _best_caption_rank(np.where(query_mask[:, None], scores, -np.inf), captions, rule)
            outputs[f"{case}.v2t.best_own_caption.{theirs}{suffix}"] = _six(best)
    texts = fixture.inputs[f"{case}.text_id"].numpy()
    for direction, ranks in (("t2v", _mdmmt_t2v(scores, owner, texts)), ("v2t", _mdmmt_v2t(scores, owner, texts))):
        outputs[f"{case}.{direction}.mdmmt"] = _six_mdmmt(ranks)
        outputs[f"{case}.{direction}.mdmmt_ranks"] = (ranks - 1).astype(np.float32)
    return outputs | _max_over_captions(case, np.where(mask[:, None], scores, -np.inf), captions)


_RULES: dict[str, TieRule] = {"average": "mean", "optimistic": "optimistic"}


def _best_caption_rank(scores: Array, captions: int, rule: TieRule) -> Array:
    """For each video the best rank of its captions among all captions, its other captions included."""
    ranks = []
    for video in range(scores.shape[1]):
        column = scores[:, video]
        positives = column[video * captions : (video + 1) * captions]
        ranks.append(ranks_of(np.tile(column, (len(positives), 1)), positives, rule).min())
    return np.array(ranks)


def _mdmmt_t2v(scores: Array, owner: Any, texts: Any) -> Array:
    """Pessimistic ranks; other videos with the same text are not counted."""
    ranks = []
    for row, (video, text) in enumerate(zip(owner, texts, strict=True)):
        same = set(owner[texts == text]) - {video}
        others = np.array([other for other in range(scores.shape[1]) if other != video and other not in same], int)
        ranks.append(1 + (scores[row, others] >= scores[row, video]).sum())
    return np.array(ranks, np.float64)


def _mdmmt_v2t(scores: Array, owner: Any, texts: Any) -> Array:
    """Pessimistic rank of each caption among different texts, its video's other captions not counted."""
    first = np.unique(texts, return_index=True)[1]
    ranks = []
    for row, video in enumerate(owner):
        positive_texts = set(texts[owner == video])
        others = [index for index in first if texts[index] not in positive_texts]
        ranks.append(1 + (scores[others, video] >= scores[row, video]).sum())
    return np.array(ranks, np.float64)


def _max_over_captions(case: str, scores: Array, captions: int) -> dict[str, Array]:
    matrix = scores.reshape(-1, captions, scores.shape[1]).max(1).T
    name = f"{case}.v2t.max_over_captions"
    positive = matrix.diagonal()
    rules: dict[str, TieRule] = {"average": "mean", "optimistic": "optimistic", "pessimistic": "pessimistic"}
    outputs = {f"{name}.{theirs}": _six(ranks_of(matrix, positive, rule)) for theirs, rule in rules.items()}
    outputs[f"{name}.matrix"] = matrix.astype(np.float32)
    outputs[f"{name}.every_equal_column"] = _every_equal_column(matrix)
    return outputs
