"""From a query line to ranked moments with reasons; approximate search against exact search."""

import contextlib
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.search.in_memory import InMemory

from reelseek.errors import QueryError, UsageError
from reelseek.library import Library
from reelseek.models import load_model
from reelseek.models.embed import reader_for
from reelseek.search import ClipRule, Searcher, build_index, clips_of, parse_query
from reelseek.search import neighbours as neighbours_module
from reelseek.search.fulltext import lines_with_phrase, matching_lines
from reelseek.search.index import open_index
from reelseek.search.neighbours import Neighbours
from reelseek.search.query import Query
from reelseek.search.question import Selection, ask
from reelseek.search.scoring import candidate_rows


@pytest.fixture(scope="module")
def searcher(library_path) -> Searcher:
    return Searcher(Library.open(library_path))


@pytest.mark.parametrize(
    ("text", "terms", "phrases", "refused"),
    [
        ("red car", [("red car", 1)], (), ()),
        ("car^2 -people", [("car", 2), ("people", -1)], (), ()),
        ('a "open door" -"no entry"', [("a open door", 1)], ("open door",), ("no entry",)),
        ("well-known man -old^.5", [("well-known man", 1), ("old", -0.5)], (), ()),
        ('unfinished "quote', [("unfinished quote", 1)], (), ()),
    ],
)
def test_query_syntax(text: str, terms: list, phrases: tuple, refused: tuple) -> None:
    query = parse_query(text)
    assert [(t.text, t.weight) for t in query.terms] == terms
    assert (query.phrases, query.refused) == (phrases, refused)


@pytest.mark.parametrize("text", ["", "  \0 ", "-people", "car^x", "car^-1", "car^nan", "!!!", "x" * 3000, '""'])
def test_queries_that_cannot_be_answered(text: str) -> None:
    with pytest.raises(QueryError):
        parse_query(text)


@given(st.text(max_size=60))
def test_any_text_is_a_query_or_a_query_error(text: str) -> None:
    with contextlib.suppress(QueryError):
        assert isinstance(parse_query(text), Query)


def _truth(searcher: Searcher, kind: str) -> tuple[str, str]:
    row = searcher.library.db.execute(
        "SELECT v.id, t.text FROM texts t JOIN videos v ON v.content = t.owner WHERE t.kind = ? ORDER BY t.id", (kind,)
    ).fetchone()
    if row is None:
        pytest.skip(f"the films hold nothing that is {kind}: no speech synthesiser (espeak-ng) or no OCR here")
    return row


@pytest.mark.parametrize("kind", ["said", "written"])
def test_words_said_or_written_are_found_and_named(searcher: Searcher, kind: str) -> None:
    _, text = _truth(searcher, kind)
    quoted = searcher.search(f'"{text.lower()}"', k=3)
    assert quoted
    for hit in quoted:
        assert any(text in why.matched for why in hit.why)
    plain = searcher.search(text, k=1)[0]
    assert any(why.matched == text for why in plain.why)
    assert plain.confidence is not None
    assert plain.confidence > 0.9
    refused = searcher.search(f'video -"{text}"', k=100)
    assert refused
    assert not any(why.matched == text for hit in refused for why in hit.why)
    assert searcher.search('"zebracorn fluxing"') == []


def test_hits_are_moments_in_order(searcher: Searcher) -> None:
    hits = searcher.search("a cat", k=6)
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5, 6]
    assert all(a.similarity >= b.similarity for a, b in pairwise(hits))
    assert all(hit.end is not None and hit.start < hit.end for hit in hits)
    assert len({hit.video for hit in searcher.search("a cat", k=6, group_by="video")}) == 6
    inside = searcher.within("a cat", hits[0].video).hits
    assert {hit.video for hit in inside} == {hits[0].video}
    assert list(hits[0].as_json()) == [
        *("query_id", "query", "rank", "video", "path", "start", "end", "similarity", "confidence", "why", "strength")
    ]


def test_weights_and_what_is_left_out(searcher: Searcher) -> None:
    slots = lambda hits: {why.modality for hit in hits for why in hit.why}  # noqa: E731
    assert "object" not in slots(searcher.search("a cat", without=["object"]))
    heavy = searcher.search("a cat", k=1, weights={"object": 2})[0]
    light = searcher.search("a cat", k=1, weights={"object": 1})[0]
    assert heavy.why[0].gave == pytest.approx(2 * light.why[0].gave, abs=0.02)
    for wrong in ({"without": ["smell"]}, {"weights": {"smell": 1}}, {"weights": {"ocr": -1}}, {"k": 0}):
        with pytest.raises(UsageError):
            searcher.search("a cat", **wrong)
    with pytest.raises(UsageError, match="both left out and weighed"):
        searcher.search("a cat", without=["ocr"], weights={"ocr": 2})
    with pytest.raises(UsageError, match="nothing is left"):
        searcher.search("a cat", without=["object", "speech", "ocr"])


def test_taking_away_lowers_what_is_taken(searcher: Searcher) -> None:
    hit = searcher.search("a cat", k=1)[0]
    label = hit.why[0].matched
    score = lambda query: next(h.similarity for h in searcher.search(query, k=50) if h.video == hit.video)  # noqa: E731
    assert score(f"a cat -{label.split()[-1]}") < score("a cat")


