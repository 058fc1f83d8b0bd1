"""`reelseek train`."""

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
) -> None:
    """Train a system on a library's captions; the best epoch is chosen on a validation split."""
    from reelseek.library import Library
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

        train_model(read, opened, out, report=report)
    print(out)


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek train recipes/mmt.toml --library my.library --out my.model")(train)
