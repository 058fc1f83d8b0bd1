"""What people said of pairs: kept for good, by name and time; who judges what next; and where two of them disagree."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal, get_args

from reelseek.errors import CollectionError, UsageError
from reelseek.overlap.log import Log
from reelseek.overlap.pairs import Pair

__all__ = ["SAME", "Agreement", "Decision", "Review", "Said", "Verdict", "Verdicts", "known_pairs", "pair_key"]

Verdict = Literal["duplicate", "near-duplicate", "not", "unsure", "screensaver", "looked-at"]
SAME: tuple[Verdict, ...] = ("duplicate", "near-duplicate")
_VERDICTS = get_args(Verdict)
_LEASE_SECONDS = 300.0


def pair_key(one: str, two: str) -> tuple[str, str]:
    """Names a pair whatever its order; of contents where they are known, so that a moved or renamed video keeps it."""
    return (one, two) if one <= two else (two, one)


@dataclass(frozen=True)
class Said:
    """One opinion: an entry of the file of verdicts.

    Attributes:
        number: its place in the file; what undoes it names it.
        key: contents of the videos where they are known, else their names.
        settles: given with the others' opinions in sight, to end a disagreement.
        blind: given before what others said of the pair could be seen.
        bank: screensavers that were kept with it.
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
    """What stands about a pair: `verdict` is None while opinions differ and nobody settled it."""

    verdict: Verdict | None
    said: tuple[Said, ...]

    @property
    def judged(self) -> bool:
        """Somebody looked at it and said something, rather than scrolling past."""
        return any(each.verdict != "looked-at" for each in self.said)


@dataclass(frozen=True)
class Agreement:
    """Of two reviewers over pairs that both judged blindly: the share of equal verdicts, and Cohen's kappa."""

    one: str
    two: str
    pairs: int
    equal: float
    kappa: float


class Verdicts:
    """All opinions in one file that only grows.

    Args:
        path: need not exist.

    Raises:
        CollectionError: a line is no verdict.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = Log(path)
        self._taken = 0
        self._said: dict[int, Said] = {}
        self._by_key: dict[tuple[str, str], list[Said]] = {}
        self._saw: dict[tuple[str, str], set[str]] = {}  # who could see what others said
        self._lock = threading.RLock()
        self.refresh()

    @property
    def broken(self) -> Sequence[int]:
        """Lines that a crash cut in half."""
        return self._log.broken

    def said(self) -> list[Said]:
        """Every opinion that was not undone, in order; a person's last one on a pair stands for the earlier ones."""
        return list(self._said.values())

    def opinions(self, key: tuple[str, str]) -> Sequence[Said]:
        """What was said of a pair."""
        return self._by_key.get(key, ())

    def decision(self, key: tuple[str, str]) -> Decision | None:
        """What stands about a pair, or None if nobody saw it."""
        return _decide(self._by_key.get(key, ()))

    def decisions(self) -> dict[tuple[str, str], Decision]:
        """What stands about every pair that somebody saw."""
        found = ((key, _decide(each)) for key, each in self._by_key.items())
        return {key: decision for key, decision in found if decision is not None}

    def say(
        self,
        pair: Pair,
        verdict: Verdict,
        who: str,
        *,
        key: tuple[str, str] | None = None,
        settles: bool = False,
        bank: Sequence[int] = (),
    ) -> Said:
        """Keep an opinion; when this returns it is on the disk."""
        if verdict not in _VERDICTS:
            raise UsageError(f"{verdict!r} is no verdict; there are {', '.join(_VERDICTS)}")
        with self._lock, self._log.appending() as write:
            row = {
                "verdict": verdict, "who": who, "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "key": list(key or pair_key(pair.test, pair.train)), **asdict(pair),
                **({"settles": True} if settles else {}), **({"bank": list(bank)} if bank else {}),
            }  # fmt: skip
            write(row)
            self.refresh()
            return self._by_key[pair_key(*row["key"])][-1]

    def undo(self, who: str) -> Said | None:
        """Take back the last verdict of a person that stands; returns it, or None if there is none.

        Pairs that were only scrolled past are left: they are no verdicts.
        """
        with self._lock, self._log.appending() as write:
            self.refresh()
            mine = [each for each in self._said.values() if each.who == who and each.verdict != "looked-at"]
            if not mine:
                return None
            last = max(mine, key=lambda each: each.number)
            write({"undone": last.number, "who": who, "time": datetime.now(UTC).isoformat(timespec="seconds")})
            self.refresh()
            return last

    def agreement(self) -> list[Agreement]:
        """Of every two reviewers who judged the same pairs without seeing each other's verdicts."""
        from sklearn.metrics import cohen_kappa_score

        both: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for opinions in self._by_key.values():
            blind = {each.who: each.verdict for each in opinions if each.blind and each.verdict != "looked-at"}
            for one, two in combinations(sorted(blind), 2):
                both.setdefault((one, two), []).append((blind[one], blind[two]))
        found = []
        for (one, two), rows in sorted(both.items()):
            first, second = zip(*rows, strict=True)
            equal = sum(a == b for a, b in rows) / len(rows)
            alike = len({*first, *second}) == 1  # kappa is 0/0 then; all agree
            found.append(
                Agreement(one, two, len(rows), equal, 1.0 if alike else float(cohen_kappa_score(first, second)))
            )
        return found

    def refresh(self) -> None:
        """Take in what other processes wrote."""
        with self._lock:
            lines = self._log.lines()
            for number in range(self._taken, len(lines)):
                self._take(number, lines[number])
            self._taken = len(lines)

    def _take(self, number: int, line: Mapping[str, Any]) -> None:
        try:
            if "undone" in line:
                gone = self._said.pop(int(line["undone"]), None)
                if gone is not None:
                    self._by_key[gone.key].remove(gone)
                return
            names = ("test", "train", "score", "test_start", "train_start", "window")
            pair = Pair(**{name: line[name] for name in names}, sound=line.get("sound"))
            key = pair_key(*line["key"])
            said = Said(number, str(line["time"]), str(line["who"]), line["verdict"], pair, key,
                        bool(line.get("settles")), tuple(line.get("bank", ())))  # fmt: skip
            if said.verdict not in _VERDICTS:
                raise ValueError(f"{said.verdict!r} is no verdict")
        except (KeyError, TypeError, ValueError) as error:
            raise CollectionError(f"{self.path}: a line is no verdict: {error!r}") from error
        saw, there = self._saw.setdefault(key, set()), self._by_key.setdefault(key, [])
        said = replace(said, blind=not said.settles and said.who not in saw)
        self._said[number] = said
        there.append(said)
        judges = {each.who for each in there if each.verdict != "looked-at"}
        if len(judges) > 1:  # whoever has judged may see what the others said
            saw |= judges


