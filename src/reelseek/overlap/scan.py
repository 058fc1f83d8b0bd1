"""The search from end to end: frames, their weights, the best pairs, a second witness; and only what is new again."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import CollectionError, UsageError
from reelseek.library.files import write_whole
from reelseek.overlap.match import Match, best_matches, best_windows, unit_rows
from reelseek.overlap.nearest import near_matches
from reelseek.overlap.pairs import Pair, json_line, read_pairs, write_pairs
from reelseek.overlap.sound import prints, same_sound
from reelseek.overlap.sources import Part, Source
from reelseek.overlap.spool import Spool
from reelseek.overlap.verdicts import Decision, Verdicts, pair_key
from reelseek.overlap.weights import ScreensaverBank, background_rows, common_weights, plain_weights, turned

__all__ = [
    "Asked",
    "Rows",
    "Scan",
    "Sets",
    "judged",
    "kept_at",
    "keys_of",
    "read_scan",
    "save_scan",
    "scan",
    "scan_path",
    "weighted_sets",
]

Rows = npt.NDArray[np.floating]
Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Asked:
    """What is asked of a search.

    Args:
        test, train: splits, or files that list videos.
        window: K, in seconds.
        top: how many pairs are kept.
        plain: weigh frames of one colour down, where pictures are at hand.
        common: a frame that more than so many other videos have counts less; None leaves that out.
        background: a split or a list of videos that share no footage with the others; scores are then less what each
            frame has in common with theirs, and no cosines any more.
        approximate: look only at pairs that share a near window mean; says how many it missed.
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
    """A search that was done.

    Attributes:
        source: what was searched, and `space`, what made its features.
        test, train: the videos of both sets, each with a hash of its weighted frames.
        content: hashes of files, where they are known.
        test_without, train_without: videos that have no frames.
        compared: pairs that were compared this time.
        missed: share of the best pairs that an approximate search missed, as measured on a sample.
    """

    source: str
    space: str
    asked: Asked
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
    asked: Asked,
    *,
    bank: ScreensaverBank | None = None,
    known: Scan | None = None,
    progress: Progress = lambda *_: None,
) -> Scan:
    """The best pairs of two sets of videos.

    Args:
        bank: frames that count for nothing.
        known: an earlier search; where it asked the same, pairs that it compared are not compared again.

    Raises:
        UsageError, CollectionError: a set is unknown or cannot be compared.
    """
    sets = weighted_sets(source, asked, bank, progress)
    one, two = sets.test, sets.train
    content = {name: video.content for name in (*one.names, *two.names)
               if (video := source.video(name)) and video.content}  # fmt: skip
    done = Scan(str(source.path.absolute()), source.space, asked, _hashes(one.names, sets.queries),
                _hashes(two.names, sets.gallery), content, one.without, two.without, 0, None, ())  # fmt: skip
    old = known if known is not None and _goes_on(known, done) else None
    kept = [pair for pair in old.pairs if _still(pair, old, done)] if old else []
    found, compared, missed = _compare(done, sets, old, {(pair.test, pair.train) for pair in kept}, progress)
    joined = sorted([*kept, *found], key=lambda p: (-p.score, p.test, p.train))[: asked.top]
    return replace(done, pairs=tuple(_heard(source, joined)), compared=compared, missed=missed)


@dataclass(frozen=True)
class Sets:
    """Two parts of a source as the search compares them, videos in the order of their names.

    Attributes:
        apart: rows of the background, where scores are to be relative to one.
    """

    test: Part
    train: Part
    queries: Spool
    gallery: Spool
    apart: Rows | None

    def as_gallery(self, rows: Rows) -> Rows:
        """Rows of one more video, in the form in which the gallery's are."""
        return _as_gallery(rows, self.apart)


