"""Test sets while training, as MDMMT's figures 3 to 5 have them: measured after every epoch, and never chosen on."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from reelseek.library.files import write_whole
from reelseek.library.source import FeatureSource
from reelseek.library.tokens import TokenReader
from reelseek.models import parallel
from reelseek.models.model import RetrievalModel
from reelseek.models.text import caption_features_of
from reelseek.training.data import read_features, read_split
from reelseek.training.log import read_log
from reelseek.training.measure import evaluate_split
from reelseek.training.split import Split

__all__ = ["WATCHED_FILE", "Watcher", "read_watched"]

WATCHED_FILE = "watched.csv"
_COLUMNS = ("epoch", "split", "recall_at_1", "recall_at_5", "recall_at_10", "median_rank", "mean_rank")
_Rows = dict[tuple[int, str], tuple[object, ...]]


class Watcher:
    """Measures a model on some splits after an epoch, and writes OUT/watched.csv; give it to `train(watch=)`.

    Args:
        splits: names of splits.
        folder: of the run.

    Raises:
        UsageError: there is no such split.
    """

    def __init__(self, library: FeatureSource, splits: Sequence[str], folder: Path) -> None:
        self._library, self._path = library, folder / WATCHED_FILE
        self._splits: list[Split] = [read_split(library, name) for name in splits]
        # What a stopped run measured before; epochs that are taken again are measured again.
        self._rows: _Rows = {(int(row[0]), row[1]): tuple(row) for row in _read(self._path)}

    def __call__(self, model: RetrievalModel, reader: TokenReader, epoch: int) -> None:
        if not parallel.is_main_process():
            return
        was_training = model.training
        for split in self._splits:
            encoded, _ = read_features(split, self._library, caption_features_of(model))
            metrics = evaluate_split(model, reader, encoded).text_to_video
            numbers = [round(float(getattr(metrics, name)), 6) for name in _COLUMNS[2:]]
            self._rows[epoch, split.name] = (epoch, split.name, *numbers)
        model.train(was_training)
        text = io.StringIO(newline="")
        rows = sorted(self._rows.items(), key=lambda item: item[0])
        csv.writer(text).writerows([_COLUMNS, *(row for _, row in rows)])
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._path, text.getvalue())

    def unmeasured(self) -> dict[str, list[int]]:
        """List by split the epochs in the log of the run that were trained before the split was watched.

        Raises:
            UsageError: the folder holds no log.
        """
        epochs = [int(line["epoch"]) for line in read_log(self._path.parent)]
        by_split = {s.name: [epoch for epoch in epochs if (epoch, s.name) not in self._rows] for s in self._splits}
        return {name: epochs for name, epochs in by_split.items() if epochs}


def _read(path: Path) -> list[list[str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def read_watched(folder: Path) -> dict[str, tuple[list[float], list[float]]]:
    """By split, the epochs and text-to-video R@5 of a run that was watched."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for row in _read(folder / WATCHED_FILE):
        epochs, recalls = curves.setdefault(row[1], ([], []))
        epochs.append(float(row[0]))
        recalls.append(float(row[_COLUMNS.index("recall_at_5")]))
    return curves
