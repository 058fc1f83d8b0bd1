"""What frames count for, and what the sound says besides."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from reelseek.errors import CollectionError, UsageError
from reelseek.experts.copy import without_bars
from reelseek.experts.logmel import log_mel
from reelseek.experts.plain import colour_share
from reelseek.overlap.match import best_matches, best_windows, unit_rows
from reelseek.overlap.sound import same_sound, sound_fingerprint
from reelseek.overlap.weights import ScreensaverBank, as_gallery_rows, background_rows, common_weights, plain_weights


def test_the_share_of_the_most_common_colour() -> None:
    rng = np.random.default_rng(0)
    black = rng.integers(0, 12, (90, 160, 3), np.uint8)  # as encoders leave it
    assert colour_share(black) == 1
    edge = np.full((90, 160, 3), 128, np.uint8) + rng.integers(-4, 4, (90, 160, 3)).astype(np.uint8)
    assert colour_share(edge) == 1  # on the edge of two cells
    half = black.copy()
    half[:45] = rng.integers(0, 256, (45, 160, 3), np.uint8)
    assert colour_share(half) == pytest.approx(0.5, abs=0.02)
    assert colour_share(rng.integers(0, 256, (90, 160, 3), np.uint8)) < 0.05


def test_plain_frames_weigh_what_is_not_plain() -> None:
    found = plain_weights(np.array([0.0, 0.7, 0.71, 0.9, 1.0]))
    assert found == pytest.approx([1, 1, 0.29, 0.1, 0])


def test_bars_are_trimmed_and_dark_pictures_stay_whole() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (60, 100, 3), np.uint8)
    boxed = np.full((80, 130, 3), 16, np.uint8)
    boxed[10:70, 20:120] = picture
    assert np.array_equal(without_bars(boxed), picture)
    assert np.array_equal(without_bars(picture), picture)
    dark = np.zeros((50, 50, 3), np.uint8)
    assert without_bars(dark).shape == dark.shape
    dark[20:24, 20:24] = 255  # a light in the night is no letterbox
    assert without_bars(dark).shape == dark.shape


def test_a_bank_keeps_what_was_added_and_forgets_what_was_removed(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    intro, other = unit_rows(rng.normal(size=(3, 8))), unit_rows(rng.normal(size=(5, 8)))
    bank = ScreensaverBank(tmp_path / "bank.jsonl")
    assert bank.weights(intro, "copy:1").tolist() == [1, 1, 1]
    number = bank.add("film", 2.0, "copy:1", intro, "Ann")
    second = ScreensaverBank(tmp_path / "bank.jsonl")
    near = unit_rows(intro + 0.05 * rng.normal(size=intro.shape))
    assert second.weights(near, "copy:1").tolist() == [0, 0, 0]
    assert second.weights(other, "copy:1").tolist() == [1] * 5
    assert second.weights(near, "clip:2").tolist() == [1, 1, 1]  # another space: these vectors never meet
    entry = second.entries[0]
    assert (entry.video, entry.start, entry.who, entry.vectors.shape) == ("film", 2.0, "Ann", (3, 8))
    second.remove(number, "Bo")
    assert bank.entries == []
    assert bank.add("film", 2.0, "copy:1", intro, "Ann") == number + 1  # numbers are not given twice
    with pytest.raises(UsageError, match=r"no screensaver 7; it has 2"):
        bank.remove(7, "Bo")
    assert len((tmp_path / "bank.jsonl").read_text().splitlines()) == 3  # nothing is ever taken out of the file
    (tmp_path / "bad.jsonl").write_text('{"id": 1, "video": "x"}\n')
    with pytest.raises(CollectionError, match="no entry of a screensaver bank"):
        ScreensaverBank(tmp_path / "bad.jsonl").entries  # noqa: B018


def test_frames_that_many_have_count_less() -> None:
    rng = np.random.default_rng(3)
    videos = [unit_rows(rng.normal(size=(6, 24))) for _ in range(12)]
    intro = unit_rows(rng.normal(size=(1, 24)))[0]
    for video in videos[:9]:
        video[0] = intro
    weights = common_weights(videos, above=4)
    for place, each in enumerate(weights):
        assert each[0] == pytest.approx(4 / 8 if place < 9 else 1)
        assert (each[1:] == 1).all()
    assert all((each == 1).all() for each in common_weights(videos, above=8))


def test_background_scores_are_cosines_less_half_of_both_excesses() -> None:
    rng = np.random.default_rng(4)
    one, two = (unit_rows(rng.normal(size=(7, 10))) for _ in range(2))
    apart = unit_rows(rng.normal(size=(40, 10)))

    def excess(row: np.ndarray) -> float:
        return float(np.sort(apart @ row)[-10:].mean())

    def naive(a: int, b: int) -> float:
        return float(
            np.mean([one[a + i] @ two[b + i] - excess(one[a + i]) / 2 - excess(two[b + i]) / 2 for i in range(3)])
        )

    wanted = max(naive(a, b) for a in range(5) for b in range(5))
    found = best_windows(background_rows([one], apart)[0], as_gallery_rows(background_rows([two], apart)[0]), 3)
    assert found.score == pytest.approx(wanted, abs=1e-5)


def test_a_screen_that_all_share_is_no_candidate_with_a_bank() -> None:
    rng = np.random.default_rng(5)
    intro = unit_rows(rng.normal(size=(4, 16)))
    videos = [np.concatenate([intro, unit_rows(rng.normal(size=(8, 16)))]) for _ in range(6)]
    videos[5][6:12] = videos[2][5:11]
    plain = best_matches(videos[:3], videos[3:], most=9)
    assert min(match.score for match in plain) > 0.99
    dark = [video * (video @ intro.T <= 0.9).all(1)[:, None] for video in videos]
    found = best_matches(dark[:3], dark[3:], most=9)
    assert (found[0].query, found[0].gallery) == (2, 2)
    assert found[0].score > 0.99 > 0.8 > found[1].score


def _sound(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Tones that change every quarter of a second."""
    time = np.arange(int(seconds * 16_000)) / 16_000
    pitch = np.repeat(rng.uniform(120, 3500, (int(seconds * 4) + 1, 3)), 4000, axis=0)[: len(time)]
    return (0.2 * np.sin(2 * np.pi * pitch * time[:, None]).sum(1)).astype(np.float32)


