"""One clock: whatever times a container has, second i of the film is second i of the presentation."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tests.media.colours import nearest, write_colours

from reelseek.media.container import probe
from reelseek.media.decode import decode, read_frames, read_sound
from reelseek.media.picture import browser_plays, make_proxy, played_start, strip
from reelseek.media.streams import FrameStream, SoundBatch, SoundStream

EACH_SECOND = FrameStream(fps=1, short_side=48)


def _seen(path: Path) -> list[tuple[int, int]]:
    """Cell and colour of each second."""
    batches = list(read_frames(path, EACH_SECOND))
    return [
        (int(cell), nearest(pixels.mean(axis=(0, 1))))
        for batch in batches
        for cell, pixels in zip(batch.cells, batch.pixels, strict=True)
    ]


STARTS = {
    "hour.ts": {"start": 3600},
    "wrap.ts": {"start": 2**33 / 90_000 - 3},
    "late.mkv": {"start": 10},
    "late.mp4": {"start": 10},
    "late.webm": {"start": 10, "codec": "libvpx", "sound": "libopus"},
    "plain.flv": {"start": 0},
    "silent.vob": {"start": 7, "codec": "mpeg2video", "sound": None},
}


@pytest.mark.parametrize("name", sorted(STARTS))
def test_a_film_that_starts_anywhere_starts_at_0(tmp_path: Path, name: str) -> None:
    path = write_colours(tmp_path / name, **STARTS[name])
    assert _seen(path) == [(i, i) for i in range(4)]
    assert probe(path).duration == pytest.approx(4, abs=0.15)
    copy = tmp_path / "copy.mp4"
    make_proxy((path, copy))
    assert _seen(copy) == [(i, i) for i in range(4)]
    assert (probe(copy).start, played_start(copy)) == (0, 0)
    assert len(strip((path, [0.5, 3.5], 48))) > 0


@pytest.mark.parametrize("suffix", ["ts", "vob"])
@pytest.mark.parametrize("starts", [(0, 0), (3600, 0), (0, 3600)])
def test_joined_parts_follow_one_another(tmp_path: Path, suffix: str, starts: tuple[int, int]) -> None:
    codec = {"codec": "mpeg2video", "sound": "mp2"} if suffix == "vob" else {}
    joined = tmp_path / f"joined.{suffix}"
    with joined.open("wb") as file:
        for part, start in enumerate(starts):
            path = write_colours(tmp_path / f"{part}.{suffix}", seconds=3, first=3 * part, start=start, **codec)
            file.write(path.read_bytes())
    assert _seen(joined) == [(i, i) for i in range(6)]
    assert probe(joined).treatment == ("joined",)
    assert probe(joined).duration == pytest.approx(6, abs=0.2)
    assert len(read_sound(joined).samples) / 16_000 == pytest.approx(6, abs=0.25)
    notices = decode(joined, {EACH_SECOND: [lambda _: None]}).notices
    assert ["start again or jump at 3." in notice.message for notice in notices] == [True]
    copy = tmp_path / "copy.mp4"
    make_proxy((joined, copy))
    assert _seen(copy) == [(i, i) for i in range(6)]


@pytest.mark.parametrize(("pictures", "sound"), [(11, 10), (10, 11)])
def test_what_begins_later_keeps_its_place_also_in_a_copy(tmp_path: Path, pictures: int, sound: int) -> None:
    path = write_colours(tmp_path / "film.mkv", start=pictures, sound_start=sound)
    late = pictures - 10
    assert _seen(path) == [(late + i, i) for i in range(4)]
    assert read_sound(path).start_seconds == pytest.approx(sound - 10, abs=0.05)
    copy = tmp_path / "copy.mp4"
    make_proxy((path, copy))
    assert [seen for seen in _seen(copy) if seen[0] > late] == [(late + i, i) for i in range(1, 4)]
    tone = read_sound(copy)
    audible = np.flatnonzero(np.abs(tone.samples) > 0.05)[0] / 16_000 + tone.start_seconds
    assert audible == pytest.approx(sound - 10, abs=0.1)


@pytest.mark.parametrize(("name", "codec"), [("raw.h264", "libx264"), ("raw.m2v", "mpeg2video")])
def test_streams_without_times_go_by_their_rate(tmp_path: Path, name: str, codec: str) -> None:
    path = write_colours(tmp_path / name, codec=codec, sound=None)
    seen = _seen(path)
    slower = float(probe(path).fps or 25) / (25 if codec == "mpeg2video" else 10)  # a raw stream may not say its rate
    assert [colour for _, colour in seen] == [min(3, int(cell * slower)) for cell, _ in seen]
    copy = tmp_path / "copy.mp4"
    make_proxy((path, copy))
    assert _seen(copy) == seen


def test_an_mp4_that_starts_late_is_copied_and_a_webm_is_sought_with_its_offset(tmp_path: Path) -> None:
    webm = write_colours(tmp_path / "late.webm", codec="libvpx", sound="libopus", start=10)
    assert browser_plays(webm)
    assert played_start(webm) == pytest.approx(10, abs=0.05)
    assert not browser_plays(write_colours(tmp_path / "late.mp4", start=10))
    assert browser_plays(write_colours(tmp_path / "plain.mp4"))


def test_hours_without_sound_are_not_handed_on_as_silence(tmp_path: Path) -> None:
    path = tmp_path / "gaps.mkv"
    with av.open(str(path), "w") as out:
        track = out.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for start in (0, 30, 3600, 72_000):
            frame = av.AudioFrame.from_ndarray(np.full((1, 16_000), 8000, np.int16), "s16", "mono")
            frame.rate, frame.pts, frame.time_base = 16_000, start * 16_000, Fraction(1, 16_000)
            out.mux(track.encode(frame))
        out.mux(track.encode(None))
    batches: list[SoundBatch] = []
    found = decode(path, {SoundStream(): [batches.append]})
    assert [round(batch.start_seconds) for batch in batches if np.abs(batch.samples).max() > 0.1][-2:] == [3600, 72_000]
    assert sum(len(batch.samples) for batch in batches) < 40 * 16_000
    assert found.sound_end == pytest.approx(72_001, abs=0.1)
