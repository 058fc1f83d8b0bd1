"""What reviewers of a scan need besides its pairs: the videos that were compared, the bank of screensavers that their
verdicts fill, and verdicts on many pairs at once."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from reelseek.overlap.pairs import Pair
from reelseek.overlap.scan import Scan
from reelseek.overlap.sources import LibrarySource, Source, open_source
from reelseek.overlap.verdicts import BulkVerdict, Verdicts
from reelseek.overlap.weights import ScreensaverBank

__all__ = ["PairScreensavers", "judge_below", "reopen_source"]

OpenSource = Callable[[], AbstractContextManager[Source | None]]


def reopen_source(folder: Path, pairs: Path, scan: Scan) -> Source | None:
    """Open what a scan compared without extracting anything; None where it is gone or holds no videos.

    Args:
        folder: the library or the folder.
        pairs: the file that the scan wrote; what it extracted from a folder lies beside it.
    """
    beside = pairs.with_name(f".{pairs.name}.library")
    expert = scan.space.partition(":")[0] or None
    if (folder / "library.db").is_file():
        return LibrarySource.open(folder, expert)
    if (beside / "library.db").is_file():
        return LibrarySource.open(beside, expert, folder=folder)
    return open_source(folder, None, beside) if any(folder.rglob("*.npy")) else None


class PairScreensavers:
    """The bank of screensavers as verdicts on pairs fill it; nothing is added where the source is gone.

    Args:
        source: opens what was compared, for as long as frames of it are read.
    """

    def __init__(self, source: OpenSource, bank: ScreensaverBank, pairs: Sequence[Pair]) -> None:
        self._source, self._bank, self._pairs = source, bank, pairs

    @classmethod
    def of_open(cls, source: Source | None, bank: ScreensaverBank, pairs: Sequence[Pair]) -> "PairScreensavers":
        """With a source that is open already, and stays so."""
        return cls(lambda: nullcontext(source), bank, pairs)

    def add(self, place: int, who: str) -> list[int]:
        """Put both windows of a pair into the bank; returns the numbers of their entries."""
        pair, numbers = self._pairs[place], []
        with self._source() as source:
            for name, start in ((pair.test, pair.test_start), (pair.train, pair.train_start)):
                frames = source.read(name) if source is not None else None
                if source is not None and frames is not None:
                    window = frames[int(start) : int(start + pair.window)]
                    numbers.append(self._bank.add(name, start, source.space, window, who))
        return numbers

    def remove(self, numbers: Sequence[int], who: str) -> None:
        """Take entries out of the bank, except those that somebody removed by hand meanwhile."""
        present = {entry.id for entry in self._bank.entries}
        for number in numbers:
            if number in present:
                self._bank.remove(number, who)


def judge_below(
    pairs: Sequence[Pair],
    keys: Sequence[tuple[str, str]],
    verdicts: Verdicts,
    *,
    below: float,
    verdict: BulkVerdict,
    who: str,
) -> tuple[int, int]:
    """Judge every pair whose score is lower; one that somebody has judged is left as it is.

    Returns:
        How many were judged now, and how many are below the score.
    """
    verdicts.refresh()
    lower = [(pair, key) for pair, key in zip(pairs, keys, strict=True) if pair.score < below]
    fresh = {key: pair for pair, key in lower if verdicts.decision(key) is None}
    verdicts.record_all([(pair, key) for key, pair in fresh.items()], verdict, who)
    return len(fresh), len(lower)
