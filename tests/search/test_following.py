"""This, then that: two moments of one video, the second soon after the first, against a naive loop."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reelseek.errors import QueryError
from reelseek.experts.expert import Text, Track
from reelseek.library import Library
from reelseek.models.embed import embed_texts, similarity_matrix
from reelseek.search import Searcher, Then

FIRST, SECOND = "a dog barks", "a train leaves"
SECONDS = 64.0


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searcher]:
    rng = np.random.default_rng(2)
    with Library.open(tmp_path_factory.mktemp("following") / "library", create=True) as library:
        with library.saving():
            for number in range(12):
                name = f"v{number:02d}"
                spans = np.stack([np.arange(0, SECONDS, 8), np.arange(0, SECONDS, 8) + 8], 1)
                values = rng.normal(size=(len(spans), 384)).astype(np.float32)
                library.db.execute(
                    "INSERT INTO videos(id, content, duration) VALUES (?, ?, ?)", (name, f"c{number}", SECONDS)
                )
                library.db.execute("INSERT INTO contents VALUES (?, '{}', ?, '[]')", (f"c{number}", SECONDS))
                lines = (Text("an umbrella", 16.5, 17.0, "said"),) if number == 3 else ()
                library.put_track(f"c{number}", "speech", "speech:test", "speech", Track(values, spans, lines))
        yield Searcher(library)


def _naive(searcher: Searcher, first: str, second: str, within: float) -> list[tuple[float, str, float, float]]:
    """Every pair of clips of a video by the sum of both similarities, the best first; no clip twice on a side."""
    index = searcher.index
    texts = embed_texts(searcher.model, [first, second])
    scores = similarity_matrix(searcher.model, texts, index.embedding(slice(None))).double().numpy()
    pairs = []
    for one in range(len(index)):
        for other in range(len(index)):
            a, b = index.clips[one], index.clips[other]
            if a.video == b.video and 0 <= b.start_seconds - a.end_seconds <= within:
                pairs.append((scores[0, one] + scores[1, other], one, other))
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    firsts, seconds, best = set(), set(), []
    for score, one, other in pairs:
        if one not in firsts and other not in seconds:
            firsts.add(one)
            seconds.add(other)
            best.append((score, index.clips[one].video, index.clips[one].start_seconds, index.clips[other].end_seconds))
    return best


@pytest.mark.parametrize("within", [0.5, 16.0, 60.0])
def test_pairs_are_those_of_a_naive_loop(searcher: Searcher, within: float) -> None:
    expected = _naive(searcher, FIRST, SECOND, within)
    hits = searcher.search(FIRST, then=Then(SECOND, within), k=15)
    assert [(hit.video, hit.start, hit.end) for hit in hits] == [pair[1:] for pair in expected[:15]]
    assert [hit.similarity for hit in hits] == pytest.approx([pair[0] for pair in expected[:15]], abs=1e-5)
    assert [hit.rank for hit in hits] == list(range(1, 16))
    assert hits[0].query == f"{FIRST}, then {SECOND}"
    pages = [hit for start in range(0, 15, 4) for hit in searcher.search(
        FIRST, then=Then(SECOND, within), k=4, offset=start
    )][:15]  # fmt: skip
    assert pages == hits


def test_either_filter_holds_for_both_moments(searcher: Searcher) -> None:
    hits = searcher.search(f"{FIRST} name:v0", then=Then(f"{SECOND} -name:v01", 30.0), k=100)
    assert {hit.video for hit in hits} == {f"v{n:02d}" for n in range(10) if n != 1}
    by_video = searcher.search(FIRST, then=Then(SECOND), k=100, group_by="video")
    assert len({hit.video for hit in by_video}) == len(by_video) == 12


def test_a_phrase_of_the_second_must_occur_in_it(searcher: Searcher) -> None:
    hits = searcher.search(FIRST, then=Then('"an umbrella"', 30.0), k=100)
    assert hits
    assert {hit.video for hit in hits} == {"v03"}
    assert {hit.end for hit in hits} == {24.0}


@pytest.mark.parametrize("within", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_length_of_time_is_refused(within: float) -> None:
    with pytest.raises(QueryError, match="more than 0 seconds"):
        Then(SECOND, within)


def test_clips_of_whole_videos_follow_nothing(tmp_path: Path) -> None:
    with Library.open(tmp_path / "library", create=True) as library:
        with library.saving():
            library.db.execute("INSERT INTO videos(id) VALUES ('a')")
            values = np.ones((1, 384), np.float32)
            library.put_track("id:a", "speech", "speech:test", "speech", Track(values, np.array([[0.0, 1.0]])))
        assert Searcher(library).search(FIRST, then=Then(SECOND)) == []
