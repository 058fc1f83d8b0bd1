"""Opinions of reviewers on pairs: an append-only file of them, the decisions they make, and who judges what next."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal, get_args

from reelseek.errors import CollectionError, UsageError, suggest
from reelseek.overlap.log import Log
from reelseek.overlap.pairs import Pair

__all__ = [
    "SAME",
    "Agreement",
    "BulkVerdict",
    "Decision",
    "Opinion",
    "Review",
    "Verdict",
    "Verdicts",
    "count_open",
    "decisions_between",
    "pair_key",
]

Verdict = Literal["duplicate", "near-duplicate", "not", "unsure", "screensaver", "looked-at"]
BulkVerdict = Literal["not", "looked-at", "unsure"]
"""What may be said of many pairs at once, unseen."""
SAME: tuple[Verdict, ...] = ("duplicate", "near-duplicate")
_VERDICTS = get_args(Verdict)
_LEASE_SECONDS = 300.0


def pair_key(one: str, two: str) -> tuple[str, str]:
    """Return the key of a pair in any order; content hashes as names keep it when a video is moved or renamed."""
    return (one, two) if one <= two else (two, one)


@dataclass(frozen=True)
class Opinion:
    """An entry of the file of verdicts.

    Attributes:
        number: its line in the file, by which it is undone.
        key: content hashes of the videos where they are available, else their names.
        settles: given in sight of the others' opinions, to end a disagreement.
        blind: given before the reviewer could see the others' opinions on the pair.
        bank: screensavers that were added with it.
    """

    number: int
    time: str
    who: str
    verdict: Verdict
    pair: Pair
    key: tuple[str, str]
    settles: bool = False
    bank: tuple[int, ...] = ()
    blind: bool = True


@dataclass(frozen=True)
class Decision:
    """The decision on a pair: `verdict` is None while opinions differ and nobody settled it."""

    verdict: Verdict | None
    opinions: tuple[Opinion, ...]

    @property
    def judged(self) -> bool:
        """Whether somebody judged it, rather than scrolling past."""
        return bool(_judges(self.opinions))


def _row(pair: Pair, key: tuple[str, str], verdict: Verdict, who: str) -> dict[str, Any]:
    """An opinion as the file has it."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    return {"verdict": verdict, "who": who, "time": time, "key": list(key), **asdict(pair)}


def count_open(decisions: Sequence[Decision | None], judges_per_pair: int = 1) -> dict[str, int]:
    """Count pairs without a verdict that stands, by what they lack; those that lack nothing are not counted.

    Args:
        decisions: one for each pair, None for those that nobody saw. Who scrolls past a pair has seen no duplicate.
        judges_per_pair: how many people have to judge a pair that anybody judged.
    """
    counts: Counter[str] = Counter()
    for decision in decisions:
        if decision is None:
            counts["unseen"] += 1
        elif 0 < len(_judges(decision.opinions)) < judges_per_pair:
            counts["waiting for another opinion"] += 1
        elif decision.verdict is None:
            counts["disputed"] += 1
        elif decision.verdict == "unsure":
            counts["unsure"] += 1
    return dict(counts)


@dataclass(frozen=True)
class Agreement:
    """Agreement of two reviewers over pairs that both judged blindly: share of equal verdicts, and Cohen's kappa."""

    one: str
    two: str
    pairs: int
    equal: float
    kappa: float


