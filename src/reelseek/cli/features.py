"""`reelseek features import`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.show import bars, say

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
) -> None:
    """Add an expert's tracks from arrays [step, dim] named after the videos, whose files need not be at hand."""
    from reelseek.cli.add import update_indexes
    from reelseek.library import Library
    from reelseek.library.arrays import import_features

    with Library.open(library) as opened, opened.writing(), bars() as progress:
        report = import_features(opened, expert, paths, modality=modality, fps=fps, progress=progress)
        index = update_indexes(opened, progress)
    for name, reason in report.failed:
        say(f"failed: {name}: {reason}")
    say_unused(report)
    print(f"{report.imported} tracks of {expert} imported, {len(report.failed)} failed")
    left_out = index is not None and index.left_out
    raise typer.Exit(1 if report.failed or report.ambiguous or not report.imported or left_out else 0)


def say_unused(report: "ImportReport") -> None:
    """Say which arrays were left out for their names, and which were rounded."""
    for name, reason in report.ambiguous:
        say(f"ambiguous: {name}: {reason}")
    if report.unmatched:
        shown = ", ".join(report.unmatched[:5]) + (" ..." if len(report.unmatched) > 5 else "")
        say(f"{len(report.unmatched)} arrays are named after no video of the library: {shown}")
    if report.rounded:
        say(f"{report.rounded} arrays of float32 were rounded to float16, the type of the expert's first tracks")
