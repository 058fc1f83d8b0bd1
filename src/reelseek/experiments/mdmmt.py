"""MDMMT: one model for many datasets, stronger experts, pre-training, and what train/test overlap does to a score."""

from dataclasses import replace
from typing import Any

from reelseek.experiments.experiment import Arm, Claim, Column, Experiment, Pair, Table, View
from reelseek.studio.worlds import WorldConfig

__all__ = ["MDMMT"]

# Three datasets that are measured, two more to learn from, and one to pre-train on.
_WORLD = WorldConfig(train=160, validation=40, test=120, domains=6, apart=0.6, strong=0.4, named=(3, 4))
_DOMAINS = {"M": 0, "A": 1, "L": 2, "V": 3, "Y": 4}
_WEIGHTS = {"M": 140, "A": 100, "L": 70, "V": 60, "Y": 9}
_TESTED = ("M", "A", "L")
_VIEWS = tuple(View(name, split=f"test-{_DOMAINS[name]}") for name in _TESTED)
_COLUMNS = tuple(Column(f"{name} R@5", "recall_at_5", name) for name in _TESTED)
_OF = dict(zip(_TESTED, _COLUMNS, strict=True))
_EVERY = Column("mean R@5", "recall_at_5", _TESTED)
_SIZE = {"width": 64, "heads": 4, "inner": 128, "depth": 2}


def _arm(name: str, data: dict[str, Any], experts: tuple[str, ...] = ("appearance", "audio"), **change: Any) -> Arm:
    recipe = {
        "model": {"system": "mdmmt", **_SIZE, "loss": {"name": "max_margin", "settings": {"margin": 0.05}}},
        "data": {"experts": list(experts), **data},
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


_SPECIALISTS = {name: _arm(name, _alone(name)) for name in _TESTED}
_ALL = _arm("MALVY", _mixed("MALVY"))
_DOMAIN = Table(
    "domains",
    "One model for all datasets against one for each (table 6)",
    (*_SPECIALISTS.values(), _arm("MAL", _mixed("MAL")), _arm("MALV", _mixed("MALV")), _ALL),
    (*_COLUMNS, _EVERY),
    (
        Claim(
            "A specialist is worse on each other dataset than that dataset's own",
            "MDMMT, table 6",
            tuple(Pair(own, other, _OF[own]) for own in _TESTED for other in _TESTED if own != other),
        ),
        Claim(
            "One model trained on all is better on each dataset than its specialist",
            "MDMMT, table 6",
            tuple(Pair("MALVY", own, _OF[own]) for own in _TESTED),
        ),
        Claim("Each dataset more helps: MAL < MALV < MALVY", "MDMMT, table 6",
              (Pair("MALV", "MAL", _EVERY), Pair("MALVY", "MALV", _EVERY))),
    ),
    {"M": {"M R@5": 29.0, "A R@5": 13.4, "L R@5": 12.9}, "A": {"M R@5": 14.7, "A R@5": 30.9, "L R@5": 10.4},
     "L": {"M R@5": 8.8, "A R@5": 7.2, "L R@5": 24.7}, "MALV": {"M R@5": 32.1, "A R@5": 32.0, "L R@5": 26.5},
     "MALVY": {"M R@5": 33.8, "A R@5": 32.3, "L R@5": 27.3}},
    "Published: M, A and L are MSR-VTT, ActivityNet and LSMDC; the row MALVY there also has MSVD and TGIF. An epoch of "
    "a mixture has examples in proportion to the weight that is in it.",
    world_only=True,
)  # fmt: skip

_STRONG = _arm("MALVY, stronger appearance", _mixed("MALVY"), ("appearance-strong", "audio"))
_BOTH = _arm("MALVY, both and audio", _mixed("MALVY"), ("appearance", "appearance-strong", "audio"))
_EXPERTS = Table(
    "experts",
    "A stronger expert, and both (tables 3 and 4)",
    (_ALL, _STRONG, _BOTH),
    (*_COLUMNS, _EVERY),
    (
        Claim("A stronger expert is better", "MDMMT, tables 3 and 4", (Pair(_STRONG.name, _ALL.name, _EVERY),)),
        Claim("Both together are better than the stronger one", "MDMMT, table 4",
              (Pair(_BOTH.name, _STRONG.name, _EVERY),)),
    ),
    {"MALVY": {"A R@5": 38.3}, _STRONG.name: {"A R@5": 41.6}, _BOTH.name: {"A R@5": 45.1}},
    world_only=True,
)  # fmt: skip

_BEFORE = _arm("pre-training alone", {"train": "train-5", "validation": "val-5"})
_TUNED = _arm("MALVY, pre-trained", _mixed("MALVY"), start=_BEFORE)
_PRETRAINING = Table(
    "pre-training",
    "With and without pre-training on another collection (tables 13 to 15)",
    (_BEFORE, _ALL, _TUNED),
    (*_COLUMNS, _EVERY),
    (Claim("Pre-training helps", "MDMMT, tables 13 to 15", (Pair(_TUNED.name, _ALL.name, _EVERY),)),),
    {"MALVY": {"M R@5": 36.8, "A R@5": 33.7, "L R@5": 30.2},
     _TUNED.name: {"M R@5": 38.9, "A R@5": 38.3, "L R@5": 31.3}},
    "HowTo100M is far larger than what is fine-tuned on; here the other collection is of the same size.",
    world_only=True,
)  # fmt: skip

_LEAKY = replace(WorldConfig(), copies=0.38, train=320)
_PARTS = (View("whole test"), View("copied", split="test-copied"), View("own", split="test-own"))
_SEVEN = ("appearance", "object", "scene", "face", "audio", "speech", "ocr")


def _leak(name: str, train: str) -> Arm:
    return _arm(name, {"train": train, "validation": "val"}, _SEVEN, world=_LEAKY, views=_PARTS)


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
        Claim("Removing the training videos that the test shares lowers the score", "MDMMT, table 10",
              (Pair("nothing removed", "removed by id and verdict", _WHOLE_R5),)),
        Claim("Ids find a part of them: each of the two stages lowers the score", "MDMMT, table 10",
              (Pair("nothing removed", "removed by id", _WHOLE_R5),
               Pair("removed by id", "removed by id and verdict", _WHOLE_R5))),
    ),
    {"nothing removed": {"R@5, whole test": 54.8}, "removed by id": {"R@5, whole test": 50.7},
     "removed by id and verdict": {"R@5, whole test": 49.4}},
    "Published: MSR-VTT 1k-A, where 38 % of the test videos come from a training video's source; so do 38 % here, of "
    "which an id tells every second, drawn by a hash of its name. Verdicts are the truth that the world knows. Each "
    "part is its own gallery; the own part shows what it costs by itself that fewer videos are left to learn from.",
    world_only=True,
)  # fmt: skip

MDMMT = Experiment(
    "mdmmt",
    "Dzabraev, Kalashnikov, Komkov, Petiushko. MDMMT: Multidomain Multimodal Transformer, CVPRW 2021",
    (_DOMAIN, _EXPERTS, _PRETRAINING, _OVERLAP),
)
