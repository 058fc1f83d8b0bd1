"""Imported features are what their owner says they are; they are listed, renamed and erased."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reelseek.cli.main import app
from reelseek.errors import UsageError
from reelseek.experts.expert import Text, Track
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.library.caption_sets import begin_caption_features
from reelseek.library.features import list_features, rename_features
from reelseek.library.tokens import Clip, TokenReader

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    table = tmp_path / "rows.csv"
    table.write_text("video,caption\na,one\nb,two\nc,three\n")
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", VALUES)
    with Library.open(tmp_path / "lib", create=True) as opened:
        add(opened, [table], media=False)
        yield opened


def _import(library: Library, expert: str, name: str, **said: object) -> int:
    return import_features(library, expert, [library.path.parent / f"{name}.npy"], modality="motion", **said).imported


def _run(*words: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        app([str(word) for word in words])
    return int(exit_.value.code or 0)


def test_the_model_is_part_of_what_features_are_where_it_is_said(library: Library) -> None:
    assert _import(library, "see", "a", fps=2.0, model="S3D 1.0") == 1
    assert _import(library, "see", "b", fps=2.0, model="S3D 1.0") == 1
    before = library.digest()
    for said in ({"model": "S3D 1.1"}, {}, {"fps": 2.0}, {"fps": 1.0, "model": "S3D 1.0"}):
        with pytest.raises(UsageError, match=r"see was imported with --fps 2.0 and --model S3D 1.0.*another name"):
            _import(library, "see", "c", **said)
    assert library.digest() == before
    _import(library, "plain", "a", fps=2.0)
    with pytest.raises(UsageError, match=r"no --model, and this is with --fps 2\.0 and --model S3D"):
        _import(library, "plain", "c", fps=2.0, model="S3D 1.0")
    rows = {row.expert: (row.origin, row.fps, row.model, row.tracks) for row in list_features(library)}
    assert rows == {"plain": ("imported", 2.0, None, 1), "see": ("imported", 2.0, "S3D 1.0", 2)}


def test_what_was_erased_may_be_imported_as_something_else(library: Library) -> None:
    _import(library, "see", "a", model="one")
    library.remove_expert("see")
    assert library.catalog.import_notes() == {}
    assert _import(library, "see", "a", model="two") == 1


@pytest.mark.parametrize("said", [{}, {"fps": 2.5, "model": "m"}])
def test_renamed_features_stay_one_expert(library: Library, said: dict[str, object]) -> None:
    _import(library, "see", "a", **said)
    with library.writing(), library.saving():
        library.put_texts("id:a", "see", [Text("a label", 0.0, 1.0, "label")])
        library.catalog.failures.put_reason("b", "see", "broken")
        library.catalog.set_damaged({"id:a": ["see"]})
    revision = library.revision()
    assert rename_features(library, "see", "look") == 1
    assert {change.video for change in library.catalog.changed_since(revision)} == {"a"}
    assert [source for source, _ in library.texts("id:a")] == ["look"]
    assert [failure["expert"] for failure in library.failures()] == ["look"]
    assert library.catalog.damaged() == {"id:a": ["look"]}
    assert _import(library, "look", "b", **said) == 1
    assert len(library.experts()["look"]["fingerprints"]) == 1
    with pytest.raises(UsageError, match="look was imported with"):
        _import(library, "look", "c", fps=7.0)
    # The old name is free, for features that never meet the others.
    np.save(library.path.parent / "c.npy", VALUES.astype(np.float16))
    assert _import(library, "see", "c", **said) == 1
    assert library.experts()["see"]["fingerprints"] != library.experts()["look"]["fingerprints"]
    reader = TokenReader(library, ["look", "see"])
    assert reader.steps(Clip("b"), "look")[0].tolist() == reader.steps(Clip("c"), "see")[0].tolist() == VALUES.tolist()
    assert library.verify() == []


def test_features_of_before_are_renamed_with_what_they_were_said_to_be(library: Library) -> None:
    """Two fingerprints, one a type of numbers, and nothing noted."""
    with library.writing(), library.saving():
        for video, dtype in (("a", "float16"), ("b", "float32")):
            identity = json.dumps(["see", "motion", 2.5, 3, dtype])
            earlier = f"see:import-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
            track = Track(VALUES.astype(dtype), np.array([[0, 0.4], [0.4, 0.8]]))
            library.put_track(f"id:{video}", "see", earlier, "motion", track)
    assert [(row.fps, row.dtype) for row in list_features(library)] == [(2.5, "float16"), (2.5, "float32")] or [
        (row.fps, row.dtype) for row in list_features(library)
    ] == [(2.5, "float32"), (2.5, "float16")]
    rename_features(library, "see", "look")
    assert _import(library, "look", "c", fps=2.5) == 1
    assert len(library.experts()["look"]["fingerprints"]) == 1
    assert library.experts()["look"]["tracks"] == 3


def test_what_cannot_be_renamed_is_said(library: Library) -> None:
    _import(library, "see", "a")
    _import(library, "look", "a")
    with library.writing(), library.saving():
        library.put_track("id:a", "motion", "motion:1", "motion", Track(VALUES, np.array([[0.0, 1.0], [1.0, 2.0]])))
    before = library.digest()
    for old, new, message in (
        ("nobody", "x", "has no tracks of 'nobody'; it has look, motion, see"),
        ("see", "look", "features remove .* look"),
        ("see", "speech", "extracts here; give"),
        ("motion", "x", "keeps its name"),
        ("see", "a b", "cannot name an expert"),
        ("see", "captions", "generated captions are stored as"),
    ):
        with pytest.raises(UsageError, match=message):
            rename_features(library, old, new)
    assert rename_features(library, "see", "x", dry_run=True) == 1
    assert library.digest() == before


def test_the_commands(library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    _import(library, "see", "a", fps=2.0, model="m")
    path, before = library.path, library.digest()
    assert _run("features", "list", path, "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["expert"], row["fps"], row["model"], row["tracks"]) == ("see", 2.0, "m", 1)
    assert _run("features", "rename", path, "see", "look", "--dry-run") == 0
    assert _run("features", "remove", path, "see", "--dry-run") == 0
    assert "would erase 1 tracks of see" in capsys.readouterr().out
    assert library.digest() == before
    assert _run("features", "rename", path, "see", "look") == 0
    assert _run("features", "list", path) == 0
    assert "look" in capsys.readouterr().out
    for options in ([], ["--dry-run"]):
        with pytest.raises(UsageError, match="no tracks of 'see'; it has look"):
            app(["features", "remove", str(path), "see", *options])
    assert _run("features", "remove", path, "look") == 0
    assert list_features(library) == []


def test_features_of_captions_do_not_hide_those_of_videos(library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    _import(library, "see", "a", fps=2.0, model="m")
    begin_caption_features(library.path, "see", 4, "vectors")
    with pytest.raises(UsageError, match="add --of videos or --of captions"):
        app(["features", "remove", str(library.path), "see"])
    assert _run("features", "remove", library.path, "see", "--of", "videos", "--dry-run") == 0
    assert "would erase 1 tracks of see" in capsys.readouterr().out
    assert _run("features", "remove", library.path, "see", "--of", "captions") == 0
    assert "erased features see of 0 captions" in capsys.readouterr().out
    with pytest.raises(UsageError, match="no features 'see' of captions"):
        app(["features", "remove", str(library.path), "see", "--of", "captions"])
    assert _run("features", "remove", library.path, "see") == 0
    assert list_features(library) == []
