"""A library with a clip track of a joint model is searched in its space without further words."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from tests.experts.tiny import save_tiny
from typer.testing import CliRunner, Result

from reelseek.cli.main import app
from reelseek.experts import load_expert
from reelseek.experts.expert import Track
from reelseek.library import Library, add
from reelseek.library.imports import fingerprint_of
from reelseek.models import load_model
from reelseek.models.joint import load_for
from reelseek.search import Searcher


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("joint") / "siglip"
    save_tiny("siglip", folder)
    return folder


@pytest.fixture(scope="module")
def library_path(joint: Path, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("joint") / "library"
    film = next(path for path in sorted(archive.iterdir()) if path.suffix == ".mp4")
    with Library.open(path, create=True) as library:
        report = add(library, [film], experts=["object", f"clip@{joint}"], workers=1)
        assert not report.failed
    return path


@pytest.mark.long
def test_concepts_takes_the_joint_model_of_the_library(library_path: Path, joint: Path) -> None:
    with Library.open(library_path) as library:
        searcher = Searcher(library)
        assert searcher.model.config.clip_model == str(joint)
        assert "clip" in searcher.index.experts
        (hit, *_) = searcher.search("a cat")
        gave = {why.modality: why.gave for why in hit.why}
        weight = searcher.model.config.clip
        assert weight == max(weight, searcher.model.config.object, searcher.model.config.speech)
        assert "clip" in gave
        assert hit.similarity == pytest.approx(sum(gave.values()), abs=1e-3)
        explicit = load_model("concepts")
        assert "clip" not in Searcher(library, explicit).index.experts
        assert load_for(library, explicit).model is explicit


def test_a_folder_that_is_named_by_its_place_is_recorded_by_its_whole_path(
    joint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(joint.parent)
    with Library.open(tmp_path / "library", create=True) as library:
        add(library, [tmp_path], experts=["clip@siglip"], workers=1)
        assert json.loads(library.meta("experts") or "") == [f"clip@{joint}"]
        monkeypatch.chdir(tmp_path)
        add(library, [tmp_path], experts=["object", f"clip@{joint}"], workers=1)
        assert json.loads(library.meta("experts") or "") == [f"clip@{joint}", "object"]


def test_a_query_in_another_language_is_read_by_the_text_tower_alone(library_path: Path) -> None:
    with Library.open(library_path) as library:
        searcher = Searcher(library)
        assert searcher.model.reads(["зебра спит", "a cat", "жираф"]).tolist() == [True, True, False]
        assert searcher.unread("зебра спит") == ""
        (hit, *_) = searcher.search("зебра спит")
        assert hit.confidence is not None
        gave = {why.modality: why.gave for why in hit.why}
        assert set(gave) == {"clip"}
        texts = searcher.model.encode_texts(["зебра спит", "a cat", "a street at night"])
        slots = list(searcher.model.slots)
        weights = texts.weights.numpy()
        assert weights[0].tolist() == [2.0 if slot == "clip" else 0.0 for slot in slots]
        assert (weights[1] > 0).all()
        np.testing.assert_array_equal(weights[2] > 0, [slot != "clip" for slot in slots])  # the tower lacks the words


def test_a_joint_model_that_is_gone_or_has_changed_is_said_and_in_the_exit_status(
    library_path: Path, joint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def search() -> Result:
        load_expert.cache_clear()
        return CliRunner().invoke(app, ["search", str(library_path), "a cat"], catch_exceptions=False)

    assert search().exit_code == 0
    config, text = joint / "config.json", (joint / "config.json").read_text()
    with caplog.at_level(logging.WARNING, "reelseek"):
        for change, words in (
            (lambda: config.write_text(text + "\n"), f"{joint} has changed"),
            (config.unlink, "pull"),
        ):
            caplog.clear()
            change()
            done = search()
            assert done.exit_code == 1
            assert ".mp4" in done.stdout
            assert f"clip tracks of {library_path} are left out" in caplog.text
            assert words in caplog.text
    config.write_text(text)
    load_expert.cache_clear()


def test_tracks_that_were_imported_as_clip_are_passed_over_as_before(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("video,caption\nfilm,a cat\n")
    with Library.open(tmp_path / "library", create=True) as library:
        add(library, [tmp_path / "rows.csv"], media=False)
        track = Track(np.ones((2, 8), np.float32), np.array([[0.0, 1.0], [1.0, 2.0]]))
        library.put_track("id:film", "clip", fingerprint_of("clip", "appearance", 1.0, 8), "appearance", track)
        assert library.experts()["clip"]["present"] == 1
        loaded = load_for(library, "concepts")
        assert loaded.left_out == ""
        assert "clip" not in loaded.model.experts
