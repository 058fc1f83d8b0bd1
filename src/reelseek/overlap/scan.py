"""The scan: frames, their weights, the best pairs, and their sound. A repeated scan compares only what is new."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from reelseek.cluster import Cluster
from reelseek.errors import CollectionError, UsageError
from reelseek.library.files import write_whole
from reelseek.models.device import resolve_device
from reelseek.overlap.match import Match, best_matches, best_windows, unit_rows
from reelseek.overlap.nearest import near_matches
from reelseek.overlap.pairs import Pair, json_line, read_pairs, write_pairs
from reelseek.overlap.sound import same_sound, sound_fingerprint
from reelseek.overlap.sources import Part, Source
from reelseek.overlap.spool import Spool
from reelseek.overlap.verdicts import Decision, Verdicts, pair_key
from reelseek.overlap.weights import ScreensaverBank, as_gallery_rows, background_rows, common_weights, plain_weights

__all__ = [
    "Rows",
    "Scan",
    "ScanOptions",
    "Sets",
    "judged_pairs",
    "log_path",
    "pair_keys",
    "read_scan",
    "save_scan",
    "scan",
    "scan_path",
    "weighted_sets",
]

Rows = npt.NDArray[np.floating]
Progress = Callable[[str, int, int, str], None]
_JSON_KEYS = {"options": "asked"}  # fields of a Scan that its file calls otherwise


@dataclass(frozen=True)
class ScanOptions:
    """The options of a scan.

    Args:
        test, train: splits, or files that list videos.
        window: K, in seconds.
        top: number of pairs returned.
        plain: weigh frames of one colour down, where pictures are available.
        common: weigh frames down that more than so many other videos contain; None leaves that out.
        background: a split or a list of videos that share no footage with the others; from every score is subtracted
            what its frames have in common with theirs, so that scores are no cosines any more.
        approximate: compare only pairs with near window means; the share that this misses is measured.
    """

    test: str
    train: str
    window: int = 4
    top: int = 1000
    plain: bool = True
    common: int | None = None
    background: str | None = None
    approximate: bool = False


@dataclass(frozen=True)
class Scan:
    """The outcome of a scan.

    Attributes:
        source: what was scanned, and `space`, the fingerprint of its features.
        test, train: the videos of both sets, each with a hash of its weighted frames.
        content: hashes of files, where they are available.
        test_without, train_without: videos that have no frames.
        compared: pairs that were compared this time.
        missed: share of the best pairs that an approximate scan missed, as measured on a sample.
    """

    source: str
    space: str
    options: ScanOptions
    test: dict[str, str]
    train: dict[str, str]
    content: dict[str, str]
    test_without: tuple[str, ...]
    train_without: tuple[str, ...]
    compared: int
    missed: float | None
    pairs: tuple[Pair, ...] = field(repr=False)


def scan(
    source: Source,
    options: ScanOptions,
    *,
    bank: ScreensaverBank | None = None,
    previous: Scan | None = None,
    device: str | torch.device | None = None,
    cluster: Cluster | None = None,
    progress: Progress = lambda *_: None,
) -> Scan:
    """Find the best pairs of two sets of videos.

    Args:
        bank: frames of weight 0.
        previous: an earlier scan; where its options are the same, pairs that it compared are not compared again.
        device: where pairs are compared, see `resolve_device`; the outcome is the same on every one.
        cluster: whose nodes extract what is lacking and compare; the outcome is the same.

    Raises:
        UsageError, CollectionError: there is no such device, a set is unknown or cannot be compared.
    """
    place = resolve_device(device)
    with weighted_sets(source, options, bank, progress, cluster) as sets:
        return _scan_sets(source, options, sets, previous, place, progress, cluster)


def _scan_sets(
    source: Source,
    options: ScanOptions,
    sets: "Sets",
    previous: Scan | None,
    device: torch.device,
    progress: Progress,
    cluster: Cluster | None,
) -> Scan:
    one, two = sets.test, sets.train
    content = {name: video.content for name in (*one.names, *two.names)
               if (video := source.video(name)) and video.content}  # fmt: skip
    current = Scan(str(source.path.absolute()), source.space, options, _frame_hashes(one.names, sets.queries),
                   _frame_hashes(two.names, sets.gallery), content, one.without, two.without, 0, None, ())  # fmt: skip
    old = previous if previous is not None and _can_resume(previous, current) else None
    reused = [pair for pair in old.pairs if _is_unchanged(pair, old, current)] if old else []
    compared_before = {(pair.test, pair.train) for pair in reused}
    new, compared, missed = _compare(current, sets, old, compared_before, device, progress, cluster)
    best = sorted([*reused, *new], key=lambda p: (-p.score, p.test, p.train))[: options.top]
    return replace(current, pairs=tuple(_with_sound(source, best)), compared=compared, missed=missed)


@dataclass(frozen=True)
class Sets:
    """Two parts of a source as the scan compares them, videos in the order of their names. Use it in a `with`.

    Attributes:
        background: rows of the background, where scores are relative to one.
    """

    test: Part
    train: Part
    queries: Spool
    gallery: Spool
    background: Rows | None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.queries.close()
        self.gallery.close()

    def as_gallery(self, rows: Rows) -> Rows:
        """Bring the rows of another video into the form of the gallery's rows."""
        return _as_gallery(rows, self.background)


