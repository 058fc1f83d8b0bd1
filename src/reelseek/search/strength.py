"""How sure a hit is: what unrelated questions reach on this library, and how sure experts are of what they saw.

Two kinds of unrelated questions are asked. A fixed set of everyday ones knows nothing of the library. Its own captions
are of its kind: for each of some of them the best score that a moment of *another* video reaches, which is what a
wrong hit looks like here. Confidence is one minus the share of them that score as high. Where labels speak for a
moment, it is lowered by how much the labeller itself believes in them: a label of 14 % that comes first is still most
likely wrong.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reelseek.experts.sentence import sentence_encoder
from reelseek.models.systems.concepts import label_vectors, text_centre
from reelseek.search.hit import Strength

__all__ = ["FEWEST_CAPTIONS", "MOST_CAPTIONS", "belief_in_labels", "share_above", "strength_of"]

MOST_CAPTIONS = 48  # of the library that are asked
FEWEST_CAPTIONS = 20  # below so many they say nothing
_STRONG, _LIKELY = 0.8, 0.5
_NEAR = 0.4  # cosine of a query and a label from which on the label can mean it
_CERTAIN = 0.65  # belief at which a label counts as seen; chosen on queries to real clips whose answers are known
_STEADY = 0.8  # quantile over the steps of a clip: what is in sight for a fifth of it counts


def strength_of(confidence: float | None) -> Strength | None:
    """A confidence in a word; `likely` hits are right more often than not."""
    if confidence is None:
        return None
    return "strong" if confidence >= _STRONG else "likely" if confidence >= _LIKELY else "weak"


def share_above(scores: Sequence[float], background: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """For each score the share of unrelated questions that reach as much, which is never quite 0.

    Args:
        background: the best score of each unrelated question [question].
    """
    reached = (background[None] >= np.asarray(scores, np.float64)[:, None]).sum(1)
    share: npt.NDArray[np.float64] = (reached + 1) / (len(background) + 1)
    return share


def belief_in_labels(query: str, chances: npt.NDArray[np.float32]) -> float:
    """How much a labeller believes that it saw what a query names, in [0, 1].

    It is the expected cosine of the query and the true label, as a share of what the nearest label would reach. That
    every breed of dog is a little likely makes a dog likely.

    Args:
        chances: of each ImageNet class [step, class].
    """
    if not len(chances):
        return 0.0
    sentence = sentence_encoder().encode([query])[0] - text_centre().numpy()
    cosines = label_vectors().numpy() @ (sentence / max(1e-6, float(np.linalg.norm(sentence))))
    believed = chances @ np.maximum(cosines, 0.0) / max(float(cosines.max()), _NEAR)
    return min(1.0, float(np.quantile(believed, _STEADY, method="higher")) / _CERTAIN)
