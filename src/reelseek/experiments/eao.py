"""Everything at Once: what its shape, its positions, its backbones and its training choices are worth."""

from dataclasses import replace
from typing import Any

from reelseek.experiments.experiment import SATURATED, Arm, Claim, Column, Experiment, Pair, Table, View
from reelseek.experiments.premises import ORDER_TELLS, STRONGER_TELLS_MORE, Premise, captions_read_from, redundant
from reelseek.studio.redundant_worlds import RedundantConfig, RedundantWorld

__all__ = ["EAO"]

_TOLD = ("person", "action", "object", "place", "sound")
_WORLD = RedundantConfig(train=300, validation=60, test=150, clips=2, told=_TOLD)
_EXPERTS = ("appearance", "audio")
_SHARED = redundant(*_EXPERTS)
_TEXT = "EAO, supplement"
_SIZE = {"width": 64, "heads": 4, "inner": 64, "embedding": 64}
_R5, _R10 = Column("R@5", "recall_at_5"), Column("R@10", "recall_at_10")
_MNR = Column("MnR", "mean_rank")


def _arm(name: str, world: RedundantConfig = _WORLD, views: tuple[View, ...] = (View(),), **change: Any) -> Arm:
    recipe: dict[str, Any] = {
        "model": {"system": "eao", **_SIZE, **change.get("model", {})},
        "data": {"experts": list(_EXPERTS), **change.get("data", {})},
        "train": {**SATURATED, "clips_per_video": 2, "negatives": "clips", **change.get("train", {})},
    }
    return Arm(name, recipe, world, views, start=change.get("start"))


def _narration(world: RedundantWorld) -> float:
    """How much more of captions the sound of training clips tells than that of test clips."""
    quiet = captions_read_from(world, "audio")
    return captions_read_from(world, "audio", split="train") - quiet


_NARRATED = replace(_WORLD, narrated=1.2)
_ALIGNED, _SHIFTED, _WEIGHTED = "aligned", "disentangled", "disentangled + loss weights"
_LIGHT = ("text|audio", "appearance|audio", "text|appearance+audio", "appearance|text+audio", "audio|text+appearance")
_TENTHS = dict.fromkeys(_LIGHT, 0.1)
_BOTH = "both adaptations are beneficial for training on the HowTo100M dataset"
_NARRATES = (Premise("audio explains more of the captions of training clips than of test clips, by", _narration, 0.1),)
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
        Claim(
            "Disentangling helps on its own",
            f"{_TEXT}, A.5, line 83, and table 5 (MSR-VTT)",
            (Pair(_SHIFTED, _ALIGNED, _R5, published=3.9),),
            quote=_BOTH,
            premises=_NARRATES,
        ),
        Claim(
            "Loss weights help on top",
            f"{_TEXT}, A.5, line 83, and table 5 (MSR-VTT)",
            (Pair(_WEIGHTED, _SHIFTED, _R5, published=5.9),),
            quote=_BOTH,
            premises=_NARRATES,
        ),
        Claim(
            "Each step helps: none < single-modality < fusion < fusion + combinatorial loss",
            f"{_TEXT}, C.2, line 150",
            why="the supplement describes the four architectures; how they compare is in the main paper, which is not "
            "among the texts",
        ),
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
            f"{_TEXT}, A.4, line 79, and table 4 (YouCook2; on MSR-VTT three are within 1.2 points)",
            tuple(
                Pair(_FIRST, other, _R5, published=gain)
                for other, gain in zip(list(_SHAPES)[1:], (3.4, 2.1, 2.6, 5.3), strict=True)
            ),
            quote="We observe that the best performing configuration consists of 1 transformer block and a maximum "
            "number of transformer heads (64 heads) that fits into resources",
        ),
    ),
    dict(zip(_SHAPES, ({"R@5": 40.7, "R@10": 51.3}, {"R@5": 37.3, "R@10": 47.6}, {"R@5": 38.6, "R@10": 49.8},
                       {"R@5": 38.1, "R@10": 49.1}, {"R@5": 35.4, "R@10": 46.8}), strict=True)),
    "Published: YouCook2. The paper's 64 heads of 64 are here 4 of 16, its 224 x 10 is 32 x 2.",
    premises=_SHARED,
)  # fmt: skip

_POSITIONS = Table(
    "positions",
    "Rotary positions (table 6)",
    (_arm("no positions"), _arm("rotary positions", model={"positions": "rotary"})),
    (_R5, _R10, _MNR),
    (
        Claim(
            "Rotary positions do not help (by two points of R@5 or more)",
            f"{_TEXT}, A.6, line 136, and table 6",
            (Pair("rotary positions", "no positions", _R5),),
            helps=False,
            quote="RoPE does not benefit our model",
            premises=(ORDER_TELLS,),
        ),
    ),
    {"no positions": {"R@5": 23.8, "R@10": 31.8}, "rotary positions": {"R@5": 23.1, "R@10": 31.6}},
    "Captions name the order of two actions, and some clips differ in it alone.",
    premises=_SHARED,
)

_TWO = replace(_WORLD, domains=2, apart=0.6, strong=0.1, train=240)


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
            f"{_TEXT}, A.1, line 13, and table 1 (MSR-VTT)",
            tuple(
                Pair(f"{_STRONG}, {training}", f"{_WEAK}, {training}", _R5, published=gain)
                for training, gain in (("zero-shot", 5.2), ("fine-tuned", 8.6))
            ),
            quote="We note that using CLIP features is especially beneficial for the MSR-VTT dataset",
            premises=(STRONGER_TELLS_MORE,),
        ),
        Claim(
            "Fine-tuning is better than zero-shot",
            f"{_TEXT}, table 1 (MSR-VTT), lines 22 to 30",
            tuple(
                Pair(f"{name}, fine-tuned", f"{name}, zero-shot", _R5, published=gain)
                for name, gain in ((_WEAK, 28.3), (_STRONG, 31.7))
            ),
            quote="R152+RX101 23.8 and, fine-tuned, 52.1; CLIP 29.0 and, fine-tuned, 60.7",
        ),
    ),
    world_only=True,
    premises=_SHARED,
)

EAO = Experiment(
    "eao",
    "Shvetsova et al. Everything at Once, CVPR 2022, supplement",
    (_DISENTANGLED, _SHAPE, _POSITIONS, _BACKBONES),
)
