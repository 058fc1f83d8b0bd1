"""F(x) by its words, what follows from it, and augmented videos."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import UsageError
from reelseek.experts import load_expert
from reelseek.media.suffixes import MEDIA_SUFFIXES
from reelseek.overlap.curve import Augmentation, SearchCurve, augmented, estimate, search_curve
from reelseek.overlap.match import best_windows, unit_rows


def _sets(rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    queries = [unit_rows(rng.normal(size=(6, 4))) for _ in range(7)]
    changed = [unit_rows(query + rng.uniform(0.1, 1.2) * rng.normal(size=query.shape)) for query in queries]
    return queries, changed, [unit_rows(rng.normal(size=(8, 4))) for _ in range(30)]


def test_the_curve_counts_the_negatives_above_each_positive() -> None:
    queries, changed, gallery = _sets(np.random.default_rng(0))
    found = search_curve(queries, gallery, dict(enumerate(changed)), window=3)
    positives = sorted((best_windows(a, b, 3).score for a, b in zip(queries, changed, strict=True)), reverse=True)
    negatives = [best_windows(a, b, 3).score for a in queries for b in gallery]
    wanted = [sum(negative > positive for negative in negatives) for positive in positives]
    assert found.negatives.tolist() == wanted
    assert found.recall.tolist() == [(i + 1) / 7 for i in range(7)]
    assert found.pairs == 210
    # The listing's own search, in an array that is sorted downwards, answers nothing of the kind.
    down = np.sort(negatives)[::-1]
    assert np.searchsorted(down, positives).tolist() != wanted
    assert 0 < wanted[-1] < 210


def test_known_duplicates_and_a_video_itself_are_no_negatives() -> None:
    queries, changed, gallery = _sets(np.random.default_rng(1))
    gallery[4] = queries[2].copy()
    names = [f"q{i}" for i in range(7)], [f"g{i}" for i in range(29)] + ["q5"]
    plain = search_curve(queries, gallery, dict(enumerate(changed)), window=3, names=names)
    told = search_curve(queries, gallery, dict(enumerate(changed)), window=3, names=names, duplicates=[("g4", "q2")])
    assert (plain.pairs, told.pairs) == (209, 208)
    assert plain.at(1 / 7) == told.at(1 / 7) + 1  # the duplicate stood above the best positive


def test_negatives_are_counted_for_every_video_however_few_are_augmented() -> None:
    queries, changed, gallery = _sets(np.random.default_rng(2))
    whole = search_curve(queries, gallery, dict(enumerate(changed)), window=3)
    some = search_curve(queries, gallery, {2: changed[2], 5: changed[5]}, window=3)
    assert some.pairs == whole.pairs
    assert set(some.negatives) <= set(whole.negatives)
    own = [f"q{i}" for i in range(7)]
    self_ = search_curve(queries, queries, dict(enumerate(changed)), window=3, names=(own, own))
    assert self_.pairs == 21  # each two of seven once


def test_what_is_left_to_look_at() -> None:
    curve = SearchCurve(np.arange(1, 11) / 10, np.array([0, 0, 0, 1, 2, 4, 8, 20, 60, 300]), 10_000)
    assert (curve.at(0.3), curve.at(0.95), curve.at(1.0), curve.at(0.01)) == (0, 300, 300, 0)
    assert (curve.inverse(0), curve.inverse(3), curve.inverse(10**6)) == (0.3, 0.5, 1.0)
    found = estimate(curve, reviewed=54, duplicates=40, share=0.9)
    assert (found.recall, found.total) == (0.7, pytest.approx(40 / 0.7))
    assert found.more == 60 + math.ceil(0.9 * 40 / 0.7) - 54
    assert found.linear == pytest.approx(54 * (40 / 0.7) / 40)
    assert estimate(curve, reviewed=10, duplicates=0).total is None
    hard = SearchCurve(np.array([0.5, 1.0]), np.array([7, 90]), 100)
    assert (
        estimate(hard, reviewed=5, duplicates=3).total is None
    )  # two negatives, and the first positive comes after seven


def test_an_augmented_video_is_like_itself_and_starts_later(archive: Path) -> None:
    film = sorted(path for path in archive.iterdir() if path.suffix == ".mp4")[0]
    whole = augmented(film, "copy", Augmentation(1, 1, 0, 0, 0.0))
    cropped = augmented(film, "copy", Augmentation(0.7, 0.9, 1, 0, 0.8))
    assert len(whole) - len(cropped) in (0, 1)
    assert best_windows(unit_rows(whole), unit_rows(cropped)).score > 0.6
    assert not np.array_equal(whole[: len(cropped)], cropped)
    with pytest.raises(UsageError, match="motion does not look at one frame a second"):
        augmented(film, "motion", Augmentation(1, 1, 0, 0, 0))
    assert load_expert("copy").dim == whole.shape[1]


@pytest.mark.long
def test_curve_from_the_command_line(archive: Path, tmp_path: Path) -> None:
    films = sorted(path.name for path in archive.iterdir() if path.suffix in MEDIA_SUFFIXES)
    (tmp_path / "test.txt").write_text("\n".join(films[:2]))
    (tmp_path / "train.txt").write_text("\n".join(films[2:]))
    how = [
        "overlap",
        "curve",
        str(archive),
        "--test",
        str(tmp_path / "test.txt"),
        "--train",
        str(tmp_path / "train.txt"),
    ]
    done = CliRunner().invoke(app, [*how, "--out", str(tmp_path / "c"), "--json"], catch_exceptions=False)
    told = json.loads(done.stdout)["copy"]
    assert (told["queries"], told["negative_pairs"]) == (2, 2 * len(films[2:]))
    assert (tmp_path / "c.png").stat().st_size > 5000
    assert json.loads((tmp_path / "c.json").read_text())["copy"]["negatives"] == told["negatives"]
    npy = tmp_path / "npy"
    npy.mkdir()
    np.save(npy / "a.npy", np.eye(4))
    (tmp_path / "one.txt").write_text("a")
    alone = ["overlap", "curve", str(npy), "--test", str(tmp_path / "one.txt"), "--train", str(tmp_path / "one.txt")]
    with pytest.raises(UsageError, match="name their folder with --augmented"):
        CliRunner().invoke(app, [*alone, "--out", str(tmp_path / "d")], catch_exceptions=False)
    done = CliRunner().invoke(
        app, [*alone, "--augmented", str(npy), "--out", str(tmp_path / "d"), "--json"], catch_exceptions=False
    )
    assert json.loads(done.stdout)["files"]["queries"] == 1
