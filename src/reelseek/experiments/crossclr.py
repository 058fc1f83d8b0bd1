"""CrossCLR on COOT's architecture: its loss against others, its settings one at a time, and combinations of experts."""

from typing import Any

from reelseek.experiments.experiment import Arm, Claim, Column, Experiment, Pair, Table
from reelseek.studio.worlds import WorldConfig

__all__ = ["COOT_ARM", "CROSSCLR", "CROSSCLR_ARM", "WORLD"]

WORLD = WorldConfig(
    train=240, validation=60, test=100, clips=3, twins=0.3, told=("person", "action", "object", "place", "sound")
)
_EXPERTS = ("appearance", "object", "scene")
_SIZE: dict[str, Any] = {
    "width": 64, "heads": 4, "inner": 64, "pool_inner": 64, "clip_steps": 4, "dropout": 0.0,
}  # fmt: skip
_LOCAL: dict[str, Any] = {"queue": 0, "prune": 0.9, "sharpness": 0.0035, "intra": 0.8}
_R1, _R5, _R10 = Column("R@1", "recall_at_1"), Column("R@5", "recall_at_5"), Column("R@10", "recall_at_10")
_MNR = Column("MnR", "mean_rank")
_COLUMNS = (_R1, _R5, _R10, _MNR)


def _arm(name: str, system: str = "crossclr", experts: tuple[str, ...] = _EXPERTS, **model: Any) -> Arm:
    recipe = {
        "model": {"system": system, **_SIZE, **model},
        "data": {"experts": list(experts)},
        "train": {"clips_per_video": 3, "batch": 63, "negatives": "clips"},
    }
    return Arm(name, recipe, WORLD)


def _crossclr(name: str, experts: tuple[str, ...] = _EXPERTS, model: dict[str, Any] | None = None, **local: Any) -> Arm:
    """CrossCLR with changes of its loss at clips and sentences; without a queue, as in the supplement's algorithm 1."""
    return _arm(name, experts=experts, local={**_LOCAL, **local}, **(model or {}))


CROSSCLR_ARM = _FULL = _crossclr("CrossCLR")
_PLAIN: dict[str, Any] = {"intra": 1e-9, "prune": None, "sharpness": None, "queue": 0}
_NCE = _arm("NCE in CrossCLR's two places", local=_PLAIN, everywhere=_PLAIN)
COOT_ARM = _arm("max margin (COOT)", "coot")
_OTHERS = (
    COOT_ARM,
    _arm("MMS in COOT's places", "coot", cycle=0.0, loss={"name": "mms", "settings": {"margin": 0.001}}),
    _NCE,
)
_QUEUED = _crossclr("CrossCLR, queue of 500", queue=500)
_LOSSES = Table(
    "losses",
    "CrossCLR against other losses on one architecture",
    (*_OTHERS, _FULL, _QUEUED),
    _COLUMNS,
    (
        Claim(
            "CrossCLR is better than max margin, MMS and NCE",
            "CrossCLR, section 4; only its supplement was at hand, whose own figures stand below",
            tuple(Pair(_FULL.name, other.name, _R5) for other in _OTHERS),
        ),
        Claim(
            "So is CrossCLR with a queue",
            "CrossCLR, supplement, table 1",
            tuple(Pair(_QUEUED.name, other.name, _R5) for other in _OTHERS),
        ),
    ),
    {_FULL.name: {"R@1": 19.5, "R@5": 45.9, "R@10": 58.3}},
    "MMS and max margin stand in COOT's own places, among them those within a modality.",
)


def _curve(key: str, values: tuple[float | None, ...], word: str) -> tuple[Arm, ...]:
    """One arm for each value of one setting of the loss; the default value is the full system."""
    changes: dict[float | None, dict[str, Any]] = {value: {key: value} for value in values}
    return tuple(
        _FULL if _LOCAL[key] == value else _crossclr(f"{word} = {value}", **change) for value, change in changes.items()
    )


