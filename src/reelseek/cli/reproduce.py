"""`reelseek reproduce`."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.device import Device, named_device
from reelseek.cli.outputs import folder_option
from reelseek.cli.show import bars, clock, print_json, print_table, say
from reelseek.cli.train import seed_numbers
from reelseek.errors import UsageError

if TYPE_CHECKING:
    from reelseek.experiments.reproduction.plan import Plan
    from reelseek.experiments.reproduction.tables import PublishedTable
    from reelseek.library import Library

__all__ = ["register"]


def reproduce(
    table: Annotated[str | None, typer.Argument(help="A published table; without it, all are listed.")] = None,
    features: Annotated[Path | None, typer.Option(help="A library with its features, captions and splits.")] = None,
    out: Annotated[Path, folder_option("models and the table; a stopped run goes on")] = Path("reproduced"),
    seeds: Annotated[
        list[str] | None, typer.Option(help="A model of each row for each; 1,2 or the option again. Default: 1.")
    ] = None,
    rows: Annotated[list[str] | None, typer.Option("--row", help="Only this row; several may be named.")] = None,
    train: Annotated[str | None, typer.Option(help="Learn from this split instead of the paper's.")] = None,
    validation: Annotated[str | None, typer.Option(help="Choose on this split instead of the paper's.")] = None,
    test: Annotated[str | None, typer.Option(help="Measure on this split instead of the paper's.")] = None,
    expert: Annotated[
        list[str] | None,
        typer.Option(
            help="An expert that stands in for a published one, as in rgb=appearance; several between commas, or the "
            "option again."
        ),
    ] = None,
    start: Annotated[str | None, typer.Option(help="A model that rows with pre-training start from.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change every recipe: section.key=value.")] = None,
    partly: Annotated[
        bool, typer.Option("--partly", help="Train the rows that lack nothing, where others do.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Say what is missing and how long it takes; no training.")
    ] = False,
    device: Device = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Train a published table on features that you have, and print it beside the paper's."""
    from reelseek.experiments.reproduction.plan import Substitutes, plan_table
    from reelseek.experiments.reproduction.tables import find_table
    from reelseek.library import Library
    from reelseek.training.data import split_names

    if table is None:
        _list_tables(json=json)
        return
    published = find_table(table)
    if features is None:
        raise UsageError(f"--features names the library that {table} is trained on; see: reelseek reproduce --help")
    numbers = seed_numbers(seeds or ["1"])
    options = Substitutes(train, validation, test, _experts(expert or [], published), tuple(set_ or ()), start)
    with Library.open(features) as library:
        plan = plan_table(published, library, options, rows or ())
        ready = [row for row in plan.rows if row.recipe is not None]
        for problem in plan.missing:
            say(f"missing: {problem}")
        if any(problem.startswith("the split") for problem in plan.missing):
            say(f"the splits of {features} are: {', '.join(split_names(library)) or 'none'}")
        if not ready or (plan.missing and not partly):
            say(f"{len(ready)} of {len(plan.rows)} rows of {table} lack nothing" + (_PARTLY if ready else ""))
            if json:
                print_json({"table": table, "missing": plan.missing, "rows_ready": [row.row.name for row in ready]})
            raise typer.Exit(1)
        _run(plan, library, out, numbers, str(named_device(device)), check=check, json=json)
    raise typer.Exit(1 if plan.missing else 0)


_PARTLY = "; --partly trains these"


def _experts(pairs: list[str], table: "PublishedTable") -> dict[str, str]:
    experts: dict[str, str] = {}
    for pair in (piece.strip() for text in pairs for piece in text.split(",")):
        name, equals, local = pair.partition("=")
        if not (name and equals and local):
            raise UsageError(f"--expert {pair!r}: wanted PUBLISHED=OURS, such as rgb=appearance")
        if name not in table.all_experts:
            raise UsageError(
                f"--expert {name}: {table.name} reads no such expert; it reads {', '.join(table.all_experts)}"
            )
        if experts.setdefault(name, local) != local:
            raise UsageError(f"--expert: {name} is said to be {experts[name]} and {local}")
    return experts


def _list_tables(*, json: bool) -> None:
    from reelseek.experiments.reproduction.tables import published_tables

    tables = published_tables()
    if json:
        print_json({name: {"title": t.title, "paper": t.paper, "place": t.place, "rows": [row.name for row in t.rows],
                           "experts": list(t.experts), "splits": t.splits} for name, t in tables.items()})  # fmt: skip
        return
    cells = [
        (name, t.title, f"{t.paper}, {t.place}", f"{len(t.trained)} of {len(t.rows)}") for name, t in tables.items()
    ]
    print_table(["table", "what", "printed in", "rows trained"], cells)
    say("the review of MMV prints no numbers; EAO's recall of steps is: reelseek localize LIBRARY --crosstask FOLDER")


def _run(
    plan: "Plan", library: "Library", out: Path, seeds: list[int], device: str, *, check: bool, json: bool
) -> None:
    """Estimate, train, report."""
    from reelseek.experiments.reproduction.report import as_json, report_table, verdict, write_reproduction
    from reelseek.experiments.reproduction.run import predict_table, train_table

    predicted = predict_table(plan, library, out, seeds, device)
    for name, seconds in predicted:
        say(f"{name}: about {clock(seconds)}")
    if predicted:
        total = sum(seconds for _, seconds in predicted)
        say(f"about {clock(total)} in all on {device}, by timed steps of each recipe")
    say(verdict(plan))
    if check:
        if json:
            print_json({"table": plan.table.name, "seconds": dict(predicted), "differences": plan.differences})
        return
    with bars() as progress:
        results = train_table(plan, library, out, seeds, device=device, progress=progress)
    shown = report_table(plan, results, seeds)
    path = out / plan.table.name / "table"
    files = write_reproduction(path, shown, plan, results)
    report = as_json(plan, results, seeds)
    path.with_suffix(".json").write_text(json_module.dumps(report, indent=1) + "\n", "utf-8")
    if json:
        print_json(report)
    else:
        print_table(shown.columns, shown.rows, shown.title)
        print(shown.note)
    say(", ".join(map(str, [*files, path.with_suffix(".json")])))


def register(app: typer.Typer) -> None:
    app.command(
        epilog="Example: reelseek reproduce umi-3 --features msrvtt.library --seeds 1,2,3, after: reelseek reproduce"
    )(reproduce)
