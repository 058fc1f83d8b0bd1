"""What several commands of `overlap` read: their common options, and the files and folders behind them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelseek.cli.show import say
from reelseek.errors import UsageError

if TYPE_CHECKING:
    from reelseek.cluster import Cluster
    from reelseek.overlap.pairs import Pair
    from reelseek.overlap.scan import Scan
    from reelseek.overlap.sources import Source
    from reelseek.overlap.verdicts import Decision, Verdicts
    from reelseek.overlap.weights import ScreensaverBank

__all__ = [
    "BankFile",
    "IdTable",
    "SourceFolder",
    "TestSet",
    "TrainSet",
    "VerdictsFile",
    "existing_file",
    "open_bank",
    "open_source",
    "open_verdicts",
    "read_judged",
    "read_scan",
]

SourceFolder = Annotated[Path, typer.Argument(help="A library, a folder of videos, or a folder of .npy [second, dim].")]
TestSet = Annotated[str, typer.Option(help="A split, a folder's name, or a file that lists videos, one a line.")]
TrainSet = Annotated[str, typer.Option(help="The same for what is compared with it; may be the same set.")]
BankFile = Annotated[
    Path | None, typer.Option(help="File of the bank; default: in the library, else beside the pairs.")
]
VerdictsFile = Annotated[
    Path | None, typer.Option(help="File of verdicts; default: in the library, else beside the pairs.")
]
IdTable = Annotated[
    Path | None, typer.Option(help="Table video,id: what videos were cut from, where their names do not tell.")
]


def existing_file(path: Path | None) -> Path | None:
    """A file named by an option; a mistyped name must not pass for an empty file.

    Raises:
        UsageError: the file does not exist.
    """
    if path is not None and not path.is_file():
        raise UsageError(f"{path} does not exist")
    return path


def open_source(
    source: Path,
    expert: str | None,
    out: Path,
    progress: Any = lambda *_: None,
    parts: Sequence[str] = (),
    device: str | None = None,
    cluster: "Cluster | None" = None,
) -> "Source":
    """Open the features to compare; those of a folder of videos are stored in a library beside `out`."""
    from reelseek.overlap.sources import open_source as open_features

    work = out.with_name(f".{out.name}.library")
    opened = open_features(source, expert, work, progress, parts=parts, device=device, cluster=cluster)
    for notice in opened.notices:
        say(f"note: {notice}")
    return opened


def open_bank(path: Path | None, source: Path, out: Path) -> "ScreensaverBank":
    """Open the named bank of screensavers, else the default one of the source or of the pairs."""
    from reelseek.overlap.scan import log_path
    from reelseek.overlap.weights import ScreensaverBank

    if path is not None and not path.is_file():
        say(f"{path} does not exist: no screensavers are known")
    return ScreensaverBank(path or log_path(source, out, "screensavers"))


def open_verdicts(path: Path) -> "Verdicts":
    """Open a file of verdicts, and say which of its lines are unreadable."""
    from reelseek.overlap.verdicts import Verdicts

    verdicts = Verdicts(path)
    if verdicts.broken:
        say(f"{path}: lines {', '.join(map(str, verdicts.broken))} cannot be read and are left out")
    return verdicts


def read_scan(pairs: Path) -> "Scan":
    """Read the search that wrote a file of pairs; pairs without a search stand for themselves.

    Raises:
        UsageError: the file does not exist.
    """
    from reelseek.overlap.pairs import read_pairs
    from reelseek.overlap.scan import Scan, ScanOptions
    from reelseek.overlap.scan import read_scan as read_saved

    if not pairs.is_file():
        raise UsageError(f"{pairs} does not exist; `reelseek overlap scan` writes it")
    scan = read_saved(pairs)
    if scan is not None:
        return scan
    rows = tuple(read_pairs(pairs))
    test, train = (dict.fromkeys((getattr(row, side) for row in rows), "") for side in ("test", "train"))
    return Scan(str(pairs.absolute().parent), "", ScanOptions("test", "train"), test, train, {}, (), (), 0, None, rows)


def read_judged(pairs: Path, verdicts: Path | None) -> "tuple[Scan, list[tuple[Pair, Decision]]]":
    """Read a search, and those of its pairs that somebody judged, with the decision on each."""
    from reelseek.overlap.scan import judged_pairs, log_path

    scan = read_scan(pairs)
    log = open_verdicts(existing_file(verdicts) or log_path(Path(scan.source), pairs, "decisions"))
    return scan, judged_pairs(scan.pairs, scan.content, log)
