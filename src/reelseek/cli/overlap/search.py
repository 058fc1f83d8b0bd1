"""`reelseek overlap scan` and `curve`: the most similar pairs, and how many of them have to be looked at."""

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.cluster import OnRay, Ray, on_cluster
from reelseek.cli.device import Device, named_device
from reelseek.cli.outputs import file_option, writes_file
from reelseek.cli.overlap.inputs import (
    BankFile,
    SourceFolder,
    TestSet,
    TrainSet,
    VerdictsFile,
    open_bank,
    open_source,
    read_judged,
)
from reelseek.cli.show import bars, print_json, print_table, say
from reelseek.errors import UsageError

if TYPE_CHECKING:
    from reelseek.overlap.curve import Estimate
    from reelseek.overlap.effort import Effort
    from reelseek.overlap.scan import Scan

__all__ = ["register"]

_WINDOW = typer.Option(help="Seconds that have to be alike one after the other.", min=1)


def scan(
    source: SourceFolder,
    test: TestSet,
    train: TrainSet,
    out: Annotated[
        Path, file_option("--pairs", "A JSON line for each pair, best first. Run again, it compares what is new.")
    ],
    expert: Annotated[str | None, typer.Option(help="Whose features; default: copy, else appearance.")] = None,
    window: Annotated[int, _WINDOW] = 4,
    top: Annotated[int, typer.Option(help="How many pairs.", min=1)] = 1000,
    plain: Annotated[bool, typer.Option(help="Weigh frames of a single colour down, such as black ones.")] = True,
    bank: BankFile = None,
    common: Annotated[
        int | None, typer.Option(help="Weigh frames down that more than so many other videos have.", min=1)
    ] = None,
    background: Annotated[
        str | None, typer.Option(help="Videos that share nothing with these; scores become relative to them.")
    ] = None,
    approximate: Annotated[bool, typer.Option(help="For large sets: only neighbours of window means.")] = False,
    device: Device = None,
    ray: Ray = None,
) -> None:
    """The pairs of videos that are most alike over some seconds, each with the place in both."""
    from reelseek.overlap.scan import ScanOptions, read_scan, save_scan
    from reelseek.overlap.scan import scan as search

    settings = ScanOptions(test, train, window, top, plain, common, background, approximate)
    if out.is_dir():
        raise UsageError(f"{out} is a folder; --pairs takes a file, such as {out / 'pairs.jsonl'}")
    parts = [part for part in (test, train, background) if part is not None]
    with ExitStack() as stack:
        cluster = stack.enter_context(on_cluster(ray))
        place = named_device(device if cluster is None else "cpu")  # nodes compare on their processors
        extracts_on = str(place) if cluster is None else device
        progress = stack.enter_context(bars())
        opened = stack.enter_context(open_source(source, expert, out, progress, parts, extracts_on, cluster))
        previous = read_scan(out)
        result = search(
            opened, settings, bank=open_bank(bank, source, out), previous=previous, device=place, cluster=cluster,
            progress=progress,
        )  # fmt: skip
        save_scan(out, result)
    _print_scan(result, out, resumed=previous is not None)
    raise typer.Exit(1 if any(notice.lost for notice in opened.notices) else 0)


def _print_scan(scan: "Scan", out: Path, *, resumed: bool) -> None:
    without_frames = list(dict.fromkeys((*scan.test_without, *scan.train_without)))
    if without_frames:
        say(f"{len(without_frames)} videos have no frames and are not compared: {', '.join(without_frames[:5])}")
    has_sound = any(pair.sound is not None for pair in scan.pairs)
    rows = []
    for pair in scan.pairs[:10]:
        sound = [] if not has_sound else ["" if pair.sound is None else f"{pair.sound:.2f}"]
        places = f"{pair.test_start:g}", f"{pair.train_start:g}"
        rows.append((pair.test, pair.train, f"{pair.score:.3f}", *places, *sound))
    print_table(["test", "train", "score", "at (s)", "at (s)", *(["sound"] if has_sound else [])], rows)
    compared = f" ({scan.compared} pairs compared that were not before)" if resumed else ""
    say(
        f"{len(scan.pairs)} pairs of {len(scan.test)} x {len(scan.train)} videos{compared}, window of "
        f"{scan.options.window} s, features {scan.space}: {out}"
    )
    if scan.missed is not None:
        say(f"approximate: of the best pairs of a sample of videos it missed {100 * scan.missed:.1f} %")


