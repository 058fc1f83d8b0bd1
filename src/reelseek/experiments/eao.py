"""Everything at Once: what its fusion block, its combinatorial loss and its training choices are worth."""

from dataclasses import replace
from typing import Any

from reelseek.experiments.experiment import Arm, Claim, Column, Experiment, Pair, Table, View
from reelseek.studio.worlds import WorldConfig

__all__ = ["EAO"]

_TOLD = ("person", "action", "object", "place", "sound")
_WORLD = WorldConfig(train=300, validation=60, test=120, clips=2, told=_TOLD)
_EXPERTS = ("appearance", "audio")
_SIZE = {"width": 64, "heads": 4, "inner": 64, "embedding": 64}
_R5, _R10 = Column("R@5", "recall_at_5"), Column("R@10", "recall_at_10")
_MNR = Column("MnR", "mean_rank")


def _arm(name: str, world: WorldConfig = _WORLD, views: tuple[View, ...] = (View(),), **change: Any) -> Arm:
    recipe: dict[str, Any] = {
        "model": {"system": "eao", **_SIZE, **change.get("model", {})},
        "data": {"experts": list(_EXPERTS), **change.get("data", {})},
        "train": {"clips_per_video": 2, "negatives": "clips", **change.get("train", {})},
    }
    return Arm(name, recipe, world, views, start=change.get("start"))


_NONE, _SINGLE = "no transformer", "single-modality transformers"
_FUSION, _WHOLE = "fusion transformer", "fusion + combinatorial loss"
_PARTS = Table(
    "ablation",
    "No transformer, one a modality, one for all, and the combinatorial loss (figure 3 of the supplement)",
    (
        _arm(_NONE, model={"depth": 0, "combinatorial": False}),
        _arm(_SINGLE, model={"fused": False, "combinatorial": False}),
        _arm(_FUSION, model={"combinatorial": False}),
        _arm(_WHOLE),
    ),
    (_R5, _R10, _MNR),
    (
        Claim(
            "Each step helps: none < single-modality < fusion < fusion + combinatorial loss",
            "EAO, supplement, C.2",
            (Pair(_SINGLE, _NONE, _R5), Pair(_FUSION, _SINGLE, _R5), Pair(_WHOLE, _FUSION, _R5)),
        ),
        Claim("The whole is better than no transformer", "EAO, supplement, C.2", (Pair(_WHOLE, _NONE, _R5),)),
    ),
)

_NARRATED = replace(_WORLD, narrated=0.8)
_ALIGNED, _SHIFTED, _WEIGHTED = "aligned", "disentangled", "disentangled + loss weights"
_LIGHT = ("text|audio", "appearance|audio", "text|appearance+audio", "appearance|text+audio", "audio|text+appearance")
_TENTHS = dict.fromkeys(_LIGHT, 0.1)
_DISENTANGLED = Table(
    "disentangling",
    "Sound that speaks the caption: shifted by four seconds or not, and weights of the loss (table 5)",
    (
        _arm(_ALIGNED, _NARRATED),
        _arm(_SHIFTED, _NARRATED, model={"shift_seconds": 4.0}),
        _arm(_WEIGHTED, _NARRATED, model={"shift_seconds": 4.0, "weights": _TENTHS}),
    ),
    (_R5, _R10, _MNR),
    (
        Claim("Disentangling helps on its own", "EAO, supplement, table 5", (Pair(_SHIFTED, _ALIGNED, _R5),)),
        Claim("Loss weights help on top", "EAO, supplement, table 5", (Pair(_WEIGHTED, _SHIFTED, _R5),)),
    ),
    {_ALIGNED: {"R@5": 14.0, "R@10": 20.0}, _SHIFTED: {"R@5": 17.9, "R@10": 25.0},
     _WEIGHTED: {"R@5": 23.8, "R@10": 31.8}},
    "Published: MSR-VTT. On YouCook2 disentangling alone lost a little (37.8 to 37.2).",
    world_only=True,
)  # fmt: skip

