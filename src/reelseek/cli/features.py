"""`reelseek features import`, `list`, `remove` and `rename`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from reelseek.cli.show import bars, print_json, print_table, say
from reelseek.errors import UsageError

if TYPE_CHECKING:
    from reelseek.library.imports import ImportReport

__all__ = ["app", "say_unused"]

app = typer.Typer(help="Features that you already have.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def features() -> None:
    """Features that you already have."""


@app.command("import", epilog="Example: reelseek features import my.library s3d features/s3d --modality motion --fps 1")
def import_(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    expert: Annotated[str, typer.Argument(help="The name to give these features.")],
    paths: Annotated[
        list[str],
        typer.Argument(help=".npy files named after the videos, folders of them, .npz, HDF5; here or s3://bucket/..."),
    ],
    modality: Annotated[str, typer.Option(help="appearance, motion, object, scene, face, audio, speech or ocr.")],
    fps: Annotated[float | None, typer.Option(help="Steps a second; without it steps spread evenly.")] = None,
    model: Annotated[
        str | None, typer.Option(help="What made them, and its version: features of another model are refused.")
    ] = None,
) -> None:
    """Add an expert's tracks from arrays [step, dim] named after the videos, whose files need not be at hand."""
    from reelseek.cli.add import merge_indexes, update_indexes
    from reelseek.library import Library
    from reelseek.library.arrays import import_features

    with Library.open(library) as opened:
        with opened.writing(), bars() as progress:
            report = import_features(opened, expert, paths, modality=modality, fps=fps, model=model, progress=progress)
            index = update_indexes(opened, progress)
        merge_indexes(opened, index)
    for name, reason in report.failed:
        say(f"failed: {name}: {reason}")
    say_unused(report)
    print(f"{report.imported} tracks of {expert} imported, {len(report.failed)} failed")
    left_out = index is not None and index.left_out
    raise typer.Exit(1 if report.failed or report.ambiguous or not report.imported or left_out else 0)


@app.command("list", epilog="Example: reelseek features list my.library --json")
def list_(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    json: Annotated[bool, typer.Option("--json", help="A JSON line for the features of each expert.")] = False,
) -> None:
    """List the features that a library has, extracted or imported, and what was said of these."""
    from reelseek.library import Library
    from reelseek.library.features import list_features

    with Library.open(library) as opened:
        features = list_features(opened)
    if json:
        for row in features:
            print_json(vars(row))
        return
    cells = [
        (row.expert, row.origin, row.modality, row.dim, row.dtype, row.fps or "", row.model or "", row.tracks)
        for row in features
    ]
    print_table(["expert", "origin", "modality", "dim", "numbers", "fps", "model", "tracks"], cells)


@app.command(epilog="Example: reelseek features remove my.library s3d --dry-run")
def remove(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    expert: Annotated[
        str, typer.Argument(help="The expert whose features are erased, or the name of captions' features.")
    ],
    of: Annotated[
        Literal["videos", "captions"] | None, typer.Option(help="Whose features, where both have some of that name.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be erased, and change nothing.")] = False,
) -> None:
    """Erase the tracks and words of one expert, or the features of captions, and what was derived from them."""
    from reelseek.cli.add import update_indexes
    from reelseek.library import Library
    from reelseek.library.caption_sets import caption_feature_sets, remove_caption_features
    from reelseek.library.removal import count_removable, has_removable

    with Library.open(library) as opened:
        of_captions = expert in [features.name for features in caption_feature_sets(opened.path)]
        if of_captions and of is None and has_removable(opened, expert):
            raise UsageError(f"videos and captions both have features {expert}; add --of videos or --of captions")
        if of == "captions" and not of_captions:
            raise UsageError(f"{library} has no features {expert!r} of captions")
        if of_captions and of != "videos":
            if dry_run:
                print(f"would erase the features {expert} of captions")
                return
            with opened.writing():
                print(f"erased features {expert} of {remove_caption_features(opened.path, expert)} captions")
            return
        if dry_run:
            print(f"would erase {count_removable(opened, expert)} tracks of {expert}")
            return
        print(f"erased {opened.remove_expert(expert)} tracks of {expert}")
        index = update_indexes(opened)
    raise typer.Exit(1 if index is not None and index.left_out else 0)


@app.command(epilog="Example: reelseek features rename my.library s3d s3d-howto100m")
def rename(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    expert: Annotated[str, typer.Argument(help="The name of imported features.")],
    name: Annotated[str, typer.Argument(help="Their new name.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check that it can be done, and change nothing.")] = False,
) -> None:
    """Give imported features another name. Trained models know them by the old one."""
    from reelseek.cli.add import update_indexes
    from reelseek.library import Library
    from reelseek.library.features import rename_features

    with Library.open(library) as opened:
        tracks = rename_features(opened, expert, name, dry_run=dry_run)
        print(f"{'would rename' if dry_run else 'renamed'} {tracks} tracks of {expert} to {name}")
        index = None if dry_run else update_indexes(opened)
    raise typer.Exit(1 if index is not None and index.left_out else 0)


def say_unused(report: "ImportReport") -> None:
    """Say which arrays were left out for their names, and which were rounded."""
    for name, reason in report.ambiguous:
        say(f"ambiguous: {name}: {reason}")
    if report.unmatched:
        shown = ", ".join(report.unmatched[:5]) + (" ..." if len(report.unmatched) > 5 else "")
        say(f"{len(report.unmatched)} arrays are named after no video of the library: {shown}")
    if report.rounded:
        say(f"{report.rounded} arrays of float32 were rounded to float16, the type of the expert's first tracks")
