"""MDMMT: one model for many datasets, stronger experts, pre-training, and what train/test overlap does to a score."""

from dataclasses import replace
from typing import Any

from reelseek.experiments.experiment import SATURATED, Arm, Claim, Column, Experiment, Pair, Table, View
from reelseek.experiments.premises import STRONGER_TELLS_MORE, Premise, redundant
from reelseek.studio.redundant_worlds import RedundantConfig, RedundantWorld

__all__ = ["MDMMT"]

# Three datasets that are measured, two more to learn from, and one to pre-train on.
_WORLD = RedundantConfig(train=160, validation=40, test=150, domains=6, apart=0.6, strong=0.1, named=(3, 4))
_DOMAINS = {"M": 0, "A": 1, "L": 2, "V": 3, "Y": 4}
_WEIGHTS = {"M": 140, "A": 100, "L": 70, "V": 60, "Y": 9}
_TESTED = ("M", "A", "L")
_VIEWS = tuple(View(name, split=f"test-{_DOMAINS[name]}") for name in _TESTED)
_COLUMNS = tuple(Column(f"{name} R@5", "recall_at_5", name) for name in _TESTED)
_OF = dict(zip(_TESTED, _COLUMNS, strict=True))
_EVERY = Column("mean R@5", "recall_at_5", _TESTED)
_SIZE = {"width": 64, "heads": 4, "inner": 128, "depth": 2}
_SHARED = redundant("appearance", "audio")
_TEXT = "MDMMT"


def _arm(name: str, data: dict[str, Any], experts: tuple[str, ...] = ("appearance", "audio"), **change: Any) -> Arm:
    recipe = {
        "model": {"system": "mdmmt", **_SIZE, "loss": {"name": "max_margin", "settings": {"margin": 0.05}}},
        "data": {"experts": list(experts), **data},
        "train": SATURATED,
    }
    return Arm(name, recipe, change.get("world", _WORLD), change.get("views", _VIEWS), start=change.get("start"))


def _alone(dataset: str) -> dict[str, Any]:
    number = _DOMAINS[dataset]
    return {"train": f"train-{number}", "validation": f"val-{number}"}


def _mixed(datasets: str) -> dict[str, Any]:
    """The paper's weights; an epoch shrinks with the weight that is left out."""
    weights = {f"train-{_DOMAINS[name]}": float(weight) for name, weight in _WEIGHTS.items()}
    excluded = [f"train-{_DOMAINS[name]}" for name in _WEIGHTS if name not in datasets]
    return {"mixture": weights, "without": excluded, "examples": 5 * _WORLD.train, "validation": "val"}


_TABLE_6 = {
    "M": {"M": 29.0, "A": 13.4, "L": 12.9}, "A": {"M": 14.7, "A": 30.9, "L": 10.4},
    "L": {"M": 8.8, "A": 7.2, "L": 24.7}, "MALV": {"M": 32.1, "A": 32.0, "L": 26.5},
    "MALVY": {"M": 33.8, "A": 32.3, "L": 27.3},
}  # fmt: skip
_SPECIALISTS = {name: _arm(name, _alone(name)) for name in _TESTED}
_ALL = _arm("MALVY", _mixed("MALVY"))
_DOMAIN = Table(
    "domains",
    "One model for all datasets against one for each (table 6)",
    (*_SPECIALISTS.values(), _arm("MALV", _mixed("MALV")), _ALL),
    (*_COLUMNS, _EVERY),
    (
        Claim(
            "A specialist is worse on each other dataset than that dataset's own",
            f"{_TEXT}, section 3.2, line 137, and table 6",
            tuple(
                Pair(name, other, _OF[name], published=round(_TABLE_6[name][name] - _TABLE_6[other][name], 1))
                for name in _TESTED
                for other in _TESTED
                if name != other
            ),
            quote="Each of these three networks works good on domain X if and only if it was trained on X",
        ),
        Claim(
            "One model trained on all is better on each dataset than its specialist",
            f"{_TEXT}, section 4.3, line 240, and table 6",
            tuple(
                Pair("MALVY", name, _OF[name], published=round(_TABLE_6["MALVY"][name] - _TABLE_6[name][name], 1))
                for name in _TESTED
            ),
            quote="in most cases the model trained on the combination of datasets is better than the model trained on "
            "a single dataset",
        ),
        Claim(
            "More datasets help: MALV < MALVY",
            f"{_TEXT}, section 3.2, line 164, and table 6",
            (Pair("MALVY", "MALV", _EVERY, published=0.9),),
            quote="the proper usage of rules 1-3 often improves the results for a specific test dataset (e.g. MSRVTT) "
            "after extending the train dataset",
        ),
    ),
    {name: {_OF[dataset].title: figure for dataset, figure in row.items()} for name, row in _TABLE_6.items()},
    "Published: M, A and L are MSR-VTT, ActivityNet and LSMDC; the row MALVY there also has MSVD and TGIF. An epoch of "
    "a mixture has examples in proportion to the weight that is in it.",
    world_only=True,
    premises=_SHARED,
)  # fmt: skip