def weighted_sets(
    source: Source,
    options: ScanOptions,
    bank: ScreensaverBank | None = None,
    progress: Progress = lambda *_: None,
    cluster: Cluster | None = None,
) -> Sets:
    """Read the frames of both parts, times their weights by pictures, a bank and the other videos.

    Raises:
        UsageError, CollectionError: a set is unknown or cannot be compared.
    """
    one, two = source.part(options.test), source.part(options.train)
    others = source.part(options.background) if options.background else None
    if others is not None and not others.names:
        raise UsageError(f"not one video of the background {options.background!r} has a frame")
    if options.plain:
        source.examine([name for part in (one, two, others) if part for name in part.names], progress, cluster)
    names = list(dict.fromkeys((*one.names, *two.names)))
    rare: dict[str, npt.NDArray[np.float32]] = {}
    if options.common is not None:
        with Spool(unit_rows(_read_frames(source, name)) for name in names) as frames:
            rare = dict(zip(names, common_weights(frames, options.common), strict=True))

    def read(name: str) -> Rows:
        rows = _weighted_rows(source, name, plain=options.plain, bank=bank)
        return rows * rare[name][:, None] if name in rare else rows

    background = None if others is None else np.concatenate([read(name) for name in others.names])
    with ExitStack() as stack:
        if background is None:
            queries = stack.enter_context(Spool(read(name) for name in one.names))
            gallery = queries if one.names == two.names else Spool(read(name) for name in two.names)
        else:
            queries = stack.enter_context(Spool(background_rows([read(name)], background)[0] for name in one.names))
            gallery = Spool(_as_gallery(read(name), background) for name in two.names)
        stack.pop_all()  # both were read
    return Sets(one, two, queries, gallery, background)


def _as_gallery(rows: Rows, background: Rows | None) -> Rows:
    return rows if background is None else as_gallery_rows(background_rows([rows], background)[0])


def _read_frames(source: Source, name: str) -> Rows:
    frames = source.read(name)
    assert frames is not None  # a part names only videos that have frames
    return frames


def _weighted_rows(source: Source, name: str, *, plain: bool, bank: ScreensaverBank | None) -> Rows:
    """Unit rows of a video times their weights by its pictures and a bank."""
    frames = _read_frames(source, name)
    weights = np.ones(len(frames), np.float32)
    shares = source.shares(name) if plain else None
    if shares is not None:
        count = min(len(shares), len(frames))
        weights[:count] = plain_weights(shares[:count])
    rows = unit_rows(frames)
    if bank is not None:
        weights *= bank.weights(rows, source.space)
    return rows * weights[:, None]


def _frame_hashes(names: Sequence[str], videos: Sequence[Rows]) -> dict[str, str]:
    """Hash each video's weighted frames; a change of frames or weights changes the hash."""
    hashes = (hashlib.sha256(np.ascontiguousarray(rows, np.float32).tobytes()).hexdigest()[:16] for rows in videos)
    return dict(zip(names, hashes, strict=True))


def _can_resume(old: Scan, new: Scan) -> bool:
    """Whether pairs of an earlier scan can be reused: same options, and no pair that it cut off is needed now."""
    if (old.source, old.space, old.options) != (new.source, new.space, new.options):
        return False
    if not set(old.test) & set(old.train) <= set(new.test) & set(new.train):
        return False  # of two videos that were in both sets only one order was compared
    place = {name: at for at, name in enumerate(new.test)}
    if any(p.train in place and p.test in new.train and place[p.train] < place.get(p.test, -1) for p in old.pairs):
        return False  # and now it would be the other
    full = len(old.pairs) >= old.options.top
    lost = any(new.test.get(n) != h for n, h in old.test.items()) or any(
        new.train.get(n) != h for n, h in old.train.items()
    )
    return not (full and lost)


def _is_unchanged(pair: Pair, old: Scan, new: Scan) -> bool:
    same_test = old.test.get(pair.test) == new.test.get(pair.test)
    return same_test and old.train.get(pair.train) == new.train.get(pair.train)


