"""Training and evaluation of the arms of an experiment; every result is stored, so that a stopped run can resume.

    OUT/worlds/WORLD-SEED/              the library of a world
    OUT/runs-SOURCE/ARM/tune-RATE/      a model in the world of seed 0, where the rate is chosen
    OUT/runs-SOURCE/ARM/seed-N/         a model, result.json, and TREC runs with their qrels for each view

SOURCE identifies the training data: the generator of worlds, or the content of a library of real features.
Learning rates are selected on validation clips of a world whose seed no reported number has.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import chain, compress
from multiprocessing import get_context
from operator import not_
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from reelseek.cluster import Cluster, Resources
from reelseek.errors import UsageError
from reelseek.experiments.experiment import Arm, Experiment, Result, Table, View
from reelseek.experiments.worlds import WORDS, WorldSource, cached_world, world_library
from reelseek.library import Library
from reelseek.library.cluster_work import Files, read_files, require_library, run_in_folder, write_files
from reelseek.library.files import write_whole
from reelseek.library.source import FeatureSource
from reelseek.library.tokens import TokenReader
from reelseek.models.batch import Batch
from reelseek.models.device import device_of, load_on_device, resolve_device
from reelseek.models.model import RetrievalModel
from reelseek.studio.redundant_worlds import RedundantConfig, redundant_generator_hash
from reelseek.studio.worlds import WorldConfig, generator_hash
from reelseek.training import Recipe, evaluate, train
from reelseek.training.data import hidden_experts, recipe_splits
from reelseek.training.measure import write_measured

__all__ = ["COMMON", "TUNING_SEED", "home_of", "run_experiment", "source_of", "table_identity"]

TUNING_SEED = 0
_WORKERS = 2
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
    workers: int | None = None,
    device: str | torch.device | None = None,
    cluster: Cluster | None = None,
    progress: Progress = lambda *_: None,
) -> dict[str, list[Result]]:
    """Run every arm with every seed; return the results by the key of the arm, in the order of the seeds.

    Args:
        features: a library of real features instead of the worlds. An arm's experts are taken by name or by modality.
        workers: number of processes, of one thread each; None takes two, and of a cluster as many as its nodes lend.
        device: where models train and are evaluated, see `resolve_device`; all processes share it.
        cluster: whose nodes train and evaluate instead; each reads `features` at its path.

    Raises:
        UsageError: there is no such device, a seed is the one that rates are selected with, or the library lacks an
            expert.
    """
    if TUNING_SEED in seeds or not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(
            f"seeds {list(seeds)}: wanted different numbers, none {TUNING_SEED}, with which rates are chosen"
        )
    arms = experiment.arms
    where = _Where(out, features, source_of(features))
    total = sum(_tuned(arm) * len(arm.rates) + len(seeds) for arm in arms)
    done = 0
    with _runner(where, workers, device, cluster) as run:
        for level in _levels(arms):
            for kind in ("tune", "seeds"):
                jobs = [job for arm in level for job in _jobs(arm, kind, seeds, where)]
                jobs.sort(key=lambda job: job[2])  # arms of a seed one after the other: they share their world
                is_stored = list(map(_is_stored, jobs))
                stored = map(_describe, compress(jobs, is_stored))
                for message in chain(stored, run(list(compress(jobs, map(not_, is_stored))))):
                    done += 1
                    progress("training", done, total, message)
    return {arm.key: [_result(where.home(arm) / f"seed-{seed}") for seed in seeds] for arm in arms}


@contextmanager
def _runner(
    where: "_Where", workers: int | None, device: str | torch.device | None, cluster: Cluster | None
) -> "Iterator[Callable[[Sequence[_Job]], Iterator[str]]]":
    """What runs jobs side by side and yields their messages as they finish: processes, or nodes of a cluster."""
    if cluster is not None:
        if where.features is not None:
            require_library(cluster, where.features)
        place = cluster.device(None if device is None else str(device))
        resources = Resources(gpu=place != "cpu")
        prepare = partial(_start_worker, place)
        with cluster.mapping(_job_on_node, workers=workers, prepare=prepare, resources=resources) as run:
            yield partial(_run_on, run)
        return
    place = str(resolve_device(device))
    with ProcessPoolExecutor(workers or _WORKERS, get_context("spawn"), _start_worker, (place,)) as pool:
        try:
            yield lambda jobs: (done.result() for done in as_completed([pool.submit(_job, *job) for job in jobs]))
        except BaseException:  # finished jobs stay on disk; no further job is started
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@dataclass(frozen=True)
class _Where:
    """Folder of the results, and the training data."""

    out: Path
    features: Path | None
    source: str

    def home(self, arm: Arm) -> Path:
        return home_of(self.out, self.source, arm)


def source_of(features: Path | None) -> str:
    """Identify the training data and the common recipe, so that results of others are never reused."""
    if features is None:
        identity = f"{generator_hash()} {redundant_generator_hash()}"
    else:
        with Library.open(features) as library:
            identity = library.digest()
    return _digest([identity, COMMON])


def table_identity(table: Table) -> str:
    """Identify what a record of a table stands for: the common recipe, its arms and views, and what claims compare.

    Published figures are not in it: they decide how many seeds are run, and no verdict.
    """
    arms = [[arm.name, arm.key, [asdict(view) for view in arm.views]] for arm in table.arms]
    claims = [
        [claim.says, claim.helps, claim.margin, [asdict(replace(pair, published=None)) for pair in claim.pairs]]
        for claim in table.claims
        if not claim.why
    ]
    return _digest([COMMON, arms, claims])


def home_of(out: Path, source: str, arm: Arm) -> Path:
    """Return the folder of an arm's runs."""
    return out / f"runs-{source}" / arm.key


