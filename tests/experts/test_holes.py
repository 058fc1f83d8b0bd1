"""Long holes in sound: steps lie where their sound is, and hours without sound cost nothing."""

import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from reelseek.experts.extract import extract
from reelseek.library import Library, add
from reelseek.media.container import Limits
from reelseek.overlap.sources import LibrarySource
from reelseek.studio.sounds import RATE, can_speak, speak
from tests.experts.tiny import save_tiny

HOUR = 3600
PLACES = (0, 10 * 60, 20 * HOUR)  # seconds
BYTES = 300 * 2**20  # 20 hours are 4.6 GB of samples, or 1.2 GB of decibels


def _film(path: Path, piece: np.ndarray, rate: int, places: tuple[int, ...] = PLACES) -> Path:
    """The same sound at several places, and nothing between them."""
    with av.open(str(path), "w") as out:
        track = out.add_stream("pcm_s16le", rate=rate, layout="mono")
        for place in places:
            samples = (piece * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.rate, frame.pts, frame.time_base = rate, place * rate, Fraction(1, rate)
            out.mux(track.encode(frame))
        out.mux(track.encode(None))
    return path


def _tone(seconds: float) -> np.ndarray:
    return np.sin(np.arange(round(seconds * 16_000)) * 2 * np.pi * 440 / 16_000).astype(np.float32) / 2


def _starts(path: Path, spec: str) -> np.ndarray:
    """Starts in seconds of an expert's steps, its memory bounded."""
    tracemalloc.start()
    try:
        extracted = extract(path, [spec], Limits())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not extracted.errors
    assert peak < BYTES
    return extracted.tracks[spec].spans[:, 0]


def test_log_mel_steps_lie_where_the_sound_is(tmp_path: Path) -> None:
    starts = _starts(_film(tmp_path / "film.mkv", _tone(2.0), 16_000), "audio")
    steps = 1 + (32_000 - 400) // 160
    expected = np.concatenate([place + np.arange(steps) * 0.01 for place in PLACES])
    np.testing.assert_allclose(starts, expected, atol=0.03)


def test_windows_of_a_model_begin_anew_after_a_hole(tmp_path: Path) -> None:
    save_tiny("ast", tmp_path / "ast")
    starts = _starts(_film(tmp_path / "film.mkv", _tone(7.0), 16_000), f"sound@{tmp_path / 'ast'}")
    np.testing.assert_allclose(starts, [place + window for place in PLACES for window in (0, 5)], atol=0.03)


def test_who_speaks_after_a_hole_speaks_there(tmp_path: Path) -> None:
    if not can_speak():
        pytest.skip("no speech synthesiser is installed")
    voice = speak("the zebra sleeps beside the river and nobody wakes it", "en")
    film = _film(tmp_path / "film.mkv", np.clip(voice, -1, 1), RATE)
    starts = _starts(film, "speech")
    assert len(starts) >= len(PLACES)
    nearest = np.array(PLACES)[np.abs(starts[:, None] - np.array(PLACES)).argmin(axis=1)]
    assert set(nearest.tolist()) == set(PLACES)
    assert ((starts >= nearest) & (starts < nearest + len(voice) / RATE)).all()


@pytest.mark.long
def test_decibels_to_compare_are_silent_in_holes_and_none_beyond_hours(tmp_path: Path) -> None:
    for name, places in (("near.mkv", PLACES[:2]), ("far.mkv", PLACES)):
        _film(tmp_path / name, _tone(2.0), 16_000, places)
    with Library.open(tmp_path / "library", create=True) as library:
        add(library, [tmp_path], experts=["audio"], workers=1)
        source = LibrarySource(library, "audio")
        near = source.decibels("near.mkv")
        assert source.decibels("far.mkv") is None
    assert near is not None
    loud = np.flatnonzero(near.max(axis=1) > -50)
    np.testing.assert_allclose([loud[0], loud[loud < 30_000][-1], loud[loud > 30_000][0]], [0, 197, 60_000], atol=3)
    assert (near[300:59_900] == -100).all()
    assert len(near) == pytest.approx(60_198, abs=3)
