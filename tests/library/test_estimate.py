"""What `doctor FOLDER` predicts, from samples of a few seconds."""

from pathlib import Path

import pytest

from reelseek.library import estimate as estimate_module
from reelseek.library.estimate import estimate_ingest
from reelseek.media.container import probe
from reelseek.media.decode import decode
from reelseek.media.excerpt import write_excerpt
from reelseek.media.streams import FrameBatch, FrameStream, SoundStream


def test_long_files_are_sampled_and_short_ones_taken_whole(make_video, tmp_path: Path) -> None:
    long = make_video("long.mp4", times=[i / 4 for i in range(4 * 60)], sound_seconds=60.0)
    short = make_video("short.mp4", times=[i / 4 for i in range(12)])
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    calls: list[tuple[int, int]] = []
    estimate = estimate_ingest(
        [long, short, broken], ["motion", "audio"], progress=lambda done, total: calls.append((done, total))
    )
    assert [name for name, _ in estimate.failed] == ["broken.mp4"]
    assert estimate.video_seconds == pytest.approx(63.0, abs=1.0)
    assert estimate.samples >= 6
    assert estimate.sampled_seconds < 63.0, "a few seconds of each"
    assert set(estimate.expert_seconds) == {"motion", "audio", "decoding"}
    assert all(seconds >= 0 for seconds in estimate.expert_seconds.values())
    work = estimate.video_seconds * sum(estimate.expert_seconds.values()) / estimate.workers
    assert estimate.seconds >= 2 * estimate.start_seconds + 0.9 * work
    assert calls[-1] == (10, 10)


def test_no_sample_is_begun_after_the_budget(make_video) -> None:
    film = make_video("film.mp4", times=[i / 4 for i in range(4 * 30)])
    assert estimate_ingest([film], ["motion"], budget_seconds=0.0).samples == 1


def test_a_file_counts_for_those_that_were_not_looked_at(make_video, monkeypatch: pytest.MonkeyPatch) -> None:
    films = [make_video(f"film{number}.mp4", times=[i / 4 for i in range(16)]) for number in range(4)]
    monkeypatch.setattr(estimate_module, "_SAMPLES", 2)
    assert estimate_ingest(films, ["motion"]).video_seconds == pytest.approx(16.0, abs=2.0)


@pytest.mark.parametrize("start", [0.0, 20.0, 57.0])
def test_an_excerpt_holds_the_stretch_from_a_picture_on(make_video, tmp_path: Path, start: float) -> None:
    film = make_video(
        "film.mp4", times=[i / 4 for i in range(4 * 60)], sound_seconds=60.0, options={"g": "8", "bf": "2"}
    )
    out = tmp_path / "excerpt.mkv"
    assert write_excerpt(film, start, 8.0, out)
    frames: list[FrameBatch] = []
    sounds: list[object] = []
    decoded = decode(out, {FrameStream(fps=4, short_side=48): [frames.append], SoundStream(): [sounds.append]})
    assert decoded.packet_errors == 0
    expected = min(8.0, 60.0 - start)
    assert decoded.picture_end == pytest.approx(expected, abs=2.5)  # begins with the key picture before
    whole: list[FrameBatch] = []
    decode(film, {FrameStream(fps=4, short_side=48): [whole.append]})
    level = float(frames[0].pixels[0].mean())
    levels = [float(pixels.mean()) for batch in whole for pixels in batch.pixels]
    first = min(range(len(levels)), key=lambda place: abs(levels[place] - level))
    assert abs(first / 4 - start) <= 3.0 or level > 240  # the films' colours end at white
    assert sounds


def test_what_has_no_times_is_not_cut(make_video, tmp_path: Path) -> None:
    film = make_video("film.mp4")
    raw = tmp_path / "film.h264"
    import av

    with av.open(str(film)) as media, av.open(str(raw), "w", format="h264") as out:
        stream = out.add_stream_from_template(media.streams.video[0])
        for packet in media.demux(media.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    assert probe(raw).format == "h264"
    assert not write_excerpt(raw, 0.0, 1.0, tmp_path / "excerpt.mkv")
