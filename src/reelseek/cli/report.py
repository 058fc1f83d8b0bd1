"""`reelseek report`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from reelseek.cli.lists import names_in
from reelseek.cli.outputs import file_option, folder_option, writes_file
from reelseek.cli.show import bars, print_table, say
from reelseek.cli.spaces import follow_library

__all__ = ["app"]

app = typer.Typer(help="Tables, pages and figures to look at.", no_args_is_help=True, rich_markup_mode=None)

Models = Annotated[list[str], typer.Argument(help="Folders of models, or of several seeds of one.")]
Model = Annotated[str, typer.Argument(help="A model's folder, or concepts.")]
LibraryFolder = Annotated[Path, typer.Option("--library", help="Folder of the library.")]
_TABLE_AND_FIGURE = "NAME.md, NAME.tex and NAME.html, with the figure in NAME.png and NAME.svg."
_FIGURE = "The figure; it is written as .png and as .svg."
SplitName = Annotated[str | None, typer.Option("--split", help="Default: test if there is one, else every caption.")]


@app.command(
    cls=writes_file("--report"),
    epilog="Example: reelseek report table mmt.model eao.model --library my.library --report systems",
)
def table(
    models: Models,
    library: LibraryFolder,
    out: Annotated[Path, file_option("--report", "NAME.md, NAME.tex and NAME.html; runs: NAME-runs/.", metavar="NAME")],
    split: SplitName = None,
    protocol: Annotated[str, typer.Option(help="See `evaluate --protocol list`.")] = "strict",
) -> None:
    """Systems side by side, both directions, with parameters, steps and seeds."""
    from reelseek.evaluation.report import write_tables
    from reelseek.library import Library
    from reelseek.training.reports import comparison_table, read_rows

    with Library.open(library) as opened:
        runs = out.with_name(f"{out.name}-runs")
        comparison = comparison_table(read_rows(models), opened, runs, split=split, protocol=protocol)
    print_table(comparison.columns[:-1], [row[:-1] for row in comparison.rows], comparison.title)
    say(comparison.note)
    _print_paths(write_tables(out, comparison.title, [comparison]))


@app.command(
    cls=writes_file("--report"),
    epilog="Example: reelseek report combinations mmt.model umi.model --library my.library --report combinations",
)
def combinations(
    models: Models,
    library: LibraryFolder,
    out: Annotated[Path, file_option("--report", _TABLE_AND_FIGURE, metavar="NAME")],
    names: Annotated[str, typer.Option("--given", help="`all`, or combinations such as object,audio/speech.")] = "all",
    metric: Annotated[
        Literal["mean_rank", "median_rank", "recall_at_1", "recall_at_5", "recall_at_10"],
        typer.Option(help="Text to video."),
    ] = "mean_rank",
    split: SplitName = None,
) -> None:
    """A heat map: rows combinations of modalities, columns systems."""
    from reelseek.evaluation.report import write_tables
    from reelseek.library import Library
    from reelseek.training.combinations import combinations_of
    from reelseek.training.reports import combination_map, read_rows

    rows = read_rows(models)
    with Library.open(library) as opened, bars() as progress:
        experts = list(dict.fromkeys(name for row in rows for name in row.models[0].experts))
        sets = combinations_of(names, experts, opened)
        comparison, figure = combination_map(rows, opened, sets, out, split=split, metric=metric, progress=progress)
    print_table(comparison.columns, comparison.rows, comparison.title)
    _print_paths(
        [figure.png, figure.png.with_suffix(".svg"), *write_tables(out, comparison.title, [comparison], [figure])]
    )


@app.command(
    cls=writes_file("--page"),
    epilog="Example: reelseek report examples mmt.model --library my.library --page examples.html",
)
def examples(
    model: Model,
    library: LibraryFolder,
    out: Annotated[Path, file_option("--page", "The page to write, HTML.")],
    count: Annotated[int, typer.Option(help="Queries of each kind: found first, among five, missed.", min=1)] = 8,
    split: SplitName = None,
) -> None:
    """A page of queries with the five best clips of each, the right one outlined."""
    from reelseek.evaluation.report import html_report
    from reelseek.library import Library
    from reelseek.models.joint import load_for
    from reelseek.training.reports import examples as select_examples

    with Library.open(library) as opened:
        follow_library(opened)
        loaded = load_for(opened, model).model
        measured, parts = select_examples(loaded, opened, split=split, count=count)
    title = f"{loaded.system}: what it finds in {measured.split} ({measured.split_hash})"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(html_report(title, parts), "utf-8")
    _print_paths([out])


@app.command(
    "map",
    cls=writes_file("--figure"),
    epilog="Example: reelseek report map mmt.model --library my.library --figure map.png",
)
def map_(
    model: Model,
    library: LibraryFolder,
    out: Annotated[Path, file_option("--figure", _FIGURE)],
    of: Annotated[Literal["video", "text"], typer.Option(help="Embeddings of clips, or of their captions.")] = "video",
    most: Annotated[int, typer.Option(help="Draw so many clips.", min=3)] = 400,
    split: SplitName = None,
) -> None:
    """t-SNE map of embeddings with thumbnails."""
    from reelseek.library import Library
    from reelseek.models.joint import load_for
    from reelseek.training.reports import embedding_map

    with Library.open(library) as opened:
        follow_library(opened)
        figure = embedding_map(load_for(opened, model).model, opened, out, split=split, most=most, of=of)
    _print_paths([figure.png, figure.png.with_suffix(".svg")])


@app.command(
    cls=writes_file("--report"),
    epilog="Example: reelseek report influence --library my.library --expert object --report influence",
)
def influence(
    library: LibraryFolder,
    expert: Annotated[str, typer.Option(help="Whose features are compared.")],
    out: Annotated[Path, file_option("--report", _TABLE_AND_FIGURE, metavar="NAME")],
    threshold: Annotated[float, typer.Option(help="Cosine above which two clips are joined.")] = 0.8,
    most: Annotated[int, typer.Option(help="Draw so many clips.", min=3)] = 400,
    split: SplitName = None,
) -> None:
    """CrossCLR's graph of influential samples: clips that are like many others."""
    from reelseek.evaluation.report import write_tables
    from reelseek.library import Library
    from reelseek.training.reports import influence_graph

    with Library.open(library) as opened:
        figure, ranking = influence_graph(opened, out, expert=expert, split=split, threshold=threshold, most=most)
    print_table(ranking.columns, ranking.rows, ranking.title)
    _print_paths([figure.png, figure.png.with_suffix(".svg"), *write_tables(out, figure.title, [ranking], [figure])])


