"""`reelseek experiment`."""

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.cluster import OnRay, Ray, on_cluster
from reelseek.cli.device import Device, named_device
from reelseek.cli.lists import names_in
from reelseek.cli.outputs import folder_option
from reelseek.cli.show import bars, print_json, print_table, say
from reelseek.cli.train import seed_numbers
from reelseek.errors import UsageError, suggest

if TYPE_CHECKING:
    from reelseek.experiments.claims import TrialOptions
    from reelseek.experiments.experiment import Experiment
    from reelseek.experiments.report import TableReport

__all__ = ["register"]


def experiment(
    name: Annotated[str, typer.Argument(help="`list` names them; `claims` tries every claim of the papers.")],
    seeds: Annotated[
        list[str] | None,
        typer.Option(
            help="Worlds and weights are drawn anew for each; 1,2 or the option again (default: 1,2,3,4,5; for "
            "claims as many as each needs)."
        ),
    ] = None,
    features: Annotated[Path | None, typer.Option(help="A library of real features instead of the worlds.")] = None,
    out: Annotated[Path, folder_option("models, runs and reports; a stopped run goes on")] = Path("experiments"),
    tables: Annotated[
        list[str] | None,
        typer.Option(help="Only these tables; a,b or the option again; of claims named PAPER/TABLE."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Four times as many videos and as wide models.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes of one thread each (default: 2); with --ray of all nodes (default: all they lend).",
            min=1,
        ),
    ] = None,
    device: Device = None,
    ray: Ray = None,
    page: Annotated[
        Path | None, typer.Option(help="For claims: the page to write (default: OUT/claims.md); records lie beside it.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="For claims: one table (mmv/graphs, unless --tables names another), eight seeds at most."
        ),
    ] = False,
    hours: Annotated[
        float,
        typer.Option(
            help="For claims: begin no table later, nor go on after its pilot if that would end later.", min=0.0
        ),
    ] = 6.0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Try the claims of a paper again: its tables, each claim with a verdict and its interval."""
    if name == "list":
        _print_experiments()
        return
    parts = names_in(tables)
    if name == "claims":
        if features is not None or full:
            raise UsageError("claims are tried in the worlds of their tables; leave out --features and --full")
        from reelseek.experiments.claims import TrialOptions

        options = TrialOptions(parts, seed_numbers(seeds) if seeds else None, quick, hours)
        _try_claims(options, out, page, workers=workers, device=device, ray=ray, json=json)
        return
    numbers = seed_numbers(seeds or ["1,2,3,4,5"])
    _run(name, numbers, out, parts, features, full=full, workers=workers, device=device, ray=ray, json=json)


def _run(
    name: str,
    numbers: list[int],
    out: Path,
    parts: list[str] | None,
    features: Path | None,
    *,
    full: bool,
    workers: int | None,
    device: str | None,
    ray: str | None,
    json: bool,
) -> None:
    """Run the tables of one experiment."""
    from reelseek.experiments.report import as_json, generator_of, report_tables, write_report
    from reelseek.experiments.run import run_experiment, source_of

    selected = _select(name, parts, on_features=features is not None, full=full)
    if len(numbers) < 3:
        say(f"{len(numbers)} seeds decide no claim; the tables are filled all the same (three or more decide)")
    with on_cluster(ray) as cluster, bars() as progress:
        place = device if cluster is not None else str(named_device(device))
        results = run_experiment(
            selected, out, numbers, features=features, workers=workers, device=place, cluster=cluster, progress=progress
        )
    origin = f"Features of {features}" if features else f"Studio worlds (generator {generator_of(selected)})"
    source = source_of(features)
    reports = report_tables(selected, results, out, source, f"{origin}, seeds {', '.join(map(str, numbers))}")
    # Parts of an experiment never overwrite the report of the whole.
    stem = out / "-".join([name, *(parts or ()), *(["full"] if full else []), *([source] if features else [])])
    files = write_report(selected, reports, results, stem)
    options = [
        f"--tables {','.join(parts)}" if parts else "",
        f"--features {features}" if features else "",
        "--full" if full else "",
    ]
    command = " ".join(["reelseek experiment", name, f"--seeds {','.join(map(str, numbers))}", *filter(None, options)])
    report = as_json(selected, reports, results, numbers, command)
    stem.with_name(f"{stem.name}.json").write_text(json_module.dumps(report, indent=1) + "\n", "utf-8")
    if json:
        print_json(report)
    else:
        _print_tables(reports)
        say(f"{origin}. " + ", ".join(str(path) for path in files))


def _try_claims(
    options: "TrialOptions",
    out: Path,
    page: Path | None,
    *,
    workers: int | None,
    device: str | None,
    ray: str | None,
    json: bool,
) -> None:
    """Try the claims of the selected tables, and write the page of all claims."""
    from reelseek.experiments.claims import try_claims

    page = page or out / "claims.md"
    with on_cluster(ray) as cluster, bars() as progress:
        place = device if cluster is not None else str(named_device(device))
        outcome = try_claims(
            options, out, page, workers=workers, device=place, cluster=cluster, progress=progress, say=say
        )
    if json:
        print_json(outcome.as_json())
    else:
        print_table(["claim", "table", "verdict"], outcome.rows)
        say(f"{outcome.counts}. {page}")
    if outcome.left_out:
        say(f"left out, for they would end after the {options.hours:g} hours: {', '.join(outcome.left_out)}; run again")
        raise typer.Exit(1)


def _print_experiments() -> None:
    from reelseek.experiments import EXPERIMENTS

    rows = [(name, table.name, table.title) for name, entry in EXPERIMENTS.items() for table in entry.tables]
    print_table(["experiment", "table", "what"], rows)


def _select(name: str, tables: list[str] | None, *, on_features: bool, full: bool) -> "Experiment":
    """The experiment with the tables that were named and can be tried, at its full size or a quarter of it."""
    from reelseek.experiments import EXPERIMENTS
    from reelseek.experiments.experiment import enlarged, narrowed

    if name not in EXPERIMENTS:
        raise UsageError(
            f"no experiment is called {name!r}{suggest(name, EXPERIMENTS)}; there are {', '.join(EXPERIMENTS)}"
        )
    selected = narrowed(EXPERIMENTS[name], tables)
    if on_features:
        excluded = [table.name for table in selected.tables if table.world_only]
        selected = narrowed(selected, [table.name for table in selected.tables if not table.world_only])
        if excluded:
            say(f"left out, for they need what only a world has: {', '.join(excluded)}")
        if not selected.tables:
            raise UsageError(f"no table of {name} can be tried on real features")
    return enlarged(selected) if full else selected


def _print_tables(reports: "Sequence[TableReport]") -> None:
    """Print each table, and under it the verdict on each claim."""
    for report in reports:
        table = report.shown
        print_table(table.columns[:-1], [row[:-1] for row in table.rows], table.title)
        for claim in report.judged:
            print(f"{claim.verdict.upper()}: {claim.claim.says} ({claim.claim.source}) {claim.reason}".rstrip())
            for first, second, mean, low, high in claim.rows:
                print(f"    {first} against {second}: {mean:+.3g} in its favour [{low:+.3g}, {high:+.3g}]")
        print()


def register(app: typer.Typer) -> None:
    app.command(cls=OnRay, epilog="Example: reelseek experiment claims --quick")(experiment)
