"""Captions of a small world of clips: better than copying, kept and loaded, and as subtitles that search finds."""

import json
from pathlib import Path

import numpy as np
import pysubs2
import pytest
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import ModelError, UsageError
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.library.tokens import Clip
from reelseek.media.subtitles import sidecar_subtitles
from reelseek.search import Searcher
from reelseek.training.captions import CaptionRecipe, load_writer, measure_captions, nearest_captions, train_captions
from reelseek.training.describe import Described, Line, caption, write_subtitles

THINGS = ["cat", "dog", "car", "boat", "tree", "drum", "lamp", "king"]
DOES = ["runs", "sits", "falls", "turns", "sings", "burns"]
WHERE = ["inside", "outside", "upstairs", "nowhere", "abroad", "here"]
SMALL = CaptionRecipe(width=48, heads=4, inner=48, epochs=70, updates=1, rate=3e-3, average=0.9, seed=1)


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 videos of two clips; a clip shows a thing that does something somewhere, each a direction in one expert."""
    folder, rng = tmp_path_factory.mktemp("captions"), np.random.default_rng(0)
    looks, moves, places = (rng.normal(size=(len(each), 12)) for each in (THINGS, DOES, WHERE))
    rows = ["video,caption,start,end,split"]
    for name in ("see", "move", "place"):
        (folder / name).mkdir()
    for number in range(90):
        split = "train" if number < 60 else "val" if number < 70 else "test"
        seen, moved, placed = [], [], []
        for clip in range(2):
            thing, does, where = (int(rng.integers(len(each))) for each in (THINGS, DOES, WHERE))
            text = f"the {THINGS[thing]} {DOES[does]} {WHERE[where]}"
            rows.append(f"v{number},{text},{4 * clip},{4 * clip + 4},{split}")
            for track, directions, shown in ((seen, looks, thing), (moved, moves, does), (placed, places, where)):
                track.append(directions[shown] + 0.5 * rng.normal(size=(4, 12)))
        for name, track in (("see", seen), ("move", moved), ("place", placed)):
            np.save(folder / name / f"v{number}.npy", np.concatenate(track).astype(np.float32))
    rows.append("blind,the cat runs,0,4,spare")
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")
    with Library.open(folder / "lib", create=True) as library:
        add(library, [folder / "rows.csv"], media=False)
        import_features(library, "see", [folder / "see"], modality="appearance", fps=1.0)
        import_features(library, "move", [folder / "move"], modality="motion", fps=1.0)
        import_features(library, "place", [folder / "place"], modality="scene", fps=1.0)
    return folder / "lib"


@pytest.fixture(scope="module")
def captioner(lib: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioner") / "cap"
    with Library.open(lib) as library:
        writer, about = train_captions(library, SMALL)
        writer.save(folder, about)
    return folder


@pytest.mark.long
def test_it_writes_better_than_copying_and_is_the_same_after_loading(lib: Path, captioner: Path) -> None:
    with Library.open(lib) as library:
        greedy = measure_captions(load_writer(captioner), library)
        copied = nearest_captions(library)
        assert greedy.scores.cider_d > 1.2 * copied.scores.cider_d
        assert greedy.scores.bleu_4 > copied.scores.bleu_4
        assert greedy.scores.captions == 40
        again = measure_captions(load_writer(captioner), library)
        assert again.written == greedy.written
        about = json.loads((captioner / "config.json").read_text())
        assert about["cider_d"] > 6
        assert about["recipe"]["seed"] == 1


def test_the_same_seed_learns_the_same_and_stops_when_nothing_gets_better(lib: Path) -> None:
    seen: list[int] = []
    short = CaptionRecipe(**{**vars(SMALL), "epochs": 6, "patience": 2, "rate": 1e-9})
    with Library.open(lib) as library:
        one, first = train_captions(library, short, report=lambda epoch, *_: seen.append(epoch))
        _, second = train_captions(library, short)
    assert first == second
    assert len(seen) < 6
    assert one.captioner.config.words == tuple(sorted({"the", *THINGS, *DOES, *WHERE}))


def test_lines_become_subtitles_and_text_that_search_finds(lib: Path, captioner: Path, tmp_path: Path) -> None:
    with Library.open(lib) as library:
        told = caption(library, ["v80", "v81"], model=captioner, segments=[Clip("v80", 0, 4), Clip("v81", 4, 8)])
        assert [(line.start, line.end) for line in told[0].lines] == [(0, 4)]
        words = told[1].lines[0].text
        assert words.startswith("the ")
        srt, vtt = write_subtitles(told[1], tmp_path / "subs")
        assert [(e.start, e.end, e.text) for e in pysubs2.load(str(srt))] == [(4000, 8000, words)]
        assert "machine-written by reelseek (mart)" in vtt.read_text()
        assert [(e.start, e.end, e.text) for e in pysubs2.load(str(vtt))] == [(4000, 8000, words)]
        assert sidecar_subtitles(tmp_path / "subs" / "v81.mp4")[0] == []  # nobody said it
        kept = [text for _, text in library.texts("id:v81")]
        assert [(text.kind, text.text) for text in kept] == [("told", words)]
        caption(library, ["v81"], model=captioner, segments=[Clip("v81", 0, 8)])
        assert len(library.texts("id:v81")) == 1  # in the place of what was there
        assert library.remove_expert("captions") == 2  # of two videos
        assert library.texts("id:v81") == []


def test_what_labels_and_writing_tell_without_training(library_path: Path) -> None:
    with Library.open(library_path) as library:
        videos = [video.id for video in library.videos()]
        told = caption(library, videos)
        assert sum(bool(each.lines) for each in told) >= len(videos) // 2
        line = next(line for each in told for line in each.lines if '"' not in line.text)
        assert Searcher(library).search(line.text, k=1)[0].why
        nothing = caption(library, videos[:1], index=False)
        assert nothing[0].as_json()["video"] == videos[0]


@pytest.mark.parametrize(
    ("segments", "said"),
    [
        ([Clip("v1", 0, 4)], "'v1', which is not one of the videos"),
        ([Clip("v2", 3, 3)], "a segment of v2 is from 3 to 3 s"),
        ([Clip("v2", 3, float("inf"))], "a segment of v2 is from 3 to inf s"),
        ([], "there is no segment of v2"),
    ],
)
def test_segments_that_are_none(lib: Path, segments: list[Clip], said: str) -> None:
    with Library.open(lib) as library, pytest.raises(UsageError, match=said):
        caption(library, ["v2"], segments=segments)


def test_what_cannot_be_written_or_loaded(lib: Path, captioner: Path, tmp_path: Path) -> None:
    with Library.open(lib) as library:
        assert caption(library, ["blind"], model=captioner, segments=[Clip("blind", 0, 4)], index=False)[0].lines == ()
        with pytest.raises(UsageError, match="no video to describe"):
            caption(library, [])
        with pytest.raises(ModelError, match="is no captioner"):
            caption(library, ["v2"], model=tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded as a captioner"):
        load_writer(tmp_path)


def test_subtitles_hold_any_text_and_any_name(tmp_path: Path) -> None:
    text = "{x} a <b> & c --> d\\N e"
    told = [
        Described(name, "mart", (Line(3600.0, 3600.0001, text),)) for name in ("a/film.mp4", "a/film.avi", "../f.mp4")
    ]
    files = [write_subtitles(each, tmp_path) for each in told]
    assert len({path for pair in files for path in pair}) == 6
    assert all(path.is_relative_to(tmp_path) for pair in files for path in pair)
    assert files[0][0].read_text() == "1\n01:00:00,000 --> 01:00:00,001\n{x} a <b> & c -> d\\N e\n"
    assert "01:00:00.000 --> 01:00:00.001\n{x} a &lt;b&gt; &amp; c -&gt; d\\N e\n" in files[0][1].read_text()
    drawing = Described("d.mp4", "mart", (Line(0.0, 2.0, r"{\p1}a\hb"), Line(359_990.0, 359_999.0, "late")))
    srt, vtt = (path.read_text() for path in write_subtitles(drawing, tmp_path))
    assert srt.split("\n\n") == ["1\n00:00:00,000 --> 00:00:02,000\n{\\p1}a\\hb",
                                 "2\n99:59:50,000 --> 99:59:59,000\nlate\n"]  # fmt: skip
    assert vtt.startswith("WEBVTT\n\nNOTE machine-written by reelseek (mart)\n\n1\n00:00:00.000 -->")
    with pytest.raises(UsageError, match="ends at 360000 s"):
        write_subtitles(Described("e.mp4", "mart", (Line(0.0, 360_000.0, "x"),)), tmp_path)


def test_a_retrieval_model_is_not_overwritten(lib: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"system": "mmt"}')
    with pytest.raises(UsageError, match="which would be lost"):
        CliRunner().invoke(app, ["captioner", "train", str(lib), "--out", str(tmp_path)], catch_exceptions=False)
    assert (tmp_path / "config.json").read_text() == '{"system": "mmt"}'


@pytest.mark.long
def test_from_the_command_line(lib: Path, captioner: Path, tmp_path: Path) -> None:
    run = CliRunner()
    learnt = ["captioner", "train", str(lib), "--out", str(tmp_path / "c"), "--experts", "see", "--epochs", "2"]
    assert run.invoke(app, learnt, catch_exceptions=False).exit_code == 0
    how = ["captioner", "evaluate", str(captioner), str(tmp_path / "c"), "--library", str(lib)]
    done = run.invoke(app, [*how, "--page", str(tmp_path / "p.html"), "--json"], catch_exceptions=False)
    scores = json.loads(done.stdout)
    assert set(scores) == {"cap", "c", "nearest caption"}
    assert scores["cap"]["cider_d"] > scores["c"]["cider_d"]
    page = (tmp_path / "p.html").read_text()
    assert "ground truth" in page
    assert "nearest caption" in page
    (tmp_path / "s.csv").write_text("video,start,end\nv80,0,4\nv80,4,8\n")
    asked = ["caption", str(lib), "v80", "--model", str(captioner), "--segments", str(tmp_path / "s.csv")]
    done = run.invoke(app, [*asked, "--srt", str(tmp_path / "out"), "--json"], catch_exceptions=False)
    assert len(json.loads(done.stdout)["lines"]) == 2
    assert (tmp_path / "out" / "v80.machine-written.srt").is_file()
    (tmp_path / "s.csv").write_text("video,begin\nv80,0\n")
    with pytest.raises(UsageError, match="is not a table of video,start,end"):
        run.invoke(app, asked, catch_exceptions=False)
