"""Opinions are kept whatever happens, handed out once, and weighed."""

import json
import multiprocessing
from pathlib import Path

import pytest

from reelseek.errors import CollectionError, UsageError
from reelseek.overlap.log import Log
from reelseek.overlap.pairs import Pair
from reelseek.overlap.verdicts import Review, Verdicts, decisions_between, pair_key

PAIRS = [Pair(f"t{i}", f"r{i}", 1 - i / 100, float(i), 2.0 * i, 4.0) for i in range(6)]
KEYS = [pair_key(pair.test, pair.train) for pair in PAIRS]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _review(path: Path, judges_per_pair: int = 1) -> tuple[Review, Clock]:
    clock = Clock()
    return Review(PAIRS, KEYS, Verdicts(path), judges_per_pair, clock), clock


def test_a_line_cut_in_half_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "said.jsonl"
    first = Verdicts(path)
    first.record(PAIRS[0], "duplicate", "Ann")
    first.record(PAIRS[1], "not", "Ann")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"verdict": "unsure", "who": "An')  # the machine went down while it was written
    again = Verdicts(path)
    assert [each.verdict for each in again.opinions()] == ["duplicate", "not"]
    again.record(PAIRS[2], "near-duplicate", "Bo")
    last = Verdicts(path)
    assert [each.verdict for each in last.opinions()] == ["duplicate", "not", "near-duplicate"]
    assert list(last.broken) == [3]
    assert path.read_bytes().startswith(whole)  # what was there is there
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CollectionError, match="became shorter"):
        last.refresh()
    (tmp_path / "other.jsonl").write_text('{"verdict": "maybe"}\n')
    with pytest.raises(CollectionError, match="a line is no verdict"):
        Verdicts(tmp_path / "other.jsonl")


def _write(path: Path, who: str) -> None:
    log = Log(path)
    for number in range(50):
        log.append({"who": who, "number": number})


