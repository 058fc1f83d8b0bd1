"""Clips in which nothing is said, and clips of which one of several captions is right."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.worlds import TEXTS, small, tokens_of

from reelseek.errors import RecipeError
from reelseek.experts.expert import Track
from reelseek.library import Library
from reelseek.library.imports import fingerprint_of
from reelseek.library.records import Caption
from reelseek.library.tokens import Clip
from reelseek.models import load_model
from reelseek.models.batch import Batch
from reelseek.training import read_recipe, train
from reelseek.training.narrations import Narrations, Windows
from reelseek.training.recipe import DataRecipe, TrainRecipe
from reelseek.training.sampler import Sampler
from reelseek.training.split import Split


@pytest.mark.parametrize("system", ["mmv", "eao"])
def test_a_clip_without_words_counts_for_sight_and_sound_alone(system: str) -> None:
    model = small(system)
    batch = Batch(tokens_of(model), TEXTS, torch.arange(4))
    silent = replace(batch, texts=["", *TEXTS[1:]])
    spoken = batch.rows(torch.tensor([1, 2, 3]))
    with torch.inference_mode():
        whole, quiet, rest = model.loss(batch), model.loss(silent), model.loss(spoken)
    assert set(quiet) == set(whole)
    with_text = [name for name in whole if "text" in name]
    assert with_text
    for name in whole:
        expected = rest[name] if name in with_text else whole[name]
        assert float(quiet[name]) == pytest.approx(float(expected), abs=1e-5), name
    nothing = model.loss(replace(batch, texts=[""] * 4))
    assert set(nothing) == set(whole) - set(with_text)


@pytest.mark.parametrize("system", ["mmv", "e2e"])
def test_one_of_several_captions_is_enough(system: str) -> None:
    model = small(system)
    temperature = 0.07 if system == "mmv" else 1.0
    more = [["a dog barks", "", "rain", "a man sings"], ["", "", "wind", ""]]
    batch = Batch(tokens_of(model), TEXTS, torch.arange(4), more_texts=more)
    with torch.inference_mode():
        loss = model.loss(batch)["vision|text" if system == "mmv" else "mil_nce"]
        videos = model.encode_videos(batch.tokens)
        candidates = [[texts[clip] for texts in (TEXTS, *more) if texts[clip]] for clip in range(4)]
        clips = [clip for clip in range(4) if bool(videos.present[clip, 0])]
        rows = {
            clip: model.encode_texts(candidates[clip]).values[:, 0].double().numpy() / temperature for clip in clips
        }
    sights = {clip: videos.values[clip, 0].double().numpy() for clip in clips}
    total = 0.0
    for clip in clips:
        positive = np.exp(rows[clip] @ sights[clip]).sum()
        of_video = sum(np.exp(rows[other] @ sights[clip]).sum() for other in clips)
        of_texts = sum(np.exp(rows[clip] @ sights[other]).sum() for other in clips)
        total -= np.log(positive / (of_video + of_texts))
    assert float(loss) == pytest.approx(total / len(clips), abs=1e-4)


def _split() -> Split:
    clips = (Clip("a", 0, 2), Clip("a", 2, 4), Clip("a", 20, 22), Clip("a", 40, 44), Clip("b"))
    return Split("train", clips, ("one", "two", "three", "four", "other", "another"), (0, 1, 2, 3, 4, 4))


def test_narrations_are_the_nearest_in_time_of_the_same_video() -> None:
    narrations = Narrations(_split(), 2)
    assert narrations.near(0, "one") == ["two", "three"]
    assert narrations.near(3, "four") == ["three", "two"]
    assert narrations.near(4, "another") == ["other", ""]


def test_windows_are_drawn_before_their_words() -> None:
    windows = Windows(_split(), 4.0, silent=True)
    rng = np.random.default_rng(0)
    examples = [windows.draw(0, rng) for _ in range(300)]
    assert {words for _, words in examples} >= {"", "one two", "three"}
    for clip, words in examples:
        assert clip.start_seconds is not None
        overlapping = [
            text for text, begin, end in (("one", 0, 2), ("two", 2, 4), ("three", 20, 22), ("four", 40, 44))
            if begin < clip.start_seconds + 4 and end > clip.start_seconds
        ]  # fmt: skip
        assert words == " ".join(overlapping)
    assert all(words for _, words in (Windows(_split(), 4.0).draw(0, rng) for _ in range(50)))


def test_a_sampler_draws_silent_clips_when_it_may() -> None:
    split = replace(_split(), clips=(*_split().clips, Clip("silent")))
    rng = np.random.default_rng(0)
    for uncaptioned in (False, True):
        sampler = Sampler(split, TrainRecipe(batch=8), DataRecipe(uncaptioned=uncaptioned), shifts={}, experts=1)
        plan = sampler.plan(sampler.batches(rng)[0], rng)
        assert [words for clip, words in plan.examples if clip.video == "silent"] == ([""] if uncaptioned else [])


def test_a_mixture_with_silent_videos_is_learnt_from(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"v{i}" for i in range(12)]
    with Library.open(tmp_path / "library", create=True) as library:
        with library.writing(), library.saving(), library.catalog.transaction():
            for name in names:
                library.catalog.videos.add(name)
                for expert, modality in (("see", "appearance"), ("audio", "audio")):
                    track = Track(rng.normal(size=(2, 4)).astype(np.float32), np.array([[0, 1], [1, 2]], float))
                    library.put_track(f"id:{name}", expert, fingerprint_of(expert, modality, None, 4), modality, track)
            library.catalog.captions.add([Caption(name, f"words of {name}") for name in names[:6]])
            library.put_split("said/train", names[:4])
            library.put_split("val", names[4:6])
            library.put_split("silent/train", names[6:])
        settings = {
            "model": {"system": "mmv", "fine": 8, "coarse": 8, "words": 8},
            "data": {"mixture": {"said/train": 1.0, "silent/train": 2.0}, "uncaptioned": True},
            "train": {"epochs": 1, "batch": 8, "device": "cpu", "narrations": 3},
        }
        train(settings, library, tmp_path / "model")
        assert load_model(tmp_path / "model").system == "mmv"
        for change, match in (("data.uncaptioned=true", "uncaptioned"), ("train.narrations=3", "narrations")):
            recipe = read_recipe({"model": {"system": "mmt"}, "data": {"train": "said/train"}}, [change])
            with pytest.raises(RecipeError, match=match):
                train(recipe, library, tmp_path / "other")
