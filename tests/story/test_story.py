"""The README's example, from bytes to a ranked answer, through the command line alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.typed import Run, checked

RECIPE = Path(__file__).parents[2] / "recipes" / "mmt.toml"
FILMS = ("film0000", "film0001", "film0002", "film0005", "film0006", "film0007")  # of all three splits


def _run_program(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command as a program of its own, as a user does."""
    command = [sys.executable, "-m", "reelseek.cli.main", *map(str, words)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=2500, check=False, env={**os.environ, "COLUMNS": "200"}
    )
    return checked(done, code)


@pytest.fixture
def films(archive: Path, tmp_path: Path) -> Path:
    """Some films of the archive with their subtitles and captions."""
    folder = tmp_path / "films"
    shutil.copytree(archive, folder, ignore=lambda _, files: [file for file in files if Path(file).stem not in FILMS])
    rows = (archive / "captions.csv").read_text("utf-8").splitlines(keepends=True)
    (folder / "captions.csv").write_text("".join(row for row in rows if row.startswith(("video,", *FILMS))), "utf-8")
    return folder


def test_from_videos_to_a_ranked_moment(films: Path, tmp_path: Path, run: Run) -> None:
    library, model = tmp_path / "my.library", tmp_path / "my.model"
    assert (
        f"{len(FILMS)} new videos" in _run_program("add", library, films, "--captions", films / "captions.csv").stdout
    )
    assert "nothing new" in run("add", library, films, "--captions", films / "captions.csv").stdout
    info = json.loads(run("info", library, "--json").stdout)
    assert (info["videos"], info["failures"]) == (len(FILMS), [])
    assert set(info["tracks"].values()) == {len(FILMS)}
    assert len(info["digest"]) == 64

    hits = [
        json.loads(line) for line in _run_program("search", library, "a cat", "-k", "3", "--json").stdout.splitlines()
    ]
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    queries, ranking = tmp_path / "queries.txt", tmp_path / "run.txt"
    queries.write_text("q1\ta cat\nq 2\tcoffee on a table\n\n")
    run("search", library, "--queries", queries, "--run", ranking, "--group-by", "video", "-k", 4)
    rows = [line.split() for line in ranking.read_text().splitlines()]
    assert len(rows) == 8
    assert {len(row) for row in rows} == {6}
    assert [row[0] for row in rows[::4]] == ["q1", "q%202"]

    settings = ["train.epochs=2", "model.width=32", "model.inner=32", "train.batch=4"]
    changes = [word for setting in settings for word in ("--set", setting)]
    _run_program("train", RECIPE, "--library", library, "--out", model, *changes)
    for name in (model, "concepts"):
        report = json.loads(run("evaluate", name, "--library", library, "--split", "test", "--json").stdout)
        assert report["gallery"] == 2
        for direction in ("text_to_video", "video_to_text"):
            assert 0 <= report[direction]["recall_at_1"] <= 1
    assert "text to video" in run("evaluate", "concepts", "--library", library).stdout
    run("search", library, "a cat", "--model", model)
    assert "rank" in run("search", library, "a cat", "--why-not", hits[0]["video"]).stdout

    run("remove", library, hits[0]["video"])
    remaining = [json.loads(line) for line in run("search", library, "a cat", "--json").stdout.splitlines()]
    assert hits[0]["video"] not in {hit["video"] for hit in remaining}


@pytest.mark.long
def test_wrong_usage_is_two_and_failures_are_one(tmp_path: Path, archive: Path, run: Run) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "empty.mp4").touch()
    done = _run_program("add", tmp_path / "lib", bad, code=1)
    assert "failed: empty.mp4" in done.stderr
    assert "not a library" in run("search", tmp_path / "none", "cat", code=1).stderr
    run("search", tmp_path / "lib", code=2)
    run("add", tmp_path / "lib", tmp_path / "nowhere", code=1)
    run("add", tmp_path / "lib", archive, "--no-media", "--experts", "motion", code=2)
    run("add", tmp_path / "lib", archive, "--experts", "smell", code=2)
    assert "--token" in run("serve", tmp_path / "lib", "--host", "0.0.0.0", code=2).stderr
    assert "smell" not in run("models", "list").stdout
    for line in run("models", "list", "--json").stdout.splitlines():
        assert {"system", "paper", "missing"} <= set(json.loads(line))
    assert "appearance" in run("doctor").stdout


@pytest.mark.parametrize("verb", ["add", "remove", "train", "evaluate", "search", "serve", "info", "doctor", "demo"])
def test_every_verb_has_help_with_an_example(verb: str, run: Run) -> None:
    assert "Example: reelseek" in run(verb, "--help").stdout


@pytest.mark.parametrize(
    "words", [("info", "x", "--bogus"), ("add",), ("search", "x", "dog", "-k", "0"), ("nonsense",)]
)
def test_a_misspelt_command_line_is_two_without_a_traceback(words: tuple[str, ...], run: Run) -> None:
    assert run(*words, code=2).stderr


@pytest.mark.long
def test_what_was_lost_is_made_again(archive: Path, tmp_path: Path, run: Run) -> None:
    library, videos = tmp_path / "lib", tmp_path / "videos"
    videos.mkdir()
    shutil.copy(next(p for p in sorted(archive.iterdir()) if p.suffix in (".mp4", ".mkv", ".webm")), videos)
    run("add", library, videos, "--experts", "object,motion")
    digest = json.loads(run("info", library, "--json").stdout)["digest"]
    for file in (library / "index").rglob("*.*"):
        file.write_text("junk")
    run("search", library, "a cat")
    shutil.rmtree(library / "tracks")
    assert "1 files extracted" in run("add", library, videos).stdout
    assert json.loads(run("info", library, "--json", "--verify").stdout)["digest"] == digest
    (library / "library.db").write_bytes(b"")
    assert "damaged" in run("info", library, code=1).stderr
