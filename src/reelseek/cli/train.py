"""`reelseek train`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from reelseek.cli.show import bars, say

__all__ = ["register"]


def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, such as recipes/mmt.toml.")],
    library: Annotated[Path, typer.Option(help="Folder of the library to learn from.")],
    out: Annotated[Path, typer.Option(help="Folder for the model; a run that was stopped there goes on.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change the recipe: section.key=value.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Several runs, such as 1,2,3, each in OUT/seed-N.")] = None,
) -> None:
    """Train a system on a library's captions; the best epoch is chosen on a validation split."""
    from reelseek.library import Library
    from reelseek.models import parallel
    from reelseek.training import read_recipe
    from reelseek.training import train as train_model
    from reelseek.training.loop import Epoch

    read = read_recipe(recipe, set_ or ())
    with Library.open(library) as opened, bars() as progress:

        def report(line: Epoch, total: int, stage: str) -> None:
            best = "  best so far" if line.best else ""
            where = f"{stage}: " if stage else ""
            say(
                f"{where}epoch {line.epoch:3}  loss {line.loss:.4f}  validation R@1 {line.recall_at_1:.1%}  "
                f"R@10 {line.recall_at_10:.1%}  MdR {line.median_rank:g}{best}"
            )
            progress(stage or "training", line.epoch, total, "")

        if seeds is None:
            train_model(read, opened, out, report=report)
            if parallel.first():
                print(out)
            return
        numbers = _numbers(seeds)
        for number in numbers:
            one = replace(read, train=replace(read.train, seed=number))
            say(f"seed {number}")
            train_model(one, opened, out / f"seed-{number}", report=report)
    if parallel.first():
        (out / "seeds.json").write_text(json.dumps(numbers) + "\n", "utf-8")
        print(out)


def _numbers(given: str) -> list[int]:
    from reelseek.errors import UsageError

    try:
        numbers = [int(part) for part in given.split(",")]
    except ValueError as error:
        raise UsageError(f"--seeds {given!r}: wanted numbers separated by commas, such as 1,2,3") from error
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"--seeds {given!r} names a seed twice")
    return numbers


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek train recipes/mmt.toml --library my.library --out my.model")(train)
