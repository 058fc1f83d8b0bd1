"""The README's example, from bytes to a ranked answer, through the command line alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "mmt.toml"


def _run(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reelseek.cli.main", *map(str, words)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=2500, check=False, env={**os.environ, "COLUMNS": "200"}
    )
    assert done.returncode == code, (words, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def test_from_videos_to_a_ranked_moment(archive: Path, tmp_path: Path) -> None:
    library, model = tmp_path / "my.library", tmp_path / "my.model"
    assert "8 new videos" in _run("add", library, archive, "--captions", archive / "captions.csv").stdout
    assert "nothing new" in _run("add", library, archive, "--captions", archive / "captions.csv").stdout
    info = json.loads(_run("info", library, "--json").stdout)
    assert (info["videos"], info["failures"]) == (8, [])
    assert set(info["tracks"].values()) == {8}
    assert len(info["digest"]) == 64

    hits = [json.loads(line) for line in _run("search", library, "a cat", "-k", "3", "--json").stdout.splitlines()]
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    queries, run = tmp_path / "queries.txt", tmp_path / "run.txt"
    queries.write_text("q1\ta cat\nq 2\tcoffee on a table\n\n")
    _run("search", library, "--queries", queries, "--run", run, "--group-by", "video", "-k", 4)
    rows = [line.split() for line in run.read_text().splitlines()]
    assert len(rows) == 8
    assert {len(row) for row in rows} == {6}
    assert [row[0] for row in rows[::4]] == ["q1", "q%202"]

    settings = ["train.epochs=2", "model.width=32", "model.inner=32", "train.batch=4"]
    changes = [word for setting in settings for word in ("--set", setting)]
    _run("train", RECIPE, "--library", library, "--out", model, *changes)
    for name in (model, "concepts"):
        report = json.loads(_run("evaluate", name, "--library", library, "--split", "test", "--json").stdout)
        assert report["gallery"] == 2
        for direction in ("text_to_video", "video_to_text"):
            assert 0 <= report[direction]["recall_at_1"] <= 1
    assert "text to video" in _run("evaluate", "concepts", "--library", library).stdout
    _run("search", library, "a cat", "--model", model)
    assert "rank" in _run("search", library, "a cat", "--why-not", hits[0]["video"]).stdout

    _run("remove", library, hits[0]["video"])
    left = [json.loads(line) for line in _run("search", library, "a cat", "--json").stdout.splitlines()]
    assert hits[0]["video"] not in {hit["video"] for hit in left}


def test_wrong_usage_is_two_and_failures_are_one(tmp_path: Path, archive: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "empty.mp4").touch()
    done = _run("add", tmp_path / "lib", bad, code=1)
    assert "failed: empty.mp4" in done.stderr
    assert "not a library" in _run("search", tmp_path / "none", "cat", code=1).stderr
    _run("search", tmp_path / "lib", code=2)
    _run("add", tmp_path / "lib", tmp_path / "nowhere", code=1)
    _run("add", tmp_path / "lib", archive, "--no-media", "--experts", "motion", code=2)
    _run("add", tmp_path / "lib", archive, "--experts", "smell", code=2)
    assert "--token" in _run("serve", tmp_path / "lib", "--host", "0.0.0.0", code=2).stderr
    assert "smell" not in _run("models", "list").stdout
    for line in _run("models", "list", "--json").stdout.splitlines():
        assert {"system", "paper", "missing"} <= set(json.loads(line))
    assert "appearance" in _run("doctor").stdout


@pytest.mark.parametrize("verb", ["add", "remove", "train", "evaluate", "search", "serve", "info", "doctor", "demo"])
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    assert "Example: reelseek" in _run(verb, "--help").stdout


@pytest.mark.parametrize(
    "words", [("info", "x", "--bogus"), ("add",), ("search", "x", "dog", "-k", "0"), ("nonsense",)]
)
def test_a_misspelt_command_line_is_two_without_a_traceback(words: tuple[str, ...]) -> None:
    assert _run(*words, code=2).stderr


def test_what_was_lost_is_made_again(archive: Path, tmp_path: Path) -> None:
    import shutil

    library, videos = tmp_path / "lib", tmp_path / "videos"
    videos.mkdir()
    shutil.copy(next(p for p in sorted(archive.iterdir()) if p.suffix in (".mp4", ".mkv", ".webm")), videos)
    _run("add", library, videos, "--experts", "object,motion")
    digest = json.loads(_run("info", library, "--json").stdout)["digest"]
    for file in (library / "index").rglob("*.*"):
        file.write_text("junk")
    _run("search", library, "a cat")
    shutil.rmtree(library / "tracks")
    assert "1 files extracted" in _run("add", library, videos).stdout
    assert json.loads(_run("info", library, "--json", "--verify").stdout)["digest"] == digest
    (library / "library.db").write_bytes(b"")
    assert "damaged" in _run("info", library, code=1).stderr
