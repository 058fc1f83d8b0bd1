"""`reelseek remove`."""

from pathlib import Path
from typing import Annotated

import typer

from reelseek.cli.add import update_indexes
from reelseek.cli.show import counted
from reelseek.errors import UsageError

__all__ = ["register"]


def remove(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    videos: Annotated[list[str] | None, typer.Argument(help="Ids or paths of videos to forget.")] = None,
    expert: Annotated[str | None, typer.Option(help="Erase every track of one expert, such as face.")] = None,
    compact: Annotated[
        bool, typer.Option("--compact", help="Rewrite a large database now, which holds traces of what was removed.")
    ] = False,
) -> None:
    """Forget videos, or an expert, and everything derived from them. Source files are never touched."""
    from reelseek.library import Library
    from reelseek.search import erase_videos

    if (videos and expert) or not (videos or expert or compact):
        raise UsageError("name videos to forget, or one expert with --expert")
    index = None
    with Library.open(library) as opened:
        if expert:
            print(f"erased {counted(opened.remove_expert(expert), 'track')} of {expert}")
        elif videos:
            removed = opened.remove(videos, erase=lambda ids: erase_videos(opened, ids))
            print(f"forgot {counted(len(removed), 'video')}")
        if compact:
            opened.compact()
            print("rewrote the database and all shards with bytes of no track")
        if videos or expert:
            index = update_indexes(opened)
    raise typer.Exit(1 if index is not None and index.left_out else 0)


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek remove my.library holiday/clip7.mp4")(remove)
