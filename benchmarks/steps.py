"""Ten minutes and an hour with twenty steps: one second a step, and whole parts with a model of their lengths, each
against the same written as plain Python loops; and how memory goes with the length.

Run: python benchmarks/steps.py
"""

import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from math import floor, lgamma, log

import numpy as np

from reelseek.moments.decoding import class_log_probs, decode
from reelseek.moments.placement import place_steps

STEPS = 20


def plain_placing(scores: list[list[float]]) -> float:
    """One second a step, in order, over the states background, step 1, background, ..., as CrossTask's code has it."""
    seconds, states = len(scores), 2 * len(scores[0]) + 1
    infinite = float("inf")
    best = [[infinite] * states for _ in range(seconds)]
    came = [[0] * states for _ in range(seconds)]
    best[0][0], best[0][1] = 0.0, -scores[0][0]
    for t in range(1, seconds):
        for s in range(states):
            options = [best[t - 1][s] if s % 2 == 0 else infinite, best[t - 1][s - 1] if s else infinite]
            options.append(best[t - 1][s - 2] if s % 2 and s >= 3 else infinite)
            least = min(options)
            came[t][s] = options.index(least)
            best[t][s] = least - (scores[t][s // 2] if s % 2 else 0.0)
    return -min(best[-1][-2:])


def tight_placing(scores: list[list[float]]) -> float:
    """The same sum without states and without telling where."""
    best = [0.0] + [float("-inf")] * len(scores[0])  # of the first so many steps, by now
    for row in scores:
        for step in range(len(row), 0, -1):
            with_it = best[step - 1] + row[step - 1]
            if with_it > best[step]:
                best[step] = with_it
    return best[-1]


def plain_decoding(rows: list[list[float]], mean: float) -> float:
    """The best sum of parts in the order of their labels, each with the probability of its length."""
    frames = len(rows)
    mode = floor(mean) * log(mean) - lgamma(floor(mean) + 1)
    lengths = [0.0, *(k * log(mean) - lgamma(k + 1) - mode for k in range(1, frames + 1))]
    before = [0.0] + [float("-inf")] * frames
    for label in range(len(rows[0])):
        summed = [0.0]
        for row in rows:
            summed.append(summed[-1] + row[label])
        after = [float("-inf")] * (frames + 1)
        for end in range(1, frames + 1):
            for begin in range(end):
                value = before[begin] + summed[end] - summed[begin] + lengths[end - begin]
                if value > after[end]:
                    after[end] = value
        before = after
    return before[-1]


def took(work: Callable[[], object], times: int) -> float:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def main() -> None:
    rng = np.random.default_rng(0)
    for seconds in (600, 3600):
        scores = rng.normal(size=(seconds, STEPS))
        probs, mean = class_log_probs(scores, 1.0), seconds / STEPS
        rows = scores.tolist()
        for way in (plain_placing, tight_placing):
            assert abs(way(rows) - scores[place_steps(scores)].sum()) < 1e-9
        ours = took(partial(place_steps, scores), 20)
        plain, tight = (took(partial(way, rows), 3) / ours for way in (plain_placing, tight_placing))
        print(f"{seconds} s, placing: {1e3 * ours:.2f} ms, {plain:.0f} x over states, {tight:.0f} x the tightest loop")
        parts = took(partial(decode, probs, range(STEPS), mean_lengths=mean), 10)
        line = f"{seconds} s, parts with lengths: {1e3 * parts:.1f} ms"
        if seconds == 600:
            listed = probs.tolist()
            assert abs(plain_decoding(listed, mean) - decode(probs, range(STEPS), mean_lengths=mean).score) < 1e-6
            line += f", {took(partial(plain_decoding, listed, mean), 3) / parts:.0f} x plain loops"
        print(line)
    for seconds in (6_000, 60_000):
        probs = class_log_probs(rng.normal(size=(seconds, STEPS)), 1.0)
        tracemalloc.start()
        decode(probs, range(STEPS), mean_lengths=seconds / STEPS)
        print(f"{seconds} frames: peak of {tracemalloc.get_traced_memory()[1] / 2**20:.0f} MiB")
        tracemalloc.stop()


if __name__ == "__main__":
    main()
