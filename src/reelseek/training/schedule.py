"""How the learning rate goes: a function of the epoch and of the validation scores so far, so that it can resume."""

import math
from collections.abc import Sequence

from reelseek.training.recipe import TrainRecipe

__all__ = ["rate_factor"]


def rate_factor(how: TrainRecipe, epoch: int, scores: Sequence[float]) -> float:
    """What the rate is multiplied by in an epoch, counted from 1.

    Args:
        scores: of the epochs before, higher is better; only `plateau` looks at them.

    >>> rate_factor(TrainRecipe(decay=0.5), 3, [])
    0.25
    """
    if epoch <= how.warmup:
        return epoch / (how.warmup + 1)
    done = epoch - 1 - how.warmup
    if how.schedule == "exponential":
        return how.decay**done
    if how.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done / max(1, how.epochs - how.warmup)))
    if how.schedule == "plateau":
        return how.plateau_factor ** _reductions(how, scores)
    return 1.0


def _reductions(how: TrainRecipe, scores: Sequence[float]) -> int:
    """How often the rate was lowered: after `plateau_patience` epochs without a better one, `cooldown` not counted."""
    best, since, pause, count = -math.inf, 0, 0, 0
    for score in scores:
        if score > best:
            best, since = score, 0
        elif pause:
            since = 0
        else:
            since += 1
        pause = max(0, pause - 1)
        if since > how.plateau_patience:
            count, since, pause = count + 1, 0, how.cooldown
    return count