_STRONG = _arm("MALVY, stronger appearance", _mixed("MALVY"), ("appearance-strong", "audio"))
_BOTH = _arm("MALVY, both and audio", _mixed("MALVY"), ("appearance", "appearance-strong", "audio"))
_EXPERTS = Table(
    "experts",
    "A stronger expert, and both (tables 3 and 4)",
    (_ALL, _STRONG, _BOTH),
    (*_COLUMNS, _EVERY),
    (
        Claim(
            "A stronger expert is better",
            f"{_TEXT}, section 4.2, line 228, and table 4",
            (Pair(_STRONG.name, _ALL.name, _EVERY, published=3.3),),
            quote="usually stronger models provide better results, but not always",
            premises=(STRONGER_TELLS_MORE,),
        ),
        Claim(
            "Both together are better than the stronger one",
            f"{_TEXT}, table 4, lines 290 to 292",
            (Pair(_BOTH.name, _STRONG.name, _EVERY, published=3.5),),
            quote="irCSN152+audio 38.3, CLIP+audio 41.6, CLIP+irCSN152+audio 45.1",
        ),
    ),
    {"MALVY": {"A R@5": 38.3}, _STRONG.name: {"A R@5": 41.6}, _BOTH.name: {"A R@5": 45.1}},
    world_only=True,
    premises=_SHARED,
)  # fmt: skip

_BEFORE = _arm("pre-training alone", {"train": "train-5", "validation": "val-5"})
_TUNED = _arm("MALVY, pre-trained", _mixed("MALVY"), start=_BEFORE)
_PRETRAINING = Table(
    "pre-training",
    "With and without pre-training on another collection (tables 13 to 15)",
    (_BEFORE, _ALL, _TUNED),
    (*_COLUMNS, _EVERY),
    (
        Claim(
            "Pre-training helps",
            f"{_TEXT}, appendix E, line 742, and tables 13 to 15",
            (Pair(_TUNED.name, _ALL.name, _EVERY, published=2.6),),
            quote="the pretrained model increases R1 metric by 1% and R5 by 2%",
        ),
    ),
    {"MALVY": {"M R@5": 36.8, "A R@5": 33.7, "L R@5": 30.2},
     _TUNED.name: {"M R@5": 38.9, "A R@5": 38.3, "L R@5": 31.3}},
    "HowTo100M is far larger than what is fine-tuned on; here the other collection is of the same size.",
    world_only=True,
    premises=_SHARED,
)  # fmt: skip

_LEAKY = replace(RedundantConfig(), copies=0.38, train=320)
_PARTS = (View("whole test"), View("copied", split="test-copied"), View("own", split="test-own"))
_SEVEN = ("appearance", "object", "scene", "face", "audio", "speech", "ocr")


def _leak(name: str, train: str) -> Arm:
    return _arm(name, {"train": train, "validation": "val"}, _SEVEN, world=_LEAKY, views=_PARTS)


def _copied(world: RedundantWorld) -> float:
    return len(world.copied) / len(world.splits["test"])


_SHARES_FOOTAGE = Premise("share of test videos that are copies of training videos", _copied, 0.25, 0.5)
_WHOLE_R5 = Column("R@5, whole test", "recall_at_5", "whole test")
_OVERLAP = Table(
    "overlap",
    "What footage shared by train and test does to a score (table 10)",
    (
        _leak("nothing removed", "train"),
        _leak("removed by id", "train-by-id"),
        _leak("removed by id and verdict", "train-clean"),
    ),
    (_WHOLE_R5, Column("R@5, copied part", "recall_at_5", "copied"), Column("R@5, own part", "recall_at_5", "own")),
    (
        Claim(
            "Removing the training videos that the test shares lowers the score",
            f"{_TEXT}, appendix C.2, line 658, and table 10 (1k-A)",
            (Pair("nothing removed", "removed by id and verdict", _WHOLE_R5, published=5.4),),
            quote="after cleaning the performance is significantly decreased on 1k-A and 1k-B splits for original MMT",
            premises=(_SHARES_FOOTAGE,),
        ),
        Claim(
            "Ids find a part of them: each of the two stages lowers the score",
            f"{_TEXT}, table 10 (1k-A), line 653",
            (
                Pair("nothing removed", "removed by id", _WHOLE_R5, published=4.1),
                Pair("removed by id", "removed by id and verdict", _WHOLE_R5, published=1.3),
            ),
            quote="1k-A: no clean 54.8, by ID 50.7, by ID + manual 49.4",
            premises=(_SHARES_FOOTAGE,),
        ),
    ),
    {"nothing removed": {"R@5, whole test": 54.8}, "removed by id": {"R@5, whole test": 50.7},
     "removed by id and verdict": {"R@5, whole test": 49.4}},
    "Published: MSR-VTT 1k-A, where 38 % of the test videos come from a training video's source; here each does with a "
    "chance of 38 %, so that the share varies by world (premise), and an id tells about every second of them, drawn by "
    "a hash of its name. Verdicts are the truth that the world knows. Each part is its own gallery; the own part shows "
    "what it costs by itself that fewer videos are left to learn from.",
    world_only=True,
    premises=redundant("appearance", "audio", "speech"),
)  # fmt: skip

MDMMT = Experiment(
    "mdmmt",
    "Dzabraev, Kalashnikov, Komkov, Petiushko. MDMMT: Multidomain Multimodal Transformer, CVPRW 2021",
    (_DOMAIN, _EXPERTS, _PRETRAINING, _OVERLAP),
)
