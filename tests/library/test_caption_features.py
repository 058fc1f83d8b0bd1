"""Captions as vectors that other projects made: matched, counted, learnt from, and gone with their videos."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import ModelError, UsageError
from reelseek.experts.expert import Track
from reelseek.library import Library
from reelseek.library.caption_imports import import_caption_features
from reelseek.library.caption_sets import open_caption_features
from reelseek.library.imports import fingerprint_of
from reelseek.library.records import Caption
from reelseek.search import Searcher
from reelseek.training import evaluate, read_recipe, train

CAPTIONS = [(f"v{i}", text) for i in range(8) for text in (f"a cat number {i}", f"it jumps {i} times")]


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    rng = np.random.default_rng(0)
    with Library.open(tmp_path / "library", create=True) as opened:
        catalog = opened.catalog
        with opened.writing(), opened.saving(), catalog.transaction():
            for video in dict.fromkeys(name for name, _ in CAPTIONS):
                catalog.videos.add(video)
            catalog.captions.add([Caption(video, text) for video, text in CAPTIONS])
            catalog.captions.add([Caption("v0", "it jumps 0 times", split="one")])  # the same words for another split
            for split, members in (("train", range(5)), ("val", range(5, 7)), ("test", [0, 7])):
                opened.put_split(split, [f"v{i}" for i in members])
            for i in range(8):
                track = Track(rng.normal(size=(3, 6)).astype(np.float32), np.array([[0, 1], [1, 2], [2, 3]], float))
                opened.put_track(f"id:v{i}", "rgb", fingerprint_of("rgb", "appearance", None, 6), "appearance", track)
        yield opened


def _vectors(texts: list[str]) -> list[np.ndarray]:
    """A vector a word, which tells the word."""
    return [np.array([[len(word), ord(word[0]), 1, 0] for word in text.split()], np.float32) for text in texts]


def _by_video() -> dict[str, list[str]]:
    by_video: dict[str, list[str]] = {}
    for video, text in CAPTIONS:
        by_video.setdefault(video, []).append(text)
    return by_video


def _ce(folder: Path, texts: dict[str, list[str]], name: str = "gpt.pickle") -> Path:
    content = {video: _vectors(captions) for video, captions in texts.items()}
    (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return folder / name


def test_each_caption_gets_its_vectors_and_a_mismatch_is_named(library: Library, tmp_path: Path) -> None:
    texts = _by_video() | {"v3": ["one of three", "two of three", "three of three"], "nobody": ["nothing"]}
    report = import_caption_features(library, "ce-text", [_ce(tmp_path, texts)], "gpt")
    assert (report.captions, report.videos, report.unmatched) == (14, 7, ["nobody"])
    assert [name for name, _ in report.failed] == ["v3"]
    assert "3 captions in the file, and 2 in the library" in report.failed[0][1]
    features = open_caption_features(library.path, "gpt")
    for video, text in CAPTIONS:
        caption = features.read(Caption(video, text))
        assert (caption is None) == (video == "v3")
        if caption is not None:
            assert caption == text
            np.testing.assert_array_equal(caption.vectors, _vectors([text])[0])
    assert features.read(Caption("v0", "it jumps 9 times")) is None


def test_words_beside_the_vectors_decide_whose_they_are(library: Library, tmp_path: Path) -> None:
    texts = {video: [captions[1], captions[0], captions[0]] for video, captions in _by_video().items()}
    words = {video: [caption.upper().split() for caption in captions] for video, captions in texts.items()}
    words["v2"] = [["other", "words"]] * 3
    (tmp_path / "raw-captions.pkl").write_bytes(pickle.dumps(words, protocol=2))
    file = _ce(tmp_path, texts)
    result = CliRunner().invoke(
        app,
        ["data", "import", "ce-text", str(file), "--captions", str(tmp_path / "raw-captions.pkl"),
         "--library", str(library.path)],
    )  # fmt: skip
    assert result.exit_code == 1, result.output
    assert "14 captions of 7 videos have features gpt, 1 failed" in result.output
    assert "v2: 2 of its captions have no vectors" in " ".join(result.output.split())
    features = open_caption_features(library.path, "gpt")
    caption = features.read(Caption("v1", "a cat number 1"))
    assert caption is not None
    np.testing.assert_array_equal(caption.vectors, _vectors(["a cat number 1"])[0])


def test_sentences_of_a_paragraph_are_told_apart_by_their_lengths(library: Library, tmp_path: Path) -> None:
    lengths = {video: [len(text.split()) for text in captions] for video, captions in _by_video().items()}
    with h5py.File(tmp_path / "bert.h5", "w") as file:
        for video, captions in _by_video().items():
            file[video] = np.concatenate(_vectors(captions))
    lengths["v4"] = [1, 1]
    (tmp_path / "bert_sentence_splits.json").write_text(json.dumps(lengths))
    report = import_caption_features(library, "coot-text", [tmp_path / "bert.h5"], "bert")
    assert (report.captions, [name for name, _ in report.failed]) == (14, ["v4"])
    caption = open_caption_features(library.path, "bert").read(Caption("v6", "it jumps 6 times"))
    assert caption is not None
    np.testing.assert_array_equal(caption.vectors, _vectors(["it jumps 6 times"])[0])


def test_other_widths_are_refused_and_a_removed_video_leaves_no_vectors(library: Library, tmp_path: Path) -> None:
    import_caption_features(library, "ce-text", [_ce(tmp_path, _by_video())], "gpt")
    wide = {"v0": [np.ones((2, 9), np.float32)] * 2}
    (tmp_path / "wide.pkl").write_bytes(pickle.dumps(wide, protocol=2))
    with pytest.raises(UsageError, match="4 wide, and these 9"):
        import_caption_features(library, "ce-text", [tmp_path / "wide.pkl"], "gpt")
    library.remove(["v1"])
    features = open_caption_features(library.path, "gpt")
    assert len(features) == 14
    assert features.read(Caption("v1", "a cat number 1")) is None
    assert features.read(Caption("v2", "a cat number 2")) is not None


@pytest.mark.parametrize("system", ["umi", "late_fusion"])
def test_a_system_learns_from_them_and_is_measured_with_them(library: Library, tmp_path: Path, system: str) -> None:
    texts = {video: captions for video, captions in _by_video().items() if video != "v7"}
    import_caption_features(library, "ce-text", [_ce(tmp_path, texts)], "gpt")
    settings = {"system": system, "text": {"encoder": "features@gpt"}, "width": 8, "heads": 2}
    settings |= {"depth": 1} if system == "late_fusion" else {"depth": 1, "reorganise_depth": 1, "pseudo": 0.0}
    recipe = read_recipe({"model": settings, "train": {"epochs": 1, "batch": 4, "device": "cpu"}})
    train(recipe, library, tmp_path / "model")
    measured = evaluate(str(tmp_path / "model"), library, split="val")
    assert measured.queries == 4
    measured = evaluate(str(tmp_path / "model"), library, split="test")
    assert (measured.queries, measured.gallery) == (2, 2)
    assert "2 captions of 'test' have no features 'gpt'" in " ".join(measured.warnings)
    with pytest.raises(ModelError, match=r"the caption features 'gpt' instead of words.*reelseek evaluate"):
        Searcher(library, model=tmp_path / "model")
    with pytest.raises(UsageError, match="no caption features 'bert'; it has gpt"):
        train({"model": settings | {"text": {"encoder": "features@bert"}}}, library, tmp_path / "other")