def test_a_miss_is_explained(searcher: Searcher) -> None:
    first = searcher.search("a cat", k=1)[0].video
    assert searcher.why_not("a cat", first).rank == 1
    for video in searcher.library.videos():
        miss = searcher.why_not("a cat", video.id)
        assert 1 <= miss.rank <= miss.videos
        assert {m["modality"] for m in miss.modalities} == {"object", "speech", "ocr"}
        assert all(m["had"] for m in miss.modalities)
    assert "phrase" in searcher.why_not('"zebracorn"', first).note
    with pytest.raises(UsageError, match="no video"):
        searcher.why_not("a cat", "nowhere.mp4")


def test_an_expert_that_never_ran_is_not_absent_evidence(make_video, tmp_path) -> None:
    from reelseek.library import add

    with Library.open(tmp_path / "lib", create=True) as library:
        add(library, [make_video()], experts=["object"], workers=1)
        miss = Searcher(library).why_not("a cat", "film.mp4")
    had = {m["modality"]: m["had"] for m in miss.modalities}
    assert had["speech"] == had["ocr"] == "never extracted"


def test_the_index_follows_the_library(searcher: Searcher, library_path) -> None:
    """Each clip by itself, as the model embeds it; built again, everything is taken over and nothing is encoded."""
    model = load_model("concepts")
    encoded: list[int] = []
    with Library.open(library_path) as library:
        before = open_index(library, model)
        assert before.clips == list(clips_of(library, before.rule))
        reader = reader_for(model, library)
        for row, clip in enumerate(before.clips):
            with torch.inference_mode():
                alone = model.encode_videos(reader.batch([clip]))
            indexed = before.embedding(np.array([row]))
            np.testing.assert_array_equal(indexed.present, alone.present)
            values = alone.values.masked_fill(~alone.present[..., None], 0).numpy()
            np.testing.assert_allclose(indexed.values, values, atol=2e-3)
        again = build_index(library, model, before.rule, lambda done, total: encoded.append(done))
        np.testing.assert_array_equal(before.embedding(slice(None)).values, again.embedding(slice(None)).values)
        assert encoded == []
        fixed = list(clips_of(library, ClipRule(kind="fixed", seconds=2)))
        assert max(c.end_seconds - c.start_seconds for c in fixed) < 3.1
        assert len(fixed) > len(before.clips)


def test_full_text_counts_stems_and_rare_words(searcher: Searcher) -> None:
    _, text = _truth(searcher, "written")
    word = text.split()[0].lower()
    lines = matching_lines(searcher.library, f"{word} unheardofword")
    assert lines
    assert 0 < lines[0].coverage < 1
    assert lines[0].words == (word,)
    assert lines_with_phrase(searcher.library, text)
    assert not lines_with_phrase(searcher.library, " ".join(reversed(text.split())) + " x")
    for odd in ('"', "a OR", "NEAR(", "*", "col:x", "'"):
        matching_lines(searcher.library, odd)


def test_tuned_lists_reach_the_recall_of_exact_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours_module, "EXACT_UP_TO", 1000)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(100, 32))
    vectors = (centres[rng.integers(100, size=6000)] + 0.4 * rng.normal(size=(6000, 32))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = (centres[rng.integers(100, size=80)] + 0.6 * rng.normal(size=(80, 32))).astype(np.float32)
    rows = np.arange(6000) * 2
    neighbours = Neighbours.build(rows, InMemory(vectors), queries[:40])
    assert not neighbours.exact
    recall = []
    for query in queries[40:]:
        exact = rows[np.argsort(-(vectors @ query))[:10]]
        recall.append(len(set(exact) & set(neighbours.search(query[None], 10)[1][0])) / 10)
    assert np.mean(recall) >= 0.99


@pytest.mark.parametrize(("distinct", "has_lists"), [(500, False), (4000, True)])
def test_recall_among_masses_of_equal_vectors(monkeypatch: pytest.MonkeyPatch, distinct: int, has_lists: bool) -> None:
    """Most of 20,000 vectors are equal; what is as similar as the best is right, whichever of the equal it is."""
    monkeypatch.setattr(neighbours_module, "EXACT_UP_TO", 1000)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(100, 32))
    vectors = (centres[rng.integers(100, size=distinct)] + 0.3 * rng.normal(size=(distinct, 32))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors[rng.permutation(np.concatenate([np.arange(distinct), np.zeros(20_000 - distinct, int)]))]
    queries = (centres[rng.integers(100, size=80)] + 0.5 * rng.normal(size=(80, 32))).astype(np.float32)
    neighbours = Neighbours.build(np.arange(20_000) * 3, InMemory(vectors), queries[:40])
    assert neighbours.exact != has_lists
    queries = np.concatenate([queries[40:], vectors[rng.integers(20_000, size=10)]])
    for count in (10, 100, 440, 5000):
        recall = []
        for query in queries:
            exact = vectors @ query
            least = np.partition(exact, -count)[-count] - 1e-5
            rows = neighbours.search(query[None], count)[1][0]
            assert len(set(rows)) == count
            recall.append((exact[rows // 3] >= least).mean())
        assert np.mean(recall) >= 0.99, count


def test_patterns_merged_equal_one_exact_ranking(searcher: Searcher) -> None:
    index = searcher.index
    question = ask(searcher.model, parse_query("a cat"), Selection(None, np.ones(3, np.float32)))
    exact = question.scores(searcher.model, index.embedding(slice(None)))
    (rows,) = candidate_rows(searcher.model, index, question.texts, question.mix, 5)
    assert set(np.argsort(-exact, kind="stable")[:5]) <= set(rows)
    assert len(index.patterns) > 1
