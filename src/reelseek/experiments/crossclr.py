"""CrossCLR on COOT's architecture: settings of its loss one at a time, and combinations of experts."""

from functools import partial
from typing import Any

from reelseek.experiments.experiment import SATURATED, Arm, Claim, Column, Experiment, Pair, Table
from reelseek.experiments.premises import Premise, prunes, redundant, weighs
from reelseek.studio.redundant_worlds import RedundantConfig

__all__ = ["CROSSCLR"]

_WORLD = RedundantConfig(
    train=256, validation=60, test=100, clips=2, text="between", told=("person", "action", "object", "place", "sound")
)
_EXPERTS = ("appearance", "object", "scene")
_SIZE: dict[str, Any] = {
    "width": 48, "heads": 4, "inner": 48, "pool_inner": 48, "clip_steps": 4, "dropout": 0.0,
}  # fmt: skip
# Lambda multiplies logits, as in the supplement's algorithm 1.
_LOCAL: dict[str, Any] = {"queue": 0, "prune": 0.9, "sharpness": 0.0035, "intra": 0.8, "form": "algorithm"}
_EVERYWHERE: dict[str, Any] = {"form": "algorithm"}
_R1, _R5, _R10 = Column("R@1", "recall_at_1"), Column("R@5", "recall_at_5"), Column("R@10", "recall_at_10")
_COLUMNS = (_R1, _R5, _R10, Column("MnR", "mean_rank"))
_TEXT = "CrossCLR, supplement"


def _crossclr(name: str, experts: tuple[str, ...] = _EXPERTS, **local: Any) -> Arm:
    """CrossCLR with changes of its loss at clips and sentences; 64 videos with all of their clips make a batch."""
    recipe = {
        "model": {"system": "crossclr", **_SIZE, "local": {**_LOCAL, **local}, "everywhere": _EVERYWHERE},
        "data": {"experts": list(experts)},
        "train": {**SATURATED, "batch": 64, "batch_of": "videos", "negatives": "clips"},
    }
    return Arm(name, recipe, _WORLD)


_FULL = _crossclr("CrossCLR")
_MAIN_PAPER = "the supplement compares no losses; the comparison is the main paper's, which is not among the texts"
_SHARED = redundant(*_EXPERTS)
_PRUNES = prunes(_EXPERTS, 0.9)
_WEIGHS = weighs(_EXPERTS, 0.0035)


def _curve(key: str, values: tuple[float | None, ...], word: str) -> tuple[Arm, ...]:
    """One arm for each value of one setting of the loss; the default value is the full system."""
    changes: dict[float | None, dict[str, Any]] = {value: {key: value} for value in values}
    return tuple(
        _FULL if _LOCAL[key] == value else _crossclr(f"{word} = {value}", **change) for value, change in changes.items()
    )


_RISES = (
    "increasing the threshold results in higher performance until gamma = 0.9 and after that again performance "
    "decreases"
)
_PRUNING = Table(
    "pruning",
    "Pruning threshold gamma (figure 2)",
    _curve("prune", (0.3, 0.7, 0.9, None), "gamma"),
    _COLUMNS,
    (
        Claim(
            "A threshold of .9 is better than one of .3",
            f"{_TEXT}, section 2.1, line 52; figure 2 is a picture",
            (Pair(_FULL.name, "gamma = 0.3", _R5),),
            quote=_RISES,
            premises=(*_PRUNES, *prunes(_EXPERTS, 0.3, low=0.0, high=0.95)),
        ),
        Claim(
            "A threshold of .9 is better than one of .7",
            f"{_TEXT}, section 2.1, line 52; figure 2 is a picture",
            (Pair(_FULL.name, "gamma = 0.7", _R5),),
            quote=_RISES,
            premises=(*_PRUNES, *prunes(_EXPERTS, 0.7, low=0.0, high=0.95)),
        ),
        Claim(
            "A threshold of .9 is better than no pruning",
            f"{_TEXT}, section 2.1, line 52; figure 2 is a picture",
            (Pair(_FULL.name, "gamma = None", _R5),),
            quote=_RISES,
            premises=_PRUNES,
        ),
        Claim("CrossCLR is better than max margin, MMS and NCE", _TEXT, why=_MAIN_PAPER),
        Claim("So is CrossCLR with a queue", _TEXT, why=_MAIN_PAPER),
    ),
    note=f"{_FULL.name} is gamma = .9; None prunes nothing.",
    premises=(*_SHARED, *_WEIGHS),
)

