"""`reelseek evaluate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.cluster import OnRay, Ray, on_cluster
from reelseek.cli.device import Device, named_device
from reelseek.cli.lists import names_in
from reelseek.cli.show import print_json, print_table, say
from reelseek.cli.spaces import follow_library

if TYPE_CHECKING:
    import torch

    from reelseek.evaluation import Direction
    from reelseek.library import Library
    from reelseek.training import Measured
    from reelseek.training.leak import WithoutOverlap

__all__ = ["METRICS", "metric_cells", "register"]

METRICS = ["R@1", "R@5", "R@10", "R@50", "MdR", "MnR", "queries"]


def metric_cells(direction: "Direction") -> list[str]:
    """Cells of a row under `METRICS`: recalls in per cent, ranks as they are."""
    recalls = (direction.recall_at_1, direction.recall_at_5, direction.recall_at_10, direction.recall_at_50)
    return [
        *(f"{100 * recall:.1f}" for recall in recalls),
        f"{direction.median_rank:g}",
        f"{direction.mean_rank:.1f}",
        str(direction.queries),
    ]


def evaluate(
    model: Annotated[str | None, typer.Argument(help="A model's folder, or concepts.")] = None,
    library: Annotated[Path | None, typer.Option(help="Folder of the library.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Several as one: val1+val2. Default: test, else every caption.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="How to ask; `--protocol list` names them.")] = "strict",
    modalities: Annotated[
        list[str] | None, typer.Option(help="Use only these experts or modalities; a,b or the option again.")
    ] = None,
    combinations: Annotated[
        str | None, typer.Option(help="`all`, or combinations such as object,audio/speech: one line each.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Write TREC runs: FILE, and FILE with .v2t before its ending; qrels beside.")
    ] = None,
    shared: Annotated[
        Path | None,
        typer.Option(
            "--without-overlap",
            help="Test videos that share footage with training: a list, pairs, .lst, or what `overlap export` wrote.",
        ),
    ] = None,
    device: Device = None,
    ray: Ray = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object; recalls are fractions.")] = False,
) -> None:
    """Measure a model: both directions, and text to video by the modalities that the right clip had."""
    from reelseek.errors import UsageError
    from reelseek.library import Library
    from reelseek.models.joint import load_for
    from reelseek.training import evaluate as measure
    from reelseek.training.combinations import experts_of

    if protocol == "list":
        _print_protocols()
        return
    if model is None or library is None:
        raise UsageError("wanted MODEL and --library LIBRARY; see: reelseek evaluate --help")
    if ray is not None and not combinations:
        raise UsageError("--ray spreads --combinations over nodes; name some, as in --combinations all")
    with Library.open(library) as opened, on_cluster(ray) as cluster:
        if (Path(model) / "seeds.json").is_file():
            if run or modalities or combinations or shared:
                raise UsageError(
                    f"{model} holds several seeds; --run, --modalities, --combinations and --without-overlap take one "
                    f"of them, such as {next(Path(model).glob('seed-*'), model)}"
                )
            _evaluate_seeds(Path(model), opened, split, protocol, named_device(device), json=json)
            return
        follow_library(opened)
        loaded = load_for(opened, model, named_device(device)).model
        names = names_in(modalities)
        selected = experts_of(names, loaded.experts, opened) if names else None
        measured = measure(
            loaded, opened, split=split, experts=selected, protocol=protocol, combinations=combinations or None,
            cluster=cluster,
        )  # fmt: skip
    _report(measured, _without_overlap(measured, shared) if shared else None, loaded.system, run, json=json)


def _print_protocols() -> None:
    from reelseek.evaluation import PROTOCOLS

    rows = [(name, rule.gallery or "", rule.says) for name, rule in PROTOCOLS.items()]
    print_table(["protocol", "published gallery", "how it asks"], rows)


def _report(
    measured: "Measured",
    clean: "WithoutOverlap | None",
    system: str,
    run: Path | None,
    *,
    json: bool,
) -> None:
    """Print what was measured, with its parts by combination and without overlap, and write the run."""
    from reelseek.training.measure import write_measured

    if run is not None:
        write_measured(run, measured, system)
    if json:
        report = measured.as_json()
        if clean is not None:
            report["without_overlap"] = clean.as_json()
        print_json(report)
        return
    _print_measured(measured)
    if clean is not None:
        _print_without_overlap(clean)


def _without_overlap(measured: "Measured", path: Path) -> "WithoutOverlap":
    from reelseek.overlap.clean import read_videos
    from reelseek.training.leak import without_overlap

    return without_overlap(measured, read_videos(path / "test.shared.txt" if path.is_dir() else path, "test"))


def _print_without_overlap(clean: "WithoutOverlap") -> None:
    rows = []
    for direction, metrics in clean.same_gallery.items():
        for metric, same in metrics.items():
            alone = clean.own_gallery[direction][metric]
            scale = 100.0 if metric.startswith("recall") else 1.0
            cells = [f"{scale * value:.1f}" for value in (same.whole, same.clean)]
            cells += [f"{scale * same.difference:+.1f} [{scale * same.low:+.1f}, {scale * same.high:+.1f}]"]
            cells += [f"{scale * alone.clean:.1f}"]
            cells += [f"{scale * alone.difference:+.1f} [{scale * alone.low:+.1f}, {scale * alone.high:+.1f}]"]
            rows.append((f"{direction.replace('_', ' ')} {metric.replace('_', ' ')}", *cells))
    columns = ["", "whole", "clean queries", "difference [95 %]", "clean alone", "difference [95 %]"]
    print_table(columns, rows)
    say(
        f"{clean.shared} of {clean.clips} clips share footage with training. Clean queries are asked among all clips; "
        "alone, the gallery is smaller, which helps by itself. Intervals: 1,000 bootstrap samples of videos, seed 0"
        + (f". {clean.unknown} listed videos are not in this split" if clean.unknown else "")
    )


def _evaluate_seeds(
    folder: Path, library: "Library", split: str | None, protocol: str, device: "torch.device", *, json: bool
) -> None:
    """Measure every seed of a run; mean and standard deviation (n - 1) as the papers print them."""
    from json import loads

    import numpy as np

    from reelseek.models import load_model
    from reelseek.training import evaluate as measure

    numbers = loads((folder / "seeds.json").read_text("utf-8"))
    seeds = {
        number: measure(
            load_model(folder / f"seed-{number}"), library, split=split, protocol=protocol, device=device
        ).as_json()
        for number in numbers
    }
    first = seeds[numbers[0]]
    rows, means, deviations = [], {}, {}
    for direction in ("text_to_video", "video_to_text"):
        values = {name: np.array([seeds[n][direction][name] for n in numbers], float) for name in first[direction]}
        mean = {name: float(row.mean()) for name, row in values.items()}
        deviation = {name: float(row.std(ddof=1)) if len(row) > 1 else 0.0 for name, row in values.items()}
        columns = [("recall_at_1", 100), ("recall_at_5", 100), ("recall_at_10", 100), ("recall_at_50", 100),
                   ("median_rank", 1), ("mean_rank", 1)]  # fmt: skip
        cells = [f"{scale * mean[name]:.1f} ± {scale * deviation[name]:.1f}" for name, scale in columns]
        rows.append((direction.replace("_", " "), *cells, str(first[direction]["queries"])))
        means[direction], deviations[direction] = mean, deviation
    if json:
        print_json({**first, **means, "std": deviations, "seeds": seeds})
        return
    print_table(["", *METRICS], rows)
    say(f"{len(numbers)} seeds ({', '.join(map(str, numbers))}); {first['protocol']}: {first['says']}")


def _print_measured(measured: "Measured") -> None:
    rows: list[Sequence[object]] = [("text to video", *metric_cells(measured.text_to_video))]
    rows.append(("video to text", *metric_cells(measured.video_to_text)))
    if len(measured.by_modalities) > 1:
        rows += [(f"  had {name}", *metric_cells(part)) for name, part in measured.by_modalities.items()]
    rows += [(f"given {name}", *metric_cells(part.text_to_video)) for name, part in measured.combinations.items()]
    print_table(["", *METRICS], rows)
    say(
        f"split {measured.split} ({measured.split_hash}): {measured.queries} queries, gallery of {measured.gallery}, "
        f"{measured.without_evidence} without evidence; experts {', '.join(measured.experts)}; "
        f"{measured.protocol}: {measured.says}"
    )
    if measured.published_gallery not in (None, measured.gallery):
        say(
            f"not comparable with published figures: their gallery has {measured.published_gallery} videos, "
            f"this one {measured.gallery}"
        )


def register(app: typer.Typer) -> None:
    app.command(cls=OnRay, epilog="Example: reelseek evaluate concepts --library my.library --split test")(evaluate)
