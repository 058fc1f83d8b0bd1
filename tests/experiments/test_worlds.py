"""Worlds hold what they say: the facts are in the features and in the words, and nothing else tells clips apart."""

from dataclasses import replace

import numpy as np
import pytest

from reelseek.studio.worlds import FACTS, MODALITIES_OF_WORLD, World, WorldConfig, make_world

SMALL = WorldConfig(train=60, validation=10, test=30)


def _fact_is_read_from(world: World, expert: str, fact: str) -> float:
    """How often the nearest mean of other videos with that value tells a video's fact (leave one out)."""
    tracks = world.tracks[expert][1]
    names = sorted(tracks)
    rows = np.stack([tracks[name][0].mean(0) for name in names])
    labels = np.array([world.facts[name, 0][fact] for name in names])
    right = 0
    for index in range(len(names)):
        others = np.arange(len(names)) != index
        means = {v: rows[others & (labels == v)].mean(0) for v in set(labels[others])}
        right += min(means, key=lambda v: np.linalg.norm(rows[index] - means[v])) == labels[index]
    return right / len(names)


def test_each_modality_carries_its_fact_and_no_other() -> None:
    world = make_world(WorldConfig(train=400, validation=1, test=1), 3)
    assert _fact_is_read_from(world, "object", "object") > 0.8
    assert _fact_is_read_from(world, "ocr", "sign") > 0.7
    assert _fact_is_read_from(world, "appearance", "action") > 0.25
    assert _fact_is_read_from(world, "object", "sign") < 0.15  # chance is 1/16
    assert set(MODALITIES_OF_WORLD) == set(world.tracks)


def test_the_same_seed_is_the_same_world_and_another_is_not() -> None:
    one, two, other = make_world(SMALL, 1), make_world(SMALL, 1), make_world(SMALL, 2)
    assert one.captions == two.captions != other.captions
    for expert in one.tracks:
        for video, (values, spans) in one.tracks[expert][1].items():
            np.testing.assert_array_equal(values, two.tracks[expert][1][video][0])
            assert spans[0, 0] == 0.0
            assert spans[-1, 1] == pytest.approx(8.0)


def test_captions_say_what_is_true_in_either_word() -> None:
    world = make_world(replace(SMALL, named=(7, 7)), 1)
    both = set()
    for video, text, *_ in world.captions:
        for fact, (_, values) in FACTS.items():
            words = values[world.facts[video, 0][fact]]
            said = [word in text.split() for word in words]
            assert any(said), (text, fact)
            both.add(tuple(said))
    assert len(both) > 1
    assert set(" ".join(text for _, text, *_ in world.captions).split()) <= set(world.words)
    near, far = (world.words[a] @ world.words[b] for a, b in (("dog", "puppy"), ("dog", "car")))
    assert near > 0.6
    assert far < 0.5


def test_twins_mean_the_same_and_look_different() -> None:
    world = make_world(replace(SMALL, twins=0.5), 1)
    seen: dict[tuple, list[str]] = {}
    for video in world.splits["train"]:
        seen.setdefault(tuple(world.facts[video, 0].values()), []).append(video)
    pairs = [videos for videos in seen.values() if len(videos) > 1]
    assert pairs
    one, two = (world.tracks["object"][1][video][0] for video in pairs[0][:2])
    assert one.shape != two.shape or not np.allclose(one, two)


def test_copies_are_near_their_training_videos_and_the_clean_split_lacks_them() -> None:
    world = make_world(replace(SMALL, copies=0.4), 1)
    assert world.copied
    for video, source in world.copied.items():
        values, other = (world.tracks["scene"][1][name][0] for name in (video, source))
        assert np.abs(values - other).max() < 0.5
        assert source not in world.splits["train-clean"]
    assert sorted([*world.splits["test-copied"], *world.splits["test-own"]]) == sorted(world.splits["test"])


def test_absent_modalities_domains_clips_and_narration() -> None:
    world = make_world(replace(SMALL, absent=0.5, domains=2, apart=0.8, clips=2, strong=0.3), 1)
    videos = sum(map(len, (world.splits[name] for name in ("train", "val", "test"))))
    assert videos == 200
    assert len(world.tracks["appearance"][1]) == len(world.tracks["appearance-strong"][1]) == videos
    assert 0.3 * videos < len(world.tracks["face"][1]) < 0.7 * videos
    assert set(world.splits["train-0"]) | set(world.splits["train-1"]) == set(world.splits["train"])
    for video in world.splits["train"]:
        one, two = world.facts[video, 0], world.facts[video, 1]
        assert (one["place"], one["person"]) == (two["place"], two["person"])
    assert {(start, end) for _, _, start, end, _ in world.captions} == {(0.0, 8.0), (8.0, 16.0)}
    means = [
        np.stack([world.tracks["scene"][1][v][0].mean(0) for v in world.splits[name] if v in world.tracks["scene"][1]])
        for name in ("train-0", "train-1")
    ]
    assert np.abs(means[0].mean(0) - means[1].mean(0)).max() > 0.2  # domains look different
    told = replace(SMALL, train=300, told=("object", "sound"), named=(2, 2))
    quiet, loud = (make_world(replace(told, narrated=narrated), 1) for narrated in (0.0, 1.5))
    for world_, low, high in ((quiet, 0.0, 0.15), (loud, 0.4, 1.0)):
        train_only = _training_videos(world_)
        assert low <= _fact_is_read_from(train_only, "audio", "object") <= high


def _training_videos(world: World) -> World:
    """The training videos alone."""
    kept = set(world.splits["train"])
    tracks = {e: (m, {v: t for v, t in videos.items() if v in kept}) for e, (m, videos) in world.tracks.items()}
    return World(tracks=tracks, facts=world.facts)