def known_pairs(
    verdicts: Verdicts, test: Sequence[str], train: Sequence[str], content: Mapping[str, str]
) -> list[tuple[Pair, Decision]]:
    """What stands about pairs of two parts, whatever search found them, by the names that the videos have now."""
    names: dict[str, list[str]] = {}
    for name in dict.fromkeys((*test, *train)):
        for known_as in dict.fromkeys((content.get(name, name), name)):
            names.setdefault(known_as, []).append(name)
    tests, trains = set(test), set(train)
    found = []
    for (one, two), decision in verdicts.decisions().items():
        pair = decision.said[-1].pair
        for first, second in product(names.get(one, ()), names.get(two, ())):
            for a, b in ((first, second), (second, first)):
                if a in tests and b in trains:
                    found.append((replace(pair, test=a, train=b), decision))
    return found


def _decide(opinions: Iterable[Said]) -> Decision | None:
    said = tuple(opinions)
    if not said:
        return None
    settled = [each for each in said if each.settles]
    if settled:
        return Decision(settled[-1].verdict, said)
    latest = {each.who: each.verdict for each in said}
    judged = {verdict for verdict in latest.values() if verdict != "looked-at"}
    if not judged:
        return Decision("looked-at", said)
    return Decision(judged.pop() if len(judged) == 1 else None, said)


@dataclass
class _Session:
    token: str
    seen: float