class Verdicts:
    """All opinions, in one append-only file.

    Args:
        path: need not exist.

    Raises:
        CollectionError: a line is no verdict.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = Log(path)
        self._lines_read = 0
        self._by_number: dict[int, Opinion] = {}
        self._by_key: dict[tuple[str, str], list[Opinion]] = {}
        self._informed: dict[tuple[str, str], set[str]] = {}  # who could see the others' opinions
        self._lock = threading.RLock()
        self.refresh()

    @property
    def broken(self) -> Sequence[int]:
        """Numbers of the lines that a crash cut in half."""
        return self._log.broken

    def opinions(self) -> list[Opinion]:
        """Every opinion that was not undone, in order; a reviewer's last one on a pair replaces the earlier ones."""
        return list(self._by_number.values())

    def opinions_on(self, key: tuple[str, str]) -> Sequence[Opinion]:
        """The opinions on a pair."""
        return self._by_key.get(key, ())

    def decision(self, key: tuple[str, str]) -> Decision | None:
        """The decision on a pair, or None if nobody reviewed it."""
        return _decide(self._by_key.get(key, ()))

    def decisions(self) -> dict[tuple[str, str], Decision]:
        """The decision on every pair that somebody reviewed."""
        decisions = ((key, _decide(opinions)) for key, opinions in self._by_key.items())
        return {key: decision for key, decision in decisions if decision is not None}

    def record(
        self,
        pair: Pair,
        verdict: Verdict,
        who: str,
        *,
        key: tuple[str, str] | None = None,
        settles: bool = False,
        bank: Sequence[int] = (),
    ) -> Opinion:
        """Record an opinion; when this returns it is on the disk."""
        if verdict not in _VERDICTS:
            raise UsageError(
                f"{verdict!r} is no verdict{suggest(verdict, _VERDICTS)}; there are {', '.join(_VERDICTS)}"
            )
        key = key or pair_key(pair.test, pair.train)
        more = {**({"settles": True} if settles else {}), **({"bank": list(bank)} if bank else {})}
        with self._lock, self._log.appending() as write:
            write(_row(pair, key, verdict, who) | more)
            self.refresh()
            return self._by_key[pair_key(*key)][-1]

    def record_all(self, pairs: Sequence[tuple[Pair, tuple[str, str]]], verdict: BulkVerdict, who: str) -> None:
        """Record the same opinion on some pairs with their keys, on the disk at once, all or none."""
        if not pairs:
            return
        with self._lock, self._log.appending() as write:
            write(*(_row(pair, key, verdict, who) for pair, key in pairs))
            self.refresh()

    def undo(self, who: str) -> Opinion | None:
        """Undo a reviewer's last verdict; return it, or None if there is none.

        Pairs that were only scrolled past are skipped: those are no verdicts.
        """
        with self._lock, self._log.appending() as write:
            self.refresh()
            mine = [o for o in self._by_number.values() if o.who == who and o.verdict != "looked-at"]
            if not mine:
                return None
            last = max(mine, key=lambda opinion: opinion.number)
            write({"undone": last.number, "who": who, "time": datetime.now(UTC).isoformat(timespec="seconds")})
            self.refresh()
            return last

    def agreement(self) -> list[Agreement]:
        """Measure agreement of every two reviewers who judged the same pairs without seeing each other's verdicts."""
        from sklearn.metrics import cohen_kappa_score

        both: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for opinions in self._by_key.values():
            blind = {o.who: o.verdict for o in opinions if o.blind and o.verdict != "looked-at"}
            for one, two in combinations(sorted(blind), 2):
                both.setdefault((one, two), []).append((blind[one], blind[two]))
        agreements = []
        for (one, two), rows in sorted(both.items()):
            first, second = zip(*rows, strict=True)
            equal = sum(a == b for a, b in rows) / len(rows)
            constant = len({*first, *second}) == 1  # kappa is 0/0 then; all agree
            kappa = 1.0 if constant else float(cohen_kappa_score(first, second))
            agreements.append(Agreement(one, two, len(rows), equal, kappa))
        return agreements

    def refresh(self) -> None:
        """Read what other processes wrote."""
        with self._lock:
            lines = self._log.lines()
            for number in range(self._lines_read, len(lines)):
                self._apply_line(number, lines[number])
            self._lines_read = len(lines)

    def _apply_line(self, number: int, line: Mapping[str, Any]) -> None:
        try:
            if "undone" in line:
                undone = self._by_number.pop(int(line["undone"]), None)
                if undone is not None:
                    self._by_key[undone.key].remove(undone)
                return
            names = ("test", "train", "score", "test_start", "train_start", "window")
            pair = Pair(**{name: line[name] for name in names}, sound=line.get("sound"))
            key = pair_key(*line["key"])
            opinion = Opinion(number, str(line["time"]), str(line["who"]), line["verdict"], pair, key,
                              bool(line.get("settles")), tuple(line.get("bank", ())))  # fmt: skip
            if opinion.verdict not in _VERDICTS:
                raise ValueError(f"{opinion.verdict!r} is no verdict")
        except (KeyError, TypeError, ValueError) as error:
            raise CollectionError(f"{self.path}: a line is no verdict: {error!r}") from error
        informed, opinions = self._informed.setdefault(key, set()), self._by_key.setdefault(key, [])
        opinion = replace(opinion, blind=not opinion.settles and opinion.who not in informed)
        self._by_number[number] = opinion
        opinions.append(opinion)
        judges = _judges(opinions)
        if len(judges) > 1:  # whoever has judged may see the others' opinions
            informed |= judges