@app.command(
    cls=writes_file("--figure"), epilog="Example: reelseek report curves mmt.model eao.model --figure curves.png"
)
def curves(
    models: Annotated[list[Path], typer.Argument(help="Folders of trained models.")],
    out: Annotated[Path, file_option("--figure", _FIGURE)],
) -> None:
    """Loss, recall and mean rank over the epochs, and recall on splits that training watched (train --watch)."""
    from reelseek.training.reports import training_curves

    figure = training_curves(models, out)
    _print_paths([figure.png, figure.png.with_suffix(".svg")])


@app.command(
    epilog="Example: reelseek report saturation mmt msrvtt/train lsmdc/train --examples 500,1000,2000 "
    "--library my.library --out sizes"
)
def saturation(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe; it is trained once for each number of examples.")],
    splits: Annotated[list[str], typer.Argument(help="Splits to learn from, each by itself.")],
    examples: Annotated[
        list[str], typer.Option(help="Rising numbers of examples an epoch; 500,1000 or the option again.")
    ],
    library: LibraryFolder,
    out: Annotated[Path, folder_option("the trained models")],
    report: Annotated[
        Path | None, file_option("--report", f"{_TABLE_AND_FIGURE} Default: named as the folder.", metavar="NAME")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change the recipe: section.key=value.")] = None,
) -> None:
    """How many examples each dataset is good for (MDMMT's information size), by training with more and more of them."""
    from reelseek.errors import UsageError
    from reelseek.evaluation.report import write_tables
    from reelseek.library import Library
    from reelseek.training import read_recipe
    from reelseek.training.saturation import saturation as saturate
    from reelseek.training.saturation import saturation_report

    numbers = names_in(examples) or []
    if not all(part.isdigit() for part in numbers):
        message = f"--examples {','.join(numbers)!r}: it takes numbers separated by commas, such as 500,1000,2000"
        raise UsageError(message)
    counts = [int(part) for part in numbers]
    settings = read_recipe(recipe, set_ or ())
    with Library.open(library) as opened, bars() as progress:
        by_split = [saturate(settings, opened, split, counts, out, progress=progress) for split in splits]
    stem = report or out
    summary, figure = saturation_report(by_split, stem)
    print_table(summary.columns, summary.rows, summary.title)
    say(summary.note)
    _print_paths([figure.png, figure.png.with_suffix(".svg"), *write_tables(stem, summary.title, [summary], [figure])])


def _print_paths(files: list[Path]) -> None:
    for file in files:
        print(file)