_PRUNING = Table(
    "pruning",
    "Pruning threshold gamma (figure 2)",
    _curve("prune", (0.3, 0.5, 0.7, 0.9, None), "gamma"),
    _COLUMNS,
    (
        Claim(
            "A threshold of .9 is better than one of .3, which takes most negatives away",
            "CrossCLR, supplement, figure 2",
            (Pair(_FULL.name, "gamma = 0.3", _R5),),
        ),
        Claim(
            "A threshold of .9 is better than no pruning",
            "CrossCLR, supplement, figure 2",
            (Pair(_FULL.name, "gamma = None", _R5),),
        ),
    ),
    note=f"{_FULL.name} is gamma = .9; None prunes nothing.",
)

_SCALE = Table(
    "weight-scale",
    "Weight scale kappa (figure 3)",
    _curve("sharpness", (0.1, 0.01, 0.0035, 0.001), "kappa"),
    _COLUMNS,
    (
        Claim(
            "A weight scale of .0035 is better than .1",
            "CrossCLR, supplement, figure 3",
            (Pair(_FULL.name, "kappa = 0.1", _R5),),
        ),
        Claim(
            "Small changes matter little: .01 is not better than .0035",
            "CrossCLR, supplement, figure 3",
            (Pair("kappa = 0.01", _FULL.name, _R5),),
            helps=False,
        ),
    ),
    note=f"{_FULL.name} is kappa = .0035.",
)

_QUEUE = Table(
    "queue",
    "Queue size (supplement, section 2)",
    (
        _FULL,
        _crossclr("queue of 63", queue=63),
        _crossclr("queue of 200", queue=200),
        _QUEUED,
        _crossclr("queue of 500, as released", queue=500, form="released"),
    ),
    _COLUMNS,
    (
        Claim(
            "A larger queue is better",
            "CrossCLR, supplement, section 2",
            (Pair(_QUEUED.name, "queue of 63", _R5),),
        ),
    ),
    note=f"{_FULL.name} takes the batch for negatives; 500 is seven in ten of the training clips of the default size. "
    "As released, lambda multiplies the logits within a modality and not their exponentials.",
)

_MORE = "CrossCLR + multiple positives"
_POSITIVES = Table(
    "positives",
    "Multiple positives (table 2)",
    (_FULL, _crossclr(_MORE, positives=2, positive_weight=0.15)),
    _COLUMNS,
    (
        Claim(
            "Multiple positives do not help (YouCook2; by two points of R@5 or more)",
            "CrossCLR, supplement, table 2",
            (Pair(_MORE, _FULL.name, _R5),),
            helps=False,
        ),
    ),
    {_FULL.name: {"R@1": 19.5, "R@5": 45.9, "R@10": 58.3}, _MORE: {"R@1": 19.3, "R@5": 45.3, "R@10": 58.2}},
)

_ONE = {name: _crossclr(name, (name,)) for name in _EXPERTS}
_TOGETHER = _crossclr("appearance + object", ("appearance", "object"))
_APART = _crossclr("appearance (+) object, apart", ("appearance", "object"), {"together": [["appearance"], ["object"]]})
_ALONE = Table(
    "experts",
    "Experts alone, fed together, and trained apart (table 3)",
    (*_ONE.values(), _TOGETHER, _APART),
    _COLUMNS,
    (
        Claim(
            "Two experts fed together are better than either alone",
            "CrossCLR, supplement, table 3",
            tuple(Pair(_TOGETHER.name, alone, _R5) for alone in ("appearance", "object")),
        ),
        Claim(
            "Fed together they are better than trained apart and put side by side",
            "CrossCLR, supplement, table 3",
            (Pair(_TOGETHER.name, _APART.name, _R5),),
        ),
    ),
    {"object": {"R@1": 2.1, "R@5": 7.7, "R@10": 14.3, "MnR": 187.3},
     "scene": {"R@1": 5.9, "R@5": 18.2, "R@10": 24.9, "MnR": 132.4},
     "appearance": {"R@1": 9.1, "R@5": 22.8, "R@10": 32.0, "MnR": 120.4}},
    "Published: LSMDC. The pair fed together there is action + appearance (10.9 / 26.2 / 34.7 / 91.0).",
)  # fmt: skip

CROSSCLR = Experiment(
    "crossclr",
    "Zolfaghari, Zhu, Gehler, Brox. CrossCLR, ICCV 2021, and its supplement",
    (_LOSSES, _PRUNING, _SCALE, _QUEUE, _POSITIVES, _ALONE),
)
