"""Trains the arms of an experiment, measures them, and keeps every result, so that a stopped run goes on.

    OUT/worlds/WORLD-SEED/              the library of a world
    OUT/runs-SOURCE/ARM/tune-RATE/      a model in the world of seed 0, where the rate is chosen
    OUT/runs-SOURCE/ARM/seed-N/         a model, result.json, and TREC runs with their qrels for each view

SOURCE names what was trained on: the worlds' generator, or a library of real features as it was.
Nothing that is reported is chosen on: rates are chosen by validation in a world whose seed no reported number has.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from copy import deepcopy
from dataclasses import asdict, dataclass
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from reelseek.errors import UsageError
from reelseek.experiments.experiment import Arm, Experiment, Result, View
from reelseek.experiments.worlds import WORDS, world_library
from reelseek.library import Library
from reelseek.library.files import write_whole
from reelseek.library.tokens import TokenReader
from reelseek.models.model import Batch, RetrievalModel, load_model
from reelseek.studio.worlds import generator_hash
from reelseek.training import Recipe, evaluate, train
from reelseek.training.data import hidden_experts, recipe_splits
from reelseek.training.measure import write_measured

__all__ = ["COMMON", "TUNING_SEED", "home_of", "run_experiment", "source_of"]

TUNING_SEED = 0
COMMON: dict[str, Any] = {
    "train": {
        "epochs": 20, "batch": 64, "optimizer": "adamw", "schedule": "cosine", "warmup": 1, "metric": "geometric_mean",
    },
}  # fmt: skip
Progress = Callable[[str, int, int, str], None]


def run_experiment(
    experiment: Experiment,
    out: Path,
    seeds: Sequence[int],
    *,
    features: Path | None = None,
    workers: int = 2,
    progress: Progress = lambda *_: None,
) -> dict[str, list[Result]]:
    """The results of every arm by its key, in the order of the seeds.

    Args:
        features: a library of real features instead of the worlds. Experts stand for the modality they are of.
        workers: processes, each of one thread.

    Raises:
        UsageError: a seed is the one that rates are chosen with, or the library lacks what the experiment asks for.
    """
    if TUNING_SEED in seeds or not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(
            f"seeds {list(seeds)}: wanted different numbers, none {TUNING_SEED}, with which rates are chosen"
        )
    arms = experiment.arms
    where = _Where(out, features, source_of(features))
    total = sum(_tuned(arm) * len(arm.rates) + len(seeds) for arm in arms)
    done = 0
    with ProcessPoolExecutor(workers, get_context("spawn"), _one_thread) as pool:
        try:
            for level in _levels(arms):
                for kind in ("tune", "seeds"):
                    jobs = [job for arm in level for job in _jobs(arm, kind, seeds, where)]
                    for future in as_completed([pool.submit(_job, *job) for job in jobs]):
                        done += 1
                        progress("training", done, total, future.result())
        except BaseException:  # what is done is kept; nothing new is begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {arm.key: [_result(where.home(arm) / f"seed-{seed}") for seed in seeds] for arm in arms}


@dataclass(frozen=True)
class _Where:
    """Where things are kept, and what is trained on."""

    out: Path
    features: Path | None
    source: str

    def home(self, arm: Arm) -> Path:
        return home_of(self.out, self.source, arm)


def source_of(features: Path | None) -> str:
    """Names what is trained on and how, so that results of another one are never taken for it."""
    if features is None:
        identity = generator_hash()
    else:
        with Library.open(features) as library:
            identity = library.digest()
    return _digest([identity, COMMON])


def home_of(out: Path, source: str, arm: Arm) -> Path:
    """The folder of an arm's runs."""
    return out / f"runs-{source}" / arm.key


def _result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text("utf-8"))
    return found


def _tuned(arm: Arm) -> bool:
    return len(arm.rates) > 1 and arm.measure is None


def _one_thread() -> None:
    torch.set_num_threads(1)


def _levels(arms: Sequence[Arm]) -> Iterator[list[Arm]]:
    """Arms in waves: what others go on from comes first."""
    depth: dict[str, int] = {}
    for arm in arms:  # an arm comes after what it starts from
        depth[arm.key] = 0 if arm.start is None else depth[arm.start.key] + 1
    for level in range(max(depth.values(), default=-1) + 1):
        yield [arm for arm in arms if depth[arm.key] == level]


def _jobs(arm: Arm, kind: str, seeds: Sequence[int], where: _Where) -> Iterator[tuple[Arm, _Where, int, float, str]]:
    if kind == "tune":
        for rate in arm.rates if _tuned(arm) else ():
            yield arm, where, TUNING_SEED, rate, f"tune-{rate:g}"
    else:
        rate = _best_rate(arm, where.home(arm))
        for seed in seeds:
            yield arm, where, seed, rate, f"seed-{seed}"


def _best_rate(arm: Arm, home: Path) -> float:
    if not _tuned(arm):
        return arm.rates[0]
    return max(arm.rates, key=lambda rate: float(_result(home / f"tune-{rate:g}")["validation_score"]))


