"""Filters select videos by one grammar, inside the search: k hits come back whenever k exist."""

import json
import os
import pickle
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.search.in_memory import InMemory
from tests.search.talks import add_talk, make_talks

from reelseek.errors import QueryError
from reelseek.experts.expert import Text, Track
from reelseek.library import Library
from reelseek.library.catalog.spelling import in_folder, is_named
from reelseek.library.filters import FILTER_KEYS, parse_filter, split_filter
from reelseek.search import Searcher, neighbours
from reelseek.search.nearest import Call
from reelseek.search.neighbours import Neighbours
from reelseek.search.replicas import SegmentReader, _Message

QUERY = "a dog on the beach"
VIDEOS = 40


def _fill(library: Library) -> None:
    """Every fourth lies in a folder, lengths rise by ten seconds, years from 2000 on; one says when it was filmed."""
    rng = np.random.default_rng(5)
    with library.saving():
        for number in range(VIDEOS):
            name = f"v{number:03d}"
            add_talk(library, name, rng)
            folder = "/films/Été à Rome/day1" if number % 4 == 0 else "/films/other"
            changed = int(datetime(2000 + number, 6, 1, tzinfo=UTC).timestamp()) * 10**9
            library.db.execute(
                "UPDATE videos SET path = ?, content = ?, mtime_ns = ?, duration = ? WHERE id = ?",
                (os.fsencode(f"{folder}/{name}.mp4"), f"c{number}", changed, 10.0 * number, name),
            )
            info = {"audio_streams": number % 2, **({"taken": "1995-05-01T10:00:00"} if number == 7 else {})}
            library.db.execute("INSERT INTO contents VALUES (?, ?, 1, '[]')", (f"c{number}", json.dumps(info)))
        library.db.execute("INSERT INTO videos(id, split) VALUES ('bare', 'train')")
        library.db.execute("INSERT INTO captions VALUES ('v003', 0, 'red soup', NULL, NULL, 'test')")
        written = Track(np.zeros((0, 384), np.float32), np.zeros((0, 2)), (Text("exit", 0, 1, "written"),))
        library.put_track("c5", "ocr", "ocr:test", "ocr", written)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filters") / "library"
    with Library.open(folder, create=True) as library:
        _fill(library)
    return folder


@pytest.fixture
def library(path: Path) -> Library:
    with Library.open(path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("folder:day1", {n for n in range(VIDEOS) if n % 4 == 0}),
        ('folder:"ete a rome"', {n for n in range(VIDEOS) if n % 4 == 0}),
        ("-folder:day1", {n for n in range(VIDEOS) if n % 4} | {"bare"}),
        ("folder:/films/other", {n for n in range(VIDEOS) if n % 4}),
        ("folder:day?", {n for n in range(VIDEOS) if n % 4 == 0}),
        ("name:V00", set(range(10))),
        ("name:*3.mp4", {3, 13, 23, 33}),
        ("before:2003", {0, 1, 2, 7}),
        ("after:2038", {38, 39}),
        ("after:2001-06-01 before:2001-06-02", {1}),
        ("after:2001-06-02 before:2002", set()),
        ("-after:2001", {0, 7, "bare"}),
        ("longer:6m20s", {39}),
        ("shorter:11s", {0, 1}),
        ("longer:0.1h", {37, 38, 39}),
        ("split:train", {"bare"}),
        ("split:test", {3}),
        ("has:sound -name:v01 -name:v02 -name:v03", {1, 3, 5, 7, 9}),
        ("has:text", {5}),
        ("has:captions", {3}),
        ("has:speech name:v000", {0}),
        ("has:motion", set()),
    ],
)
def test_a_term_selects_videos(library: Library, text: str, expected: set[int | str]) -> None:
    names = {video if isinstance(video, str) else f"v{video:03d}" for video in expected}
    assert set(library.catalog.selection.videos(parse_filter(text))) == names