def _result(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text("utf-8"))
    return result


def _tuned(arm: Arm) -> bool:
    return len(arm.rates) > 1 and arm.measure is None


def _start_worker(device: str) -> None:
    """Compute on one thread, and on `device` wherever a job names none."""
    torch.set_num_threads(1)
    os.environ["REELSEEK_DEVICE"] = device


_Job = tuple[Arm, _Where, int, float, str]
_JobWithFiles = tuple[_Job, Files]
_RunOnNodes = Callable[[Iterable[_JobWithFiles]], Iterator[tuple[_JobWithFiles, tuple[str, Files]]]]


def _levels(arms: Sequence[Arm]) -> Iterator[list[Arm]]:
    """Arms by level: those that others start from come first."""
    depth: dict[str, int] = {}
    for arm in arms:  # an arm comes after the one it starts from
        depth[arm.key] = 0 if arm.start is None else depth[arm.start.key] + 1
    for level in range(max(depth.values(), default=-1) + 1):
        yield [arm for arm in arms if depth[arm.key] == level]


def _jobs(arm: Arm, kind: str, seeds: Sequence[int], where: _Where) -> Iterator[_Job]:
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
    """Train and evaluate one arm with one seed, as far as no earlier run has stored it; return a name for messages."""
    job = (arm, where, seed, rate, name)
    message = _describe(job)
    if _is_stored(job):
        return message
    folder, views = where.home(arm) / name, _views(arm, name)
    stored = _stored_result(folder)
    began = time.perf_counter()
    if arm.measure is not None:
        origin: dict[str, Any] = {}
        values = arm.measure(folder, seed)
    else:
        start = None if arm.start is None else _start(arm.start, where, name)
        with _training_data(arm.world, where, seed) as (library, words):
            recipe = recipe_of(arm, seed, rate, words, library, start)
            trained = (folder / "model" / "config.json").is_file()
            saved = folder / "model"
            model = load_on_device(saved) if trained else train(recipe, library, saved)
            origin = {key: value for key, value in stored.items() if key != "views"} or _origin(model, folder)
            values = _evaluate_views(model, recipe, library, views, folder)
    evaluated = {**stored.get("evaluated", {}), **{view.name: _plain_view(view) for view in views}}
    origin = {"arm": arm.name, "seed": seed, "rate": rate, **origin, "evaluated": evaluated}
    origin.setdefault("seconds", round(time.perf_counter() - began, 1))
    result = {**origin, "views": {**stored["views"], **values}}
    write_whole(folder / "result.json", json.dumps(result, indent=1) + "\n")
    return message


@contextmanager
def _training_data(
    world: WorldConfig | RedundantConfig, where: _Where, seed: int
) -> Iterator[tuple[FeatureSource, str | None]]:
    """Open the library of real features, or a world; and the file of its word vectors, if its captions are words."""
    if where.features is None and isinstance(world, RedundantConfig):
        yield WorldSource(cached_world(world, seed)), None
        return
    path, words = where.features, None
    if path is None:
        assert isinstance(world, WorldConfig)
        folder = where.out / "worlds" / f"{_digest([asdict(world), generator_hash()])}-{seed}"
        path = world_library(world, seed, folder)
        words = str(path.with_name(WORDS))
    with Library.open(path) as library:
        yield library, words


def _describe(job: _Job) -> str:
    arm, *_, name = job
    return f"{arm.name}, {name}"


def _views(arm: Arm, name: str) -> tuple[View, ...]:
    """What a job evaluates; nothing in the world in which rates are selected."""
    return arm.views if name.startswith("seed") else ()


def _stored_result(folder: Path) -> dict[str, Any]:
    return _result(folder) if (folder / "result.json").is_file() else {"views": {}}


def _is_stored(job: _Job) -> bool:
    """Whether an earlier run has stored everything that a job computes."""
    arm, where, _, _, name = job
    stored = _stored_result(where.home(arm) / name)
    as_evaluated = stored.get("evaluated", {})
    evaluated = all(
        view.name in stored["views"] and as_evaluated.get(view.name, _plain_view(view)) == _plain_view(view)
        for view in _views(arm, name)
    )
    return len(stored) > 1 and (arm.measure is not None or evaluated)


def _plain_view(view: View) -> dict[str, Any]:
    """What a view evaluates, as it is stored with the values."""
    return {"split": view.split, "experts": None if view.experts is None else list(view.experts)}


