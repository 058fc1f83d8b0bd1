"""Confidence keeps its word: what wrong hits reach here, and how far the labeller believes its labels."""

from pathlib import Path

import numpy as np
import pytest
from tests.search.talks import make_talks

from reelseek.experts.efficientnet import imagenet_labels
from reelseek.experts.expert import Track
from reelseek.experts.sentence import sentence_encoder
from reelseek.library import Library
from reelseek.search import Searcher
from reelseek.search.strength import FEWEST_CAPTIONS, belief_in_labels, share_above, strength_of

LABELS = [label.partition(",")[0] for label in imagenet_labels()]


def _chances(**chances: float) -> np.ndarray:
    """The rest is spread over all classes."""
    row = np.full(1000, (1 - sum(chances.values())) / 1000, np.float32)
    for label, chance in chances.items():
        row[LABELS.index(label.replace("_", " "))] += chance
    return row[None]


def test_a_label_counts_as_far_as_it_is_believed(tmp_path: Path) -> None:
    """A standing man with a dumbbell of 14 % is no certain dumbbell; a ski of 90 % is one."""
    with Library.open(tmp_path / "library", create=True) as library:
        with library.saving():
            for name, row in {
                "man": _chances(dumbbell=0.14, jersey=0.06, plunger=0.05),
                "skier": _chances(ski=0.9),
                "dog": _chances(Siberian_husky=0.3, Border_collie=0.3, malamute=0.3),
            }.items():
                library.db.execute("INSERT INTO videos(id) VALUES (?)", (name,))
                track = Track(row, np.array([[0.0, 4.0]]))
                library.put_track(f"id:{name}", "object", "object:test", "object", track)
        searcher = Searcher(library)
        found = {query: searcher.search(query, k=1, without=["name"])[0] for query in ("dumbbell", "ski", "a dog")}
    assert [hit.video for hit in found.values()] == ["man", "skier", "dog"]
    assert found["dumbbell"].strength == "weak"
    assert found["ski"].strength == "strong"
    assert found["a dog"].confidence > 0.5  # three breeds, none of them sure, are surely a dog


def test_belief_is_of_the_whole_clip() -> None:
    seen, unseen = _chances(candle=0.9), _chances(suit=0.9)
    assert belief_in_labels("candle", seen) > 0.9
    assert belief_in_labels("candle", unseen) < 0.2
    assert belief_in_labels("candle", np.concatenate([unseen, unseen, unseen, seen])) > 0.9
    assert belief_in_labels("candle", np.concatenate([unseen] * 9 + [seen])) < 0.5
    assert belief_in_labels("candle", np.zeros((0, 1000), np.float32)) == 0.0


def test_a_share_is_never_nothing_and_words_have_thresholds() -> None:
    assert share_above([0.5, 2.0], np.array([0.1, 0.5, 0.9])).tolist() == [0.75, 0.25]
    assert [strength_of(value) for value in (None, 0.0, 0.49, 0.5, 0.79, 0.8, 1.0)] == [
        None, "weak", "weak", "likely", "likely", "strong", "strong",
    ]  # fmt: skip


def test_captions_of_the_library_are_asked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its own captions reach at other videos lowers the confidence of what scores no higher."""
    with make_talks(tmp_path / "library", 40) as library:
        plain = Searcher(library).search("a train leaves the beach", k=1, without=["captions"])[0]
        with library.saving():
            library.db.executemany(
                "INSERT INTO captions VALUES (?, 0, ?, NULL, NULL, NULL)",
                [(f"v{n:03d}", f"number {n} of the dogs") for n in range(FEWEST_CAPTIONS)],
            )
        searcher = Searcher(library)
        gallery = searcher._gallery(None)
        monkeypatch.setattr(gallery, "_wrong_scores", lambda _: np.full(131, 9.0))
        lowered = searcher.search("a train leaves the beach", k=1, without=["captions"])[0]
        assert (lowered.video, lowered.similarity) == (plain.video, plain.similarity)
        assert lowered.confidence == pytest.approx(plain.confidence / 2, abs=0.02)
        monkeypatch.undo()
        wrong = gallery._wrong_scores(searcher._ask(_parsed("a"), [], {})[0].selection)
        assert len(wrong) == FEWEST_CAPTIONS
        best = {hit.video: hit.similarity for hit in searcher.search(
            "number 3 of the dogs", k=99, group_by="video", without=["captions", "name"]
        )}  # fmt: skip
        assert wrong[3] <= max(best.values()) + 1e-5


def _parsed(text: str) -> object:
    from reelseek.search import parse_query

    return parse_query(text)


@pytest.mark.parametrize("group_by", ["moment", "video"])
def test_pages_are_one_long_list(tmp_path: Path, group_by: str) -> None:
    rng = np.random.default_rng(0)
    with Library.open(tmp_path / "library", create=True) as library:
        with library.saving():
            for number in range(6):  # long ones, whose neighbouring clips are nearly alike
                spans = np.stack([np.arange(0, 400, 8.0), np.arange(0, 400, 8.0) + 8], 1)
                noise = np.cumsum(rng.normal(size=(len(spans), 384)), 0) * 0.02 + 0.3 * rng.normal(size=384)
                walk = 8 * sentence_encoder().encode(["a dog on the beach"]) + noise
                library.db.execute(
                    "INSERT INTO videos(id, content, duration) VALUES (?, ?, 400)", (f"v{number}", f"c{number}")
                )
                library.db.execute("INSERT INTO contents VALUES (?, '{}', 400, '[]')", (f"c{number}",))
                track = Track(walk.astype(np.float32), spans)
                library.put_track(f"c{number}", "speech", "speech:test", "speech", track)
        searcher = Searcher(library)
        whole = searcher.search("a dog on the beach", k=60, group_by=group_by)
        for size in (1, 7):
            pages = [searcher.search("a dog on the beach", k=size, offset=start, group_by=group_by)
                     for start in range(0, 60, size)]  # fmt: skip
            assert [hit for page in pages for hit in page][:60] == whole
        assert len(whole) == 6 if group_by == "video" else len(whole) > 30
        assert max(hit.end - hit.start for hit in whole) > 50  # neighbours are nearly as good
        assert searcher.search("a dog on the beach", k=5, offset=10_000) == []