def test_k_hits_come_back_whenever_k_exist(library: Library) -> None:
    searcher = Searcher(library)
    ranked = searcher.search(QUERY, k=VIDEOS, group_by="video")
    assert len(ranked) == VIDEOS
    for text in ("folder:day1", "name:v03", "before:2003", "-folder:day1 longer:60s", "name:v039"):
        selected = set(library.catalog.selection.videos(parse_filter(text)))
        expected = [(hit.video, hit.start, hit.similarity) for hit in ranked if hit.video in selected]
        for k in (1, 3, VIDEOS):
            hits = searcher.search(QUERY, k=k, group_by="video", filter=text)
            assert [(hit.video, hit.start, hit.similarity) for hit in hits] == expected[:k]
        assert [hit.video for hit in searcher.search(f"{QUERY} {text}", k=VIDEOS, group_by="video")] == [
            video for video, _, _ in expected
        ]
    assert searcher.search(QUERY, filter="after:2090") == []


def test_exact_search_finds_what_lies_behind_all_candidates(tmp_path: Path) -> None:
    with make_talks(tmp_path / "library", 130) as library:
        ranked = [hit.video for hit in Searcher(library).search(QUERY, k=130)]
        last = f"name:{ranked[-1]}"
        assert [hit.video for hit in Searcher(library, exact=True).search(QUERY, k=1, filter=last)] == ranked[-1:]
        assert [hit.video for hit in Searcher(library).search(QUERY, k=1, filter=last)] == ranked[-1:]


def test_a_line_of_a_filtered_video_is_not_crowded_out(tmp_path: Path) -> None:
    """Full text takes a hundred lines: those of other videos must not take the places."""
    with Library.open(tmp_path / "library", create=True) as library:
        rng = np.random.default_rng(0)
        with library.saving():
            for number in range(130):
                library.db.execute("INSERT INTO videos(id) VALUES (?)", (f"v{number:03d}",))
                values = rng.normal(size=(1, 384)).astype(np.float32)
                text = "platypus" + " and so on and so forth" * (number == 129)
                track = Track(values, np.array([[0.0, 1.0]]), (Text(text, 0, 1, "said"),))
                library.put_track(f"id:v{number:03d}", "speech", "speech:test", "speech", track)
        (hit,) = Searcher(library).search("platypus", k=1, filter="name:v129")
        assert any(why.gave >= 0.5 and "platypus" in why.matched for why in hit.why)


