"""The log of a run: one line per epoch."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.errors import UsageError
from reelseek.library.files import write_whole
from reelseek.models.weights import write_errors

__all__ = ["Epoch", "epoch_json", "read_log", "write_log"]


@dataclass(frozen=True)
class Epoch:
    """One line of the log."""

    epoch: int
    loss: float  # NaN for epoch 0
    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    median_rank: float
    mean_rank: float
    score: float  # by which the best epoch is selected; higher is better
    best: bool


def epoch_json(line: Epoch) -> dict[str, Any]:
    """Return a line as plain values; JSON has no NaN, so the loss of epoch 0 is None."""
    return asdict(line) | {"loss": None if np.isnan(line.loss) else line.loss}


def write_log(path: Path, lines: Sequence[Epoch]) -> None:
    """Write a log as CSV.

    Raises:
        ModelError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    rows = csv.DictWriter(text, [column.name for column in fields(Epoch)])
    rows.writeheader()
    rows.writerows(asdict(line) for line in lines)
    with write_errors(path):
        write_whole(path, text.getvalue())


def read_log(folder: Path) -> list[dict[str, str]]:
    """Read the epochs of a model's training, as its log has them.

    Raises:
        UsageError: there is no log.
    """
    if not (folder / "log.csv").is_file():
        raise UsageError(f"{folder} has no log.csv: nothing was trained there")
    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
