"""What `doctor FOLDER` predicts, from samples of a few seconds."""

import itertools
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reelseek.cli import doctor
from reelseek.cli.main import app
from reelseek.errors import ReelseekError
from reelseek.experts import DEFAULT_EXPERTS
from reelseek.experts.extract import Extracted
from reelseek.library import estimate as estimate_module
from reelseek.library.estimate import estimate_ingest
from reelseek.library.expert_costs import calibrate, reference_costs
from reelseek.media.container import probe
from reelseek.media.decode import decode
from reelseek.media.excerpt import write_excerpt
from reelseek.media.streams import FrameBatch, FrameStream, SoundStream


@pytest.mark.long
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


@pytest.mark.long
def test_no_sample_is_begun_after_the_budget(make_video) -> None:
    film = make_video("film.mp4", times=[i / 4 for i in range(4 * 30)])
    assert estimate_ingest([film], ["motion"], budget_seconds=0.0).samples == 1


@pytest.mark.long
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
    assert write_excerpt(film, start, out, seconds=8.0) == pytest.approx(start, abs=2.0)
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
    assert write_excerpt(raw, 0.0, tmp_path / "excerpt.mkv", seconds=1.0) is None


def test_a_deadline_ends_measuring_and_known_costs_stand_for_what_was_not_measured(
    make_video, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = [make_video(f"film{number}.mp4", times=[i / 4 for i in range(40)]) for number in range(3)]
    durations = dict.fromkeys(films, 10.0)
    monkeypatch.setattr(estimate_module, "_probe_files", lambda *_: durations)
    started = time.monotonic()
    tried = {"slow": 2.0, "motion": 9.0}
    estimate = estimate_ingest(films, ["motion", "slow", "strange"], tried=tried, deadline=started + 0.5)
    assert time.monotonic() - started < 60
    assert estimate.is_stopped
    assert (estimate.samples, estimate.video_seconds) == (0, 30.0)
    assert (estimate.from_table, estimate.from_clip, estimate.unknown) == (["motion"], ["slow"], ["strange"])
    assert estimate.expert_seconds["slow"] == 2.0
    assert 0 < estimate.expert_seconds["motion"] < 9.0
    work = 30.0 * sum(estimate.expert_seconds.values())
    assert estimate.seconds >= 0.99 * (2 * estimate.start_seconds + work / estimate.workers)


def test_costs_of_another_machine_follow_the_speed_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = reference_costs()
    assert set(reference.experts) == {*DEFAULT_EXPERTS, "decoding"}
    assert reference.experts["ocr"] > reference.experts["audio"]
    assert reference.scaled(10.0).experts["ocr"] == pytest.approx(10 * reference.experts["ocr"])
    ticks = itertools.count(step=3.0)
    assert calibrate(10.0, lambda: next(ticks)) == 3.0, "15 seconds for five passes"
    assert 0.1 < calibrate(0.2, time.process_time) / reference.calibration < 10


@pytest.mark.long
def test_a_folder_that_cannot_be_measured_in_time_gets_a_prediction(
    make_video, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = make_video("film.mp4", times=[i / 4 for i in range(400)])
    monkeypatch.setattr(estimate_module, "_probe_files", lambda *_: {film: 100.0})
    monkeypatch.setattr(doctor, "_SECONDS", 4.0)
    monkeypatch.setattr(doctor, "_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(estimate_module, "_prepare", _wait_long)
    done = CliRunner().invoke(app, ["doctor", str(film.parent)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "no time was left; `reelseek doctor` without a folder takes its time" in done.stdout
    assert "its worker was stopped" not in done.stdout
    assert "1 file, 1:40 of video: adding them takes about" in done.stdout
    assert "(no sample could be measured in time)" in done.stdout
    assert "measuring stopped after 4 s" in done.stderr
    assert "by a table of another machine" in done.stderr


def test_a_mistyped_folder_is_refused_before_anything_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_look_until", lambda *_: pytest.fail("experts were tried"))
    done = CliRunner().invoke(app, ["doctor", str(tmp_path / "vidoes")])
    assert isinstance(done.exception, ReelseekError)
    assert "vidoes: no such file or folder" in str(done.exception)


def test_a_folder_is_listed_once_for_a_preset(make_video, monkeypatch: pytest.MonkeyPatch) -> None:
    film = make_video("film.mp4", times=[i / 4 for i in range(16)])
    listed, find = [], doctor._find_videos
    monkeypatch.setattr(doctor, "_find_videos", lambda path: listed.append(path) or find(path))
    monkeypatch.setattr("reelseek.experts.presets.missing_models", lambda preset: [])
    monkeypatch.setattr("reelseek.experts.extract.prepare_worker", lambda specs, threads: None)
    measured = []

    def extract(path: Path, specs: list[str], limits: object) -> Extracted:
        measured.append(path)
        return Extracted(end_seconds=4.0)

    monkeypatch.setattr("reelseek.experts.extract.extract", extract)
    done = CliRunner().invoke(app, ["doctor", str(film.parent), "--preset", "offline"], catch_exceptions=False)
    assert "4 s of video measured" in done.stdout
    assert measured == [film]
    assert listed == [str(film.parent)]


def test_a_folder_without_videos_is_not_called_unchanged(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(app, ["add", str(tmp_path / "library"), str(tmp_path / "empty")], catch_exceptions=False)
    assert done.exit_code == 0
    assert "nothing to add: what was named holds no video files" in done.stdout


def _wait_long(*_: object) -> None:
    time.sleep(600)