def test_the_same_sound_is_known_through_noise_level_and_shift_and_silence_says_nothing() -> None:
    rng = np.random.default_rng(6)
    sound, other = _sound(rng, 12), _sound(rng, 12)
    cut = 0.3 * sound[int(2.37 * 16_000) :] + 0.001 * rng.normal(size=len(sound) - int(2.37 * 16_000))
    one, two, three = (sound_fingerprint(log_mel(each.astype(np.float32))) for each in (sound, cut, other))
    assert same_sound(one, two, 5.0, 3.0, 4.0) > 0.5  # pictures tell the place to a second
    assert abs(same_sound(one, three, 5.0, 3.0, 4.0)) < 0.3
    assert same_sound(one, two, 5.0, 8.0, 4.0) < 0.3  # the same sound at another place is none
    silent = sound_fingerprint(log_mel(np.zeros(12 * 16_000, np.float32)))
    assert same_sound(one, silent, 5.0, 5.0, 4.0) is None
    assert same_sound(one, sound_fingerprint(np.zeros((3, 40))), 0.0, 0.0, 4.0) is None
    assert same_sound(one, two, 11.9, 0.0, 4.0) is None  # too little is left of it


def test_a_bank_file_is_json_lines_with_who_and_when(tmp_path: Path) -> None:
    ScreensaverBank(tmp_path / "b.jsonl").add("v", 0.0, "s", np.eye(2), "Ann")
    row = json.loads((tmp_path / "b.jsonl").read_text())
    assert {"id", "time", "who", "video", "start", "space", "frames", "vectors"} == set(row)


def test_a_bank_takes_entries_of_several_people_at_once(tmp_path: Path) -> None:
    bank = ScreensaverBank(tmp_path / "bank.jsonl")
    with ThreadPoolExecutor(4) as pool:
        add = partial(bank.add, "v", 0.0, "files", np.ones((2, 3)))
        numbers = list(pool.map(add, [f"p{i}" for i in range(24)]))
    assert sorted(numbers) == [entry.id for entry in bank.entries] == list(range(1, 25))
    assert bank.weights(np.ones((4, 5), np.float32), "files").tolist() == [1, 1, 1, 1]  # of another width: none of it
