"""`reelseek train`."""

import json
from collections.abc import Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.device import Device
from reelseek.cli.outputs import folder_option
from reelseek.cli.show import bars, say

if TYPE_CHECKING:
    from reelseek.training.log import Epoch
    from reelseek.training.recipe import Recipe
    from reelseek.training.watch import Watcher

__all__ = ["register", "seed_numbers"]


def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe: a file, or the name of a packaged one, such as mmt.")],
    library: Annotated[Path, typer.Option(help="Folder of the library to learn from.")],
    out: Annotated[Path, folder_option("the model; a run that was stopped there goes on")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change the recipe: section.key=value.")] = None,
    seeds: Annotated[
        list[str] | None, typer.Option(help="Several runs, each in OUT/seed-N: 1,2,3 or the option again.")
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Write the log for TensorBoard into this folder too.")
    ] = None,
    watch: Annotated[
        list[str] | None, typer.Option(help="Measure this split after every epoch; nothing is chosen on it.")
    ] = None,
    device: Device = None,
) -> None:
    """Train a system on a library's captions; the best epoch is chosen on a validation split."""
    from reelseek.library import Library
    from reelseek.library.files import write_whole
    from reelseek.models import parallel
    from reelseek.models.weights import write_errors
    from reelseek.training import read_recipe
    from reelseek.training import train as train_model
    from reelseek.training.watch import Watcher

    runs = _runs(read_recipe(recipe, set_ or ()), out, seeds or ())
    board = _Board(tensorboard) if tensorboard else None
    run, status = "", 0
    with Library.open(library) as opened, bars() as progress:

        def report(line: "Epoch", total: int, stage: str) -> None:
            best = "  best so far" if line.best else ""
            loss = "before the first step" if isnan(line.loss) else f"loss {line.loss:.4f}"
            prefix = f"{stage}: " if stage else ""
            say(
                f"{prefix}epoch {line.epoch:3}  {loss}  validation R@1 {line.recall_at_1:.1%}  "
                f"R@10 {line.recall_at_10:.1%}  MdR {line.median_rank:g}{best}"
            )
            progress(stage or "training", line.epoch, total, "")
            if board is not None:
                board.write("/".join(part for part in (run, stage) if part), line)

        for number, settings, folder in runs:
            if number is not None:
                say(f"seed {number}")
                run = folder.name
            watcher = Watcher(opened, watch, folder) if watch else None
            model = train_model(settings, opened, folder, report=report, watch=watcher, device=device)
            status |= bool(model.record.get("unreadable_videos"))
            if parallel.is_main_process():
                status |= _say_unmeasured(watcher)
    if parallel.is_main_process():
        if seeds:
            with write_errors(out / "seeds.json"):
                write_whole(out / "seeds.json", json.dumps([number for number, _, _ in runs]) + "\n")
        print(out)
        raise typer.Exit(status)


def _runs(recipe: "Recipe", out: Path, seeds: Sequence[str]) -> "list[tuple[int | None, Recipe, Path]]":
    """The runs of a command, one for each seed that is named: the seed, the recipe with it, and the folder."""
    if not seeds:
        return [(None, recipe, out)]
    return [
        (number, replace(recipe, train=replace(recipe.train, seed=number)), out / f"seed-{number}")
        for number in seed_numbers(seeds)
    ]


def _say_unmeasured(watcher: "Watcher | None") -> int:
    """Say which epochs of a run that went on were not watched; the exit status that makes."""
    epochs_by_split = {} if watcher is None else watcher.unmeasured()
    for split, epochs in epochs_by_split.items():
        say(
            f"epochs {_number_ranges(epochs)} are not measured on {split}: they were trained before --watch {split} "
            "was set, and their weights are gone; train into another folder to measure them all"
        )
    return 1 if epochs_by_split else 0


def _number_ranges(numbers: Sequence[int]) -> str:
    """Name ascending numbers by their ranges.

    >>> _number_ranges([0, 1, 2, 5])
    '0-2, 5'
    """
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


class _Board:
    """TensorBoard's log: one line a run, the columns of log.csv."""

    def __init__(self, folder: Path) -> None:
        from reelseek.errors import UsageError

        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(
                "--tensorboard needs tensorboard; install it with: pip install 'reelseek[tensorboard]'"
            ) from error
        self._folder, self._make = folder, SummaryWriter
        self._writers: dict[str, SummaryWriter] = {}

    def write(self, run: str, line: "Epoch") -> None:
        if run not in self._writers:
            self._writers[run] = self._make(str(self._folder / run))
        for name in ("loss", "recall_at_1", "recall_at_5", "recall_at_10", "median_rank", "mean_rank"):
            self._writers[run].add_scalar(name, getattr(line, name), line.epoch)
        self._writers[run].flush()


def seed_numbers(seeds: Sequence[str]) -> list[int]:
    """Parse the uses of an option that takes `1,2,3` to different numbers.

    Raises:
        UsageError: it holds something else, a number below 0, or one twice.
    """
    from reelseek.errors import UsageError

    text = ",".join(seeds)
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--seeds {text!r}: it takes numbers separated by commas, such as 1,2,3") from error
    if min(numbers) < 0:
        raise UsageError(f"--seeds {text!r}: seeds are not below 0")
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"--seeds {text!r} names a seed twice")
    return numbers


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek train mmt --library my.library --out my.model")(train)
