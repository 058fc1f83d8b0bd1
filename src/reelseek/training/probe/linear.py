"""Linear classifiers on frozen features."""

import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from reelseek.training.probe.samples import Bools, Parts
from reelseek.training.probe.scores import Matrix, score

__all__ = ["Classifier", "linear_decisions"]

Classifier = Literal["logistic", "svm"]
_STRENGTHS = tuple(float(c) for c in 10.0 ** np.arange(-4, 3))


def linear_decisions(
    features: Matrix, owner: npt.NDArray[np.int64], targets: Bools, parts: Parts, kind: Classifier, *, single: bool
) -> tuple[Matrix, float]:
    """Return decision values of the samples that are tested [sample, class], and the strength that was selected.

    Args:
        features: of every window; owner: the sample of each.
        targets: [sample, class]; single: whether classes exclude each other.
        parts: samples that are learnt from, validated on, and tested.
    """
    learn, held, test = parts

    def decide(fit: Bools, query: Bools, strength: float) -> Matrix:
        return _decisions(features, owner, targets, (fit, query), kind, strength, single=single)

    scores = [score(targets[held], decide(learn & ~held, held, c), single=single) for c in _STRENGTHS]
    strength = _STRENGTHS[int(np.argmax(scores))]
    return decide(learn | held, test, strength), strength


def _decisions(
    features: Matrix,
    owner: npt.NDArray[np.int64],
    targets: Bools,
    parts: tuple[Bools, Bools],
    kind: Classifier,
    strength: float,
    *,
    single: bool,
) -> Matrix:
    """Mean over windows of the decision values [sample, class] of the second part, by a classifier fitted to the first;
    -inf for a class that was not learnt."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.preprocessing import StandardScaler

    fit, query = parts
    rows, query_rows = fit[owner], query[owner]
    scaler = StandardScaler()
    learnt, test = scaler.fit_transform(features[rows]), scaler.transform(features[query_rows])
    values = np.full((len(test), targets.shape[1]), -np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # weak ones need not converge to be compared
        if single:
            classifier = _classifier(kind, strength).fit(learnt, targets.argmax(1)[owner[rows]])
            decisions = classifier.decision_function(test)
            values[:, classifier.classes_] = np.stack([-decisions, decisions], 1) if decisions.ndim == 1 else decisions
        else:
            for label in range(targets.shape[1]):
                positive = targets[owner[rows], label]
                if positive.any() and not positive.all():
                    values[:, label] = _classifier(kind, strength).fit(learnt, positive).decision_function(test)
    numbers = np.searchsorted(np.flatnonzero(query), owner[query_rows])
    total = np.zeros((int(query.sum()), targets.shape[1]))
    np.add.at(total, numbers, values)
    return total / np.bincount(numbers)[:, None]


def _classifier(kind: Classifier, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    if kind == "svm":
        return LinearSVC(C=strength, dual="auto", random_state=0)
    return LogisticRegression(C=strength, max_iter=500)
