"""`reelseek overlap screensavers`: the bank of frames that count for nothing."""

from pathlib import Path
from typing import Annotated

import typer

from reelseek.cli.overlap.inputs import SourceFolder, open_source
from reelseek.cli.show import bars, print_table, say
from reelseek.errors import UsageError

__all__ = ["app"]

app = typer.Typer(help="Intros, logos and end cards, which count for nothing.", no_args_is_help=True)


@app.command(name="list", epilog="Example: reelseek overlap screensavers list my.library/screensavers.jsonl")
def list_(bank: Annotated[Path, typer.Argument(help="File of the bank.")]) -> None:
    """What a bank holds."""
    from reelseek.overlap.weights import ScreensaverBank

    rows = [
        (entry.id, entry.video, f"{entry.start:g}", len(entry.vectors), entry.space, entry.who, entry.when)
        for entry in ScreensaverBank(bank).entries
    ]
    print_table(["number", "video", "at (s)", "frames", "features", "by", "when"], rows)


@app.command(epilog="Example: reelseek overlap screensavers add bank.jsonl my.library intro.mp4 --start 0 --seconds 5")
def add(
    bank: Annotated[Path, typer.Argument(help="File of the bank; begun if there is none.")],
    source: SourceFolder,
    video: Annotated[str, typer.Argument(help="A video of it.")],
    start: Annotated[float, typer.Option(help="Where the screensaver begins, in seconds.", min=0)] = 0.0,
    seconds: Annotated[float, typer.Option(help="How long it is.", min=1)] = 4.0,
    expert: Annotated[str | None, typer.Option(help="Whose features, as in `overlap scan`.")] = None,
    who: Annotated[str, typer.Option(help="Your name.")] = "command line",
) -> None:
    """Put frames of a video into a bank: those like them count for nothing in later scans."""
    from reelseek.overlap.weights import ScreensaverBank

    with bars() as progress, open_source(source, expert, bank, progress) as opened:
        frames = opened.read(video) if video in opened.names else None
    if frames is None or not len(frames[int(start) : int(start + seconds)]):
        raise UsageError(f"{source} has no frames of {video!r} from {start:g} to {start + seconds:g} s")
    window = frames[int(start) : int(start + seconds)]
    number = ScreensaverBank(bank).add(video, start, opened.space, window, who)
    say(f"screensaver {number}: {len(window)} frames of {video}")


@app.command(epilog="Example: reelseek overlap screensavers remove my.library/screensavers.jsonl 3")
def remove(
    bank: Annotated[Path, typer.Argument(help="File of the bank.")],
    number: Annotated[int, typer.Argument(help="Its number, as `list` shows it.")],
    who: Annotated[str, typer.Option(help="Your name.")] = "command line",
) -> None:
    """Take an entry out of a bank; its line stays in the file."""
    from reelseek.overlap.weights import ScreensaverBank

    ScreensaverBank(bank).remove(number, who)
    say(f"screensaver {number} counts no more")