def weighted_sets(
    source: Source, asked: Asked, bank: ScreensaverBank | None = None, progress: Progress = lambda *_: None
) -> Sets:
    """What a search compares: frames of both parts times what pictures, a bank and other videos say they are worth.

    Raises:
        UsageError, CollectionError: a set is unknown or cannot be compared.
    """
    one, two = source.part(asked.test), source.part(asked.train)
    others = source.part(asked.background) if asked.background else None
    if others is not None and not others.names:
        raise UsageError(f"not one video of the background {asked.background!r} has a frame")
    if asked.plain:
        source.examine([name for part in (one, two, others) if part for name in part.names], progress)
    names = list(dict.fromkeys((*one.names, *two.names)))
    rare: dict[str, npt.NDArray[np.float32]] = {}
    if asked.common is not None:
        rare = dict(zip(names, common_weights([unit_rows(_read(source, n)) for n in names], asked.common), strict=True))

    def rows(name: str) -> Rows:
        found = _weighted(source, name, plain=asked.plain, bank=bank)
        return found * rare[name][:, None] if name in rare else found

    apart = None if others is None else np.concatenate([rows(name) for name in others.names])
    if apart is None:
        queries = Spool(rows(name) for name in one.names)
        gallery = queries if one.names == two.names else Spool(rows(name) for name in two.names)
    else:
        queries = Spool(background_rows([rows(name)], apart)[0] for name in one.names)
        gallery = Spool(_as_gallery(rows(name), apart) for name in two.names)
    return Sets(one, two, queries, gallery, apart)


def _as_gallery(rows: Rows, apart: Rows | None) -> Rows:
    return rows if apart is None else turned(background_rows([rows], apart)[0])


def _read(source: Source, name: str) -> Rows:
    frames = source.read(name)
    assert frames is not None  # a part names only videos that have some
    return frames


def _weighted(source: Source, name: str, *, plain: bool, bank: ScreensaverBank | None) -> Rows:
    """Unit rows of a video times the weights that its own pictures and a bank give them."""
    frames = _read(source, name)
    weights = np.ones(len(frames), np.float32)
    shares = source.shares(name) if plain else None
    if shares is not None:
        told = min(len(shares), len(frames))
        weights[:told] = plain_weights(shares[:told])
    rows = unit_rows(frames)
    if bank is not None:
        weights *= bank.weights(rows, source.space)
    return rows * weights[:, None]


def _hashes(names: Sequence[str], rows: Sequence[Rows]) -> dict[str, str]:
    """Changes in a video's frames or in their weights change its hash."""
    told = (hashlib.sha256(np.ascontiguousarray(each, np.float32).tobytes()).hexdigest()[:16] for each in rows)
    return dict(zip(names, told, strict=True))


def _goes_on(known: Scan, now: Scan) -> bool:
    """Whether pairs of an earlier search can be kept: the same was asked, and none that it dropped is wanted now."""
    if (known.source, known.space, known.asked) != (now.source, now.space, now.asked):
        return False
    if not set(known.test) & set(known.train) <= set(now.test) & set(now.train):
        return False  # of two videos that were in both sets only one order was compared
    place = {name: at for at, name in enumerate(now.test)}
    if any(p.train in place and p.test in now.train and place[p.train] < place.get(p.test, -1) for p in known.pairs):
        return False  # and now it would be the other
    full = len(known.pairs) >= known.asked.top
    lost = any(now.test.get(n) != h for n, h in known.test.items()) or any(
        now.train.get(n) != h for n, h in known.train.items()
    )
    return not (full and lost)


def _still(pair: Pair, known: Scan, now: Scan) -> bool:
    return known.test.get(pair.test) == now.test.get(pair.test) and known.train.get(pair.train) == now.train.get(
        pair.train
    )


def _compare(
    now: Scan, sets: Sets, old: Scan | None, kept: Collection[tuple[str, str]], progress: Progress
) -> tuple[list[Pair], int, float | None]:
    """Pairs that no earlier search compared: new videos with all, then old ones with new ones.

    Two videos that are in both sets are a pair once, with the one that comes first in the test set as `test`.
    """
    tests, trains = list(now.test), list(now.train)
    known_tests = {n for n, h in now.test.items() if old and old.test.get(n) == h}
    known_trains = {n for n, h in now.train.items() if old and old.train.get(n) == h}
    new = [place for place, name in enumerate(tests) if name not in known_tests]
    rest = [place for place, name in enumerate(tests) if name in known_tests]
    added = [place for place, name in enumerate(trains) if name not in known_trains]
    row, column = {n: i for i, n in enumerate(tests)}, {n: j for j, n in enumerate(trains)}
    found: dict[tuple[int, int], None] = {}
    missed: list[float] = []
    total = len(new) * len(trains) + len(rest) * len(added)
    done = 0
    for rows, columns in ((new, list(range(len(trains)))), (rest, added)):
        if not rows or not columns:
            continue
        some, others = sets.queries.chosen(rows), sets.gallery.chosen(columns)
        names = [tests[i] for i in rows], [trains[j] for j in columns]
        how: dict[str, Any] = {"window": now.asked.window, "most": now.asked.top, "names": names}
        if now.asked.approximate:
            matches, share = near_matches(some, others, **how)
            missed.append(share)
        else:
            tell = partial(_told_of, progress, done, total)
            matches = best_matches(some, others, **how, progress=tell)
        done += len(rows) * len(columns)
        for match in matches:
            one, two = rows[match.query], columns[match.gallery]
            first, second = tests[one], trains[two]
            if first in column and second in row and row[second] < one:
                one, two = row[second], column[first]
            if (tests[one], trains[two]) not in kept:
                found[one, two] = None
    window = now.asked.window
    pairs = [_pair(best_windows(sets.queries[i], sets.gallery[j], window, (i, j)), tests, trains) for i, j in found]
    return pairs, done, max(missed) if missed else None