def curve(
    source: SourceFolder,
    test: TestSet,
    train: TrainSet,
    out: Annotated[Path, file_option("--curve", "The numbers, JSON; the drawing is beside it as .png and .svg.")],
    expert: Annotated[list[str] | None, typer.Option(help="Give it several times to compare experts.")] = None,
    window: Annotated[int | None, _WINDOW] = None,
    queries: Annotated[int, typer.Option(help="At most so many test videos are augmented.", min=1)] = 500,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    pairs: Annotated[Path | None, typer.Option(help="Pairs that were judged: estimates how many are left.")] = None,
    verdicts: VerdictsFile = None,
    bank: BankFile = None,
    augmented: Annotated[
        Path | None, typer.Option(help="For .npy: folder with features of augmented test videos, by the same names.")
    ] = None,
    device: Device = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """How many pairs have to be looked at to find a share of the duplicates, F(x); and after a review, what is left."""
    from reelseek.overlap.effort import measure_effort
    from reelseek.overlap.scan import ScanOptions

    place = named_device(device)
    searched, judged = read_judged(pairs, verdicts) if pairs else (None, None)
    settings = ScanOptions(test, train)
    if searched is not None:  # the same window and weights, or its pairs would not stand where the curve counts
        settings = replace(searched.options, test=test, train=train)
    settings = replace(settings, window=window or settings.window)
    efforts: dict[str, Effort] = {}
    with bars() as progress, ExitStack() as stack:
        changed = stack.enter_context(open_source(augmented, None, out, device=str(place))) if augmented else None
        for name in expert or [""]:
            beside = out.with_name(f"{out.name}.{name.partition('@')[0]}") if name else out
            opened = stack.enter_context(open_source(source, name or None, beside, progress, (test, train), str(place)))
            efforts[name or opened.space.partition(":")[0]] = measure_effort(
                opened, settings, bank=open_bank(bank, source, pairs or out),
                queries=queries, seed=seed, judged=judged, augmented_in=changed, device=place, progress=progress,
            )  # fmt: skip
    _write_curves(out, efforts)
    if json_:
        print_json({name: effort.as_json() for name, effort in efforts.items()})
    else:
        _print_efforts(efforts)


def _write_curves(out: Path, efforts: "dict[str, Effort]") -> None:
    """Write the numbers as JSON, and the drawing beside them."""
    from reelseek.evaluation.figures import curves
    from reelseek.evaluation.report import ending

    numbers = {name: effort.as_json() for name, effort in efforts.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    ending(out, ".json").write_text(json.dumps(numbers, indent=1) + "\n", "utf-8")
    lines = {
        name: ([float(share) for share in effort.curve.recall], [float(count) + 1 for count in effort.curve.negatives])
        for name, effort in efforts.items()
    }
    curves(out, {"negative pairs above, plus one": lines}, "share of duplicates found", log=True)


def _print_efforts(efforts: "dict[str, Effort]") -> None:
    shares = (0.5, 0.8, 0.9, 0.95, 1.0)
    rows = [
        (name, *(effort.curve.at(share) for share in shares), effort.curve.pairs) for name, effort in efforts.items()
    ]
    print_table(["expert", "F(.5)", "F(.8)", "F(.9)", "F(.95)", "F(1)", "negatives"], rows)
    for name, effort in efforts.items():
        if effort.estimate is not None:
            say(f"{name}: {_estimate_text(effort.estimate)}")


def _estimate_text(estimate: "Estimate") -> str:
    """How many duplicates remain, as a sentence."""
    judged = f"{estimate.duplicates} duplicates in {estimate.reviewed} pairs seen"
    if estimate.recall is None or estimate.total is None or estimate.linear is None:
        return f"{judged}; how many there are cannot be told from that"
    return (
        f"{judged}, {100 * estimate.recall:.0f} % of the {estimate.total:.0f} that there may be; {estimate.more:.0f} "
        f"more pairs until 95 % are found. Linear extrapolation, as in the paper's table 12: {estimate.linear:.0f} "
        "pairs for all of them"
    )


def register(app: typer.Typer) -> None:
    app.command(
        cls=writes_file("--pairs", OnRay),
        epilog="Example: reelseek overlap scan my.library --test test --train train --pairs pairs.jsonl",
    )(scan)
    app.command(
        cls=writes_file("--curve"),
        epilog="Example: reelseek overlap curve my.library --test test --train train --pairs pairs.jsonl "
        "--curve curve.json",
    )(curve)
