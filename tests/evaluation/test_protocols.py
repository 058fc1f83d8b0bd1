"""Protocols, ranks under each rule, and comparing runs, against plain counting."""

from pathlib import Path

import numpy as np
import pytest

from reelseek.errors import UsageError
from reelseek.evaluation import PROTOCOLS, Protocol, dual_softmax, metrics, text_to_video_ranks, video_to_text_ranks
from reelseek.evaluation.compare import compare, qrels_path, read_run_ranks, write_run
from reelseek.evaluation.ranks import ranks_of
from reelseek.library.tokens import Clip
from reelseek.training.split import Split

OWNERS = [0, 0, 1, 2, 2, 3]
WORDS = [0, 1, 2, 0, 3, 2]  # texts 0 and 3, and 2 and 5, say the same


def _scores(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (6, 4)) / 4  # many ties


def _rank(own: float, others: list[float], ties: str) -> float:
    better, equal = sum(o > own for o in others), sum(o == own for o in others)
    return 1 + better + {"mean": equal / 2, "optimistic": 0, "pessimistic": equal}[ties]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("tolerant", [0, 1])
@pytest.mark.parametrize("ties", ["mean", "optimistic", "pessimistic"])
def test_ranks_are_what_counting_gives(ties: str, tolerant: int, seed: int) -> None:
    scores, words = _scores(seed), WORDS if tolerant else None
    wanted = []
    for text, video in enumerate(OWNERS):
        same = {OWNERS[t] for t in range(6) if tolerant and WORDS[t] == WORDS[text]} - {video}
        wanted.append(
            _rank(scores[text, video], [scores[text, v] for v in range(4) if v != video and v not in same], ties)
        )
    found = text_to_video_ranks(scores, OWNERS, ties=ties, same_words=words)  # type: ignore[arg-type]
    assert found.tolist() == wanted
    for each in (False, True):
        wanted = []
        for video in range(4):
            mine = [t for t in range(6) if OWNERS[t] == video]
            own_words = {WORDS[t] for t in mine} if tolerant else set()
            seen, others = set(), []
            for t in range(6):
                if t in mine or (tolerant and (WORDS[t] in own_words or WORDS[t] in seen)):
                    seen.add(WORDS[t])
                    continue
                seen.add(WORDS[t])
                others.append(scores[t, video])
            asked = [scores[t, video] for t in mine]
            wanted += [_rank(own, others, ties) for own in (asked if each else [max(asked)])]
        found = video_to_text_ranks(scores, OWNERS, ties=ties, same_words=words, each=each)  # type: ignore[arg-type]
        assert found.tolist() == wanted


def test_a_broken_row_raises_and_never_leaves_the_average() -> None:
    scores = _scores(1)
    scores[2, 1] = np.nan
    for direction in (text_to_video_ranks, video_to_text_ranks):
        with pytest.raises(ValueError, match="NaN in 1 rows, the first is row 2"):
            direction(scores, OWNERS)
    with pytest.raises(ValueError, match="2 of 3 ranks are not numbers"):
        metrics(np.array([1.0, np.nan, np.nan]))


def test_metrics_of_one_right_answer() -> None:
    found = metrics(np.array([1.0, 2.5, 20.0]))
    assert found.mean_average_precision == pytest.approx((1 + 1 / 2.5 + 1 / 20) / 3)
    assert found.ndcg == pytest.approx((1 + 1 / np.log2(3.5) + 1 / np.log2(21)) / 3)
    assert (found.recall_at_1, found.recall_at_5, found.median_rank) == (1 / 3, 2 / 3, 2.5)
    assert ranks_of(np.full((1, 10), 0.5), np.array([0.5])).tolist() == [5.5]


def test_dual_softmax_is_reported_apart_and_uses_all_queries() -> None:
    scores = np.array([[0.9, 0.8], [0.95, 0.1]])
    assert text_to_video_ranks(scores, [1, 0]).tolist() == [2, 1]
    assert text_to_video_ranks(dual_softmax(scores), [1, 0]).tolist() == [1, 1]