def _run_on(run: _RunOnNodes, jobs: Sequence[_Job]) -> Iterator[str]:
    """Run jobs on a cluster; this process reads what each needs when its turn comes, and writes what it made."""
    for (job, _), (message, files) in run((job, _inputs(job)) for job in jobs):
        out = job[1].out
        write_files(out, files, last=[name for name in files if name.endswith("/result.json")])
        yield message


def _inputs(job: _Job) -> Files:
    """What a job reads below OUT: its own folder, and of the arm that it starts from the results and the model."""
    arm, where, _, _, name = job
    folders = [where.home(arm) / name]
    files: Files = {}
    if arm.start is not None:
        folders.append(Path(_start(arm.start, where, name)))
        for result in where.home(arm.start).glob("*/result.json"):
            files[result.relative_to(where.out).as_posix()] = result.read_bytes()
    for folder in folders:
        prefix = folder.relative_to(where.out).as_posix()
        files |= {f"{prefix}/{path}": content for path, content in read_files(folder).items()}
    return files


def _job_on_node(item: _JobWithFiles) -> tuple[str, Files]:
    """Run a job in a folder of this node; the world that it builds there is not returned."""
    (arm, where, seed, rate, name), inputs = item

    def work(folder: Path) -> str:
        return _job(arm, replace(where, out=folder), seed, rate, name)

    return run_in_folder(work, inputs, where.out, skip=["worlds"])


def _origin(model: RetrievalModel, folder: Path) -> dict[str, Any]:
    """How a model was trained, to be stored with its values."""
    config = json.loads((folder / "model" / "config.json").read_text("utf-8"))
    return {
        "validation_score": config["validation"]["score"],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": config["steps"],
        "best_epoch": config["validation"]["epoch"],
        "text": config["recipe"]["model"].get("text", {}),
    }


def _start(arm: Arm, where: _Where, name: str) -> str:
    """The model to start from: of the same seed, or of the world in which rates are selected."""
    home = where.home(arm)
    if name.startswith("tune"):
        name = f"tune-{_best_rate(arm, home):g}"
    return str(home / name / "model")


def _digest(plain: Any) -> str:
    return sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:10]


def recipe_of(arm: Arm, seed: int, rate: float, words: str | None, library: FeatureSource, start: str | None) -> Recipe:
    """Build the recipe of an arm: the common one with the arm's changes, the seed and the rate."""
    settings = _merged(deepcopy(COMMON), arm.recipe)
    model = settings["model"]
    if isinstance(library, WorldSource):
        model["text"] = {**model.get("text", {}), "encoder": "features", "dim": library.text_width}
    if words is not None and model.get("text", {}).get("encoder") is None:
        model["text"] = {**model.get("text", {}), "encoder": words}
    settings["train"] |= {"seed": seed, "rate": rate}
    data = settings.setdefault("data", {})
    if data.get("experts"):
        data["experts"] = _experts_of(data["experts"], library)
    if data.get("groups"):
        data["groups"] = [{**group, "experts": _experts_of(group["experts"], library)} for group in data["groups"]]
    if start is not None:
        settings["train"]["start"] = start
    return TypeAdapter(Recipe).validate_python(settings)


def _merged(base: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in more.items():
        base[name] = _merged(dict(base.get(name, {})), value) if isinstance(value, Mapping) else value
    return base


def _experts_of(names: Sequence[str], library: FeatureSource) -> list[str]:
    """Experts by name; a name that is not an expert's stands for all experts of that modality.

    Raises:
        UsageError: the library lacks one.
    """
    available = library.experts()
    experts: dict[str, None] = {}
    for name in names:
        matches = [name] if name in available else [e for e, row in available.items() if row["modality"] == name]
        if not matches:
            listed = ", ".join(f"{expert} ({row['modality']})" for expert, row in available.items())
            raise UsageError(
                f"the experiment wants features of {', '.join(names)}, and {library.path} lacks {name}; it has "
                f"{listed or 'none'}"
            )
        experts |= dict.fromkeys(matches)
    return list(experts)


_STORED = ("text_to_video", "video_to_text", "gallery", "queries", "split_hash")


def _evaluate_views(
    model: RetrievalModel, recipe: Recipe, library: FeatureSource, views: Sequence[View], folder: Path
) -> dict[str, Any]:
    values: dict[str, Any] = {"validation": {"loss": _validation_loss(model, recipe, library)}}
    for view in views:
        experts = _experts_of(view.experts, library) if view.experts else None
        experts = [name for name in experts if name in model.experts] if experts else None
        measured = evaluate(model, library, split=view.split, experts=experts)
        write_measured(folder / f"{view.name}.run", measured, model.system)
        plain = measured.as_json()
        values[view.name] = {key: plain[key] for key in _STORED}
    return values


def _validation_loss(model: RetrievalModel, recipe: Recipe, library: FeatureSource) -> float:
    """Loss of the validation clips with their first captions, as one batch, without experts that the recipe hides."""
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
    ).to(device_of(model))
    with torch.no_grad():
        return float(sum(term for term in model.eval().loss(batch).values()))
