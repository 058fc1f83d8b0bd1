"""What a run keeps in its folder: the best epoch's weights, the log, and the state from which it resumes."""

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelseek.errors import ModelError, RecipeError
from reelseek.models import parallel
from reelseek.models.model import RetrievalModel
from reelseek.models.weights import read_checked_tensors, write_tensors
from reelseek.training.log import Epoch, write_log
from reelseek.training.recipe import Recipe
from reelseek.training.split import Split

__all__ = ["Checkpoints", "RunState", "run_identity"]

_log = logging.getLogger("reelseek")

# files of a run that was stopped before its first state was written
_BEGUN = re.compile(r"pseudo|((best|state)\.safetensors|log\.csv|watched\.csv)(\.\d+\.partial)?")


@dataclass
class RunState:
    """Everything that changes while a model is trained.

    Attributes:
        average: moving average of the weights; empty without `train.average`.
        epoch: the next one.
        steps: optimizer steps taken.
    """

    model: RetrievalModel
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor] = field(default_factory=dict)
    epoch: int = 0
    steps: int = 0
    best_score: float = float("-inf")
    log: list[Epoch] = field(default_factory=list)


def run_identity(recipe: Recipe, splits: Sequence[Split], fingerprints: dict[str, str]) -> str:
    """Return what a run must share with the one that it resumes: all settings but device and workers."""
    settings = recipe.settings()
    for name in ("device", "workers"):
        del settings["train"][name]
    if not settings["train"]["compile"]:  # as before there was such a setting
        del settings["train"]["compile"]
    if settings["anchor"] is None:
        del settings["anchor"]
    if not settings["data"]["uncaptioned"]:
        del settings["data"]["uncaptioned"]
    later = {
        "second_beta": None, "epsilon": None, "text_dropout": None, "batch_of": "clips", "narrations": None,
        "buckets": 0, "decay_every": 1, "rate_per": "epoch", "clip_norm": None, "freeze_norms": False, "keep": "best",
    }  # fmt: skip
    for name, default in later.items():
        if settings["train"][name] == default:
            del settings["train"][name]
    return json.dumps([settings, *(split.hash for split in splits), fingerprints], sort_keys=True, default=str)


class Checkpoints:
    """The files of one run.

    Args:
        folder: `best.safetensors`, `log.csv` and `state.safetensors` are written there.
        identity: see `run_identity`.
        epochs: of the run.
        longer: the same for a run of any number of epochs, where more of them begin as fewer do; else empty.
        keep: `train.keep`; with `last` the file of the best epoch's weights holds those of the last one.
    """

    def __init__(self, folder: Path, identity: str, epochs: int, longer: str = "", *, keep: str = "best") -> None:
        self.folder, self.identity, self.epochs, self.longer, self.keep = folder, identity, epochs, longer, keep

    def save(self, state: RunState) -> None:
        """Write the state after an epoch; its weights and the log come first, so that a state names nothing missing.

        Raises:
            ModelError: a file cannot be written.
        """
        if state.log[-1].best or self.keep == "last":
            write_tensors(self.folder / "best.safetensors", state.average or state.model.state_dict())
        write_log(self.folder / "log.csv", state.log)
        tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in state.average.items()}
        for index, slots in state.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in slots.items()}
        log = [asdict(line) for line in state.log]
        progress = {"epoch": state.epoch, "steps": state.steps, "best": state.best_score, "log": log}
        metadata = {"identity": self.identity, "longer": self.longer, "about": json.dumps(progress)}
        write_tensors(self.folder / "state.safetensors", tensors, metadata)

    def resume(self, state: RunState) -> None:
        """Load the state of a run that was stopped; without one, `state` stays as it is.

        Raises:
            RecipeError: the folder holds a run of another recipe, or something else, or files of the run are gone.
        """
        path = self.folder / "state.safetensors"
        if not path.is_file():
            if self.folder.is_dir() and any(not _BEGUN.fullmatch(entry.name) for entry in self.folder.iterdir()):
                raise RecipeError(f"{self.folder} is not empty and holds no run to resume; name another folder")
            epochs = _logged_epochs(self.folder / "log.csv")
            if epochs > 1:  # the state of epoch 0 is written before the log of epoch 1 is
                raise RecipeError(
                    f"{path} is missing, from which the run of {epochs} epochs in log.csv would go on; put it back, or "
                    "remove the folder to begin again"
                )
            return
        metadata, tensors = _read_state(path)
        is_longer = bool(self.longer) and metadata.get("longer") == self.longer
        if metadata.get("identity") != self.identity and not is_longer:
            raise RecipeError(
                f"{self.folder} holds a run of another recipe, split or features; name another folder, or remove it"
            )
        progress = json.loads(metadata["about"])
        if progress["epoch"] - 1 > self.epochs:
            raise RecipeError(
                f"{self.folder} holds a run of {progress['epoch'] - 1} epochs, and {self.epochs} are asked for; name "
                "another folder, or more epochs"
            )
        state.epoch, state.steps, state.best_score = progress["epoch"], progress["steps"], progress["best"]
        state.log[:] = [Epoch(**line) for line in progress["log"]]
        state.model.load_state_dict(_section(tensors, "model."))
        weights = state.model.state_dict()
        state.average = {name: value.to(weights[name].device) for name, value in _section(tensors, "average.").items()}
        _load_optimizer(state.optimizer, _section(tensors, "optimizer."))
        self._check_best(state)

    def _check_best(self, state: RunState) -> None:
        """Make sure, before more epochs are computed, that the weights which a run ends with can be read.

        Where they are those of the last epoch, they are in the state too, and are written again.

        Raises:
            RecipeError: they are of an epoch before that, and are gone.
        """
        path = self.folder / "best.safetensors"
        problem = "it is missing"
        if path.is_file():
            try:
                if set(read_checked_tensors(path)[1]) == set(state.model.state_dict()):
                    return
                problem = "it holds another model"
            except ModelError as error:
                problem = f"it cannot be read ({error})"
        if state.log[-1].best or self.keep == "last":
            if parallel.is_local_main_process():
                _log.warning("%s: %s; it is written again from state.safetensors", path, problem)
                write_tensors(path, state.average or state.model.state_dict())
            return
        best = max(line.epoch for line in state.log if line.best)
        raise RecipeError(
            f"{path}: {problem}, and no other file has the weights of epoch {best}, the best so far; put it back, or "
            "remove the folder to begin again"
        )

    def load_best(self, model: RetrievalModel) -> None:
        """Load the weights of the best epoch, or of the last one, into a model."""
        model.load_state_dict(read_checked_tensors(self.folder / "best.safetensors")[1])


def _read_state(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        return read_checked_tensors(path)
    except ModelError as error:
        raise RecipeError(f"{error}; put the file back, or remove the folder to begin again") from error


def _logged_epochs(log: Path) -> int:
    """How many epochs a log has a line of, whether it is whole or not."""
    return max(0, len(log.read_bytes().splitlines()) - 1) if log.is_file() else 0


def _section(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    slots: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        index, _, slot = name.partition(".")
        slots.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