def _job(arm: Arm, where: _Where, seed: int, rate: float, name: str) -> str:
    """Train and measure one arm with one seed, or what of it was not done before."""
    folder = where.home(arm) / name
    said = f"{arm.name}, {name}"
    views = arm.views if name.startswith("seed") else ()
    known = _result(folder) if (folder / "result.json").is_file() else {"views": {}}
    if len(known) > 1 and (arm.measure is not None or {view.name for view in views} <= set(known["views"])):
        return said
    began = time.perf_counter()
    if arm.measure is not None:
        about: dict[str, Any] = {}
        found = arm.measure(folder, seed)
    else:
        world = where.out / "worlds" / f"{_digest([asdict(arm.world), generator_hash()])}-{seed}"
        path = where.features or world_library(arm.world, seed, world)
        words = None if where.features else str(path.with_name(WORDS))
        start = None if arm.start is None else _start(arm.start, where, name)
        with Library.open(path) as library:
            recipe = recipe_of(arm, seed, rate, words, library, start)
            trained = (folder / "model" / "config.json").is_file()
            model = load_model(folder / "model") if trained else train(recipe, library, folder / "model")
            about = {name: each for name, each in known.items() if name != "views"} or _about(model, folder)
            found = _measured(model, recipe, library, views, folder)
    about = {"arm": arm.name, "seed": seed, "rate": rate, **about}
    about.setdefault("seconds", round(time.perf_counter() - began, 1))
    views_found = {**known["views"], **found}
    write_whole(folder / "result.json", json.dumps({**about, "views": views_found}, indent=1) + "\n")
    return said


def _about(model: RetrievalModel, folder: Path) -> dict[str, Any]:
    """How a model came to be."""
    config = json.loads((folder / "model" / "config.json").read_text("utf-8"))
    return {
        "validation_score": config["validation"]["score"],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": config["steps"],
        "best_epoch": config["validation"]["epoch"],
        "text": config["recipe"]["model"].get("text", {}),
    }


def _start(arm: Arm, where: _Where, name: str) -> str:
    """The model to go on from: of the same seed, or of the world that rates are chosen in."""
    home = where.home(arm)
    if name.startswith("tune"):
        name = f"tune-{_best_rate(arm, home):g}"
    return str(home / name / "model")


def _digest(plain: Any) -> str:
    return sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:10]


def recipe_of(arm: Arm, seed: int, rate: float, words: str | None, library: Library, start: str | None) -> Recipe:
    """The whole recipe of an arm: what is common, what differs, the seed and the rate."""
    settings = _merged(deepcopy(COMMON), arm.recipe)
    model = settings["model"]
    if words is not None and model.get("text", {}).get("encoder") is None:
        model["text"] = {**model.get("text", {}), "encoder": words}
    settings["train"] |= {"seed": seed, "rate": rate}
    data = settings.setdefault("data", {})
    if data.get("experts"):
        data["experts"] = _of_modalities(data["experts"], library)
    if data.get("groups"):
        data["groups"] = [{**group, "experts": _of_modalities(group["experts"], library)} for group in data["groups"]]
    if start is not None:
        settings["train"]["start"] = start
    return TypeAdapter(Recipe).validate_python(settings)


def _merged(base: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    for name, given in more.items():
        base[name] = _merged(dict(base.get(name, {})), given) if isinstance(given, Mapping) else given
    return base


def _of_modalities(named: Sequence[str], library: Library) -> list[str]:
    """Experts by their own names, else all of the modality that is named.

    Raises:
        UsageError: the library lacks one.
    """
    about = library.experts()
    found: dict[str, None] = {}
    for name in named:
        own = [name] if name in about else [expert for expert in about if about[expert]["modality"] == name]
        if not own:
            there = ", ".join(f"{expert} ({each['modality']})" for expert, each in about.items())
            raise UsageError(
                f"the experiment wants features of {', '.join(named)}, and {library.path} lacks {name}; it has "
                f"{there or 'none'}"
            )
        found |= dict.fromkeys(own)
    return list(found)


def _measured(
    model: RetrievalModel, recipe: Recipe, library: Library, views: Sequence[View], folder: Path
) -> dict[str, Any]:
    found: dict[str, Any] = {"validation": {"loss": _validation_loss(model, recipe, library)}}
    for view in views:
        experts = _of_modalities(view.experts, library) if view.experts else None
        experts = [name for name in experts if name in model.experts] if experts else None
        measured = evaluate(model, library, split=view.split, experts=experts)
        write_measured(folder / f"{view.name}.run", measured, model.system)
        told = measured.as_json()
        kept = ("text_to_video", "video_to_text", "gallery", "queries", "split_hash")
        found[view.name] = {key: told[key] for key in kept}
    return found


def _validation_loss(model: RetrievalModel, recipe: Recipe, library: Library) -> float:
    """The loss of the validation clips with their first captions, as one batch, with what the recipe lets be seen."""
    reader = TokenReader(library, list(model.experts), step_by_step=model.step_by_step)
    data = recipe_splits(library, recipe.data)
    reader.hidden = hidden_experts(library, [c.video for part in data for c in part.clips], recipe.data.groups)
    split = data[1]
    rows = [rows[0] for rows in split.captions_by_clip() if rows]
    clips = [split.clips[split.clip_of_text[row]] for row in rows]
    videos = {video: number for number, video in enumerate(dict.fromkeys(clip.video for clip in clips))}
    batch = Batch(
        reader.batch(clips),
        [split.texts[row] for row in rows],
        torch.tensor([videos[clip.video] for clip in clips]),
        torch.arange(len(clips)),
    )
    with torch.no_grad():
        return float(sum(term for term in model.eval().loss(batch).values()))
