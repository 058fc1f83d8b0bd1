"""Every kind of file people have: frames by their own clock, sound, subtitles; and files that are no videos."""

import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from reelseek.errors import DecodeError, LimitError
from reelseek.media.container import Limits, open_media, probe
from reelseek.media.decode import decode, read_frames, read_sound
from reelseek.media.shots import ShotDetector
from reelseek.media.streams import FrameBatch, FrameStream, SoundStream, Stream, Subtitle, SubtitleStream

WHOLE = FrameStream(fps=1000, short_side=48)


def _frames(path: Path, stream: FrameStream) -> FrameBatch:
    batches = list(read_frames(path, stream))
    return FrameBatch(*(np.concatenate([getattr(b, n) for b in batches]) for n in ("pixels", "seconds", "cells")))


def test_frames_are_chosen_by_their_own_timestamps_under_a_variable_rate(make_video) -> None:
    path = make_video(times=[0, 0.1, 0.2, 1.7, 1.8, 3.05, 3.1])
    frames = _frames(path, FrameStream(fps=1, short_side=48))
    np.testing.assert_allclose(frames.seconds, [0, 1.7, 3.05], atol=0.002)
    np.testing.assert_allclose(frames.cells, [0, 1, 3])
    shades = frames.pixels.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(shades, [10, 8 * 3 + 10, 8 * 5 + 10], atol=4)


def test_b_frames_come_in_order_of_presentation(make_video) -> None:
    frames = _frames(make_video(options={"bf": "3", "g": "20"}), WHOLE)
    assert len(frames.seconds) == 20
    assert (np.diff(frames.seconds) > 0).all()
    assert (np.diff(frames.pixels.mean(axis=(1, 2, 3))) > 4).all()


def test_ten_bits_and_odd_sizes(make_video) -> None:
    path = make_video("deep.mkv", pix_fmt="yuv420p10le", size=(70, 46))
    frames = _frames(path, FrameStream(fps=1, short_side=224, crop=224))
    assert frames.pixels.shape[1:] == (224, 224, 3)
    np.testing.assert_allclose(frames.pixels.mean(axis=(1, 2, 3)), [10, 90], atol=4)


def test_sound_only_no_sound_and_several_streams(make_video) -> None:
    sound = make_video("sound.m4a", video=False, sound_seconds=1.5)
    assert probe(sound).width is None
    assert len(read_sound(sound).samples) == pytest.approx(1.5 * 16_000, abs=2100)
    assert not list(read_frames(sound, WHOLE))
    silent = make_video("silent.mp4")
    assert len(read_sound(silent).samples) == 0
    several = make_video("several.mkv", sound_seconds=2, sounds=3)
    assert probe(several).audio_streams == 3
    samples = read_sound(several).samples[4000:20_000]
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) * 16_000 / len(samples) == pytest.approx(440, abs=5)


def test_sound_that_turns_from_mono_to_stereo_midway_is_heard_whole(tmp_path: Path) -> None:
    path = tmp_path / "broadcast.ts"
    for layout, rate, tone in [("mono", 16_000, 440), ("stereo", 48_000, 880)]:  # transport streams may be concatenated
        part = tmp_path / f"{layout}.ts"
        with av.open(str(part), "w") as out:
            track = out.add_stream("aac", rate=rate, layout=layout)
            wave = np.sin(np.arange(2 * rate) * 2 * np.pi * tone / rate).astype(np.float32) / 2
            channels = np.stack([wave] * track.layout.nb_channels)
            frame = av.AudioFrame.from_ndarray(channels, format="fltp", layout=layout)
            frame.rate, frame.pts = rate, 0
            out.mux(track.encode(frame))
            out.mux(track.encode(None))
        with path.open("ab") as file:
            file.write(part.read_bytes())
    samples = read_sound(path).samples
    assert len(samples) / 16_000 == pytest.approx(4, abs=0.3)
    for second, tone in [(0.5, 440), (3.0, 880)]:
        spectrum = np.abs(np.fft.rfft(samples[int(second * 16_000) :][:8000]))
        assert np.argmax(spectrum) * 2 == pytest.approx(tone, abs=4)


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_rotation_is_undone(shared_data: Path, turn: int) -> None:
    frames = _frames(shared_data / "formats" / f"video_{turn}.mov", FrameStream(fps=1, short_side=100))
    height, width = frames.pixels.shape[1:3]
    assert (height > width) == (turn in (90, 270))


def test_every_real_format_decodes_and_the_corrupted_file_is_told(shared_data: Path) -> None:
    for path in sorted((shared_data / "formats").iterdir()):
        if path.name.startswith("LICENSE"):
            continue
        seen: list[int] = []
        found = decode(path, {FrameStream(1, 64): [lambda b, seen=seen: seen.append(len(b.pixels))]})
        assert (found.packet_errors > 0) == (path.name == "corrupted.mp4"), path.name
        assert bool(seen) == found.has_video


def test_subtitles_beside_the_file_and_inside_it(make_video, shared_data: Path) -> None:
    path = make_video("talk.mp4")
    path.with_suffix(".srt").write_text("1\n00:00:00,500 --> 00:00:01,500\n<i>Hello</i> there\n", "utf-8")
    path.with_suffix(".en.vtt").write_bytes(b"WEBVTT\n\n00:01.500 --> 00:01.900\nCaf\xc3\xa9\n")
    path.with_name("talking.srt").write_text("1\n00:00:00,500 --> 00:00:01,500\nnot mine\n", "utf-8")
    lines: list[Subtitle] = []
    decode(path, {SubtitleStream(): [lines.extend]})
    assert [(s.text, s.start_seconds, s.end_seconds) for s in lines] == [
        ("Hello there", 0.5, 1.5),
        ("Café", 1.5, 1.9),
    ]
    inside: list[Subtitle] = []
    decode(shared_data / "formats" / "nasa_13013.mp4", {SubtitleStream(): [inside.extend]})
    assert inside[0].source == "embedded"
    assert "Webb" in inside[0].text
    assert len(inside) == len(set(inside))