def _compare(
    current: Scan,
    sets: Sets,
    old: Scan | None,
    reused: Collection[tuple[str, str]],
    device: torch.device,
    progress: Progress,
    cluster: Cluster | None,
) -> tuple[list[Pair], int, float | None]:
    """Compare what no earlier scan compared: new test videos with all, then old ones with new training videos.

    Two videos that are in both sets are a pair once, with the one that comes first in the test set as `test`.
    """
    tests, trains = list(current.test), list(current.train)
    old_tests = {n for n, h in current.test.items() if old and old.test.get(n) == h}
    old_trains = {n for n, h in current.train.items() if old and old.train.get(n) == h}
    new = [place for place, name in enumerate(tests) if name not in old_tests]
    rest = [place for place, name in enumerate(tests) if name in old_tests]
    added = [place for place, name in enumerate(trains) if name not in old_trains]
    row, column = {n: i for i, n in enumerate(tests)}, {n: j for j, n in enumerate(trains)}
    best: dict[tuple[int, int], None] = {}
    missed: list[float] = []
    total = len(new) * len(trains) + len(rest) * len(added)
    done = 0
    for rows, columns in ((new, list(range(len(trains)))), (rest, added)):
        if not rows or not columns:
            continue
        queries, gallery = sets.queries.subset(rows), sets.gallery.subset(columns)
        names = [tests[i] for i in rows], [trains[j] for j in columns]
        window, most = current.options.window, current.options.top
        if current.options.approximate:
            matches, share = near_matches(
                queries, gallery, window=window, most=most, names=names, device=device, cluster=cluster
            )
            missed.append(share)
        else:
            report = partial(_report_progress, progress, done, total)
            matches = best_matches(
                queries, gallery, window=window, most=most, names=names, device=device, cluster=cluster, progress=report
            )
        done += len(rows) * len(columns)
        for match in matches:
            one, two = rows[match.query], columns[match.gallery]
            first, second = tests[one], trains[two]
            if first in column and second in row and row[second] < one:
                one, two = row[second], column[first]
            if (tests[one], trains[two]) not in reused:
                best[one, two] = None
    window = current.options.window
    pairs = [_pair(best_windows(sets.queries[i], sets.gallery[j], window, (i, j)), tests, trains) for i, j in best]
    return pairs, done, max(missed) if missed else None


def _report_progress(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    progress("comparing", before + done, total, "")


def _pair(match: Match, tests: Sequence[str], trains: Sequence[str]) -> Pair:
    return Pair(tests[match.query], trains[match.gallery], round(match.score, 6), float(match.query_start),
                float(match.gallery_start), float(match.window))  # fmt: skip


def _with_sound(source: Source, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with the scores of their sound."""

    @lru_cache(maxsize=512)
    def fingerprint(name: str) -> npt.NDArray[np.float32] | None:
        decibels = source.decibels(name)
        return None if decibels is None else sound_fingerprint(decibels)

    scored = []
    for pair in pairs:
        one, two = fingerprint(pair.test), fingerprint(pair.train)
        sound = None
        if one is not None and two is not None:
            sound = same_sound(one, two, pair.test_start, pair.train_start, pair.window)
        scored.append(replace(pair, sound=None if sound is None else round(sound, 3)))
    return scored


def log_path(source: Path, out: Path, kind: str) -> Path:
    """Return the file of a source's verdicts (`decisions`) or `screensavers`: in its library, else beside the pairs."""
    is_library = (source / "library.db").is_file()
    return source / f"{kind}.jsonl" if is_library else out.with_name(f"{out.name}.{kind}.jsonl")


def pair_keys(pairs: Sequence[Pair], content: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the key of each pair in the file of verdicts: content hashes where they are available, else names."""
    return [pair_key(content.get(pair.test, pair.test), content.get(pair.train, pair.train)) for pair in pairs]


def judged_pairs(pairs: Sequence[Pair], content: Mapping[str, str], verdicts: Verdicts) -> list[tuple[Pair, Decision]]:
    """Return the pairs that somebody reviewed, with their decisions."""
    decisions = ((pair, verdicts.decision(key)) for pair, key in zip(pairs, pair_keys(pairs, content), strict=True))
    return [(pair, decision) for pair, decision in decisions if decision is not None]


def scan_path(out: Path) -> Path:
    """Return the file that describes the scan of a file of pairs."""
    return out.with_name(out.name + ".scan.json")


def save_scan(out: Path, done: Scan) -> None:
    """Write the pairs to `out` and the description of their scan beside them.

    Pairs that a crash left without it are compared anew.
    """
    scan_path(out).unlink(missing_ok=True)
    write_pairs(out, done.pairs)
    row = {_JSON_KEYS.get(name, name): value for name, value in asdict(replace(done, pairs=())).items()}
    del row["pairs"]
    write_whole(scan_path(out), json_line(row))


def read_scan(out: Path) -> Scan | None:
    """Read the scan that wrote a file of pairs; None where no description of it lies beside them.

    Raises:
        CollectionError: the pairs cannot be read, or what lies beside them is damaged.
    """
    beside = scan_path(out)
    if not beside.is_file() or not out.is_file():
        return None
    try:
        row = json.loads(beside.read_text("utf-8"))
        options = ScanOptions(**row[_JSON_KEYS["options"]])
        values = {name: value for name, value in row.items() if name != _JSON_KEYS["options"]}
        return Scan(**{**values, "options": options, "pairs": tuple(read_pairs(out)),
                       "test_without": tuple(row["test_without"]),
                       "train_without": tuple(row["train_without"])})  # fmt: skip
    except (ValueError, TypeError, KeyError) as error:
        raise CollectionError(
            f"{beside} is damaged ({error!r}); delete it, and `overlap scan` compares anew"
        ) from error
