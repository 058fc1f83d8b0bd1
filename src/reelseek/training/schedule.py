"""The learning-rate schedule: a function of the epoch and of the validation scores so far, so that it can resume."""

import math
from collections.abc import Sequence

from reelseek.training.recipe import TrainRecipe

__all__ = ["rate_factor"]


def rate_factor(config: TrainRecipe, epoch: int, scores: Sequence[float], part: float = 0.0) -> float:
    """Return the factor of the learning rate in an epoch, counted from 1.

    Args:
        scores: of the epochs before, higher is better; only `plateau` looks at them.
        part: share of the epoch's steps that were taken; read with `rate_per` = "step" alone.

    >>> rate_factor(TrainRecipe(decay=0.5), 3, [])
    0.25
    >>> rate_factor(TrainRecipe(schedule="constant", warmup=0.5, rate_per="step"), 1, [], 0.25)
    0.5
    """
    if config.rate_per == "step":
        before = epoch - 1 + part
        if before < config.warmup:
            return before / config.warmup
        done = before - config.warmup
    elif epoch <= config.warmup:
        return epoch / (config.warmup + 1)
    else:
        done = epoch - 1 - config.warmup
    if config.schedule == "exponential":
        return config.decay ** (done if config.decay_every == 1 else done // config.decay_every)
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done / max(1, config.epochs - config.warmup)))
    if config.schedule == "plateau":
        return config.plateau_factor ** _reductions(config, scores)
    return 1.0


def _reductions(config: TrainRecipe, scores: Sequence[float]) -> int:
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
        if since > config.plateau_patience:
            count, since, pause = count + 1, 0, config.cooldown
    return count
