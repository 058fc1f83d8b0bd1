"""Reports as a user asks for them: files appear, say what was measured, and show the pictures."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import UsageError
from reelseek.evaluation import PROTOCOLS
from reelseek.evaluation.figures import heat_map
from reelseek.evaluation.report import ReportTable, ending, write_tables
from reelseek.library import Library
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models import load_model
from reelseek.training import evaluate
from tests.training.test_training import world  # noqa: F401 - the fixture

SETS = ["model.width=16", "model.depth=1", "model.heads=2", "model.inner=16", "train.epochs=2", "train.patience=9"]


def _run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def models(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """`one` of a single seed, `two` of two, and TensorBoard's log beside them."""
    folder = tmp_path_factory.mktemp("models")
    recipe = Path(__file__).parents[2] / "recipes" / "mmt.toml"
    sets = [part for each in SETS for part in ("--set", each)]
    board = ["--tensorboard", folder / "board"]
    _run("train", recipe, "--library", world, "--out", folder / "one", *sets, *board)
    _run("train", recipe, "--library", world, "--out", folder / "two", "--seeds", "1,2", *sets, *board)
    return folder


@pytest.mark.long
def test_tensorboard_reads_the_log(models: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = json.loads((models / "one" / "config.json").read_text())["log"]
    for run, count in (("", len(log)), ("seed-1", 3), ("seed-2", 3)):
        events = EventAccumulator(str(models / "board" / run)).Reload()
        points = events.Scalars("recall_at_10")
        assert [point.step for point in points] == list(range(count))
        if not run:
            assert [p.value for p in points] == pytest.approx([line["recall_at_10"] for line in log])


def test_a_table_of_systems(world: Path, models: Path, tmp_path: Path) -> None:  # noqa: F811
    out = tmp_path / "v1.0"
    _run("report", "table", models / "one", models / "two", "--library", world, "--out", out)
    text = (tmp_path / "v1.0.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith(("| one", "| two"))]
    with Library.open(world) as library:
        measured = evaluate(load_model(models / "one"), library)
    parameters = sum(p.numel() for p in load_model(models / "one").parameters())
    assert f"| {100 * measured.text_to_video.recall_at_5:.1f} |" in rows[0]
    assert f"{parameters:,}" in rows[0]
    assert rows[1].count("±") == 10
    assert "| 2 | [two-0.run](v1.0-runs/two-0.run) |" in rows[1]
    assert "one-0.run" in _run("score", tmp_path / "v1.0-runs" / "one-0.run")
    assert measured.split_hash in text
    assert "\\toprule" in (tmp_path / "v1.0.tex").read_text()
    names = [str(models / "one"), str(models / "one")]
    twice = CliRunner().invoke(app, ["report", "table", *names, "--library", str(world), "--out", str(tmp_path / "t")])
    assert isinstance(twice.exception, UsageError)
    assert "two of one, one have one name" in str(twice.exception)
    assert not (tmp_path / "t.md").exists()


def test_combinations_are_drawn_and_told(world: Path, models: Path, tmp_path: Path) -> None:  # noqa: F811
    said = _run("report", "combinations", models / "one", models / "two", "--library", world, "--out", tmp_path / "c")
    with Library.open(world) as library:
        alone = evaluate(load_model(models / "one"), library, experts=["hear"]).text_to_video.mean_rank
    assert re.search(rf"^hear +{alone:.1f} ", said, re.MULTILINE)
    assert "hear+see" in said
    with Image.open(tmp_path / "c.png") as image:
        assert np.asarray(image.convert("RGB")).std() > 20
    assert (tmp_path / "c.svg").read_text().lstrip().startswith("<?xml")
    assert "data:image/png" in (tmp_path / "c.html").read_text()


@pytest.mark.long
def test_examples_and_maps_of_real_films(library_path: Path, tmp_path: Path) -> None:
    _run("report", "examples", "concepts", "--library", library_path, "--out", tmp_path / "e.html", "--count", 2)
    page = (tmp_path / "e.html").read_text()
    with Library.open(library_path) as library:
        measured = evaluate(load_model("concepts"), library)
    first, five = int((measured.ranks <= 1).sum()), int(((measured.ranks > 1) & (measured.ranks <= 5)).sum())
    assert f"Found at rank 1: {first} of {len(measured.ranks)}" in page
    assert f"Found among the first five: {five} of" in page
    shown = min(first, 2) + min(five, 2)
    assert page.count('<figure class="right">') == shown
    assert page.count("data:image/jpeg") == page.count("<img")
    for of in ("video", "text"):
        where = ["--library", library_path, "--split", "train", "--out", tmp_path / f"{of}.png"]
        _run("report", "map", "concepts", "--of", of, *where)
        with Image.open(tmp_path / f"{of}.png") as image:
            assert np.asarray(image.convert("RGB")).std() > 10
    few = CliRunner().invoke(
        app, ["report", "map", "concepts", "--library", str(library_path), "--out", "x", "--split", "val"]
    )
    assert "four clips or more" in str(few.exception)
    influence = [
        "--split",
        "train",
        "--library",
        library_path,
        "--expert",
        "appearance",
        "--threshold",
        0.5,
        "--out",
        tmp_path / "i",
    ]
    said = _run("report", "influence", *influence)
    assert "1.000" in said  # the most influential one, over the greatest
    assert "edges" in (tmp_path / "i.html").read_text()


def test_curves(models: Path, tmp_path: Path) -> None:
    _run("report", "curves", models / "one", models / "two" / "seed-1", "--out", tmp_path / "c.svg")
    assert (tmp_path / "c.png").stat().st_size > 10_000
    svg = (tmp_path / "c.svg").read_text()
    for words in ("loss", "R@5", "mean rank", "epoch", str(models / "one"), str(models / "two" / "seed-1")):
        assert f"<!-- {words} -->" in svg  # matplotlib names what it draws as outlines
    none = CliRunner().invoke(app, ["report", "curves", str(tmp_path), "--out", str(tmp_path / "d.png")])
    assert none.exit_code != 0
    assert "no log.csv" in str(none.exception)


def test_tables_escape_what_each_language_reserves(tmp_path: Path) -> None:
    table = ReportTable("A & B", ["", "50 %"], [["x_1|y", "1 ± 2"], [("run", "a/b.run"), "<3"]], "note #1")
    write_tables(tmp_path / "t.html", "T", [table])
    assert "x\\_1|y & 1 $\\pm$ 2 \\\\" in (tmp_path / "t.tex").read_text()
    assert "A \\& B. note \\#1" in (tmp_path / "t.tex").read_text()
    assert "| x_1\\|y | 1 ± 2 |" in (tmp_path / "t.md").read_text()
    assert "[run](a/b.run)" in (tmp_path / "t.md").read_text()
    page = (tmp_path / "t.html").read_text()
    assert '<a href="a/b.run">run</a>' in page
    assert "&lt;3" in page
    assert ending(Path("a/umi.v2"), ".png") == Path("a/umi.v2.png")
    assert ending(Path("a/umi.svg"), ".png") == Path("a/umi.png")


def test_a_heat_map_leaves_what_was_not_measured_empty(tmp_path: Path) -> None:
    png = heat_map(tmp_path / "h", np.array([[1.0, np.nan], [5.0, 9.0]]), ["a", "b"], ["x", "y"], "t")
    with Image.open(png) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert (pixels == 255).all(1).mean() > 0.2


def test_frames_of_a_protocol_are_spread_and_the_middle_one_is_the_middle(world: Path) -> None:  # noqa: F811
    with Library.open(world) as library:
        reader = TokenReader(library)
        video = next(v.id for v in library.videos() if len(reader.steps(Clip(v.id), "see")[0]) == 5)
        whole = reader.steps(Clip(video), "see")[0]
        heard = len(reader.batch([Clip(video)])["hear"].values[0])
        for frames, places in ((1, [2]), (2, [1, 3]), (4, [0, 1, 3, 4]), (16, [0, 1, 2, 3, 4])):
            reader.frames = frames
            tokens = reader.batch([Clip(video)])
            np.testing.assert_allclose(tokens["see"].values[0].numpy(), whole[places])
            assert len(tokens["hear"].values[0]) == heard  # only what is seen has frames
        names = {rule.frames for name, rule in PROTOCOLS.items() if name.endswith(("-frame", "-frames"))}
        assert names == {1, 2, 4, 16}
        assert "the middle frame" in PROTOCOLS["clip-middle-frame"].says
        from reelseek.models import SYSTEMS

        model = SYSTEMS["clip4clip"].build({"experts": {"see": 16}, "head": "linear", "text_head": "linear",
                                            "text": {"encoder": "sentence"}})  # fmt: skip
        one, all_ = (evaluate(model.eval(), library, protocol=name) for name in ("clip-middle-frame", "strict"))
        assert not np.array_equal(one.scores, all_.scores)
