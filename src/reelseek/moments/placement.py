"""Placement of the steps of a task: one second each, decoded from similarities.

Source: Zhukov et al., "Cross-task weakly supervised learning from instructional videos", CVPR 2019, whose protocol
EAO (Shvetsova et al. 2022, section 4.3) and MCN follow: the order is known, every step is placed exactly once.
"""

import numpy as np
import numpy.typing as npt

from reelseek.evaluation.steps import Placed

__all__ = ["evenly", "fill_steps", "place_as_published", "place_steps", "place_unordered"]

Matrix = npt.NDArray[np.floating]


def place_steps(scores: Matrix, *, background: float = 0.0, optional: bool = False) -> Placed:
    """Assign one second to each step, in their order, so that the sum of scores is maximal [second, step].

    Of placements with equal sums each step is as early as the one after it allows, but the last step is in the last
    second if it can be. Time and memory are O(seconds * steps).

    Args:
        scores: similarity [second, step]; higher is nearer.
        background: score of a second without a step.
        optional: steps may be missing: a step is placed only where it scores higher than background.

    Raises:
        ValueError: no seconds or no steps, a value that is not finite, or more steps than seconds and none optional.

    >>> place_steps(np.array([[.9, .8], [.1, .2], [.7, .1]])).argmax(0)
    array([0, 1])
    """
    gains = np.ascontiguousarray((_checked(scores, optional=optional) - background).T)
    steps, seconds = gains.shape
    best = np.zeros((steps + 1, seconds + 1))  # highest sum of the first steps within the first seconds
    best[1:, 0] = 0.0 if optional else -np.inf
    ends = np.empty_like(gains)  # the same with the last of these steps in the last of these seconds
    for step in range(steps):
        np.add(best[step, :-1], gains[step], out=ends[step])
        np.maximum.accumulate(ends[step], out=best[step + 1, 1:])
        if optional:
            np.maximum(best[step], best[step + 1], out=best[step + 1])
    placed = np.zeros((seconds, steps), bool)
    before = seconds
    for step in range(steps - 1, -1, -1):
        if optional and best[step + 1, before] <= best[step, before]:
            continue
        second = int(ends[step, :before].argmax())
        if step == steps - 1 and not optional and ends[step, -1] >= best[-1, -1]:
            second = seconds - 1
        placed[second, step], before = True, second
    return placed


def place_unordered(scores: Matrix, *, background: float = 0.0, optional: bool = False) -> Placed:
    """Assign seconds as `place_steps` does, but in any order: each second has at most one step."""
    from scipy.optimize import linear_sum_assignment

    gains = _checked(scores, optional=optional) - background
    seconds, steps = gains.shape
    if optional:  # one row per step is added after the last second; a step that is assigned to one is missing
        gains = np.concatenate([np.maximum(gains, 0), np.zeros((steps, steps))])
    rows, columns = linear_sum_assignment(gains, maximize=True)
    placed = np.zeros((seconds, steps), bool)
    present = (rows < seconds) & ((gains[rows, columns] > 0) | (not optional))
    placed[rows[present], columns[present]] = True
    return placed


def _checked(scores: Matrix, *, optional: bool) -> npt.NDArray[np.float64]:
    seconds, steps = scores.shape
    if not steps or not seconds:
        raise ValueError(f"scores are [{seconds}, {steps}]; wanted at least one second and one step")
    if not np.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinity, which cannot be summed")
    if steps > seconds and not optional:
        raise ValueError(f"{steps} steps of at least a second each do not fit into {seconds} s")
    return scores.astype(np.float64)


def fill_steps(scores: Matrix, *, background: float = 0.0) -> Placed:
    """Assign every second to a step or to background, with steps in their order; a step may last [second, step].

    Viterbi over the states background, step 1, background, step 2 and so on to background; background may be skipped
    between two steps. Ties prefer to stay in a state, then to come from the state before.
    """
    checked = _checked(scores, optional=False)
    gains = np.full((len(checked), 2 * checked.shape[1] + 1), float(background))
    gains[:, 1::2] = checked
    seconds, states = gains.shape
    best = np.concatenate([gains[0, :2], np.full(states - 2, -np.inf)])
    transitions = np.zeros((seconds, states), np.int8)  # how many states back the best predecessor is
    options = np.full((3, states), -np.inf)
    for second in range(1, seconds):
        options[0] = best
        options[1, 1:] = best[:-1]
        options[2, 3::2] = best[1:-2:2]
        transitions[second] = options.argmax(0)
        best = options.max(0) + gains[second]
    placed = np.zeros(checked.shape, bool)
    state = states - 2 if best[-2] >= best[-1] else states - 1
    for second in range(seconds - 1, -1, -1):
        if state % 2:
            placed[second, state // 2] = True
        state -= int(transitions[second, state])
    return placed


def place_as_published(scores: Matrix, *, background: float = 0.0, repeats: bool = False) -> Placed:
    """Place steps as the released decoder of CrossTask does, to compare with figures that were published with it.

    The same as `place_steps`, or `fill_steps` with `repeats`, except for the shortest videos. With fewer seconds than
    steps it places nothing. With as many seconds as steps it places nothing if the last step scores less than
    background in the last second: it then traces back from the final background, which no path has reached.

    Source: the code released with Zhukov et al. 2019.
    """
    seconds, steps = scores.shape
    if seconds < steps or (seconds == steps and scores[-1, -1] < background):
        return np.zeros(scores.shape, bool)
    return fill_steps(scores, background=background) if repeats else place_steps(scores, background=background)


def evenly(seconds: int, steps: int) -> Placed:
    """Spread steps evenly over a video, the baseline that knows only their number [second, step]."""
    placed = np.zeros((seconds, steps), bool)
    placed[((np.arange(steps) + 0.5) * seconds / steps).astype(int), np.arange(steps)] = True
    return placed
