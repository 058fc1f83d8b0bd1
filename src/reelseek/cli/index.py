"""`reelseek index`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.cluster import OnRay, Ray, on_cluster
from reelseek.cli.device import Device, named_device
from reelseek.cli.show import Bar, say
from reelseek.cli.spaces import follow_library

if TYPE_CHECKING:
    from reelseek.library import Library
    from reelseek.models.model import RetrievalModel
    from reelseek.search import Index

__all__ = ["app"]

app = typer.Typer(
    name="index", help="Indexes of a library: build, check, merge them.", no_args_is_help=True, rich_markup_mode=None
)
LibraryFolder = Annotated[Path, typer.Argument(help="Folder of the library.")]
Model = Annotated[str, typer.Argument(help="A model: its folder, or a system that needs no training.")]
Make = Callable[["Library", "RetrievalModel", Bar], "Index | None"]


@app.command(cls=OnRay, epilog="Example: reelseek index build my.library models/eao")
def build(library: LibraryFolder, model: Model = "concepts", device: Device = None, ray: Ray = None) -> None:
    """Bring an index up to date: embed what is new, delete what is gone, mend damaged segments."""
    from reelseek.search import update_index

    with on_cluster(ray) as cluster:

        def make(opened: "Library", loaded: "RetrievalModel", bar: Bar) -> "Index":
            return update_index(opened, loaded, progress=bar, cluster=cluster)

        _make(library, model, device, make)


@app.command(cls=OnRay, epilog="Example: reelseek index rebuild my.library")
def rebuild(library: LibraryFolder, model: Model = "concepts", device: Device = None, ray: Ray = None) -> None:
    """Embed every clip again, and take nothing over from the index that is there."""
    from reelseek.search import build_index

    with on_cluster(ray) as cluster:

        def make(opened: "Library", loaded: "RetrievalModel", bar: Bar) -> "Index":
            return build_index(opened, loaded, progress=bar, embed_again=True, cluster=cluster)

        _make(library, model, device, make)


@app.command(epilog="Example: reelseek index merge my.library")
def merge(library: LibraryFolder, model: Model = "concepts") -> None:
    """Merge all segments into as few as there can be, of a million clips at most each."""
    from reelseek.search import merge_index

    _make(library, model, None, lambda opened, loaded, bar: merge_index(opened, loaded))


@app.command(epilog="Example: reelseek index verify my.library")
def verify(library: LibraryFolder) -> None:
    """Read every byte of every index, and name files that are damaged or missing."""
    from reelseek.library import Library
    from reelseek.search.index import describe_indexes
    from reelseek.search.index import verify as damaged_files

    with Library.open(library) as opened:
        damaged = damaged_files(opened)
        indexes = describe_indexes(opened)
    for name, problem in damaged:
        say(f"damaged: {name}: {problem}")
    if damaged:
        say(f"build what is damaged again with: reelseek index build {library} [MODEL]")
    segments = sum(index["segments"] for index in indexes)
    print(f"{len(indexes)} indexes of {segments} segments: {len(damaged)} files are damaged or missing")
    raise typer.Exit(1 if damaged else 0)


def _make(library: Path, model: str, device: str | None, make: Make) -> None:
    """Load a model, make its index and say what it is; exit with 1 where clips are missing in it."""
    from reelseek.library import Library
    from reelseek.models.joint import load_for

    with Library.open(library) as opened, Bar("embedding") as bar:
        follow_library(opened)
        index = make(opened, load_for(opened, model, named_device(device)).model, bar)
    if index is None:
        print(f"{library} has no index of this model; build it with: reelseek index build {library} {model}")
        raise typer.Exit(1)
    deleted = len(index) - index.live
    recall = "exact" if index.recall is None else f"recall at 10 {index.recall:.3f}"
    print(f"{index.system}: {index.live} clips in {len(index.segments)} segments, {deleted} deleted; {recall}")
    for video in index.left_out:
        say(f"left out: {video.video} ({video.clips} clips): {video.reason}")
    raise typer.Exit(1 if index.left_out or index.damaged else 0)