def decisions_between(
    verdicts: Verdicts, test: Sequence[str], train: Sequence[str], content: Mapping[str, str]
) -> list[tuple[Pair, Decision]]:
    """Return the decisions on pairs of two parts, whichever scan found them, by the names that the videos have now."""
    names: dict[str, list[str]] = {}
    for name in dict.fromkeys((*test, *train)):
        for key in dict.fromkeys((content.get(name, name), name)):
            names.setdefault(key, []).append(name)
    tests, trains = set(test), set(train)
    decided = []
    for (one, two), decision in verdicts.decisions().items():
        pair = decision.opinions[-1].pair
        for first, second in product(names.get(one, ()), names.get(two, ())):
            for a, b in ((first, second), (second, first)):
                if a in tests and b in trains:
                    decided.append((replace(pair, test=a, train=b), decision))
    return decided


def _judges(opinions: Iterable[Opinion]) -> set[str]:
    """Reviewers who judged, rather than scrolling past."""
    return {opinion.who for opinion in opinions if opinion.verdict != "looked-at"}


def _decide(opinions: Sequence[Opinion]) -> Decision | None:
    if not opinions:
        return None
    settling = [opinion for opinion in opinions if opinion.settles]
    if settling:
        return Decision(settling[-1].verdict, tuple(opinions))
    latest = {opinion.who: opinion.verdict for opinion in opinions}
    verdicts = {verdict for verdict in latest.values() if verdict != "looked-at"}
    if not verdicts:
        return Decision("looked-at", tuple(opinions))
    return Decision(verdicts.pop() if len(verdicts) == 1 else None, tuple(opinions))


@dataclass
class _Session:
    token: str
    last_active: float


