"""`reelseek overlap review`: a page on which people judge pairs."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.overlap.inputs import BankFile, VerdictsFile, open_source, open_verdicts, read_scan
from reelseek.cli.serve import COPIES_GB, check_copies_gb
from reelseek.cli.show import say
from reelseek.web import DEFAULT_COPIES_GB

if TYPE_CHECKING:
    from reelseek.library import Video
    from reelseek.overlap.pairs import Pair
    from reelseek.overlap.scan import Scan
    from reelseek.overlap.sources import Source
    from reelseek.overlap.weights import ScreensaverBank

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
    from reelseek.overlap.scan import log_path, pair_keys
    from reelseek.overlap.sources import LibrarySource
    from reelseek.overlap.verdicts import Review
    from reelseek.overlap.weights import ScreensaverBank
    from reelseek.web.review import create_review
    from reelseek.web.server import serve_app

    check_copies_gb(copies_gb)
    scan = read_scan(pairs)
    folder = source or Path(scan.source)
    with _reopen(folder, pairs, scan) or nullcontext() as opened:
        library = opened.library if isinstance(opened, LibrarySource) else None
        if library is None:
            say(f"{folder} has no videos to show: pairs are judged by their names")
        log = open_verdicts(verdicts or log_path(folder, pairs, "decisions"))
        screensavers = _Screensavers(
            opened, ScreensaverBank(bank or log_path(folder, pairs, "screensavers")), scan.pairs
        )
        session = Review(scan.pairs, pair_keys(scan.pairs, scan.content), log, opinions)
        title = f"{scan.options.test} and {scan.options.train}"
        say(f"verdicts are kept in {log.path}")
        serve_app(
            lambda: create_review(
                session, library, title=title, video=screensavers.video, keep=screensavers.add,
                drop=screensavers.remove, token=token, host=host, copies_gb=copies_gb,
            ),
            host=host, port=port, token=token,
        )  # fmt: skip


def _reopen(folder: Path, pairs: Path, scan: "Scan") -> "Source | None":
    """The source of a search without extracting anything; None where it is gone or holds no videos."""
    from reelseek.overlap.sources import LibrarySource

    beside = pairs.with_name(f".{pairs.name}.library")
    expert = scan.space.partition(":")[0] or None
    if (folder / "library.db").is_file():
        return LibrarySource.open(folder, expert)
    if (beside / "library.db").is_file():
        return LibrarySource.open(beside, expert, folder=folder)
    return open_source(folder, None, pairs) if any(folder.rglob("*.npy")) else None


class _Screensavers:
    """What the page may do with screensavers: nothing where the source is gone."""

    def __init__(self, source: "Source | None", bank: "ScreensaverBank", pairs: "Sequence[Pair]") -> None:
        self._source, self._bank, self._pairs = source, bank, pairs

    def video(self, name: str) -> "Video | None":
        return self._source.video(name) if self._source is not None else None

    def add(self, place: int, who: str) -> list[int]:
        """Put both windows of a pair into the bank; returns the numbers of their entries."""
        if self._source is None:
            return []
        pair, numbers = self._pairs[place], []
        for name, start in ((pair.test, pair.test_start), (pair.train, pair.train_start)):
            frames = self._source.read(name)
            if frames is not None:
                window = frames[int(start) : int(start + pair.window)]
                numbers.append(self._bank.add(name, start, self._source.space, window, who))
        return numbers

    def remove(self, numbers: Sequence[int], who: str) -> None:
        """Take entries out of the bank, except those that somebody removed by hand meanwhile."""
        present = {entry.id for entry in self._bank.entries}
        for number in numbers:
            if number in present:
                self._bank.remove(number, who)


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek overlap review pairs.jsonl --opinions 2 --port 8001")(review)
