"""`reelseek evaluate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.device import Device, named_device
from reelseek.cli.show import print_json, print_table, say

if TYPE_CHECKING:
    import torch

    from reelseek.evaluation import Direction
    from reelseek.library import Library
    from reelseek.training import Measured
    from reelseek.training.leak import WithoutOverlap

__all__ = ["METRICS", "metric_cells", "register"]

METRICS = ["R@1", "R@5", "R@10", "R@50", "MdR", "MnR", "queries"]


def metric_cells(found: "Direction") -> list[str]:
    """Recalls in per cent, ranks as they are."""
    recalls = (found.recall_at_1, found.recall_at_5, found.recall_at_10, found.recall_at_50)
    return [
        *(f"{100 * r:.1f}" for r in recalls),
        f"{found.median_rank:g}",
        f"{found.mean_rank:.1f}",
        str(found.queries),
    ]


def evaluate(
    model: Annotated[str | None, typer.Argument(help="A model's folder, or concepts.")] = None,
    library: Annotated[Path | None, typer.Option(help="Folder of the library.")] = None,
    split: Annotated[str | None, typer.Option(help="Default: test if there is one, else every caption.")] = None,
    protocol: Annotated[str, typer.Option(help="How to ask; `--protocol list` names them.")] = "strict",
    modalities: Annotated[
        str | None, typer.Option(help="Use only these experts or modalities, comma-separated.")
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
    json: Annotated[bool, typer.Option("--json", help="One JSON object; recalls are fractions.")] = False,
) -> None:
    """Measure a model: both directions, and text to video by the modalities that the right clip had."""
    from reelseek.errors import UsageError
    from reelseek.evaluation import PROTOCOLS
    from reelseek.library import Library
    from reelseek.models import load_model
    from reelseek.training import evaluate as measure
    from reelseek.training.combinations import experts_of
    from reelseek.training.measure import write_measured

    if protocol == "list":
        rows = [(name, rule.gallery or "", rule.says) for name, rule in PROTOCOLS.items()]
        print_table(["protocol", "published gallery", "how it asks"], rows)
        return
    if model is None or library is None:
        raise UsageError("wanted MODEL and --library LIBRARY; see: reelseek evaluate --help")
    with Library.open(library) as opened:
        if (Path(model) / "seeds.json").is_file():
            if run or modalities or combinations or shared:
                raise UsageError(
                    f"{model} holds several seeds; --run, --modalities, --combinations and --without-overlap take one "
                    f"of them, such as {next(Path(model).glob('seed-*'), model)}"
                )
            _seeds(Path(model), opened, split, protocol, named_device(device), json=json)
            return
        loaded = load_model(model).to(named_device(device))
        experts = experts_of(modalities.split(","), loaded.experts, opened) if modalities else None
        measured = measure(
            loaded, opened, split=split, experts=experts, protocol=protocol, combinations=combinations or None
        )
    apart = _without_overlap(measured, shared) if shared else None
    if run is not None:
        write_measured(run, measured, loaded.system)
    if json:
        told = measured.as_json()
        if apart is not None:
            told["without_overlap"] = apart.as_json()
        print_json(told)
        return
    _show(measured)
    if apart is not None:
        _show_apart(apart)


def _without_overlap(measured: "Measured", path: Path) -> "WithoutOverlap":
    from reelseek.overlap.clean import read_videos
    from reelseek.training.leak import without_overlap

    return without_overlap(measured, read_videos(path / "test.shared.txt" if path.is_dir() else path, "test"))


def _show_apart(apart: "WithoutOverlap") -> None:
    rows = []
    for direction, metrics_ in apart.same_gallery.items():
        for metric, same in metrics_.items():
            own = apart.own_gallery[direction][metric]
            scale, form = (100.0, ".1f") if metric.startswith("recall") else (1.0, ".1f")
            cells = [f"{scale * v:{form}}" for v in (same.whole, same.clean)]
            cells += [f"{scale * same.difference:+{form}} [{scale * same.low:+{form}}, {scale * same.high:+{form}}]"]
            cells += [f"{scale * own.clean:{form}}"]
            cells += [f"{scale * own.difference:+{form}} [{scale * own.low:+{form}}, {scale * own.high:+{form}}]"]
            rows.append((f"{direction.replace('_', ' ')} {metric.replace('_', ' ')}", *cells))
    columns = ["", "whole", "clean queries", "difference [95 %]", "clean alone", "difference [95 %]"]
    print_table(columns, rows)
    say(
        f"{apart.shared} of {apart.clips} clips share footage with training. Clean queries are asked among all clips; "
        "alone, the gallery is smaller, which helps by itself. Intervals: 1,000 bootstrap samples of videos, seed 0"
        + (f". {apart.unknown} listed videos are not in this split" if apart.unknown else "")
    )


def _seeds(
    folder: Path, library: "Library", split: str | None, protocol: str, device: "torch.device", *, json: bool
) -> None:
    """Every seed of a run, with mean and standard deviation (n - 1) as the papers print them."""
    from json import loads

    import numpy as np

    from reelseek.models import load_model
    from reelseek.training import evaluate as measure

    numbers = loads((folder / "seeds.json").read_text("utf-8"))
    found = {
        n: measure(load_model(folder / f"seed-{n}"), library, split=split, protocol=protocol, device=device)
        for n in numbers
    }
    told = {n: each.as_json() for n, each in found.items()}
    first = told[numbers[0]]
    rows, summary, spread = [], {}, {}
    for direction in ("text_to_video", "video_to_text"):
        values = {name: np.array([told[n][direction][name] for n in numbers], float) for name in first[direction]}
        summary[direction] = {name: float(each.mean()) for name, each in values.items()}
        spread[direction] = {name: float(each.std(ddof=1)) if len(each) > 1 else 0.0 for name, each in values.items()}
        shown = [("recall_at_1", 100), ("recall_at_5", 100), ("recall_at_10", 100), ("recall_at_50", 100),
                 ("median_rank", 1), ("mean_rank", 1)]  # fmt: skip
        cells = [f"{scale * summary[direction][n]:.1f} ± {scale * spread[direction][n]:.1f}" for n, scale in shown]
        rows.append((direction.replace("_", " "), *cells, str(first[direction]["queries"])))
    if json:
        print_json({**first, **summary, "std": spread, "seeds": told})
        return
    print_table(["", *METRICS], rows)
    say(f"{len(numbers)} seeds ({', '.join(map(str, numbers))}); {first['protocol']}: {first['says']}")


def _show(measured: "Measured") -> None:
    rows: list[Sequence[object]] = [("text to video", *metric_cells(measured.text_to_video))]
    rows.append(("video to text", *metric_cells(measured.video_to_text)))
    if len(measured.by_modalities) > 1:
        rows += [(f"  had {name}", *metric_cells(found)) for name, found in measured.by_modalities.items()]
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
    app.command(epilog="Example: reelseek evaluate concepts --library my.library --split test")(evaluate)