_SCALE = Table(
    "weight-scale",
    "Weight scale kappa (figure 3)",
    _curve("sharpness", (0.1, 0.01, 0.0035), "kappa"),
    _COLUMNS,
    (
        Claim(
            "A weight scale of .0035 is better than .1",
            f"{_TEXT}, section 2.2, line 56; figure 3 is a picture",
            (Pair(_FULL.name, "kappa = 0.1", _R5),),
            quote="When weight scale is too high, CrossCLR does not converge very well. But with numbers around "
            "0.003-0.005 model performs very well.",
            premises=_WEIGHS,
        ),
        Claim(
            "Small changes matter little: .01 and .0035 are within two points",
            f"{_TEXT}, figure 3, line 69",
            (Pair("kappa = 0.01", _FULL.name, _R5), Pair(_FULL.name, "kappa = 0.01", _R5)),
            helps=False,
            quote="CrossCLR is stable against small changes in kappa.",
            premises=_WEIGHS,
        ),
    ),
    note=f"{_FULL.name} is kappa = .0035.",
    premises=(*_SHARED, *_PRUNES),
)


def _queue_share(size: int, _: object) -> float:
    return size / (_WORLD.train * _WORLD.clips)


_QUEUE = Table(
    "queue",
    "Queue size (supplement, section 2)",
    tuple(_crossclr(f"queue of {size}", queue=size) for size in (128, 384)),
    _COLUMNS,
    (
        Claim(
            "A larger queue is better",
            f"{_TEXT}, section 2, line 19; no figures",
            (Pair("queue of 384", "queue of 128", _R5),),
            quote="In general, we found retrieval performance to increase with larger queue capacity.",
            premises=(
                Premise("share of the training clips that the larger queue holds", partial(_queue_share, 384), 0, 0.8),
                *_PRUNES,
            ),
        ),
    ),
    note="128 is one batch, 384 three quarters of the training clips.",
    premises=(*_SHARED, *_WEIGHS),
)

_MORE = "CrossCLR + multiple positives"
_POSITIVES = Table(
    "positives",
    "Multiple positives (table 2)",
    (_FULL, _crossclr(_MORE, positives=2, positive_weight=0.15)),
    _COLUMNS,
    (
        Claim(
            "Multiple positives change little (within two points)",
            f"{_TEXT}, section 3.1, line 78, and table 2",
            (Pair(_MORE, _FULL.name, _R5), Pair(_FULL.name, _MORE, _R5)),
            helps=False,
            quote="CrossCLR+MP on Youcook2 performs similar to the CrossCLR without multiple positives.",
            premises=_PRUNES,
        ),
    ),
    {_FULL.name: {"R@1": 19.5, "R@5": 45.9, "R@10": 58.3}, _MORE: {"R@1": 19.3, "R@5": 45.3, "R@10": 58.2}},
    premises=(*_SHARED, *_WEIGHS),
)

_APPEARANCE, _OBJECT = _crossclr("appearance", ("appearance",)), _crossclr("object", ("object",))
_TOGETHER = _crossclr("appearance + object", ("appearance", "object"))
_ALONE = Table(
    "experts",
    "Experts alone and fed together (table 3)",
    (_APPEARANCE, _OBJECT, _TOGETHER),
    _COLUMNS,
    (
        Claim(
            "Two experts fed together are better than either alone",
            f"{_TEXT}, table 3, lines 162 to 170: the stronger expert there is action",
            (
                Pair(_TOGETHER.name, _APPEARANCE.name, _R5, published=1.6),
                Pair(_TOGETHER.name, _OBJECT.name, _R5, published=16.2),
            ),
            quote="Object 2.1 7.7 14.3; Action 9.3 22.3 30.7; Action+Object 9.7 23.9 31.7",
            premises=redundant("appearance", "object"),
        ),
        Claim(
            "Fed together they are better than trained apart and put side by side",
            f"{_TEXT}, table 3, lines 160 to 193",
            why="the text does not say so, and of its pairs with action those put side by side are the better ones "
            "(R@5 26.3 on average against 25.4)",
        ),
    ),
    {"object": {"R@1": 2.1, "R@5": 7.7, "R@10": 14.3, "MnR": 187.3},
     "appearance": {"R@1": 9.3, "R@5": 22.3, "R@10": 30.7, "MnR": 112.3},
     "appearance + object": {"R@1": 9.7, "R@5": 23.9, "R@10": 31.7, "MnR": 102.8}},
    "Published: LSMDC, whose strongest expert, action, stands beside appearance.",
    premises=(*_WEIGHS, *_PRUNES),
)  # fmt: skip

CROSSCLR = Experiment(
    "crossclr",
    "Zolfaghari, Zhu, Gehler, Brox. CrossCLR, ICCV 2021, supplement",
    (_PRUNING, _SCALE, _QUEUE, _POSITIVES, _ALONE),
)
