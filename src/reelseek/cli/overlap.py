"""`reelseek overlap`."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from reelseek.cli.show import bars, print_table, say

__all__ = ["app"]

app = typer.Typer(help="Footage that two sets of videos share.", no_args_is_help=True, rich_markup_mode=None)


@app.command(epilog="Example: reelseek overlap scan my.library --test test --train train --out pairs.jsonl")
def scan(
    source: Annotated[Path, typer.Argument(help="A library, a folder of videos, or a folder of .npy [second, dim].")],
    test: Annotated[str, typer.Option(help="A split, a folder's name, or a file that lists videos, one a line.")],
    train: Annotated[str, typer.Option(help="The same for what is compared with it; may be the same set.")],
    out: Annotated[Path, typer.Option(help="Where: a JSON line a pair, best first.")],
    expert: Annotated[str | None, typer.Option(help="Whose features are compared; default: appearance.")] = None,
    window: Annotated[int, typer.Option(help="Seconds that have to be alike one after the other.", min=1)] = 4,
    top: Annotated[int, typer.Option(help="How many pairs.", min=1)] = 1000,
) -> None:
    """The pairs of videos that are most alike over some seconds, each with the place in both."""
    from reelseek.overlap.match import best_matches
    from reelseek.overlap.sources import open_source

    with bars() as progress:
        opened = open_source(source, expert, out.with_name(out.name + ".library"), progress)
        one, two = opened.part(test), opened.part(train)
        for name, part in ((test, one), (train, two)):
            if part.without:
                some = ", ".join(part.without[:5])
                say(f"{name}: {len(part.without)} videos have no frames and are not compared: {some}")
        same = one.names == two.names
        found = best_matches(one.frames, two.frames, window=window, most=top, same=same)
    rows = [
        {
            "test": one.names[match.query],
            "train": two.names[match.gallery],
            "score": round(match.score, 6),
            "test_start": float(match.query_start),
            "train_start": float(match.gallery_start),
            "window": float(match.window),
        }
        for match in found
        if one.names[match.query] != two.names[match.gallery]
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    os.replace(partial, out)
    shown = [
        (r["test"], r["train"], f"{r['score']:.3f}", f"{r['test_start']:g}", f"{r['train_start']:g}") for r in rows[:10]
    ]
    print_table(["test", "train", "score", "at (s)", "at (s)"], shown)
    say(f"{len(rows)} pairs of {len(one.names)} x {len(two.names)} videos, window of {window} s: {out}")


@app.command(epilog="Example: reelseek overlap check my.library --test test --train train")
def check(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    test: Annotated[str, typer.Option(help="A split.")],
    train: Annotated[str, typer.Option(help="Another split.")],
    json_: Annotated[bool, typer.Option("--json", help="A JSON line a pair.")] = False,
) -> None:
    """Videos that two splits share by id, by what they were cut from, or byte for byte; exit 1 if there are any."""
    from reelseek.errors import UsageError
    from reelseek.library import Library
    from reelseek.overlap.ids import shared_by_name
    from reelseek.overlap.sources import library_splits

    with Library.open(library) as opened:
        splits = library_splits(opened)
        for name in (test, train):
            if name not in splits:
                raise UsageError(
                    f"{library} has no split {name!r}; its splits are: {', '.join(sorted(splits)) or 'none'}"
                )
        content = {video.id: video.content for video in opened.videos() if video.content}
        found = shared_by_name(splits[test], splits[train], content)
    for each in found if json_ else ():
        print(json.dumps({"test": each.test, "train": each.train, "why": each.why}, ensure_ascii=False))
    if not json_:
        print_table(["test", "train", "same"], [(each.test, each.train, each.why) for each in found[:50]])
    videos = len({each.test for each in found})
    say(f"{videos} of {len(splits[test])} videos of {test} are in {train} too, in {len(found)} pairs")
    raise typer.Exit(int(bool(found)))
