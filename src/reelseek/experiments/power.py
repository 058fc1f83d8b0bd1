"""What a number of seeds can tell: the power of the paired t test, and the smallest effect that it tells."""

import math
from collections.abc import Sequence

from scipy import optimize, stats

__all__ = ["POWER", "SIGNIFICANCE", "deviation_of", "power_of", "seeds_needed", "smallest_effect"]

POWER, SIGNIFICANCE = 0.8, 0.05


def power_of(effect: float, deviation: float, seeds: int, *, significance: float = SIGNIFICANCE) -> float:
    """Return the chance that a two-sided paired t test rejects "no difference".

    >>> round(power_of(0.5, 1.0, 34), 3)
    0.808

    Args:
        effect: the true mean difference.
        deviation: standard deviation of the differences of one seed.
        seeds: how many pairs, at least 2.
    """
    if deviation == 0:
        return 1.0 if effect else significance
    freedom = seeds - 1
    shift = abs(effect) / deviation * math.sqrt(seeds)
    reach = float(stats.t.ppf(1 - significance / 2, freedom))
    # Far out the noncentral distribution underflows to NaN: there the test always rejects.
    above, below = float(stats.nct.sf(reach, freedom, shift)), float(stats.nct.cdf(-reach, freedom, shift))
    return 1.0 if math.isnan(above) else above + (0.0 if math.isnan(below) else below)


def smallest_effect(deviation: float, seeds: int, *, power: float = POWER, significance: float = SIGNIFICANCE) -> float:
    """Return the smallest true difference that is told with this power; infinite for fewer than two seeds."""
    if seeds < 2:
        return math.inf
    if deviation == 0:
        return 0.0
    high = 1.0
    while power_of(high, 1.0, seeds, significance=significance) < power:
        high *= 2
    root = optimize.brentq(lambda effect: power_of(effect, 1.0, seeds, significance=significance) - power, 0.0, high)
    return float(root) * deviation


def seeds_needed(
    effect: float, deviation: float, choices: Sequence[int], *, significance: float = SIGNIFICANCE
) -> int | None:
    """Return the smallest of some numbers of seeds that tells an effect; None if none of them does."""
    enough = (n for n in sorted(choices) if smallest_effect(deviation, n, significance=significance) <= effect)
    return next(enough, None)


def deviation_of(differences: Sequence[float]) -> float:
    """Return the standard deviation of paired differences; infinite for fewer than two."""
    count = len(differences)
    if count < 2:
        return math.inf
    mean = math.fsum(differences) / count
    return math.sqrt(math.fsum((value - mean) ** 2 for value in differences) / (count - 1))
