"""`reelseek overlap review`: a page on which people judge pairs."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from reelseek.cli.overlap.inputs import BankFile, VerdictsFile, open_verdicts, read_scan
from reelseek.cli.serve import COPIES_GB, check_copies_gb
from reelseek.cli.show import say
from reelseek.web import DEFAULT_COPIES_GB

__all__ = ["register"]


def review(
    pairs: Annotated[Path, typer.Argument(help="What `overlap scan` wrote.")],
    source: Annotated[
        Path | None, typer.Option(help="The library or folder, if it is no longer where it was scanned.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address; any but this machine's own needs --token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port.")] = 8001,
    token: Annotated[str | None, typer.Option(envvar="REELSEEK_TOKEN", help="Secret that requests must carry.")] = None,
    opinions: Annotated[int, typer.Option(help="How many people judge each pair, blindly.", min=1)] = 1,
    verdicts: VerdictsFile = None,
    bank: BankFile = None,
    copies_gb: Annotated[float, COPIES_GB] = DEFAULT_COPIES_GB,
) -> None:
    """A page to judge pairs side by side, by keys; several people can do it at once. No video is ever changed."""
    from reelseek.overlap.reviewing import PairScreensavers, reopen_source
    from reelseek.overlap.scan import log_path, pair_keys
    from reelseek.overlap.sources import LibrarySource
    from reelseek.overlap.verdicts import Review
    from reelseek.overlap.weights import ScreensaverBank
    from reelseek.web.review import create_review
    from reelseek.web.server import serve_app

    check_copies_gb(copies_gb)
    scan = read_scan(pairs)
    folder = source or Path(scan.source)
    with reopen_source(folder, pairs, scan) or nullcontext() as opened:
        library = opened.library if isinstance(opened, LibrarySource) else None
        if library is None:
            say(f"{folder} has no videos to show: pairs are judged by their names")
        log = open_verdicts(verdicts or log_path(folder, pairs, "decisions"))
        screensavers = PairScreensavers.of_open(
            opened, ScreensaverBank(bank or log_path(folder, pairs, "screensavers")), scan.pairs
        )
        session = Review(scan.pairs, pair_keys(scan.pairs, scan.content), log, opinions)
        video = opened.video if opened is not None else None
        title = f"{scan.options.test} and {scan.options.train}"
        say(f"verdicts are kept in {log.path}")
        serve_app(
            lambda: create_review(
                session, library, title=title, video=video, keep=screensavers.add, drop=screensavers.remove,
                token=token, host=host, copies_gb=copies_gb,
            ),
            host=host, port=port, token=token,
        )  # fmt: skip


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek overlap review pairs.jsonl --opinions 2 --port 8001")(review)