@dataclass
class Review:
    """Pairs handed out to reviewers, so that nobody judges one twice unasked.

    Args:
        pairs: best first.
        keys: of each pair.
        opinions: how many people judge each pair, each without seeing what the others said.
        clock: seconds that never go back.
    """

    pairs: Sequence[Pair]
    keys: Sequence[tuple[str, str]]
    verdicts: Verdicts
    opinions: int = 1
    clock: Callable[[], float] = time.monotonic
    _leases: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    _sessions: dict[str, _Session] = field(default_factory=dict)
    _place_of: dict[tuple[str, str], int] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def enter(self, who: str, token: str) -> None:
        """Begin or go on reviewing under a name.

        Raises:
            UsageError: the name is empty or too long, or somebody else uses it at the moment.
        """
        if not who.strip() or len(who) > 60 or who[0] in "=+-@" or any(ord(sign) < 32 for sign in who):
            raise UsageError("a reviewer needs a name of 1 to 60 letters that begins with none of = + - @")
        with self._lock:
            there = self._sessions.get(who)
            if there is not None and there.token != token and self.clock() - there.seen < _LEASE_SECONDS:
                raise UsageError(f"{who!r} is reviewing in another window at the moment; choose another name")
            self._sessions[who] = _Session(token, self.clock())

    def leave(self, who: str, token: str) -> None:
        """Give the name and all leases back."""
        with self._lock:
            there = self._sessions.get(who)
            if there is not None and there.token == token:
                del self._sessions[who]
                for leases in self._leases.values():
                    leases.pop(who, None)

    def queue(self, who: str, count: int, after: int = -1) -> list[int]:
        """The next places of pairs for a reviewer, leased to them for five minutes; those that they hold come again."""
        with self._lock:
            self.verdicts.refresh()
            now = self.clock()
            found = []
            for place in range(after + 1, len(self.pairs)):
                if self.place_of(self.keys[place]) == place and self._is_open(place, who, now):
                    found.append(place)
                    self._leases.setdefault(self.keys[place], {})[who] = now + _LEASE_SECONDS
                    if len(found) == count:
                        break
            return found

    def keep(self, who: str, places: Iterable[int]) -> None:
        """Hold what one holds for another five minutes; what ran out meanwhile only if nobody else took it."""
        with self._lock:
            now = self.clock()
            for place in places:
                leases = self._leases.get(self.keys[place], {}) if 0 <= place < len(self.keys) else {}
                if who in leases and (leases[who] > now or self._is_open(place, who, now)):
                    leases[who] = now + _LEASE_SECONDS

    def _is_open(self, place: int, who: str, now: float) -> bool:
        said = self.verdicts.opinions(self.keys[place])
        others = {each.who for each in said if not each.settles}
        return who not in others and len(others | self._holders(place, who, now)) < self.opinions

    def _holders(self, place: int, but: str, now: float) -> set[str]:
        leases = self._leases.get(self.keys[place])
        return {name for name, until in leases.items() if name != but and until > now} if leases else set()

    def may_say(self, places: Iterable[int], who: str, *, settles: bool = False) -> None:
        """Whether a reviewer's opinion on some pairs would be kept.

        Raises:
            UsageError: there is no such pair; enough others judged one meanwhile, or hold it now; or there is nothing
                to settle.
        """
        with self._lock:
            self.verdicts.refresh()
            for place in places:
                if not 0 <= place < len(self.pairs):
                    raise UsageError(f"there is no pair {place}; there are {len(self.pairs)}, counted from 0")
                said = self.verdicts.opinions(self.keys[place])
                if settles:
                    if not self._differ(place, who) and not any(each.settles for each in said):
                        raise UsageError("nobody disagrees about this pair, or your own opinion is asked for first")
                    continue
                others = {each.who for each in said if each.who != who and each.verdict != "looked-at"}
                held = self._holders(place, who, self.clock())
                mine = self._leases.get(self.keys[place], {}).get(who, -1.0) > self.clock()
                if len(others) >= self.opinions or (not mine and len(others | held) >= self.opinions):
                    busy = ", ".join(sorted(others | held))
                    raise UsageError(f"{busy} judged this pair meanwhile or has it at the moment; nothing was kept")

    def say(self, place: int, verdict: Verdict, who: str, *, settles: bool = False, bank: Sequence[int] = ()) -> Said:
        """Keep a reviewer's opinion on a pair.

        Raises:
            UsageError: as `may_say`.
        """
        with self._lock:
            self.may_say([place], who, settles=settles)
            kept = self.verdicts.say(self.pairs[place], verdict, who, key=self.keys[place], settles=settles, bank=bank)
            self._leases.get(self.keys[place], {}).pop(who, None)
            return kept

    def _differ(self, place: int, who: str) -> bool:
        """Whether opinions differ, and this person is not one whose own is still asked for."""
        decision = self.verdicts.decision(self.keys[place])
        if decision is None or decision.verdict is not None:
            return False
        judges = {each.who for each in decision.said if each.verdict != "looked-at"}
        return who in judges or len(judges) >= self.opinions

    def may_see(self, place: int, who: str) -> tuple[Said, ...]:
        """What others said, once one has judged oneself, or nobody is asked any more."""
        said = tuple(self.verdicts.opinions(self.keys[place]))
        blind = {each.who for each in said if not each.settles and each.verdict != "looked-at"}
        return said if who in blind or len(blind) >= self.opinions else tuple(e for e in said if e.who == who)

    def place_of(self, key: tuple[str, str]) -> int | None:
        """Where a pair stands here, if it is one of these."""
        with self._lock:
            if not self._place_of:
                for place, each in enumerate(self.keys):
                    self._place_of.setdefault(each, place)
            return self._place_of.get(key)

    def places(self, view: str, who: str) -> list[int]:
        """Places of pairs: `looked-at` by somebody and not judged, `mine`, or `disagreements` that nobody settled."""
        if view not in ("looked-at", "mine", "disagreements"):
            raise UsageError(f"no view is called {view!r}; there are looked-at, mine and disagreements")
        self.verdicts.refresh()
        found = []
        for place, key in enumerate(self.keys):
            decision = self.verdicts.decision(key)
            if decision is None:
                continue
            if (
                (view == "looked-at" and not decision.judged)
                or (view == "mine" and any(each.who == who for each in decision.said))
                or (view == "disagreements" and self._differ(place, who))
            ):
                found.append(place)
        return found

    def counts(self) -> dict[str, int]:
        """Pairs by what stands about them; `seen` is N, judged or scrolled past.

        What stands about a pair that more people are to judge is not told, lest it tell them what was said.
        """
        self.verdicts.refresh()
        told: Counter[str] = Counter()
        seen = 0
        for key in self.keys:
            decision = self.verdicts.decision(key)
            if decision is not None:
                seen += 1
                judges = {each.who for each in decision.said if each.verdict != "looked-at"}
                if len(judges) >= self.opinions or not judges:
                    told[decision.verdict or "disagreement"] += 1
                else:
                    told["waiting"] += 1
        found = {name: told.get(name, 0) for name in (*_VERDICTS, "disagreement", "waiting")}
        return {"pairs": len(self.keys), "seen": seen, **found}
