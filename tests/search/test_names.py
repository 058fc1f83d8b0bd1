"""What files, folders and captions are called counts as evidence, and spelling is forgiven where nothing fits."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import UsageError
from reelseek.experts.expert import Text, Track
from reelseek.library import Library
from reelseek.search import Searcher
from reelseek.search.spelling import nearest_words

NAMES = {
    "v1": "/films/kitchen/flipping_a_pancake.mkv",
    "v2": "/films/MyBirthdayParty/take 2.mp4",
    "v3": "/films/other/b.mp4",
    "v4": "/films/other/c.mp4",
}


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    rng = np.random.default_rng(1)
    with Library.open(tmp_path / "library", create=True) as library:
        with library.saving():
            for number, (name, path) in enumerate(NAMES.items()):
                library.db.execute("INSERT INTO videos(id, path) VALUES (?, ?)", (name, os.fsencode(path)))
                spans = np.array([[0.0, 8.0], [8.0, 16.0]])
                values = rng.normal(size=(2, 384)).astype(np.float32)
                lines = (Text("the umbrella shop", 9.0, 10.0, "written"),) if number == 2 else ()
                library.put_track(f"id:{name}", "speech", "speech:test", "speech", Track(values, spans, lines))
            library.db.execute("INSERT INTO captions VALUES ('v4', 0, 'two sailors on a schooner', NULL, NULL, NULL)")
        yield library


@pytest.mark.parametrize(
    ("query", "video", "source", "matched"),
    [
        ("pancake", "v1", "name", "flipping_a_pancake.mkv"),
        ("pancakes", "v1", "name", "flipping_a_pancake.mkv"),
        ("pancacke", "v1", "name", "flipping_a_pancake.mkv"),
        ("kitchen", "v1", "name", "flipping_a_pancake.mkv"),
        ("birthday", "v2", "name", "take 2.mp4"),
        ("sailor", "v4", "captions", "two sailors on a schooner"),
        ("schoner", "v4", "captions", "two sailors on a schooner"),
        ("umbrela", "v3", "ocr", "the umbrella shop"),
        ("umbrel", "v3", "ocr", "the umbrella shop"),
    ],
)
def test_words_about_a_video_are_reasons(library: Library, query: str, video: str, source: str, matched: str) -> None:
    hit = Searcher(library).search(query, k=1)[0]
    reason = next(why for why in hit.why if why.modality == source)
    assert (hit.video, reason.matched) == (video, matched)
    assert 0.3 < reason.gave <= 0.5
    assert sum(why.gave for why in hit.why) == pytest.approx(hit.similarity, abs=1e-3)


def test_they_are_left_out_and_weighed_by_name(library: Library) -> None:
    searcher = Searcher(library)
    (plain, without, double) = (
        {hit.video: hit.similarity for hit in searcher.search("pancake", k=9, group_by="video", **options)}
        for options in ({}, {"without": ["name"]}, {"weights": {"name": 2.0}})
    )
    assert plain["v1"] == pytest.approx(without["v1"] + 0.5, abs=1e-5)
    assert double["v1"] == pytest.approx(without["v1"] + 1.0, abs=1e-5)
    assert all(plain[video] == without[video] for video in ("v2", "v3", "v4"))
    captions = searcher.search("sailors on a schooner", k=9, without=["captions", "name"])
    assert not any(why.modality in ("captions", "name") for hit in captions for why in hit.why)
    with pytest.raises(UsageError, match="captions, "):
        searcher.search("pancake", without=["nmae"])


def test_names_of_now_count(library: Library) -> None:
    searcher = Searcher(library)
    assert searcher.search("pancake", k=1)[0].why[0].modality == "name"
    with library.saving():
        library.db.execute("UPDATE videos SET path = ? WHERE id = 'v3'", (os.fsencode("/films/waffles.mp4"),))
        library.db.execute("UPDATE captions SET text = 'an accordion' WHERE video = 'v4'")
        library.db.execute("UPDATE videos SET path = ? WHERE id = 'v1'", (os.fsencode("/films/d.mp4"),))
    assert searcher.search("waffles", k=1)[0].video == "v3"
    assert searcher.search("accordion", k=1)[0].video == "v4"
    for gone in ("sailors", "pancake", "kitchen"):
        reasons = {why.modality for hit in searcher.search(gone, k=9) for why in hit.why}
        assert not reasons & {"name", "captions"}, gone
    library.remove(["v3"])
    assert not any(why.modality == "name" for hit in searcher.search("waffles", k=9) for why in hit.why)


def test_a_word_that_is_spelled_right_stays_what_it_is(library: Library) -> None:
    with library.saving():
        library.db.execute("INSERT INTO videos(id, path) VALUES ('v5', ?)", (os.fsencode("/films/pancack.mp4"),))
    reasons = [why for hit in Searcher(library).search("pancake", k=9) for why in hit.why if why.modality == "name"]
    assert [why.matched for why in reasons] == ["flipping_a_pancake.mkv"]


@pytest.mark.parametrize(
    ("word", "terms", "expected"),
    [
        ("pancacke", ["pancak", "panic", "pan"], ["pancak"]),
        ("umbr", ["umbrella", "umpire"], ["umbrella"]),
        ("schoon", ["schooner"], ["schooner"]),
        ("cake", ["care", "lake", "coke"], []),
        ("2019", ["2018", "20190"], []),
        ("u1f389", ["u1f388"], []),
        ("cat", ["cats", "catt"], []),
    ],
)
def test_what_is_spelled_alike(word: str, terms: list[str], expected: list[str]) -> None:
    assert [term for term, _ in nearest_words(word, terms)] == expected


def test_a_run_measures_the_model_and_neither_captions_nor_names(library: Library, tmp_path: Path) -> None:
    queries, run = tmp_path / "queries.txt", tmp_path / "run.trec"
    queries.write_text("two sailors on a schooner\n", "utf-8")
    scores = []
    for more in ([], ["--weights", "captions=1"]):
        command = [
            "search",
            str(library.path),
            "--queries",
            str(queries),
            "--group-by",
            "video",
            "--run",
            str(run),
            *more,
        ]
        outcome = CliRunner().invoke(app, command, catch_exceptions=False)
        assert outcome.exit_code == 0
        assert ("without name and captions" in outcome.stderr) == (not more)
        scores.append({line.split()[2]: float(line.split()[4]) for line in run.read_text("utf-8").splitlines()})
    assert scores[1]["v4"] > scores[0]["v4"] + 0.3
    assert scores[1]["v1"] == scores[0]["v1"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ('pancake "no entry"', "nobody says 'no entry', nor is it written"),
        ('pancake -"umbrella shop" "umbrella shop"', 'no moment meets \'pancake -"umbrella shop"'),
    ],
)
def test_a_query_that_nothing_meets_says_so(library: Library, query: str, message: str) -> None:
    outcome = CliRunner().invoke(app, ["search", str(library.path), query], catch_exceptions=False)
    assert (outcome.exit_code, outcome.stdout) == (0, "")
    assert message in outcome.stderr


def test_words_go_with_the_modality_that_is_left_out(library: Library) -> None:
    searcher = Searcher(library)
    for options in ({"without": ["ocr"]}, {"weights": {"ocr": 0.0}}):
        assert not any(why.modality == "ocr" for hit in searcher.search("umbrella", k=9, **options) for why in hit.why)
    with library.saving():  # more lines than are looked at
        library.put_texts("id:v1", "captions", [Text("umbrella", 1.0, 2.0, "told")] * 150)
    best = searcher.search("umbrella", k=1, without=["machine-written"])[0]
    assert (best.video, best.why[0].modality) == ("v3", "ocr")
    kept = searcher.search("umbrella shop", k=1, without=["machine-written", "name"])[0]
    assert (kept.video, "ocr" in {why.modality for why in kept.why}) == ("v3", True)