def test_damage_in_the_middle_is_survived_and_counted(make_video) -> None:
    path = make_video(times=[i / 10 for i in range(100)], options={"g": "5", "crf": "1"}, size=(320, 240))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = os.urandom(400)
    path.write_bytes(data)
    found = decode(path, {WHOLE: [lambda _: None]})
    assert found.frames > 50


PLAYLISTS = {
    "list.mp4": "ffconcat version 1.0\nfile 'film.mp4'\n",
    "live.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfilm.mp4\n#EXT-X-ENDLIST\n",
    "scene.mkv": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>',
    "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
}


@pytest.mark.parametrize("name", sorted(PLAYLISTS))
def test_a_playlist_named_like_a_video_opens_nothing(make_video, name: str) -> None:
    path = make_video().with_name(name)
    path.write_text(PLAYLISTS[name])
    with pytest.raises(DecodeError, match="not a readable media file"), open_media(path):
        pass


def test_what_is_no_video_says_so(tmp_path: Path, make_video) -> None:
    empty, text = tmp_path / "empty.mp4", tmp_path / "text.mp4"
    empty.touch()
    text.write_text("hello " * 1000)
    cut = make_video("cut.mp4")
    cut.write_bytes(cut.read_bytes()[:200])
    fifo = tmp_path / "pipe.mp4"
    os.mkfifo(fifo)
    for path, words in ((empty, "empty"), (text, "not a readable"), (cut, "not a readable"), (fifo, "not a regular")):
        with pytest.raises(DecodeError, match=words):
            probe(path)
    with pytest.raises(DecodeError, match="No such file"):
        probe(tmp_path / "nowhere.mp4")


def test_limits_on_pixels_duration_and_time(make_video) -> None:
    path = make_video()
    with pytest.raises(LimitError, match="pixels"):
        probe(path, Limits(pixels=100))
    with pytest.raises(LimitError, match="lasts"):
        probe(path, Limits(duration_seconds=1))
    with pytest.raises(LimitError, match="more than"):
        decode(path, {WHOLE: [lambda _: None]}, limits=Limits(base_seconds=0, seconds_per_second=0))


@pytest.mark.parametrize("name", ["-i.mp4", "$(x).mp4", "a\nb.mp4", "q'uo\"te.mp4", "%d.mp4", "con:cat|x.mp4"])
def test_odd_names_are_just_names(make_video, name: str) -> None:
    assert len(_frames(make_video(name), WHOLE).seconds) == 20


def test_a_name_that_is_not_utf8(make_video, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4"))
    make_video().rename(path)
    assert probe(path).duration == pytest.approx(2.0)


def test_cuts_are_found_and_motion_is_not_a_cut() -> None:
    rng = np.random.default_rng(0)
    scenes = [rng.integers(0, 255, (112, 150, 3), np.uint8) // 4 + np.uint8(60 * i) for i in range(3)]
    detector = ShotDetector()
    for index in range(60):
        pixels = np.roll(scenes[index // 20], 3 * index, axis=1)[None]
        detector.feed(FrameBatch(pixels, np.array([index / 5]), np.array([index / 5])))
    assert detector.cuts() == pytest.approx([4.0, 8.0])


def test_a_batch_refuses_pixels_without_times() -> None:
    with pytest.raises(ValueError, match="2 frames"):
        FrameBatch(np.zeros((2, 4, 4, 3), np.uint8), np.zeros(1), np.zeros(1))


def test_a_file_that_opens_but_holds_no_frame(tmp_path: Path) -> None:
    path = tmp_path / "hollow.avi"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(5):
            out.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        out.mux(stream.encode(None))
    data = path.read_bytes()
    start = data.index(b"movi")
    path.write_bytes(data[:start] + bytes(len(data) - start))
    with pytest.raises(DecodeError):
        decode(path, {WHOLE: [lambda _: None]})


def test_a_pass_over_a_beginning_ends_there_though_the_sound_ended_before(make_video) -> None:
    film = make_video("film.mp4", times=[i / 4 for i in range(4 * 60)], sound_seconds=5.0)
    frames, sound = FrameStream(fps=4, short_side=48), SoundStream()
    whole: dict[object, list[np.ndarray]] = {frames: [], sound: []}
    decoded = decode(
        film, {frames: [lambda b: whole[frames].append(b.pixels)], sound: [lambda b: whole[sound].append(b.samples)]}
    )
    part: dict[object, list[np.ndarray]] = {frames: [], sound: []}
    wants: dict[Stream, list[Any]] = {
        frames: [lambda b: part[frames].append(b.pixels)], sound: [lambda b: part[sound].append(b.samples)]
    }  # fmt: skip
    begun = decode(film, wants, until_seconds=20.0)
    assert decoded.frames == 240
    assert 80 <= begun.frames < 120, "not to the end of the film"
    assert np.array_equal(np.concatenate(part[sound]), np.concatenate(whole[sound]))
    assert len(np.concatenate(part[sound])) == pytest.approx(5 * 16_000, abs=2048)
    count = len(np.concatenate(part[frames]))
    assert np.array_equal(np.concatenate(part[frames]), np.concatenate(whole[frames])[:count])