def _told_of(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    progress("comparing", before + done, total, "")


def _pair(match: Match, tests: Sequence[str], trains: Sequence[str]) -> Pair:
    return Pair(tests[match.query], trains[match.gallery], round(match.score, 6), float(match.query_start),
                float(match.gallery_start), float(match.window))  # fmt: skip


def _heard(source: Source, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with what their sound says."""

    @lru_cache(maxsize=512)
    def of(name: str) -> npt.NDArray[np.float32] | None:
        decibels = source.decibels(name)
        return None if decibels is None else prints(decibels)

    found = []
    for pair in pairs:
        one, two = of(pair.test), of(pair.train)
        sound = None
        if one is not None and two is not None:
            sound = same_sound(one, two, pair.test_start, pair.train_start, pair.window)
        found.append(replace(pair, sound=None if sound is None else round(sound, 3)))
    return found


def kept_at(source: Path, out: Path, what: str) -> Path:
    """Where verdicts (`decisions`) or `screensavers` of a source are kept: in its library, else beside the pairs."""
    at_home = (source / "library.db").is_file()
    return source / f"{what}.jsonl" if at_home else out.with_name(f"{out.name}.{what}.jsonl")


def keys_of(pairs: Sequence[Pair], content: Mapping[str, str]) -> list[tuple[str, str]]:
    """What verdicts know each pair by: contents where they are known, else names."""
    return [pair_key(content.get(pair.test, pair.test), content.get(pair.train, pair.train)) for pair in pairs]


def judged(pairs: Sequence[Pair], content: Mapping[str, str], verdicts: Verdicts) -> list[tuple[Pair, Decision]]:
    """The pairs that somebody saw, with what stands about them."""
    found = ((pair, verdicts.decision(key)) for pair, key in zip(pairs, keys_of(pairs, content), strict=True))
    return [(pair, decision) for pair, decision in found if decision is not None]


def scan_path(out: Path) -> Path:
    """Where it is kept what a file of pairs came from."""
    return out.with_name(out.name + ".scan.json")


def save_scan(out: Path, done: Scan) -> None:
    """The pairs at `out`, and beside them what they came from.

    Pairs that a crash left without what they came from are compared anew.
    """
    scan_path(out).unlink(missing_ok=True)
    write_pairs(out, done.pairs)
    told = {name: value for name, value in asdict(replace(done, pairs=())).items() if name != "pairs"}
    write_whole(scan_path(out), json_line(told))


def read_scan(out: Path) -> Scan | None:
    """The search that wrote a file of pairs; None where nothing beside the file tells.

    Raises:
        CollectionError: the pairs cannot be read, or what lies beside them is damaged.
    """
    beside = scan_path(out)
    if not beside.is_file() or not out.is_file():
        return None
    try:
        told = json.loads(beside.read_text("utf-8"))
        return Scan(**{**told, "asked": Asked(**told["asked"]),
                       "test_without": tuple(told["test_without"]), "train_without": tuple(told["train_without"]),
                       "pairs": tuple(read_pairs(out))})  # fmt: skip
    except (ValueError, TypeError, KeyError) as error:
        raise CollectionError(
            f"{beside} is damaged ({error!r}); delete it, and `overlap scan` compares anew"
        ) from error
