"""Windows of frames and sound: the right moments, wherever the window lies, and augmentation by a seed alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reelseek.errors import DecodeError
from reelseek.media import window as module
from reelseek.media.window import Augmentation, Window, read_window

Make = Callable[..., Path]


def _grey(frames: np.ndarray) -> list[int]:
    """Which frames of `make_video` these are."""
    return [round((float(frame.mean()) - 10) / 8) for frame in frames]


def test_frames_are_the_first_of_their_cells(make_video: Make) -> None:
    path = make_video(sound_seconds=2.0)  # ten frames a second
    window = Window(path, 0.5, frames=4, fps=5, resize=48, crop=32, rate=16_000)
    frames, samples = read_window(window)
    assert frames.shape == (4, 32, 32, 3)
    assert _grey(frames) == [4, 6, 8, 10]  # cells of a fifth of a second begin at .4, .6, .8, 1.0
    assert len(samples) == 0.8 * 16_000
    assert np.abs(samples).max() > 0.2


@pytest.mark.parametrize("start", [4.5, 9.0, 12.5])
def test_a_window_late_in_a_file_is_reached_without_what_lies_before(
    make_video: Make, start: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(times=[i / 2 for i in range(30)], sound_seconds=15.0, options={"g": "4"})
    window = Window(path, start, frames=4, fps=2, resize=48, crop=32, rate=16_000)
    decoded = []
    decode = module.decode
    monkeypatch.setattr(
        module, "decode", lambda path, *args, **kwargs: decoded.append(path) or decode(path, *args, **kwargs)
    )
    frames, samples = read_window(window)
    assert decoded[0] != path  # a copy of some packets
    assert _grey(frames) == [round(2 * start) + i for i in range(4)]
    monkeypatch.setattr(module, "write_excerpt", lambda *_, **__: None)
    whole_frames, whole_samples = read_window(window)
    assert decoded[1] == path
    assert _grey(whole_frames) == _grey(frames)
    inside = slice(800, -800)  # the first packet of a copy has no packet before it
    assert np.abs(samples[inside] - whole_samples[inside]).max() < 0.02


@pytest.mark.parametrize(("start", "fps"), [(5.0, 5), (6.2, 5), (6.2, 10)])
def test_a_copied_window_is_moved_by_half_a_cell_at_most(
    tmp_path: Path, start: float, fps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key frame lies off the cells."""
    import av

    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"x264-params": "keyint=37:min-keyint=37:scenecut=0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(200):  # brightness begins anew with every second
            pixels = np.full((48, 64, 3), 8 * (index % 25) + 10, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode(None))
    window = Window(path, start, frames=4, fps=fps, resize=48, crop=32)
    copied = np.array(_grey(read_window(window).frames))
    monkeypatch.setattr(module, "write_excerpt", lambda *_, **__: None)
    moved = (copied - np.array(_grey(read_window(window).frames)) + 12) % 25 - 12
    assert np.abs(moved).max() <= 25 / fps / 2 + 0.5


def test_after_the_end_the_last_frame_stays_and_sound_is_silent(make_video: Make) -> None:
    path = make_video(sound_seconds=2.0)
    frames, samples = read_window(Window(path, 1.6, frames=8, fps=10, resize=48, crop=32, rate=16_000))
    assert _grey(frames) == [16, 17, 18, 19, 19, 19, 19, 19]
    assert np.abs(samples[: 3 * 1600]).max() > 0.2
    assert not samples[-3200:].any()
    _, nothing = read_window(Window(path, 3.0, frames=8, fps=10, resize=48, crop=32, rate=16_000))
    assert not len(nothing)


def test_a_film_without_sound_and_sound_without_a_film(make_video: Make) -> None:
    silent = read_window(Window(make_video("silent.mp4"), 0.0, 4, 10, 48, 32, 16_000))
    assert len(silent.frames) == 4
    assert not len(silent.samples)
    dark = read_window(Window(make_video("dark.m4a", video=False, sound_seconds=1.0), 0.0, 4, 10, 48, 32, 16_000))
    assert not len(dark.frames)
    assert len(dark.samples) == 6400
    broken = make_video("broken.mp4")
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DecodeError):
        read_window(Window(broken, 0.0, 4, 10, 48, 32))


@pytest.fixture
def gradient(make_video: Make, tmp_path: Path) -> Path:
    """A film whose pictures tell place and colour: red grows to the right, green downwards."""
    import av

    path = tmp_path / "gradient.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv444p"
        pixels = np.full((64, 96, 3), 60, np.uint8)
        pixels[..., 0] = np.linspace(20, 220, 96)
        pixels[..., 1] = np.linspace(20, 220, 64)[:, None]
        for _ in range(10):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def test_augmentation_depends_on_its_seed_alone(gradient: Path) -> None:
    window = Window(gradient, 0.0, 4, 10, 64, 48)
    seeded = [read_window(replace(window, augmentation=Augmentation(seed))).frames for seed in (1, 1, 2, 3)]
    assert (seeded[0] == seeded[1]).all()
    assert len({frames.tobytes() for frames in seeded}) == 3
    for frames in seeded:
        assert np.abs(frames.astype(int) - frames[:1].astype(int)).max() <= 12  # the same change for all frames


def test_crops_lie_anywhere_and_half_of_them_are_mirrored(gradient: Path) -> None:
    window = Window(gradient, 0.0, 2, 10, 64, 48)
    mirrored, reds, greens = 0, set(), set()
    for seed in range(40):
        augmentation = Augmentation(seed, colour=0.0)
        frame = read_window(replace(window, augmentation=augmentation)).frames[0].astype(int)
        mirrored += frame[24, 0, 0] > frame[24, -1, 0]
        reds.add(round(frame[..., 0].mean() / 10))
        greens.add(round(frame[..., 1].mean() / 10))
        plain = read_window(replace(window, augmentation=replace(augmentation, flip=False))).frames[0]
        assert plain[24, 0, 0] < plain[24, -1, 0]
    assert 8 <= mirrored <= 32
    assert len(reds) >= 4
    assert len(greens) >= 3


def test_colours_of_grey_pictures_stay_grey(make_video: Make) -> None:
    window = Window(make_video(), 1.0, 2, 10, 48, 32)
    levels = set()
    for seed in range(12):
        frames = read_window(replace(window, augmentation=Augmentation(seed))).frames.astype(int)
        assert np.abs(frames - frames[..., :1]).max() <= 3  # hue and saturation turn what has a colour
        levels.add(int(frames.mean()))
    assert len(levels) > 6
    assert max(levels) - min(levels) <= 2 * 32 + 4


def test_a_picture_smaller_than_the_crop_is_enlarged(make_video: Make) -> None:
    window = Window(make_video(size=(40, 24)), 0.0, 2, 10, 64, 64)
    assert read_window(window).frames.shape == (2, 64, 64, 3)
    assert read_window(replace(window, augmentation=Augmentation(0, colour=0.0))).frames.shape == (2, 64, 64, 3)
