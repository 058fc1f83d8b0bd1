"""The second generator is frozen, and holds what its premises say: shared facts, hubs, order, length, real geometry."""

from dataclasses import replace

import numpy as np
import pytest

from reelseek.experiments.premises import captions_read_from, predicts, text_inputs, told_by_order, video_inputs
from reelseek.studio.redundant_worlds import (
    SEES,
    TEXT_GEOMETRIES,
    RedundantConfig,
    RedundantWorld,
    make_redundant_world,
    redundant_generator_hash,
)

SMALL = RedundantConfig(train=40, validation=6, test=20)


@pytest.fixture(scope="module")
def world() -> RedundantWorld:
    return make_redundant_world(RedundantConfig(train=300, validation=2, test=120), 1)


def test_the_generator_is_frozen() -> None:
    """Records of docs/claims carry this hash: who changes the generator makes every claim wait again."""
    assert redundant_generator_hash() == "50944838685c"


def test_modalities_share_and_appearance_tells_most(world: RedundantWorld) -> None:
    assert min(predicts(world, "appearance", other) for other in ("object", "scene", "face", "audio")) > 0.1
    told = {expert: captions_read_from(world, expert) for expert in SEES}
    assert max(told, key=told.__getitem__) == "appearance"
    assert min(told.values()) > -0.1


@pytest.mark.parametrize("name", TEXT_GEOMETRIES)
def test_captions_lie_as_those_that_were_measured(name: str) -> None:
    world = make_redundant_world(RedundantConfig(train=2, validation=1, test=120, text=name), 2)
    rows = text_inputs(world, "test")
    cosines = (rows @ rows.T)[~np.eye(len(rows), dtype=bool)]
    geometry = TEXT_GEOMETRIES[name]
    assert cosines.mean() == pytest.approx(geometry.mean, abs=0.04)
    assert cosines.std() == pytest.approx(geometry.spread, abs=0.04)


def test_hubs_resemble_everything(world: RedundantWorld) -> None:
    rows = video_inputs(world, ["appearance"])
    connectivity = (rows @ rows.T).mean(1)
    is_hub = np.array([video in world.hubs for video in world.splits["train"]])
    assert 3 <= is_hub.sum() <= 30
    assert connectivity[is_hub].mean() > connectivity[~is_hub].mean() + connectivity[~is_hub].std()


def test_order_and_length_are_told_by_captions_and_by_tokens(world: RedundantWorld) -> None:
    assert told_by_order(world) > 0.1
    lengths: dict[str, list[int]] = {"briefly": [], "at length": []}
    tracks = world.tracks["object"][1]
    for video, text, *_ in world.captions:
        for word, steps in lengths.items():
            if word in text:
                steps.append(len(tracks[video][0]))
    assert max(lengths["briefly"]) < min(lengths["at length"])
    text = next(text for _, text, *_ in world.captions if " then " in text)
    index = [caption[1] for caption in world.captions].index(text)
    vectors, words = world.vectors[index], text.split()
    repeated = [row for row, word in enumerate(words) if words.count(word) > 1 or word == words[0]]
    assert vectors.shape == (len(words), 96)
    alone = world.words[words[0]]
    assert not np.allclose(vectors[repeated[0]] - alone, 0)  # a token's vector holds its context


def test_the_same_seed_is_the_same_world_and_another_is_not() -> None:
    one, two, other = (make_redundant_world(SMALL, seed) for seed in (1, 1, 2))
    assert one.captions == two.captions != other.captions
    for vectors, same in zip(one.vectors, two.vectors, strict=True):
        np.testing.assert_array_equal(vectors, same)
    for expert in one.tracks:
        for video, (values, spans) in one.tracks[expert][1].items():
            np.testing.assert_array_equal(values, two.tracks[expert][1][video][0])
            assert spans[0, 0] == 0.0
            assert spans[-1, 1] == pytest.approx(8.0)


def test_clips_domains_copies_and_absent_modalities() -> None:
    config = replace(SMALL, clips=2, domains=2, apart=0.6, copies=0.4, absent=0.5, strong=0.1)
    world = make_redundant_world(config, 1)
    assert world.copied
    assert not set(world.copied.values()) & set(world.splits["train-clean"])
    videos = sum(len(world.splits[name]) for name in ("train", "val", "test"))
    assert len(world.tracks["appearance-strong"][1]) == videos > len(world.tracks["face"][1]) > 0
    assert {(begin, end) for _, _, begin, end, _ in world.captions} == {(0.0, 8.0), (8.0, 16.0)}
    for video in world.splits["train"]:
        assert world.facts[video, 0]["place"] == world.facts[video, 1]["place"]
        assert world.spans(video) == [(0.0, 8.0), (8.0, 16.0)]
