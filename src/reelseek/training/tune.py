"""A search over ranges of a recipe's settings: optuna proposes, the validation split judges."""

import csv
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from reelseek.errors import RecipeError, UsageError
from reelseek.library.files import write_whole
from reelseek.library.store import Library
from reelseek.training.loop import train
from reelseek.training.recipe import read_toml, recipe_from

__all__ = ["Range", "Trial", "read_ranges", "tune"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
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
    raw = read_toml(path)
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
    report: Callable[[Trial, int, int], None] = lambda *_: None,
) -> Trial:
    """Try recipes until there are `trials` of them; a search that was stopped goes on.

    Args:
        recipe: plain settings, section by section.
        out: every trial's model in a folder, `trials.csv`, and the best recipe as `best.toml`.
        report: called with each trial, how many are done, and `trials`.

    Raises:
        RecipeError: a setting or a proposed value is wrong.
        UsageError: optuna is not installed.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise UsageError("searching takes optuna; install it with: pip install 'reelseek[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    out.mkdir(parents=True, exist_ok=True)
    over = {name: str(choices) for name, choices in ranges.items()}
    identity = json.dumps([recipe, over, library.digest()], sort_keys=True, default=str)
    if (out / "search.json").is_file() and (out / "search.json").read_text("utf-8") != identity:
        raise RecipeError(
            f"{out} holds a search of another recipe, other ranges or another library; name another folder, or remove "
            "this one"
        )
    write_whole(out / "search.json", identity)
    storage = JournalStorage(JournalFileBackend(str(out / "trials.log")))
    study = optuna.create_study(
        storage=storage,
        study_name="search",
        direction="maximize",
        load_if_exists=True,
    )
    # A search that goes on must not propose again what it began with.
    seed = int(recipe.get("train", {}).get("seed", 0)) + len(study.trials)
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    done = optuna.trial.TrialState.COMPLETE
    while len(finished := study.get_trials(states=(done,))) < trials:
        trial = study.ask()
        settings = {name: _propose(trial, name, choice) for name, choice in ranges.items()}
        score = _try(recipe, settings, library, out / f"trial-{trial.number:03}")
        study.tell(trial, score)
        report(Trial(trial.number, settings, score), len(finished) + 1, trials)
    results = [Trial(trial.number, trial.params, float(trial.value)) for trial in finished]
    best = max(results, key=lambda trial: trial.score)
    _write(out, results, _changed(recipe, best.settings))
    return best


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


def _try(recipe: Mapping[str, Any], settings: Mapping[str, Any], library: Library, folder: Path) -> float:
    train(recipe_from(_changed(recipe, settings), folder.name), library, folder)
    record = json.loads((folder / "config.json").read_text("utf-8"))
    return float(record["validation"]["score"])


def _write(out: Path, trials: list[Trial], best: dict[str, Any]) -> None:
    names = sorted({name for trial in trials for name in trial.settings})
    with (out / "trials.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["trial", "score", *names])
        rows.writerows([t.number, t.score, *(t.settings.get(n, "") for n in names)] for t in trials)
    write_whole(out / "best.toml", tomli_w.dumps(best))
