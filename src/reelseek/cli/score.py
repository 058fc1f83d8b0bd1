"""`reelseek score`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from reelseek.cli.evaluate import METRICS, metric_cells
from reelseek.cli.show import print_json, print_table

__all__ = ["register"]


def score(
    runs: Annotated[list[Path], typer.Argument(help="Runs that `evaluate --run` or an experiment wrote.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON line a run; recalls are fractions.")] = False,
) -> None:
    """Score runs again from their files alone, the best right answer of each query; ties take their mean rank.

    A run holds 1,000 documents a query; a right answer beyond them counts as one past the last. FILE.v2t.run is video
    to text. What a tolerant or pessimistic protocol does not count is counted here.
    """
    import numpy as np

    from reelseek.errors import UsageError
    from reelseek.evaluation import metrics
    from reelseek.evaluation.compare import read_run_ranks

    rows = []
    for run in runs:
        ranks = read_run_ranks(run)
        if not ranks:
            raise UsageError(f"{run} has no query with a right answer")
        measured = metrics(np.array(list(ranks.values())))
        rows.append((str(run), *metric_cells(measured)))
        if json:
            print_json({"run": str(run), **asdict(measured)})
    if not json:
        print_table(["run", *METRICS], rows)


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek score mmt.run eao.run")(score)
