"""The scans of a server's libraries, each open to review as soon as somebody asks for it."""

import json
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from reelseek.errors import ReelseekError
from reelseek.library.files import write_whole
from reelseek.overlap.reviewing import PairScreensavers, reopen_source
from reelseek.overlap.scan import Scan, log_path, pair_keys, read_scan, scan_path
from reelseek.overlap.sources import Source
from reelseek.overlap.verdicts import Review, Verdicts
from reelseek.overlap.weights import ScreensaverBank
from reelseek.web.problems import Problem
from reelseek.web.review_desk import ReviewDesk
from reelseek.web.service import ServedLibrary

__all__ = ["OpenReview", "Reviews"]

_log = logging.getLogger("reelseek.web")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MOST_OPEN = 16
FileState = tuple[int, int]


@dataclass(frozen=True)
class OpenReview:
    """A scan that is reviewed.

    Args:
        id: of the scan; a job's is that of the job.
        library: name of the library whose videos it compared.
        time: when it was written, in seconds since 1970.
    """

    id: str
    library: str
    time: float
    desk: ReviewDesk


class Reviews:
    """The files of pairs in a folder, as `overlap scan` writes them.

    Verdicts are kept in the library of a scan, where `overlap review`, `judge` and `export` look for them too.

    Args:
        folder: need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[tuple[str, str], tuple[FileState, OpenReview]] = {}
        self._sources: dict[str, tuple[FileState, Path | None]] = {}
        self._lock = threading.Lock()

    def of_library(self, served: ServedLibrary) -> Iterator[OpenReview]:
        """The reviews of a library, the newest scan first; one that cannot be read is logged and left out."""
        for path in sorted(self._scans(), key=lambda path: path.stat().st_mtime, reverse=True):
            if self._source(path) != served.library.path:
                continue
            try:
                yield self._opened(path, served, keep=False)
            except ReelseekError as error:
                _log.error("the scan %s cannot be reviewed: %s", path.stem, error)

    def get(self, identifier: str, served: ServedLibrary) -> OpenReview | None:
        """The review of a scan of a library; None where there is none."""
        path = self._folder / f"{identifier}.jsonl"
        if not _ID.fullmatch(identifier) or self._source(path) != served.library.path:
            return None
        return self._opened(path, served, keep=True)

    def set_opinions(self, review: OpenReview, count: int) -> None:
        """Let so many people judge each pair of a scan, now and after a restart."""
        write_whole(_settings(self._folder / f"{review.id}.jsonl"), json.dumps({"opinions": count}) + "\n")
        review.desk.review.judges_per_pair = count

    def _scans(self) -> list[Path]:
        return [path for path in self._folder.glob("*.jsonl") if _ID.fullmatch(path.stem) and scan_path(path).is_file()]

    def _source(self, pairs: Path) -> Path | None:
        """The library that a scan compared; its file, which names every video, is read once."""
        try:
            status = scan_path(pairs).stat()
        except OSError:
            return None
        state, cached = (status.st_mtime_ns, status.st_size), self._sources.get(pairs.stem)
        if cached is None or cached[0] != state:
            try:
                source = Path(json.loads(scan_path(pairs).read_text("utf-8"))["source"]).absolute()
            except (OSError, ValueError, KeyError, TypeError):
                source = None
            cached = self._sources[pairs.stem] = (state, source)
        return cached[1]

    def _opened(self, path: Path, served: ServedLibrary, *, keep: bool) -> OpenReview:
        """A review, opened once; again after the scan was made anew.

        Args:
            keep: keep it open even if another must be closed for it; who only looks closes none, whose leases would
                end.
        """
        status = scan_path(path).stat()
        state, key = (status.st_mtime_ns, status.st_size), (path.stem, served.name)
        with self._lock:
            present = self._open.get(key)
            if present is not None and present[0] == state:
                self._open[key] = self._open.pop(key)  # the one that was asked for last
                return present[1]
            scan = read_scan(path)
            if scan is None:
                raise Problem(404, "no such review", "the scan is being made anew; ask again when its job is done")
            review = OpenReview(path.stem, served.name, status.st_mtime, _desk(path, scan, served))
            if keep or len(self._open) < _MOST_OPEN:
                self._open[key] = (state, review)
                while len(self._open) > _MOST_OPEN:
                    del self._open[next(iter(self._open))]
            return review


def _settings(pairs: Path) -> Path:
    """The file beside pairs that says how they are reviewed."""
    return pairs.with_name(f"{pairs.name}.review.json")


def _opinions(pairs: Path) -> int:
    try:
        return max(1, int(json.loads(_settings(pairs).read_text("utf-8"))["opinions"]))
    except (OSError, ValueError, KeyError, TypeError):
        return 1


def _desk(path: Path, scan: Scan, served: ServedLibrary) -> ReviewDesk:
    folder = served.library.path
    verdicts = Verdicts(log_path(folder, path, "decisions"))
    review = Review(scan.pairs, pair_keys(scan.pairs, scan.content), verdicts, _opinions(path))
    bank = ScreensaverBank(log_path(folder, path, "screensavers"))
    source = partial(_source_of, folder, path, scan)
    screensavers = PairScreensavers(source, bank, scan.pairs)
    return ReviewDesk(
        review, served.library, title=f"{scan.options.test} and {scan.options.train}", video=served.library.get,
        keep=screensavers.add, drop=screensavers.remove,
    )  # fmt: skip


def _source_of(folder: Path, path: Path, scan: Scan) -> AbstractContextManager[Source | None]:
    """What a scan compared, for as long as frames of it are read."""
    return reopen_source(folder, path, scan) or nullcontext()