@dataclass
class Review:
    """Pairs leased to reviewers, so that none is judged more often than required.

    Args:
        pairs: best first.
        keys: of each pair.
        judges_per_pair: number of people who judge each pair, each without seeing the others' opinions.
        clock: monotonic seconds.
    """

    pairs: Sequence[Pair]
    keys: Sequence[tuple[str, str]]
    verdicts: Verdicts
    judges_per_pair: int = 1
    clock: Callable[[], float] = time.monotonic
    _leases: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    _sessions: dict[str, _Session] = field(default_factory=dict)
    _place_of: dict[tuple[str, str], int] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def enter(self, who: str, token: str) -> None:
        """Begin or continue reviewing under a name.

        Raises:
            UsageError: the name is empty or too long, or somebody else uses it at the moment.
        """
        if not who.strip() or len(who) > 64 or who[0] in "=+-@" or any(ord(sign) < 32 for sign in who):
            raise UsageError("a reviewer needs a name of 1 to 64 letters that begins with none of = + - @")
        with self._lock:
            session = self._sessions.get(who)
            if session is not None and session.token != token and self.clock() - session.last_active < _LEASE_SECONDS:
                raise UsageError(f"{who!r} is reviewing in another window at the moment; choose another name")
            self._sessions[who] = _Session(token, self.clock())

    def leave(self, who: str, token: str) -> None:
        """Release the name and all its leases."""
        with self._lock:
            session = self._sessions.get(who)
            if session is not None and session.token == token:
                del self._sessions[who]
                for leases in self._leases.values():
                    leases.pop(who, None)

    def queue(self, who: str, count: int, after: int = -1) -> list[int]:
        """Lease the next pairs to a reviewer for five minutes; return their places, those leased before among them."""
        with self._lock:
            self.verdicts.refresh()
            now = self.clock()
            leased: list[int] = []
            for place in range(after + 1, len(self.pairs)):
                if self.place_of(self.keys[place]) == place and self._is_open(place, who, now):
                    leased.append(place)
                    self._leases.setdefault(self.keys[place], {})[who] = now + _LEASE_SECONDS
                    if len(leased) == count:
                        break
            return leased

    def renew_leases(self, who: str, places: Iterable[int]) -> None:
        """Renew the leases of this reviewer for five minutes; those that ran out, or that another window of theirs gave
        back, only if nobody else took the pair."""
        with self._lock:
            now = self.clock()
            for place in places:
                if 0 <= place < len(self.keys) and self._is_open(place, who, now):
                    self._leases.setdefault(self.keys[place], {})[who] = now + _LEASE_SECONDS

    def _is_open(self, place: int, who: str, now: float) -> bool:
        opinions = self.verdicts.opinions_on(self.keys[place])
        reviewers = {opinion.who for opinion in opinions if not opinion.settles}
        return who not in reviewers and len(reviewers | self._other_holders(place, who, now)) < self.judges_per_pair

    def _other_holders(self, place: int, who: str, now: float) -> set[str]:
        leases = self._leases.get(self.keys[place])
        return {name for name, until in leases.items() if name != who and until > now} if leases else set()

    def check_can_judge(self, places: Iterable[int], who: str, *, settles: bool = False) -> None:
        """Raise unless a reviewer's opinion on each of some pairs would be recorded.

        Raises:
            UsageError: there is no such pair; enough others judged one meanwhile, or have it leased; or there is
                nothing to settle.
        """
        with self._lock:
            self.verdicts.refresh()
            for place in places:
                if not 0 <= place < len(self.pairs):
                    raise UsageError(f"there is no pair {place}; there are {len(self.pairs)}, counted from 0")
                opinions = self.verdicts.opinions_on(self.keys[place])
                if settles:
                    if not self._can_settle(place, who) and not any(opinion.settles for opinion in opinions):
                        raise UsageError("nobody disagrees about this pair, or your own opinion is asked for first")
                    continue
                judges = _judges(opinion for opinion in opinions if opinion.who != who)
                holders = self._other_holders(place, who, self.clock())
                leased = self._leases.get(self.keys[place], {}).get(who, -1.0) > self.clock()
                if len(judges if leased else judges | holders) >= self.judges_per_pair:
                    busy = ", ".join(sorted(judges | holders))
                    raise UsageError(f"{busy} judged this pair meanwhile or has it at the moment; nothing was kept")

    def record(
        self, place: int, verdict: Verdict, who: str, *, settles: bool = False, bank: Sequence[int] = ()
    ) -> Opinion:
        """Record a reviewer's opinion on a pair, and end their lease of it.

        Raises:
            UsageError: as `check_can_judge`.
        """
        with self._lock:
            self.check_can_judge([place], who, settles=settles)
            key = self.keys[place]
            opinion = self.verdicts.record(self.pairs[place], verdict, who, key=key, settles=settles, bank=bank)
            self._leases.get(key, {}).pop(who, None)
            return opinion

    def _can_settle(self, place: int, who: str) -> bool:
        """Whether opinions differ, and this reviewer's own is not required first."""
        decision = self.verdicts.decision(self.keys[place])
        if decision is None or decision.verdict is not None:
            return False
        judges = _judges(decision.opinions)
        return who in judges or len(judges) >= self.judges_per_pair

    def visible_opinions(self, place: int, who: str) -> tuple[Opinion, ...]:
        """The opinions that a reviewer may see: their own, and the others' once they or enough people have judged."""
        opinions = tuple(self.verdicts.opinions_on(self.keys[place]))
        judges = _judges(opinion for opinion in opinions if not opinion.settles)
        if who in judges or len(judges) >= self.judges_per_pair:
            return opinions
        return tuple(opinion for opinion in opinions if opinion.who == who)

    def place_of(self, key: tuple[str, str]) -> int | None:
        """Return the place of a pair in this review, or None."""
        with self._lock:
            if not self._place_of:
                for place, other in enumerate(self.keys):
                    self._place_of.setdefault(other, place)
            return self._place_of.get(key)

    def places(self, view: str, who: str) -> list[int]:
        """List places of pairs: `looked-at` by somebody and not judged, `mine`, or `disagreements` nobody settled."""
        if view not in ("looked-at", "mine", "disagreements"):
            raise UsageError(f"no view is called {view!r}; there are looked-at, mine and disagreements")
        self.verdicts.refresh()
        places = []
        for place, key in enumerate(self.keys):
            decision = self.verdicts.decision(key)
            if decision is None:
                continue
            if (
                (view == "looked-at" and not decision.judged)
                or (view == "mine" and any(opinion.who == who for opinion in decision.opinions))
                or (view == "disagreements" and self._can_settle(place, who))
            ):
                places.append(place)
        return places

    def counts(self) -> dict[str, int]:
        """Count pairs by decision; `seen` are those judged or scrolled past.

        A pair that more people have to judge counts as `waiting`, so that its verdict does not influence them.
        """
        self.verdicts.refresh()
        counts = Counter(dict.fromkeys(("pairs", "seen", *_VERDICTS, "disagreement", "waiting"), 0))
        counts["pairs"] = len(self.keys)
        for decision in filter(None, map(self.verdicts.decision, self.keys)):
            counts["seen"] += 1
            waiting = 0 < len(_judges(decision.opinions)) < self.judges_per_pair
            counts["waiting" if waiting else decision.verdict or "disagreement"] += 1
        return dict(counts)