def test_two_processes_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, who)) for who in ("a", "b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    rows = Log(path).lines()
    for who in ("a", "b"):
        assert [row["number"] for row in rows if row["who"] == who] == list(range(50))


def test_a_pair_is_handed_to_one_until_its_lease_ends(tmp_path: Path) -> None:
    review, clock = _review(tmp_path / "said.jsonl")
    review.enter("Ann", "1" * 8)
    review.enter("Bo", "2" * 8)
    assert review.queue("Ann", 2) == [0, 1]
    assert review.queue("Bo", 2) == [2, 3]
    assert review.queue("Ann", 2) == [0, 1]  # her own come again, as after a reload
    with pytest.raises(UsageError, match="Ann judged this pair meanwhile or has it"):
        review.record(0, "not", "Bo")
    review.record(0, "duplicate", "Ann")
    clock.now = 200
    review.renew_leases("Bo", [2, 3])
    clock.now = 400  # Ann's leases are over, Bo's were held
    assert review.queue("Ann", 9) == [1, 4, 5]
    with pytest.raises(UsageError, match="Ann judged this pair"):
        review.record(0, "not", "Bo")
    review.leave("Ann", "1" * 8)
    assert review.queue("Bo", 9) == [1, 2, 3, 4, 5]


def test_a_name_is_one_persons(tmp_path: Path) -> None:
    review, clock = _review(tmp_path / "said.jsonl")
    review.enter("Ann", "1" * 8)
    review.enter("Ann", "1" * 8)  # the same window again
    with pytest.raises(UsageError, match="'Ann' is reviewing in another window"):
        review.enter("Ann", "2" * 8)
    clock.now = 301  # the other window is gone
    review.enter("Ann", "2" * 8)
    with pytest.raises(UsageError, match="1 to 64 letters"):
        review.enter("  ", "3" * 8)


def test_a_second_opinion_is_blind_and_disagreements_are_settled(tmp_path: Path) -> None:
    review, _ = _review(tmp_path / "said.jsonl", judges_per_pair=2)
    assert review.queue("Ann", 1) == [0]
    assert review.queue("Bo", 1) == [0]
    assert review.queue("Cy", 1) == [1]  # two have the first one
    review.record(0, "duplicate", "Ann")
    assert review.visible_opinions(0, "Bo") == ()
    assert [each.who for each in review.visible_opinions(0, "Ann")] == ["Ann"]
    review.record(0, "not", "Bo")
    assert [each.who for each in review.visible_opinions(0, "Bo")] == ["Ann", "Bo"]
    assert review.verdicts.decision(KEYS[0]).verdict is None
    assert review.places("disagreements", "Cy") == [0]
    assert review.counts()["disagreement"] == 1
    with pytest.raises(UsageError):
        review.record(0, "duplicate", "Cy")  # nobody asked for a third
    review.record(0, "near-duplicate", "Cy", settles=True)
    assert review.verdicts.decision(KEYS[0]).verdict == "near-duplicate"
    assert review.places("disagreements", "Cy") == []


def test_scrolling_past_counts_as_seen_and_can_be_opened_again(tmp_path: Path) -> None:
    review, _ = _review(tmp_path / "said.jsonl")
    review.queue("Ann", 3)
    review.record(0, "looked-at", "Ann")
    review.record(1, "not", "Ann")
    counts = review.counts()
    assert (counts["seen"], counts["looked-at"], counts["not"]) == (2, 1, 1)
    assert review.queue("Bo", 1) == [3]
    assert review.places("looked-at", "Bo") == [0]
    review.record(0, "duplicate", "Bo")
    assert review.places("looked-at", "Bo") == []
    assert review.verdicts.decision(KEYS[0]).verdict == "duplicate"


def test_undo_takes_back_ones_own_last_verdict_even_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "said.jsonl"
    review, _ = _review(path)
    review.queue("Ann", 3)
    for place, verdict in ((0, "duplicate"), (1, "not"), (2, "looked-at")):
        review.record(place, verdict, "Ann")
    again, _ = _review(path)
    assert again.verdicts.undo("Bo") is None
    assert again.verdicts.undo("Ann").verdict == "not"  # a pair that was scrolled past is no verdict
    assert again.verdicts.undo("Ann").verdict == "duplicate"
    assert again.verdicts.undo("Ann") is None
    assert again.queue("Bo", 2) == [0, 1]
    assert len(path.read_text().splitlines()) == 5
    review.verdicts.refresh()
    assert [each.verdict for each in review.verdicts.opinions()] == ["looked-at"]


def test_agreement_is_cohens_kappa_over_blind_verdicts(tmp_path: Path) -> None:
    said = Verdicts(tmp_path / "said.jsonl")
    for pair, one, two in zip(PAIRS, "ddnnxx", "ddnxxx", strict=True):
        for who, sign in (("Ann", one), ("Bo", two)):
            said.record(pair, {"d": "duplicate", "n": "near-duplicate", "x": "not"}[sign], who)
    said.record(PAIRS[3], "not", "Ann", settles=True)
    (found,) = said.agreement()
    chance = (2 * 2 + 2 * 1 + 2 * 3) / 36
    assert (found.one, found.two, found.pairs) == ("Ann", "Bo", 6)
    assert found.equal == pytest.approx(5 / 6)
    assert found.kappa == pytest.approx((5 / 6 - chance) / (1 - chance))


def test_what_was_said_with_the_other_verdict_in_sight_is_not_blind(tmp_path: Path) -> None:
    path = tmp_path / "said.jsonl"
    review, _ = _review(path, judges_per_pair=2)
    review.record(0, "duplicate", "Ann")
    review.verdicts.undo("Ann")
    review.record(0, "near-duplicate", "Ann")  # nobody else had judged: still blind
    review.record(0, "not", "Bo")  # and is shown what Ann said
    assert review.verdicts.agreement()[0].equal == 0
    review.verdicts.undo("Bo")
    review.record(0, "near-duplicate", "Bo")
    assert review.verdicts.agreement() == []  # Bo's own blind verdict is gone, and this is none
    assert Verdicts(path).agreement() == []
    assert review.verdicts.decision(KEYS[0]).verdict == "near-duplicate"


def test_a_third_person_sees_no_disagreement_before_judging(tmp_path: Path) -> None:
    review, _ = _review(tmp_path / "said.jsonl", judges_per_pair=3)
    review.record(0, "duplicate", "Ann")
    assert review.counts()["waiting"] == 1
    review.record(0, "not", "Bo")
    assert review.counts()["disagreement"] == 0
    assert review.places("disagreements", "Cy") == []
    with pytest.raises(UsageError, match="your own opinion is asked for first"):
        review.record(0, "not", "Cy", settles=True)
    with pytest.raises(UsageError, match="nobody disagrees"):
        review.record(1, "not", "Cy", settles=True)
    review.record(0, "not", "Cy")
    assert review.places("disagreements", "Cy") == [0]


def test_a_lease_that_ran_out_is_not_taken_back_from_who_has_it_now(tmp_path: Path) -> None:
    review, clock = _review(tmp_path / "said.jsonl")
    review.queue("Ann", 2)
    clock.now = 400
    assert review.queue("Bo", 1) == [0]
    review.renew_leases("Ann", [0, 1, 77])
    with pytest.raises(UsageError, match="Bo judged"):
        review.record(0, "not", "Ann")
    review.record(0, "duplicate", "Bo")
    clock.now = 600
    assert review.queue("Bo", 1) == [2]  # what nobody had taken is Ann's again


def test_copies_of_the_same_two_videos_are_one_pair(tmp_path: Path) -> None:
    keys = [KEYS[0], KEYS[0], *KEYS[2:]]
    review = Review(PAIRS, keys, Verdicts(tmp_path / "said.jsonl"))
    assert review.queue("Ann", 1) == [0]
    assert review.queue("Bo", 1) == [2]


def test_verdicts_follow_contents_through_new_names(tmp_path: Path) -> None:
    said = Verdicts(tmp_path / "said.jsonl")
    said.record(PAIRS[0], "duplicate", "Ann", key=pair_key("hash-a", "hash-b"))
    found = decisions_between(said, ["moved"], ["renamed", "x"], {"moved": "hash-b", "renamed": "hash-a"})
    assert [(pair.test, pair.train, decision.verdict) for pair, decision in found] == [
        ("moved", "renamed", "duplicate")
    ]
    row = json.loads((tmp_path / "said.jsonl").read_text())
    assert row["who"] == "Ann"
    assert row["time"].startswith("20")
