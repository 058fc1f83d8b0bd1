"""`reelseek evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.show import print_json, print_table, say

if TYPE_CHECKING:
    from reelseek.evaluation import Direction

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
    model: Annotated[str, typer.Argument(help="A model's folder, or concepts.")],
    library: Annotated[Path, typer.Option(help="Folder of the library.")],
    split: Annotated[str | None, typer.Option(help="Default: test if there is one, else every caption.")] = None,
    modalities: Annotated[str | None, typer.Option(help="Use only these experts, comma-separated.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object; recalls are fractions.")] = False,
) -> None:
    """Measure a model: both directions, and text to video by the modalities that the right clip had."""
    from reelseek.library import Library
    from reelseek.models import load_model
    from reelseek.training import evaluate as measure

    with Library.open(library) as opened:
        chosen = [name.strip() for name in modalities.split(",") if name.strip()] if modalities else None
        measured = measure(load_model(model), opened, split=split, experts=chosen)
    if json:
        print_json(measured.as_json())
        return
    rows = [("text to video", *metric_cells(measured.text_to_video))]
    rows.append(("video to text", *metric_cells(measured.video_to_text)))
    if len(measured.by_modalities) > 1:
        rows += [(f"  had {name}", *metric_cells(found)) for name, found in measured.by_modalities.items()]
    print_table(["", *METRICS], rows)
    say(
        f"split {measured.split} ({measured.split_hash}): {measured.queries} queries, gallery of {measured.gallery}, "
        f"{measured.without_evidence} without evidence; experts {', '.join(measured.experts)}; {measured.protocol}"
    )


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek evaluate concepts --library my.library --split test")(evaluate)
