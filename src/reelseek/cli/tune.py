"""`reelseek tune`."""

from pathlib import Path
from typing import Annotated

import typer

from reelseek.cli.cluster import OnRay, Ray, on_cluster
from reelseek.cli.device import Device
from reelseek.cli.outputs import folder_option
from reelseek.cli.show import bars, print_table, say

__all__ = ["register"]


def tune(
    recipe: Annotated[
        Path, typer.Argument(help="A TOML recipe: a file, or the name of a packaged one, such as crossclr.")
    ],
    ranges: Annotated[
        Path, typer.Option(help="TOML: settings with ranges; a file, or a packaged one, such as ranges/crossclr.")
    ],
    library: Annotated[Path, typer.Option(help="Folder of the library to learn from.")],
    out: Annotated[Path, folder_option("the trials; a search that was stopped there goes on")],
    trials: Annotated[int, typer.Option(help="How many recipes are tried.", min=1)] = 20,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change the recipe: section.key=value.")] = None,
    device: Device = None,
    together: Annotated[
        int, typer.Option(help="Trials proposed before any of them is judged; the search depends on it.", min=1)
    ] = 1,
    ray: Ray = None,
) -> None:
    """Search over ranges of a recipe's settings; the validation split judges, and OUT/best.toml is the best recipe."""
    from reelseek.library import Library
    from reelseek.training.recipe import read_settings
    from reelseek.training.tune import Trial, read_ranges
    from reelseek.training.tune import tune as search

    changes = [*(set_ or ()), *([f"train.device={device}"] if device else [])]
    settings, search_space = read_settings(recipe, changes), read_ranges(ranges)
    with on_cluster(ray) as cluster, Library.open(library) as opened, bars() as progress:

        def report(trial: Trial, done: int, total: int) -> None:
            shown = "  ".join(f"{name} {_short(value)}" for name, value in trial.settings.items())
            say(f"trial {trial.number:3}  score {trial.score:.4f}  {shown}")
            progress("searching", done, total, "")

        best = search(
            settings, search_space, opened, out, trials=trials, together=together, cluster=cluster, report=report
        )
    print_table(["setting", "best"], [(name, _short(value)) for name, value in best.settings.items()])
    say(f"score {best.score:.4f} on the validation split, trial {best.number} of {trials}; see {out / 'trials.csv'}")
    print(out / "best.toml")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def register(app: typer.Typer) -> None:
    app.command(
        cls=OnRay,
        epilog="Example: reelseek tune crossclr --ranges ranges/crossclr --library my.library --out my.search",
    )(tune)