def test_one_video_and_misses_know_the_filter(library: Library) -> None:
    searcher = Searcher(library)
    miss = searcher.why_not(f"{QUERY} before:2003", "v020")
    assert miss.note == "it is left out by before:2003"
    assert miss.rank is not None
    assert searcher.why_not(QUERY, "v020").note == ""
    with pytest.raises(QueryError, match="v020 is left out by -folder:day1"):
        searcher.within(QUERY, "v020", filter="-folder:day1")
    assert searcher.within(QUERY, "v021", filter="-folder:day1").video == "v021"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foldr:x", "did you mean 'folder'"),
        ("colour:red", "the filters are"),
        ("folder:day2", "did you mean 'day1'"),
        ("split:tset", "did you mean 'test'"),
        ("has:speach", "did you mean 'speech'"),
        ("before:2020 after:2021", "contradict"),
        ("after:2020 before:2020", "contradict"),
        ("after:2020-05-17 before:2020-05", "contradict"),
        ("longer:5m shorter:300s", "contradict"),
        ("name:a -name:A", "contradict"),
        ("before:yesterday", "is no date"),
        ("before:2020-13", "there is no day"),
        ("after:2019-02-29", "there is no day"),
        ("longer:5", "is it 5s, 5m or 5h"),
        ("longer:soon", "is no duration"),
        ("folder:", "follows the colon directly"),
        ('name:""', "follows the colon directly"),
        ("dog", "is no term"),
    ],
)
def test_bad_filters_say_what_to_write(library: Library, text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        library.catalog.selection.videos(parse_filter(text))


@pytest.mark.parametrize(
    "words",
    ["https://a.b/c", "12:30", "C:\\films\\a.mp4", "std::sort", '"folder:day1"', '-"has:speech"', "note : this",
     "recipe: cake", ":)", "a:b", "x:folder:day1", "5:4"],
)  # fmt: skip
def test_what_is_no_term_is_a_word(words: str) -> None:
    rest, conditions = split_filter(f"dog {words} beach")
    assert rest == f"dog {words} beach"
    assert not conditions


def test_terms_as_other_keyboards_type_them() -> None:
    assert [(c.key, c.value, c.negated) for c in parse_filter("\u2212FOLDER:“my trip” name：b").conditions] == [
        ("folder", "my trip", True),
        ("name", "b", False),
    ]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        rest, conditions = split_filter(text)
    except QueryError:
        return
    if not conditions:
        assert rest == " ".join(text.split())
    assert all(condition.key in FILTER_KEYS for condition in conditions.conditions)


def test_a_filter_alone_says_what_is_missing(library: Library) -> None:
    with pytest.raises(QueryError, match="says only which videos count"):
        Searcher(library).search("folder:day1")


def test_dates_say_where_they_are_from(library: Library) -> None:
    searcher = Searcher(library)
    assert searcher.notes(QUERY) == []
    (note,) = searcher.notes(f"{QUERY} before:2010")
    assert note == (
        "dates: of 1 videos when they were filmed, of 39 when their file last changed; "
        "1 have none, and are neither before nor after"
    )


@pytest.mark.parametrize("share", [0.9, 0.3, 0.01])
def test_lists_answer_among_some_clips_as_a_scan_does(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr(neighbours, "EXACT_UP_TO", 300)
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(3000, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[50:90] = vectors[10]  # equal ones share a place in the lists
    rows = np.arange(3000) * 2
    built = Neighbours.build(rows, InMemory(vectors), vectors[:40])
    assert not built.exact
    selected = np.zeros(6000, bool)
    selected[rows] = rng.random(3000) < share
    queries = np.concatenate([vectors[10:11], rng.normal(size=(20, 16)).astype(np.float32)])
    places = np.flatnonzero(selected[rows])
    shared = 0
    for query, (scores, best) in zip(queries, built.search_among(queries, 10, selected), strict=True):
        expected = places[np.lexsort((places, -(vectors[places] @ query)))[:10]]
        assert selected[best].all()
        assert len(best) == min(10, len(places))
        assert (np.diff(scores) <= 0).all()
        shared += len(np.intersect1d(best, rows[expected]))
    assert shared >= 0.97 * 10 * len(queries) or share == 0.01
    if len(places) <= 300:
        assert shared == min(10, len(places)) * len(queries)


def test_replicas_are_asked_with_the_same_bits(library: Library) -> None:
    """What travels to a replica and back gives the same hits as what is read here."""
    searcher = Searcher(library)
    folder = library.path.absolute() / "index"
    reader, methods = SegmentReader(folder), []

    def run(calls: Sequence[Call]) -> list[object]:
        methods.extend((call.method, len(call.arguments)) for call in calls)
        return pickle.loads(pickle.dumps(reader.read(pickle.loads(pickle.dumps(_Message.of(calls))))))  # noqa: S301

    away = Searcher(library, run=run)
    for text in ("folder:day1", "-folder:day1 before:2030", "name:v03"):
        assert away.search(QUERY, k=7, filter=text) == searcher.search(QUERY, k=7, filter=text)
    assert ("search", 3) in methods


def test_brackets_in_names_are_letters() -> None:
    assert in_folder("a.mp4", b"/films/[2019] rome/a.mp4", "[2019] rome")
    assert not in_folder("a.mp4", b"/films/2 rome/a.mp4", "[2019] rome")
    assert is_named("title [hd].mp4", None, "[hd]")
    assert not is_named("title d.mp4", None, "[hd]")
    assert is_named("title [hd].mp4", None, "*[hd].mp4")


def test_a_filter_does_not_change_the_rank_among_all(library: Library) -> None:
    searcher = Searcher(library)
    free = searcher.why_not(f"{QUERY} v020", "v020")  # its name counts, too
    left_out = searcher.why_not(f"{QUERY} v020 before:2003", "v020")
    assert (left_out.rank, left_out.similarity) == (free.rank, free.similarity)
    assert left_out.note