_SHAPES = {
    "1 block, 4 heads, 32 x 2": _arm("1 block, 4 heads, 32 x 2"),
    "2 blocks, 4 heads, 32 x 1": _arm("2 blocks, 4 heads, 32 x 1", model={"depth": 2},
                                      train={"clips_per_video": 1, "batch": 32}),
    "2 blocks, 4 heads, 16 x 2": _arm("2 blocks, 4 heads, 16 x 2", model={"depth": 2}, train={"batch": 32}),
    "2 blocks, 2 heads, 32 x 2": _arm("2 blocks, 2 heads, 32 x 2",
                                      model={"depth": 2, "heads": 2, "width": 32, "inner": 32}),
    "4 blocks, 1 head, 32 x 2": _arm("4 blocks, 1 head, 32 x 2",
                                     model={"depth": 4, "heads": 1, "width": 16, "inner": 16}),
}  # fmt: skip
_FIRST = next(iter(_SHAPES))
_SHAPE = Table(
    "shape",
    "Blocks, heads (and with them the width), and batches of videos x clips (table 4)",
    tuple(_SHAPES.values()),
    (_R5, _R10, _MNR),
    (
        Claim(
            "One wide block with the largest batch is the best of these",
            "EAO, supplement, table 4 (YouCook2; on MSR-VTT the differences are within a point)",
            tuple(Pair(_FIRST, other, _R5) for other in _SHAPES if other != _FIRST),
        ),
    ),
    dict(zip(_SHAPES, ({"R@5": 23.8, "R@10": 31.8}, {"R@5": 23.2, "R@10": 32.5}, {"R@5": 20.8, "R@10": 28.6},
                       {"R@5": 22.6, "R@10": 30.9}, {"R@5": 23.7, "R@10": 31.7}), strict=True)),
    "The paper's 64 heads of 64 are here 4 of 16, its 224 x 10 is 32 x 2.",
)  # fmt: skip

_POSITIONS = Table(
    "positions",
    "Rotary positions (table 6)",
    (_arm("no positions"), _arm("rotary positions", model={"positions": "rotary"})),
    (_R5, _R10, _MNR),
    (
        Claim(
            "Rotary positions do not help (by two points of R@5 or more)",
            "EAO, supplement, table 6",
            (Pair("rotary positions", "no positions", _R5),),
            helps=False,
        ),
    ),
    {"no positions": {"R@5": 23.8, "R@10": 31.8}, "rotary positions": {"R@5": 23.1, "R@10": 31.6}},
    "Where a step stands says nothing in this world, so it can only show that rotation does no harm.",
)

_TWO = replace(_WORLD, domains=2, apart=0.6, strong=0.4, train=240)
_TARGET = (View(split="test-0"),)


def _backbone(name: str, expert: str, *, tuned: bool) -> Arm:
    data = {"experts": [expert, "audio"]}
    before = _arm(f"{name}, zero-shot", _TWO, _TARGET, data={**data, "train": "train-1", "validation": "val-1"})
    if not tuned:
        return before
    target = {**data, "train": "train-0", "validation": "val-0"}
    return _arm(f"{name}, fine-tuned", _TWO, _TARGET, data=target, start=before)


_WEAK, _STRONG = "weak appearance", "strong appearance"
_BACKBONES = Table(
    "backbones",
    "Backbone and fine-tuning: trained on another collection, then on its own (table 1)",
    (
        _backbone(_WEAK, "appearance", tuned=False),
        _backbone(_STRONG, "appearance-strong", tuned=False),
        _backbone(_WEAK, "appearance", tuned=True),
        _backbone(_STRONG, "appearance-strong", tuned=True),
    ),
    (_R5, _R10, _MNR),
    (
        Claim(
            "A stronger backbone is better, with and without fine-tuning",
            "EAO, supplement, table 1",
            tuple(Pair(f"{_STRONG}, {how}", f"{_WEAK}, {how}", _R5) for how in ("zero-shot", "fine-tuned")),
        ),
        Claim(
            "Fine-tuning is better than zero-shot",
            "EAO, supplement, table 1",
            tuple(Pair(f"{name}, fine-tuned", f"{name}, zero-shot", _R5) for name in (_WEAK, _STRONG)),
        ),
    ),
    world_only=True,
)

EAO = Experiment(
    "eao",
    "Shvetsova et al. Everything at Once, CVPR 2022, and its supplement",
    (_PARTS, _DISENTANGLED, _SHAPE, _POSITIONS, _BACKBONES),
)
