"""Videos that are left out of learning, and scores on what nothing leaked into."""

import json
from pathlib import Path

import numpy as np
import pytest
from test_training import _recipe, world  # noqa: F401
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import UsageError
from reelseek.evaluation.ranks import text_to_video_ranks
from reelseek.library import Library
from reelseek.training import evaluate, train
from reelseek.training.data import recipe_splits, whole_split
from reelseek.training.leak import without_overlap
from reelseek.training.recipe import DataRecipe


def test_an_exclusion_list_takes_videos_out_of_learning_and_choosing(world: Path, tmp_path: Path) -> None:  # noqa: F811
    listed = tmp_path / "removed.csv"
    listed.write_text("train,test,why\nv3.mp4,v90,duplicate\nv5.mp4,v91,id\nv999,v91,id\n")
    with Library.open(world) as library:
        whole = recipe_splits(library, DataRecipe())
        some = recipe_splits(library, DataRecipe(exclude=str(listed)))
        names = [{clip.video for part in parts for clip in part.clips} for parts in (whole, some)]
        assert names[0] - names[1] == {"v3", "v5"}
        assert {c.video for c in whole_split(library, DataRecipe(exclude=str(listed))).clips} == names[1]
        model = train(_recipe(epochs=1), library, tmp_path / "m")
        (tmp_path / "none.txt").write_text("a\nb\n")
        with pytest.raises(UsageError, match="excludes 2 videos, such as 'a', and not one of them"):
            recipe_splits(library, DataRecipe(exclude=str(tmp_path / "none.txt")))
        assert model.system == "mmt"


def test_the_clean_part_is_measured_as_its_own_and_among_all(world: Path, tmp_path: Path) -> None:  # noqa: F811
    with Library.open(world) as library:
        measured = evaluate(train(_recipe(epochs=6), library, tmp_path / "m"), library)
    shared = [f"v{i}" for i in range(80, 95)]
    found = without_overlap(measured, [*shared, "unknown.mp4"])
    assert (found.clips, found.shared, found.unknown) == (40, 15, 1)
    data = measured.data
    clean = np.array([data.clips[clip].video not in shared for clip in data.clip_of_text])
    columns = np.array([clip.video not in shared for clip in data.clips])
    same, own = found.same_gallery["text_to_video"], found.own_gallery["text_to_video"]
    assert same["recall_at_5"].whole == measured.text_to_video.recall_at_5
    assert same["median_rank"].whole == measured.text_to_video.median_rank
    assert same["recall_at_5"].clean == pytest.approx((measured.ranks[clean] <= 5).mean())
    place = np.cumsum(columns) - 1
    alone = text_to_video_ranks(
        measured.scores[clean][:, columns], [int(place[c]) for c in np.array(data.clip_of_text)[clean]]
    )
    assert own["recall_at_1"].clean == pytest.approx((alone <= 1).mean())
    assert own["median_rank"].clean == np.median(alone)
    for metrics in (*found.same_gallery.values(), *found.own_gallery.values()):
        for each in metrics.values():
            assert each.difference == pytest.approx(each.clean - each.whole)
            assert each.low <= each.difference <= each.high
    assert (
        found.own_gallery["video_to_text"]["mean_rank"].clean <= found.same_gallery["video_to_text"]["mean_rank"].clean
    )
    with pytest.raises(UsageError, match="none are listed"):
        without_overlap(measured, ["who"])
    with pytest.raises(UsageError, match="all are listed"):
        without_overlap(measured, [clip.video for clip in data.clips])


def test_evaluate_without_overlap_from_the_command_line(world: Path, tmp_path: Path) -> None:  # noqa: F811
    with Library.open(world) as library:
        train(_recipe(epochs=1), library, tmp_path / "m")
    (tmp_path / "M_M.lst").write_text("v80.mp4\t0\t4\tv1.mp4\t3\t7\n")
    how = ["evaluate", str(tmp_path / "m"), "--library", str(world), "--without-overlap", str(tmp_path / "M_M.lst")]
    told = json.loads(CliRunner().invoke(app, [*how, "--json"], catch_exceptions=False).stdout)
    assert told["without_overlap"]["shared"] == 1
    shown = CliRunner().invoke(app, how, catch_exceptions=False)
    assert "text to video recall at 1" in shown.stdout
    assert "1 of 40 clips share footage" in shown.stderr
