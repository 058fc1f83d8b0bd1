"""`reelseek export` and `reelseek import`."""

from pathlib import Path
from typing import Annotated

import typer

from reelseek.cli.show import bars, print_table, say

__all__ = ["register"]


def export(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    folder: Annotated[Path, typer.Argument(help="A new folder for the tables.")],
    to: Annotated[
        str,
        typer.Option(
            help="parquet or lance: the whole library. datasets (Hugging Face), fiftyone, label-studio: captions and "
            "splits. webdataset: shards of files, captions and tracks."
        ),
    ] = "parquet",
    embeddings: Annotated[
        str | None, typer.Option(help="Also the embeddings that the index of this model has, such as concepts.")
    ] = None,
) -> None:
    """Write a library as tables for a lake, of which `import` makes a library again, or in the form of another tool."""
    from reelseek.errors import UsageError, suggest
    from reelseek.library import Library
    from reelseek.library.export import ANNOTATIONS, FORMATS, export_annotations, export_library

    if to not in FORMATS and to not in ANNOTATIONS:
        raise UsageError(
            f"--to is {to!r}{suggest(to, [*FORMATS, *ANNOTATIONS])}; wanted {', '.join([*FORMATS, *ANNOTATIONS])}"
        )
    if embeddings is not None and to not in FORMATS:
        raise UsageError(f"--embeddings has no effect with --to {to}; wanted --to {' or '.join(FORMATS)}")
    with Library.open(library) as opened, bars() as progress:
        more = None
        if to in ANNOTATIONS:
            report = export_annotations(opened, folder, to=to, progress=progress)
        else:
            if embeddings is not None:
                from reelseek.search.export import EmbeddingsWriter

                more = EmbeddingsWriter(opened, embeddings)
            report = export_library(opened, folder, to=to, more=more, progress=progress)
    print_table(["table", "rows"], list(report.rows.items()))
    missing = [*report.damaged, *(more.missing if more is not None else ())]
    for name, reason in missing:
        say(f"left out: {name}: {reason}")
    raise typer.Exit(1 if missing else 0)


def import_(
    library: Annotated[Path, typer.Argument(help="Folder of the new library.")],
    folder: Annotated[Path, typer.Argument(help="A folder that `reelseek export` wrote.")],
) -> None:
    """Make a library of tables that `export` wrote."""
    from reelseek.library.export import import_library

    with bars() as progress:
        rows = import_library(library, folder, progress=progress)
    print_table(["table", "rows"], list(rows.items()))


def register(app: typer.Typer) -> None:
    app.command("export", epilog="Example: reelseek export my.library lake/films --to parquet")(export)
    app.command("import", epilog="Example: reelseek import my.library lake/films")(import_)
