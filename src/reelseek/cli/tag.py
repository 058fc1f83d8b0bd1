"""`reelseek tag`: words that people put on videos and on moments of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.show import clock, counted, print_json, print_table
from reelseek.errors import UsageError

if TYPE_CHECKING:
    from reelseek.library import Library, Tag

__all__ = ["app"]

app = typer.Typer(name="tag", help="Tags of videos and of moments.", no_args_is_help=True, rich_markup_mode=None)
LibraryFolder = Annotated[Path, typer.Argument(help="Folder of the library.")]
Text = Annotated[str, typer.Argument(metavar="TAG", help="A word, or several in quotes.")]
Videos = Annotated[list[str] | None, typer.Argument(help="Ids, paths or names of videos.")]
Selected = Annotated[str, typer.Option(help="The videos of a filter instead, as in a search.")]
Start = Annotated[float | None, typer.Option(help="Of a moment: seconds at which it starts.")]
End = Annotated[float | None, typer.Option(help="Of a moment: seconds at which it ends.")]


@app.command(epilog="Example: reelseek tag add my.library holiday --filter folder:rome")
def add(
    library: LibraryFolder,
    tag: Text,
    videos: Videos = None,
    filter: Selected = "",
    start: Start = None,
    end: End = None,
) -> None:
    """Put a tag on videos, or on a moment of one; `search --filter tag:TAG` selects them."""
    from reelseek.library import Library

    with Library.open(library) as opened:
        tags = _tags(opened, tag, videos or [], filter, start, end)
        added = opened.add_tags(tags)
    already = f"; {counted(len(tags) - added, 'other')} had it" if added < len(tags) else ""
    print(f"tagged {counted(added, 'moment' if start is not None else 'video')}{already}")


@app.command(epilog="Example: reelseek tag remove my.library holiday rome.mp4")
def remove(
    library: LibraryFolder,
    tag: Text,
    videos: Videos = None,
    filter: Selected = "",
    start: Start = None,
    end: End = None,
) -> None:
    """Take a tag off videos, or off a moment of one; ends with 1 where one does not have it."""
    from reelseek.library import Library

    with Library.open(library) as opened:
        tags = _tags(opened, tag, videos or [], filter, start, end)
        removed = opened.remove_tags(tags)
    missing = f"; {counted(len(tags) - removed, 'other')} did not have it" if removed < len(tags) else ""
    print(f"took it off {counted(removed, 'moment' if start is not None else 'video')}{missing}")
    raise typer.Exit(1 if missing else 0)


@app.command("list", epilog="Example: reelseek tag list my.library rome.mp4")
def list_(
    library: LibraryFolder,
    videos: Videos = None,
    json: Annotated[bool, typer.Option("--json", help="A JSON line a tag.")] = False,
) -> None:
    """The tags of a library with how many videos and moments have each, or those of some videos."""
    from reelseek.library import Library

    with Library.open(library) as opened:
        if videos:
            ids = dict.fromkeys(opened.video(name).id for name in videos)
            _print_tags([tag for video in ids for tag in opened.tags(video)], json=json)
            return
        counts = opened.catalog.tags.counts()
    if json:
        for count in counts:
            print_json({"tag": count.text, "videos": count.videos, "moments": count.moments})
    else:
        print_table(["tag", "videos", "moments"], [(count.text, count.videos, count.moments) for count in counts])


def _print_tags(tags: Sequence["Tag"], *, json: bool) -> None:
    if json:
        for tag in tags:
            print_json({"video": tag.video, "tag": tag.text, "start": tag.start_seconds, "end": tag.end_seconds})
        return
    spans = ["" if t.start_seconds is None else f"{clock(t.start_seconds)}-{clock(t.end_seconds)}" for t in tags]
    print_table(
        ["video", "tag", "moment"], [(tag.video, tag.text, span) for tag, span in zip(tags, spans, strict=True)]
    )


def _tags(
    library: "Library", text: str, names: Sequence[str], filter: str, start: float | None, end: float | None
) -> list["Tag"]:
    """The tag on each video that is named or selected."""
    from reelseek.library import Tag
    from reelseek.library.filters import parse_filter

    if bool(names) == bool(filter):
        raise UsageError("name videos, or select them with --filter")
    if filter and start is not None:
        raise UsageError("--start and --end are of a moment of one video; name it instead of --filter")
    ids = library.catalog.selection.videos(parse_filter(filter)) if filter else [library.video(n).id for n in names]
    if start is not None and len(ids) > 1:
        raise UsageError("--start and --end are of a moment of one video; name one")
    return [Tag(video, text, start, end) for video in dict.fromkeys(ids)]
