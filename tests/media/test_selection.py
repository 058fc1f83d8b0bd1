"""Honest streams: no cover for footage, no commentary for the film's sound, no silence for sound."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from reelseek.media.container import best_stream, open_media, probe
from reelseek.media.decode import decode, read_frames, read_sound
from reelseek.media.picture import make_proxy
from reelseek.media.streams import FrameBatch, FrameStream, SoundStream

D = av.stream.Disposition


def _tones(path: Path, tones: dict[int, tuple[D | None, str]]) -> Path:
    """An audio stream a tone, with its disposition and title."""
    with av.open(str(path), "w") as out:
        tracks = []
        for disposition, title in tones.values():
            track = out.add_stream("aac", rate=48_000, layout="mono")
            track.metadata["title"] = title
            track.bit_rate = 32_000 * (1 + len(tracks))  # what FFmpeg's own choice goes by
            if disposition is not None:
                track.disposition = disposition
            tracks.append(track)
        for track, tone in zip(tracks, tones, strict=True):
            wave = np.sin(np.arange(96_000) * 2 * np.pi * tone / 48_000).astype(np.float32)[None] / 2
            frame = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
            frame.rate, frame.pts = 48_000, 0
            out.mux([*track.encode(frame), *track.encode(None)])
    return path


def _tone(path: Path) -> int:
    samples = read_sound(path).samples[8000:24_000]
    return int(np.abs(np.fft.rfft(samples)).argmax())


@pytest.mark.parametrize(
    ("tones", "heard"),
    [
        ({300: (D.comment, ""), 600: (D(0), "")}, 600),
        ({300: (D.default | D.comment, ""), 600: (D(0), "")}, 600),
        ({300: (D.default | D.visual_impaired, ""), 600: (D(0), "")}, 600),
        ({300: (D.dub, ""), 600: (D(0), ""), 900: (D.default, "")}, 900),
        ({300: (D(0), "Director's Commentary"), 600: (D(0), "English")}, 600),
        ({300: (D.comment, "")}, 300),
    ],
)
def test_the_main_sound_is_taken(tmp_path: Path, tones: dict, heard: int) -> None:
    assert _tone(_tones(tmp_path / "film.mkv", tones)) == pytest.approx(heard, abs=3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize(
    ("marks", "heard"),
    [
        ((D(0), D(0), D(0)), 300),
        ((D.default, D.default, D.default), 300),
        ((D.hearing_impaired, D(0), D(0)), 600),
        ((D.comment, D.visual_impaired, D.dub), 300),
    ],
)
def test_of_equal_tracks_the_first_is_taken(tmp_path: Path, suffix: str, marks: tuple[D, ...], heard: int) -> None:
    tones = {300 * (1 + number): (mark, "") for number, mark in enumerate(marks)}
    assert _tone(_tones(tmp_path / f"film.{suffix}", tones)) == pytest.approx(heard, abs=3)


def _song(path: Path, cover_codec: str) -> Path:
    """A song with a still of its own stream beside it."""
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=48_000, layout="mono")
        still = out.add_stream(cover_codec, rate=1)
        still.width, still.height, still.pix_fmt = 64, 48, "yuvj420p" if cover_codec == "mjpeg" else "rgb24"
        frame = av.AudioFrame.from_ndarray(np.full((1, 48_000), 0.1, np.float32), "fltp", "mono")
        frame.rate, frame.pts = 48_000, 0
        out.mux([*sound.encode(frame), *sound.encode(None)])
        picture = av.VideoFrame.from_image(Image.open(io.BytesIO(_jpeg())))
        out.mux([*still.encode(picture.reformat(format=still.pix_fmt, threads=1)), *still.encode(None)])
    return path


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 30, 30)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("codec", ["mjpeg", "png"])
def test_a_songs_cover_is_no_footage(tmp_path: Path, codec: str) -> None:
    path = _song(tmp_path / "song.mp4", codec)
    frames: list[object] = []
    found = decode(path, {FrameStream(1, 48): [frames.append], SoundStream(): [lambda _: None]})
    assert (frames, found.has_video, found.has_audio) == ([], False, True)
    assert probe(path).treatment == ("cover",)


def test_a_still_beside_talk_that_is_a_video_stays_one(tmp_path: Path) -> None:
    with open_media(_song(tmp_path / "talk.mkv", "mjpeg")) as media:
        assert best_stream(media, "video") is not None


def _channels(path: Path, layout: str, samples: np.ndarray) -> Path:
    with av.open(str(path), "w") as out:
        track = out.add_stream("pcm_s16le", rate=16_000, layout=layout)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray((samples * 32767).astype(np.int16).T.reshape(1, -1)), "s16", layout
        )
        frame.rate, frame.pts = 16_000, 0
        out.mux([*track.encode(frame), *track.encode(None)])
    return path


WAVE = np.sin(np.arange(48_000) * 2 * np.pi * 440 / 16_000) / 2


@pytest.mark.parametrize(
    ("layout", "gains", "said"),
    [
        ("stereo", (1, -1), True),
        ("stereo", (1, 1), False),
        ("stereo", (1, 0), False),
        ("5.1", (0, 0, 0, 1, 0, 0), True),
        ("5.1", (0, 0, 1, 0, 0, 0), False),
        ("22.2", (1, *[0] * 23), False),
    ],
)
def test_mixing_makes_no_silence_of_sound(tmp_path: Path, layout: str, gains: tuple, said: bool) -> None:
    path = _channels(tmp_path / "film.mkv", layout, np.stack([WAVE * gain for gain in gains]))
    assert float(np.square(read_sound(path).samples).mean()) > 1e-4
    notices = decode(path, {SoundStream(): [lambda _: None]}).notices
    assert bool(notices) == said
    assert all("channel" in notice.message for notice in notices)


def _broken(path: Path, kind: str, broken: tuple[bool, ...]) -> Path:
    """Streams of one kind, the packets of some of them noise; the first is the default. A film has the other kind."""
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        streams = []
        for number, _ in enumerate(broken):
            stream = out.add_stream("aac", rate=48_000, layout="mono") if kind == "audio" else _pictures(out)
            stream.disposition = D(0) if number else D.default
            streams.append(stream)
        other = _pictures(out) if kind == "audio" else out.add_stream("aac", rate=48_000, layout="mono")
        for number, stream in enumerate([*streams, other]):
            for packet in _encoded(stream, 600 + 300 * number):
                if number < len(broken) and broken[number] and packet.size:
                    spoilt = av.Packet((b"\0\0\0\1" if kind == "video" else b"") + noise.bytes(packet.size))
                    spoilt.pts, spoilt.dts, spoilt.time_base = packet.pts, packet.dts, packet.time_base
                    spoilt.stream, packet = stream, spoilt
                out.mux(packet)
    return path


def _pictures(out: av.container.OutputContainer):
    stream = out.add_stream("libx264", rate=10)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    return stream


def _encoded(stream, tone: int) -> list[av.Packet]:
    """Two seconds of a tone, or of a grey that is a quarter of its frequency modulo 256."""
    if stream.type == "audio":
        wave = np.sin(np.arange(96_000) * 2 * np.pi * tone / 48_000).astype(np.float32)[None] / 2
        frame = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
        frame.rate, frame.pts = 48_000, 0
        return [*stream.encode(frame), *stream.encode(None)]
    packets = []
    for _ in range(20):
        pixels = np.full((48, 64, 3), tone // 4 % 256, np.uint8)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p", threads=1)
        packets += stream.encode(frame)
    return [*packets, *stream.encode(None)]


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("kind", ["audio", "video"])
@pytest.mark.parametrize(
    ("broken", "taken"),
    [((True, False), 1), ((True, True, False), 2), ((False, True), 0), ((True, True), None), ((True,), None)],
)
def test_a_stream_that_only_fails_gives_way_to_the_next(
    tmp_path: Path, suffix: str, kind: str, broken: tuple[bool, ...], taken: int | None
) -> None:
    path = _broken(tmp_path / f"film.{suffix}", kind, broken)
    frames: list[FrameBatch] = []
    found = decode(path, {FrameStream(1, 48): [frames.append], SoundStream(): [lambda _: None]})
    messages = [(notice.message, notice.lost) for notice in found.notices]
    if taken is None:
        assert [lost for message, lost in messages if f"{kind} stream" in message] == [True]
        return
    assert messages == [
        (f"{kind} stream {index} cannot be decoded (no packet yields anything); stream {taken} is used instead", False)
        for index in range(taken)
    ]
    assert found.packet_errors == 0
    copy = tmp_path / "copy.mp4"
    make_proxy((path, copy))
    for file in (path, copy):
        if kind == "audio":
            assert _tone(file) == pytest.approx(600 + 300 * taken, abs=3)
        else:
            grey = next(iter(read_frames(file, FrameStream(1, 48)))).pixels[0].mean()
            assert grey == pytest.approx((600 + 300 * taken) // 4 % 256, abs=4)
