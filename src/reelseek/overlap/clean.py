"""Clean splits from a review: which videos leave the training part and why, and which test videos stay."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from reelseek.errors import CollectionError
from reelseek.library.tables import read_table
from reelseek.library.texts import read_text, split_lines
from reelseek.overlap.ids import matching, shared_by_name, source_id
from reelseek.overlap.pairs import Pair, read_pairs
from reelseek.overlap.verdicts import SAME, Decision

__all__ = ["Leak", "Overlap", "find_overlap", "read_ids", "read_videos", "removed_table"]


@dataclass(frozen=True)
class Leak:
    """A training video that shares footage with a test video, and the evidence for it.

    Attributes:
        why: `id`, `bytes` or `source` (the first stage); `duplicate` or `near-duplicate` (a verdict); or
            `same source as` another training video of which one of these holds.
    """

    train: str
    test: str
    why: str
    score: float | None = None
    test_start: float | None = None
    train_start: float | None = None
    window: float | None = None
    who: str = ""
    when: str = ""


@dataclass(frozen=True)
class Overlap:
    """Two parts and what they share.

    Attributes:
        by_name: leaks of the first stage, `by_verdict` of the second, `extended` those that follow from either.
        reviewed: pairs of the second stage that somebody judged or scrolled past.
    """

    test_name: str
    train_name: str
    test: tuple[str, ...]
    train: tuple[str, ...]
    by_name: tuple[Leak, ...]
    by_verdict: tuple[Leak, ...]
    extended: tuple[Leak, ...]
    reviewed: int

    @property
    def leaks(self) -> tuple[Leak, ...]:
        return (*self.by_name, *self.by_verdict, *self.extended)

    @property
    def clean_train(self) -> list[str]:
        leaking = {leak.train for leak in self.leaks}
        return [name for name in self.train if name not in leaking]

    @property
    def shared_test(self) -> list[str]:
        leaking = {leak.test for leak in self.leaks}
        return [name for name in self.test if name in leaking]

    @property
    def clean_test(self) -> list[str]:
        leaking = {leak.test for leak in self.leaks}
        return [name for name in self.test if name not in leaking]


def find_overlap(
    test: Sequence[str],
    train: Sequence[str],
    *,
    names: tuple[str, str] = ("test", "train"),
    content: Mapping[str, str] | None = None,
    judged: Sequence[tuple[Pair, Decision]] = (),
    ids: Mapping[str, str] | None = None,
) -> Overlap:
    """Combine both stages into what two parts share.

    A training video with the source of one that a verdict names leaves too (Dzabraev et al. 2021, appendix C): the same
    YouTube video, the same film of LSMDC, or the same id in `ids`. Of a set compared with itself, the later of two
    videos leaves.

    Args:
        content: hashes of files, where they are available.
        judged: pairs with their decisions.
        ids: source of each video, where its name does not tell it; names with or without folder and ending.
    """
    named = matching(ids or {}, [*test, *train])[0]
    sources = {video: (ids or {})[line] for line, videos in named.items() for video in videos}
    tests, trains = set(test), set(train)
    order = {video: place for place, video in enumerate(test)} if tests == trains else {}
    by_name = [Leak(pair.train, pair.test, pair.why) for pair in shared_by_name(test, train, content or {}, sources)]
    by_verdict, reviewed = [], 0
    for pair, decision in judged:
        one, two = (pair.test, pair.train) if pair.test in tests and pair.train in trains else (pair.train, pair.test)
        if one not in tests or two not in trains:
            continue
        if order and order[one] > order[two]:
            one, two = two, one
        reviewed += 1
        if decision.verdict in SAME:
            at, other = (pair.test_start, pair.train_start) if one == pair.test else (pair.train_start, pair.test_start)
            last = decision.opinions[-1]
            reviewers = ", ".join(dict.fromkeys(opinion.who for opinion in decision.opinions))
            why = str(decision.verdict)
            by_verdict.append(Leak(two, one, why, pair.score, at, other, pair.window, reviewers, last.time))
    return Overlap(*names, tuple(test), tuple(train), tuple(by_name), tuple(by_verdict),
                   tuple(_leaks_of_same_source([*by_name, *by_verdict], train, sources)), reviewed)  # fmt: skip


def _leaks_of_same_source(leaks: Sequence[Leak], train: Sequence[str], ids: Mapping[str, str]) -> list[Leak]:
    """Leaks that follow from others: further training videos that were cut from the source of a leaking one."""
    by_source: dict[str, list[str]] = {}
    for name in train:
        source = ids.get(name) or source_id(name)
        if source:
            by_source.setdefault(source, []).append(name)
    pairs = {(leak.train, leak.test) for leak in leaks}
    extended = []
    for leak in leaks:
        for name in by_source.get(ids.get(leak.train) or source_id(leak.train) or "", ()):
            if name != leak.test and (name, leak.test) not in pairs:
                pairs.add((name, leak.test))
                extended.append(Leak(name, leak.test, f"same source as {leak.train}", who=leak.who, when=leak.when))
    return extended


def removed_table(overlap: Overlap) -> str:
    """Format as CSV every training video that leaves, each test video that it shares footage with, and why."""
    buffer = io.StringIO()
    rows = csv.DictWriter(buffer, [field.name for field in fields(Leak)], lineterminator="\n")
    rows.writeheader()
    rows.writerows(
        {name: "" if value is None else value for name, value in vars(leak).items()} for leak in overlap.leaks
    )
    return buffer.getvalue()


def read_ids(path: Path) -> dict[str, str]:
    """Read a table `video,id`: the source that each video was cut from.

    Raises:
        CollectionError: it cannot be read, or has other columns.
    """
    rows = _table(path)
    if rows and not {"video", "id"} <= set(rows[0]):
        raise CollectionError(f"{path} has the columns {', '.join(rows[0])}; wanted video and id")
    return {row["video"]: row["id"] for row in rows if row["video"] and row["id"]}


def read_videos(path: Path, part: str = "train") -> list[str]:
    """Read the videos of a list, one per line; of a table its column `train` (or `test`, as `part` says), else `video`;
    of pairs (`.jsonl`, `.lst`) those of that part.

    Raises:
        CollectionError: it cannot be read, or has no such column.
    """
    if path.suffix in (".jsonl", ".lst"):
        named = [getattr(pair, part) for pair in read_pairs(path)]
    elif path.suffix in (".csv", ".tsv"):
        rows = _table(path)
        column = next((name for name in (part, "video") if rows and name in rows[0]), None)
        if rows and column is None:
            raise CollectionError(f"{path} has the columns {', '.join(rows[0])}; wanted {part} or video")
        named = [row[str(column)] or "" for row in rows]
    else:
        named = split_lines(read_text(path))
    return list(dict.fromkeys(name for name in named if name.strip()))


def _table(path: Path) -> list[dict[str, str]]:
    return [row.cells for row in read_table(path, ("video", "id", "train", "test")).require_all()]