def _split() -> Split:
    clips = (Clip("a", 5.0, 9.0), Clip("a", 0.0, 4.0), Clip("b"), Clip("c"))
    return Split("test", clips, ("late one", "early two three", "b first", "b second"), (0, 1, 2, 2))


def test_protocols_choose_who_asks_and_keep_the_gallery() -> None:
    split = _split()
    assert split.under(Protocol("p")) == split
    first = split.under(Protocol("p", captions="first"))
    assert (first.texts, first.clips) == (("late one", "early two three", "b first"), split.clips)
    whole = split.under(Protocol("p", captions="paragraph"))
    assert whole.texts == ("early two three late one", "b first b second")
    assert [clip.video for clip in whole.clips] == ["a", "b", "c"]  # c, which nobody describes, is still a candidate
    assert whole.clip_of_text == (0, 1)
    drawn = split.under(Protocol("p", captions="random"))
    chosen = int(np.random.RandomState(42).choice([0, 1]))
    assert drawn.texts == (split.texts[chosen], split.texts[int(np.random.RandomState(42).choice([2, 3]))])
    assert split.under(Protocol("p", words=1)).texts == ("late", "early", "b", "b")
    assert split.under(Protocol("p", words=1)).hash != split.hash
    with pytest.raises(UsageError, match="no caption to ask with"):
        Split("test", split.clips, (), ()).under(PROTOCOLS["strict"])
    assert all(name == rule.name and rule.says for name, rule in PROTOCOLS.items())


def test_a_run_that_is_written_gives_the_same_ranks_back(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    documents = ["a film.mp4", "b", "c@1-2", "dé"]
    write_run(tmp_path / "x.run", scores, {row: [owner] for row, owner in enumerate(OWNERS)}, documents, "me")
    found = read_run_ranks(tmp_path / "x.run")
    assert [found[f"q{row}"] for row in range(6)] == text_to_video_ranks(scores, OWNERS).tolist()
    first = (tmp_path / "x.run").read_text().splitlines()[0].split()
    assert first[0] == "q0"
    assert first[1] == "Q0"
    assert first[3] == "1"
    assert "a%20film.mp4" in qrels_path(tmp_path / "x.run").read_text()
    write_run(
        tmp_path / "cut.run", scores, {row: [owner] for row, owner in enumerate(OWNERS)}, documents, "me", depth=1
    )
    assert max(read_run_ranks(tmp_path / "cut.run").values()) == 2
    with pytest.raises(UsageError, match=r"evaluate \.\.\. --run FILE"):
        read_run_ranks(tmp_path / "none.run")
    (tmp_path / "cut.run").write_text("q0 a b\n")
    with pytest.raises(UsageError, match="is not `query Q0"):
        read_run_ranks(tmp_path / "cut.run")


def test_paired_bootstrap_sees_a_difference_and_none() -> None:
    drawn = np.random.default_rng(0)
    ranks = drawn.integers(1, 30, 300).astype(float)
    same = {each.metric: each for each in compare(ranks, ranks)}
    assert same["recall_at_5"].difference == 0
    assert same["recall_at_5"].p == 1
    better = np.maximum(1, ranks - drawn.integers(0, 6, 300))
    found = {each.metric: each for each in compare(ranks, better)}
    assert found["recall_at_5"].low > 0
    assert found["recall_at_5"].p < 0.01
    assert found["recall_at_5"].difference == pytest.approx((better <= 5).mean() - (ranks <= 5).mean())
    worse = {each.metric: each for each in compare(better, ranks)}
    assert worse["recall_at_5"].difference == -found["recall_at_5"].difference
    with pytest.raises(ValueError, match="cannot be paired"):
        compare(ranks, ranks[:5])
