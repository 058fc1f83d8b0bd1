"""What experts cost where nothing was measured in time: numbers of one machine, and how fast this one is beside it."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelseek.experts.sample import SAMPLE_CLIP
from reelseek.media.container import open_media

__all__ = ["COSTS_FILE", "ReferenceCosts", "calibrate", "reference_costs"]

COSTS_FILE = Path(__file__).with_name("expert_costs.json")
"""`benchmarks/packaged/expert_costs.py` writes it."""
_WIDTH = 384  # of the matrices, which stay in the cache of a small processor


@dataclass(frozen=True)
class ReferenceCosts:
    """What a machine took, in seconds of computing.

    Attributes:
        calibration: one call's result of `calibrate`.
        start: until a worker has loaded all default experts, and used each once.
        experts: for one second of video, by expert; `decoding` is one of them.
    """

    calibration: float
    start: float
    experts: dict[str, float]

    def scaled(self, factor: float) -> "ReferenceCosts":
        """The same for a machine that takes so many times as long."""
        costs = {name: cost * factor for name, cost in self.experts.items()}
        return ReferenceCosts(self.calibration * factor, self.start * factor, costs)


def reference_costs() -> ReferenceCosts:
    """Read the packaged numbers."""
    return ReferenceCosts(**json.loads(COSTS_FILE.read_text("utf-8"))["costs"])


def calibrate(least_seconds: float = 0.5, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds of a fixed piece of work like that of experts: pictures decoded and matrices multiplied.

    Args:
        least_seconds: the work is done again for so long, since a busy machine gives out time in slices.
        clock: what measures it.
    """
    matrix = np.random.default_rng(0).standard_normal((_WIDTH, _WIDTH), np.float32)
    passes, started = 0, clock()
    while passes < 2 or clock() - started < least_seconds:
        with open_media(SAMPLE_CLIP) as media:
            for frame in media.decode(video=0):
                frame.to_ndarray(format="rgb24")
        for _ in range(4):
            matrix @ matrix
        passes += 1
    return (clock() - started) / passes
