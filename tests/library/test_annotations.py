"""Captions and videos in the forms of other tools, read back by those tools or as their importers read them."""

import gc
import json
import os
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import webdataset
from datasets import load_dataset

from reelseek.experts.expert import Track
from reelseek.library import Library
from reelseek.library.export import annotations, export_annotations
from reelseek.library.records import Caption
from reelseek.testing.films import write_film

SPANS = np.array([[0.0, 1.0], [1.0, 2.0]])


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Three videos: one with its file, one without, one whose name is no Unicode and whose length is not known."""
    (tmp_path / "films").mkdir()
    film = write_film(tmp_path / "films" / "a cake.MP4", 2.0)
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/films/caf\xe9.mp4"))
    shutil.copy(film, strange)
    path = tmp_path / "library"
    with Library.open(path, create=True) as opened, opened.writing(), opened.saving():
        catalog = opened.catalog
        for name, file in (("a", film), ("b", None), ("c", strange)):
            catalog.videos.add(name)
            if file is not None:
                catalog.videos.set_file(name, file, f"{ord(name):064x}", (1, 2), 2.0 if name == "a" else None)
            catalog.captions.add(
                [Caption(name, f"{name}: <b>café</b>", 0.5, 1.5, "train"), Caption(name, f"{name} whole")]
            )
        catalog.contents.add(f"{ord('a'):064x}", {"fps": 10.0}, 2.0)
        catalog.captions.add_members("1k-a/test", ["b", "a"])
        catalog.captions.add_members("1k_a/test", ["a"])
        catalog.captions.add_members("all", ["a"])
        track = Track(np.arange(6, dtype=np.float32).reshape(2, 3), SPANS)
        opened.put_track("id:a", "deep.net", "deep:import-1", "motion", track)
    return path


def test_hugging_face_loads_the_splits(library: Path, tmp_path: Path) -> None:
    with Library.open(library) as opened:
        report = export_annotations(opened, tmp_path / "out", to="datasets")
    loaded = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in loaded.items()} == {
        "unsplit": 3,
        "train": 3,
        "1k_a_test": 4,
        "1k_a_test_2": 2,
        "all_2": 2,
    }
    assert dict(report.rows) == {name: len(rows) for name, rows in loaded.items()}
    first = loaded["train"][0]
    assert (first["video"], first["caption"], first["start_seconds"], first["duration"]) == (
        "a",
        "a: <b>café</b>",
        0.5,
        2.0,
    )
    assert [row["video"] for row in loaded["1k_a_test"]] == ["b", "b", "a", "a"], "in the order of the list"
    assert [row["path"] for row in loaded["unsplit"]][1] is None
    assert "`1k_a_test_2` is the split '1k_a/test'" in (tmp_path / "out" / "README.md").read_text()


def test_fiftyone_gets_spans_in_seconds(library: Path, tmp_path: Path) -> None:
    with Library.open(library) as opened:
        report = export_annotations(opened, tmp_path / "out", to="fiftyone")
    paths = json.loads((tmp_path / "out" / "data.json").read_text())
    labels = json.loads((tmp_path / "out" / "labels.json").read_text())["labels"]
    assert sorted(paths) == sorted(labels)
    assert not any("." in key for key in paths)
    assert [Path(path).exists() for path in paths.values()] == [True]
    assert list(labels.values()) == [
        [{"label": "a: <b>café</b>", "timestamps": [0.5, 1.5]}, {"label": "a whole", "timestamps": [0.0, 2.0]}]
    ]
    assert [name for name, _ in report.damaged] == ["b", "c"]
    assert report.damaged[1][1] == "the name of its file is no Unicode, which this form cannot write"


def test_label_studio_gets_frames_from_one(library: Path, tmp_path: Path) -> None:
    with Library.open(library) as opened:
        export_annotations(opened, tmp_path / "out", to="label-studio")
    (task,) = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert task["data"]["video"].startswith("/data/local-files/?d=")
    assert task["data"]["video"].endswith("a%20cake.MP4")
    controls = {node.get("name") for node in ElementTree.parse(tmp_path / "out" / "interface.xml").iter()}
    regions = task["annotations"][0]["result"]
    assert {region["from_name"] for region in regions} | {region["to_name"] for region in regions} <= controls
    spans = [region["value"]["ranges"][0] for region in regions if region["type"] == "timelinelabels"]
    assert spans == [{"start": 6, "end": 15}, {"start": 1, "end": 20}], "of 10 frames a second"
    texts = {region["id"]: region["value"]["text"] for region in regions if region["type"] == "textarea"}
    assert list(texts.values()) == [["a: <b>café</b>"], ["a whole"]]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its reader leaves shards open
def test_shards_are_read_by_webdataset_and_added_again(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotations, "_SHARD_BYTES", 2000)  # more than one shard
    with Library.open(library) as opened:
        report = export_annotations(opened, tmp_path / "out", to="webdataset")
    shards = sorted(str(path) for path in (tmp_path / "out").glob("*.tar"))
    assert len(shards) == report.rows["shards"] > 1
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
    assert [sample["json"]["id"] for sample in samples] == ["a", "b", "c"]
    assert samples[0]["json"]["splits"] == ["1k-a/test", "1k_a/test", "all"]
    assert samples[0]["mp4"] == (tmp_path / "films" / "a cake.MP4").read_bytes()
    np.testing.assert_array_equal(samples[0]["deep_net.npy"], np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(samples[0]["deep_net.spans.npy"], SPANS)
    assert [name for name, _ in report.damaged] == ["b"]
    with Library.open(tmp_path / "again", create=True) as again:
        again.add(shards, experts=[])
        assert len(again.videos()) == 2
    gc.collect()


def test_a_file_that_goes_while_it_is_packed_is_told(library: Path, tmp_path: Path) -> None:
    (tmp_path / "films" / "a cake.MP4").unlink()
    with Library.open(library) as opened:
        report = export_annotations(opened, tmp_path / "out", to="webdataset")
    assert [name for name, _ in report.damaged] == ["a", "b"]
    assert "cannot be read" in report.damaged[0][1]
