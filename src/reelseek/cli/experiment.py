"""`reelseek experiment`."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from reelseek.cli.show import bars, print_json, print_table, say
from reelseek.cli.train import seed_numbers

__all__ = ["register"]


def experiment(
    name: Annotated[str, typer.Argument(help="`list` names them; `claims` tells every verdict in OUT.")],
    seeds: Annotated[str, typer.Option(help="Worlds and weights are drawn anew for each.")] = "1,2,3,4,5",
    features: Annotated[Path | None, typer.Option(help="A library of real features instead of the worlds.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for models, runs and reports; a stopped run goes on.")] = Path(
        "experiments"
    ),
    tables: Annotated[str | None, typer.Option(help="Only these tables, comma-separated.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Four times as many videos and as wide models.")] = False,
    workers: Annotated[int, typer.Option(help="Processes, each of one thread.", min=1)] = 2,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Try the claims of a paper again: its tables, each claim with a verdict and its interval."""
    from reelseek.errors import UsageError
    from reelseek.experiments import EXPERIMENTS
    from reelseek.experiments.experiment import enlarged, narrowed
    from reelseek.experiments.report import as_json, claims, report_tables, write_report
    from reelseek.experiments.run import run_experiment, source_of
    from reelseek.studio.worlds import generator_hash

    if name == "list":
        rows = [(each.name, table.name, table.title) for each in EXPERIMENTS.values() for table in each.tables]
        print_table(["experiment", "table", "what"], rows)
        return
    if name == "claims":
        print(claims(out))
        return
    if name not in EXPERIMENTS:
        raise UsageError(f"no experiment is called {name!r}; there are {', '.join(EXPERIMENTS)}")
    parts = [part.strip() for part in tables.split(",")] if tables else None
    chosen = narrowed(EXPERIMENTS[name], parts)
    if features is not None:
        left_out = [table.name for table in chosen.tables if table.world_only]
        chosen = narrowed(chosen, [table.name for table in chosen.tables if not table.world_only])
        if left_out:
            say(f"left out, for they need what only a world has: {', '.join(left_out)}")
        if not chosen.tables:
            raise UsageError(f"no table of {name} can be tried on real features")
    if full:
        chosen = enlarged(chosen)
    numbers = seed_numbers(seeds)
    with bars() as progress:
        results = run_experiment(chosen, out, numbers, features=features, workers=workers, progress=progress)
    on = f"Features of {features}" if features else f"Studio worlds (generator {generator_hash()})"
    source = source_of(features)
    reports = report_tables(chosen, results, out, source, f"{on}, seeds {', '.join(map(str, numbers))}")
    # A report of some tables never overwrites that of the whole experiment.
    stem = out / "-".join([name, *(parts or ()), *(["full"] if full else []), *([source] if features else [])])
    files = write_report(chosen, reports, results, stem)
    options = [
        f"--tables {tables}" if tables else "",
        f"--features {features}" if features else "",
        "--full" if full else "",
    ]
    command = " ".join(["reelseek experiment", name, f"--seeds {seeds}", *filter(None, options)])
    plain = as_json(chosen, reports, results, numbers, command)
    stem.with_name(f"{stem.name}.json").write_text(json_module.dumps(plain, indent=1) + "\n", "utf-8")
    if json:
        print_json(plain)
    else:
        for report in reports:
            shown = report.shown
            print_table(shown.columns[:-1], [row[:-1] for row in shown.rows], shown.title)
            for each in report.judged:
                print(f"{each.verdict.upper()}: {each.claim.says} ({each.claim.source})")
                for first, second, mean, low, high in each.rows:
                    print(f"    {first} against {second}: {mean:+.3g} in its favour [{low:+.3g}, {high:+.3g}]")
            print()
        say(f"{on}. " + ", ".join(str(path) for path in files))


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek experiment umi --tables systems --seeds 1,2,3,4,5")(experiment)
