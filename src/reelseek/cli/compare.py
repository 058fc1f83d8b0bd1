"""`reelseek compare`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from reelseek.cli.show import print_json, print_table, say

__all__ = ["register"]


def compare(
    first: Annotated[Path, typer.Argument(help="A run that `evaluate --run` wrote, its .qrels beside it.")],
    second: Annotated[Path, typer.Argument(help="Another run over the same queries.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    differences: Annotated[int, typer.Option(help="Show so many queries whose rank changed most.", min=0)] = 0,
) -> None:
    """Whether the second run is better than the first: paired bootstrap over queries."""
    import numpy as np

    from reelseek.errors import UsageError
    from reelseek.evaluation.compare import compare as paired
    from reelseek.evaluation.compare import read_query_texts, read_run_ranks

    one, two = read_run_ranks(first), read_run_ranks(second)
    if set(one) != set(two):
        alone = sorted(set(one) ^ set(two))
        raise UsageError(
            f"{first} has {len(one)} queries and {second} {len(two)}; {len(alone)} are in only one, such as {alone[0]}"
        )
    if not one:
        raise UsageError(f"{first} has no query with a right answer")
    names = sorted(one)
    ranks = [np.array([run[name] for name in names]) for run in (one, two)]
    metrics = paired(ranks[0], ranks[1])
    moved = sorted(names, key=lambda name: two[name] - one[name])
    if json:
        print_json({"queries": len(names), "metrics": {metric.metric: asdict(metric) for metric in metrics}})
        return
    rows = [
        (m.metric, f"{m.first:.4f}", f"{m.second:.4f}", f"{m.difference:+.4f}", f"[{m.low:+.4f}, {m.high:+.4f}]",
         f"{m.p:.4f}", m.better, m.worse)
        for m in metrics
    ]  # fmt: skip
    print_table(["metric", "first", "second", "difference", "95 % interval", "p", "better", "worse"], rows)
    if differences:
        texts = read_query_texts(second) | read_query_texts(first)
        shown = list(dict.fromkeys([*moved[:differences], *moved[-differences:]]))
        words = ["words"] if texts else []
        print_table(
            ["query", "rank in first", "rank in second", *words],
            [(n, f"{one[n]:g}", f"{two[n]:g}", *([texts.get(n, "")] if texts else [])) for n in shown],
        )
    say(f"{len(names)} queries, 10,000 paired bootstrap samples, seed 0")


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek compare mmt.run eao.run")(compare)
