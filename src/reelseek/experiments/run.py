"""Trains the arms of an experiment, measures them, and keeps every result, so that a stopped run goes on.

    OUT/worlds/WORLD-SEED/           the library of a world
    OUT/runs/ARM/tune-RATE/          a model in the world of seed 0, where the rate is chosen
    OUT/runs/ARM/seed-N/             a model, result.json, and a TREC run with its qrels for each view

Nothing that is reported is chosen on: rates are chosen by validation in a world whose seed no reported number has.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from copy import deepcopy
from dataclasses import asdict
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
from reelseek.library.tokens import TokenReader
from reelseek.models.model import Batch, RetrievalModel
from reelseek.training import Recipe, evaluate, train
from reelseek.training.data import hidden_experts, training_splits
from reelseek.training.measure import write_measured

__all__ = ["COMMON", "TUNING_SEED", "run_experiment"]

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
    total = sum(len(arm.rates) * (len(arm.rates) > 1) + len(seeds) for arm in arms)
    done = 0
    with ProcessPoolExecutor(workers, get_context("spawn"), _one_thread) as pool:
        for level in _levels(arms):
            for kind in ("tune", "seeds"):
                jobs = [job for arm in level for job in _jobs(arm, kind, seeds, out, features)]
                for future in as_completed([pool.submit(_job, *job) for job in jobs]):
                    if future.exception() is not None:
                        pool.shutdown(cancel_futures=True)  # what is done is kept; the rest would fail alike
                    done += 1
                    progress("training", done, total, future.result())
    return {
        arm.key: [json.loads((_home(out, arm) / f"seed-{seed}" / "result.json").read_text()) for seed in seeds]
        for arm in arms
    }


def _one_thread() -> None:
    torch.set_num_threads(1)


def _levels(arms: Sequence[Arm]) -> Iterator[list[Arm]]:
    """Arms in waves: what others go on from comes first."""
    depth: dict[str, int] = {}
    for arm in arms:  # an arm comes after what it starts from
        depth[arm.key] = 0 if arm.start is None else depth[arm.start.key] + 1
    for level in range(max(depth.values(), default=-1) + 1):
        yield [arm for arm in arms if depth[arm.key] == level]


def _jobs(
    arm: Arm, kind: str, seeds: Sequence[int], out: Path, features: Path | None
) -> Iterator[tuple[Arm, Path, Path | None, int, float, str]]:
    home = _home(out, arm)
    if kind == "tune":
        if len(arm.rates) > 1 and arm.measure is None:
            for rate in arm.rates:
                yield arm, out, features, TUNING_SEED, rate, f"tune-{rate:g}"
    else:
        rate = _best_rate(arm, home)
        for seed in seeds:
            yield arm, out, features, seed, rate, f"seed-{seed}"


def _home(out: Path, arm: Arm) -> Path:
    return out / "runs" / arm.key


def _best_rate(arm: Arm, home: Path) -> float:
    if len(arm.rates) == 1 or arm.measure is not None:
        return arm.rates[0]
    found = {rate: json.loads((home / f"tune-{rate:g}" / "result.json").read_text()) for rate in arm.rates}
    return max(found, key=lambda rate: found[rate]["validation_score"])


def _job(arm: Arm, out: Path, features: Path | None, seed: int, rate: float, name: str) -> str:
    """Train and measure one arm with one seed, unless that was done before."""
    folder = _home(out, arm) / name
    said = f"{arm.name}, {name}"
    if (folder / "result.json").is_file():
        return said
    began = time.perf_counter()
    if arm.measure is not None:
        result: dict[str, Any] = {"views": arm.measure(folder, seed)}
    else:
        path = features or world_library(arm.world, seed, out / "worlds" / f"{_digest(asdict(arm.world))}-{seed}")
        words = None if features else str(path.with_name(WORDS))
        with Library.open(path) as library:
            recipe = recipe_of(
                arm, seed, rate, words, library, None if arm.start is None else _start(arm.start, out, name)
            )
            model = train(recipe, library, folder / "model")
            result = _measured(model, recipe, library, arm.views if name.startswith("seed") else (), folder)
    result |= {"arm": arm.name, "seed": seed, "rate": rate, "seconds": round(time.perf_counter() - began, 1)}
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "result.json.partial"
    partial.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    os.replace(partial, folder / "result.json")
    return said


def _start(arm: Arm, out: Path, name: str) -> str:
    """The model to go on from: of the same seed, or of the world that rates are chosen in."""
    home = _home(out, arm)
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
    """Experts by their own names, or by the modality they are of.

    Raises:
        UsageError: the library has none of them.
    """
    about = library.experts()
    found = [name for each in named for name in about if each in (name, about[name]["modality"])]
    own = [name for name in named if name in about]
    if not found:
        there = ", ".join(f"{name} ({each['modality']})" for name, each in about.items())
        raise UsageError(f"the experiment wants features of {', '.join(named)}; {library.path} has {there or 'none'}")
    return list(dict.fromkeys(own if len(own) == len(named) else found))


def _measured(
    model: RetrievalModel, recipe: Recipe, library: Library, views: Sequence[View], folder: Path
) -> dict[str, Any]:
    config = json.loads((folder / "model" / "config.json").read_text("utf-8"))
    found: dict[str, Any] = {"validation": {"loss": _validation_loss(model, recipe, library)}}
    for view in views:
        experts = _of_modalities(view.experts, library) if view.experts else None
        experts = [name for name in experts if name in model.experts] if experts else None
        measured = evaluate(model, library, split=view.split, experts=experts)
        write_measured(folder / f"{view.name}.run", measured, model.system)
        told = measured.as_json()
        found[view.name] = {
            key: told[key] for key in ("text_to_video", "video_to_text", "gallery", "queries", "split_hash")
        }
    return {
        "views": found,
        "validation_score": config["validation"]["score"],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": config["steps"],
        "best_epoch": config["validation"]["epoch"],
        "text": recipe.model.get("text", {}),
    }


def _validation_loss(model: RetrievalModel, recipe: Recipe, library: Library) -> float:
    """The loss of the validation clips with their first captions, as one batch, with what the recipe lets be seen."""
    reader = TokenReader(library, list(model.experts), step_by_step=model.step_by_step)
    learnt: str | list[str] = list(recipe.data.weights) if recipe.data.mixture else recipe.data.train
    split = training_splits(library, learnt, recipe.data.validation, recipe.data.validation_fraction)[1]
    reader.hidden = hidden_experts(library, [clip.video for clip in split.clips], recipe.data.groups)
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
