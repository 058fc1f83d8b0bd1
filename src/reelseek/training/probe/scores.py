"""Scores of decision values: accuracies where classes exclude each other, else mean average precision."""

from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.training.probe.samples import Bools

__all__ = ["Matrix", "score", "score_tables"]

Matrix = npt.NDArray[np.floating]


def score(targets: Bools, decisions: Matrix, *, single: bool) -> float:
    """Return the score by which settings are selected.

    Args:
        targets: [sample, class].
        decisions: [sample, class]; the greatest is the guess.
        single: classes exclude each other.
    """
    if single:
        return float((decisions.argmax(1) == targets.argmax(1)).mean())
    return _mean_average_precision(targets, decisions)


def score_tables(targets: Bools, decisions: Matrix, *, single: bool) -> dict[str, Any]:
    """Return every score of the tested samples, by the names of `Probed`."""
    true, guessed = targets.argmax(1), decisions.argmax(1)
    confusion = np.zeros((targets.shape[1],) * 2, np.int64)
    np.add.at(confusion, (true, guessed), 1)
    none: dict[str, Any] = dict.fromkeys(("accuracy", "top_5", "mean_class_accuracy", "mean_average_precision"))
    if not single:
        return {
            **none,
            "mean_average_precision": _mean_average_precision(targets, decisions),
            "chance": float(targets[:, targets.any(0)].mean()),
            "confusion": confusion,
        }
    five = np.argsort(-decisions, axis=1)[:, :5]
    tested = confusion.sum(1) > 0
    by_class = confusion.diagonal()[tested] / confusion.sum(1)[tested]
    return {
        **none,
        "accuracy": float((true == guessed).mean()),
        "top_5": float((five == true[:, None]).any(1).mean()),
        "mean_class_accuracy": float(by_class.mean()),
        "chance": float(np.bincount(true).max() / len(true)),
        "confusion": confusion,
    }


def _mean_average_precision(targets: Bools, decisions: Matrix) -> float:
    from sklearn.metrics import average_precision_score

    labels = [label for label in range(targets.shape[1]) if targets[:, label].any()]
    values = np.where(np.isfinite(decisions), decisions, -1e9)
    return float(np.mean([average_precision_score(targets[:, label], values[:, label]) for label in labels]))
