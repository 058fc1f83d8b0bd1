"""A search over ranges of a recipe's settings: optuna proposes, the validation split judges."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from reelseek.cluster import Cluster
from reelseek.errors import RecipeError, UsageError
from reelseek.library.cluster_work import Files, require_library, run_in_folder, threads_of, write_files
from reelseek.library.files import write_whole
from reelseek.library.store import Library
from reelseek.models.settings import STRICT
from reelseek.training.loop import train
from reelseek.training.recipe import find_recipe, read_toml, recipe_from

__all__ = ["Range", "Trial", "read_ranges", "tune"]

_STARTUP = 10  # trials that the sampler proposes at random


@dataclass(frozen=True, config=STRICT)
class Range:
    """Numbers from `low` to `high`, both included; whole ones if both are written so. `log` proposes them evenly by
    their logarithm."""

    low: int | float
    high: int | float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"a range wants low < high, and with log low > 0; got {self.low} to {self.high}")


@dataclass(frozen=True)
class Trial:
    """One recipe that was tried."""

    number: int
    settings: dict[str, Any]
    score: float


def read_ranges(path: Path) -> dict[str, Range | list[Any]]:
    """Settings by their place in a recipe, each with a range or a list of choices.

        "train.rate" = { low = 5e-5, high = 1e-3, log = true }
        "model.pooler" = ["max", "attention"]

    Raises:
        RecipeError: it cannot be read, or holds something else; says where.
    """
    raw = read_toml(find_recipe(path))
    ranges: dict[str, Range | list[Any]] = {}
    for name, choices in raw.items():
        try:
            ranges[name] = choices if isinstance(choices, list) else TypeAdapter(Range).validate_python(choices)
        except ValidationError as error:
            message = error.errors()[-1]["msg"]
            hint = "" if "." in name else '; a name with a dot is quoted, as "train.rate"'
            raise RecipeError(f"{path}, {name}: {message}; wanted a list, or low and high{hint}") from error
        if "." not in name or not choices:
            raise RecipeError(f'{path}, {name}: wanted the place of a setting, such as "train.rate", and its choices')
    if not ranges:
        raise RecipeError(f"{path} names no setting")
    return ranges


def tune(
    recipe: Mapping[str, Any],
    ranges: Mapping[str, Range | list[Any]],
    library: Library,
    out: Path,
    *,
    trials: int,
    together: int = 1,
    cluster: Cluster | None = None,
    report: Callable[[Trial, int, int], None] = lambda *_: None,
) -> Trial:
    """Try recipes until there are `trials` of them; a search that was stopped goes on.

    Args:
        recipe: plain settings, section by section.
        out: every trial's model in a folder, `trials.csv`, and the best recipe as `best.toml`.
        together: how many trials are proposed before any of them is judged. What is proposed depends on it.
        cluster: whose nodes train; each reads the library at its path. What is proposed does not depend on it.
        report: called with each trial, how many are done, and `trials`.

    Raises:
        RecipeError: a setting or a proposed value is wrong.
        UsageError: optuna is not installed.
        ClusterError: a node reads another library, or none.
    """
    optuna = _import_optuna()
    out.mkdir(parents=True, exist_ok=True)
    over = {name: str(choices) for name, choices in ranges.items()}
    identity = json.dumps([recipe, over, library.digest()], sort_keys=True, default=str)
    if (out / "search.json").is_file() and (out / "search.json").read_text("utf-8") != identity:
        raise RecipeError(
            f"{out} holds a search of another recipe, other ranges or another library; name another folder, or remove "
            "this one"
        )
    write_whole(out / "search.json", identity)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(out / "trials.log")))
    study = optuna.create_study(storage=storage, study_name="search", direction="maximize", load_if_exists=True)
    # A search that goes on must not propose again what it began with.
    seed = int(recipe.get("train", {}).get("seed", 0)) + len(study.trials)
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=_STARTUP, seed=seed)
    done = optuna.trial.TrialState.COMPLETE
    run = _Trials(recipe, library, out, cluster)
    while len(finished := study.get_trials(states=(done,))) < trials:
        # The first ones are random whatever the others scored: nodes may try them side by side.
        count = together if cluster is None else max(together, _STARTUP - len(finished))
        proposals = _proposals(study, ranges, min(count, trials - len(finished)))
        for place, (number, score) in enumerate(run(proposals), len(finished) + 1):
            study.tell(number, score)
            report(Trial(number, proposals[number], score), place, trials)
    results = [Trial(trial.number, trial.params, float(trial.value)) for trial in finished]
    best = max(results, key=lambda trial: trial.score)
    _write(out, results, _changed(recipe, best.settings))
    return best


def _import_optuna() -> Any:
    try:
        import optuna
        import optuna.storages.journal
    except ImportError as error:
        raise UsageError("searching takes optuna; install it with: pip install 'reelseek[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _proposals(study: Any, ranges: Mapping[str, Range | list[Any]], count: int) -> dict[int, dict[str, Any]]:
    """Settings of the next trials by their numbers."""
    trials = [study.ask() for _ in range(count)]
    return {trial.number: {name: _propose(trial, name, choice) for name, choice in ranges.items()} for trial in trials}


def _propose(trial: Any, name: str, choice: Range | list[Any]) -> Any:
    if isinstance(choice, list):
        return trial.suggest_categorical(name, choice)
    if isinstance(choice.low, int) and isinstance(choice.high, int):
        return trial.suggest_int(name, choice.low, choice.high, log=choice.log)
    return trial.suggest_float(name, choice.low, choice.high, log=choice.log)


def _changed(recipe: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    changed = deepcopy(dict(recipe))
    for name, value in settings.items():
        *sections, last = name.split(".")
        inner = changed
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return changed


@dataclass(frozen=True)
class _Remote:
    """A trial on a node."""

    number: int
    recipe: dict[str, Any]
    library: str
    out: Path


class _Trials:
    """Trains proposed recipes, here or on a cluster, and stores each model in a folder of `out`."""

    def __init__(self, recipe: Mapping[str, Any], library: Library, out: Path, cluster: Cluster | None) -> None:
        self._recipe, self._library, self._out, self._cluster = recipe, library, out, cluster
        if cluster is not None:
            require_library(cluster, library.path)

    def __call__(self, proposals: Mapping[int, Mapping[str, Any]]) -> Iterator[tuple[int, float]]:
        """Yield numbers of trials with their scores, as they finish."""
        recipes = {number: _changed(self._recipe, settings) for number, settings in proposals.items()}
        if self._cluster is None:
            for number, recipe in recipes.items():
                yield number, _try(recipe, self._library, self._out / _name(number))
            return
        import torch

        path = str(self._library.path.absolute())
        device = self._cluster.device(_recipe_device(self._recipe))
        resources, prepare = threads_of(torch.get_num_threads(), device)
        items = [_Remote(number, recipe, path, self._out) for number, recipe in recipes.items()]
        outcomes = self._cluster.map(_try_on_node, items, resources=resources, prepare=prepare)
        for item, (score, files) in outcomes:
            write_files(self._out, files, last=[name for name in files if name.endswith("/config.json")])
            yield item.number, score


def _recipe_device(recipe: Mapping[str, Any]) -> str | None:
    """The device that a recipe names, if it does."""
    device = recipe.get("train", {}).get("device")
    return None if device is None else str(device)


def _try_on_node(item: _Remote) -> tuple[float, Files]:
    with Library.open(item.library) as library:

        def work(folder: Path) -> float:
            return _try(item.recipe, library, folder / _name(item.number))

        return run_in_folder(work, {}, item.out)


def _name(number: int) -> str:
    return f"trial-{number:03}"


def _try(recipe: Mapping[str, Any], library: Library, folder: Path) -> float:
    train(recipe_from(recipe, folder.name), library, folder)
    record = json.loads((folder / "config.json").read_text("utf-8"))
    return float(record["validation"]["score"])


def _write(out: Path, trials: list[Trial], best: dict[str, Any]) -> None:
    names = sorted({name for trial in trials for name in trial.settings})
    with (out / "trials.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["trial", "score", *names])
        rows.writerows([t.number, t.score, *(t.settings.get(n, "") for n in names)] for t in trials)
    write_whole(out / "best.toml", tomli_w.dumps(best))
