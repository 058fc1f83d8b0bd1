"""Collections: what is kept, shared by a link, and exported so that editors and tables read it right."""

import asyncio
import csv
import errno
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import opentimelineio
import pysubs2
import pytest
from tests.web.conftest import Team

from reelseek.errors import UsageError
from reelseek.library import Library
from reelseek.media.cut import Cut, CutTask, cut
from reelseek.web.collections.archive import Archive
from reelseek.web.collections.rows import ExportRow, export_rows, safe_file_name
from reelseek.web.collections.store import SavedMoment
from reelseek.web.collections.tables import to_csv, to_srt
from reelseek.web.collections.timeline import edit_rate, to_edl, to_otio
from reelseek.web.media import opaque_id
from reelseek.web.v1.exports import _attachment

HOSTILE = "=cmd|' /C calc'!A0"
NAME = 'sub/evil\n* FROM CLIP NAME: x\r\n002  AX V C 00:00:00:00 "; ../../etc/passwd'


@pytest.fixture
def kept(team: Team) -> tuple[Team, dict[str, str], str]:
    """A team, a header, and the id of a collection of three moments."""
    header = team.token(["read", "review"])
    body = {"library": "library", "name": "cats", "tags": ["pets"]}
    identifier = team.client.post("/v1/collections", json=body, headers=header).json()["id"]
    moments = [
        {"moment": team.moment(place=0), "note": HOSTILE, "tags": ["first"]}, {"moment": team.moment(place=1, start=1)},
        {"moment": team.moment(place=2, start=0)},
    ]  # fmt: skip
    answer = team.client.post(f"/v1/collections/{identifier}/moments", json={"moments": moments}, headers=header)
    assert answer.status_code == 200, answer.text
    return team, header, identifier


Kept = tuple[Team, dict[str, str], str]


def test_moments_are_kept_changed_ordered_and_taken_out(kept: Kept) -> None:
    team, header, identifier = kept
    path = f"/v1/collections/{identifier}"
    whole = team.client.get(path, headers=header).json()
    names = [row["moment"] for row in whole["data"]]
    assert whole["moments"] == 3
    assert whole["data"][0]["note"] == HOSTILE
    assert team.client.get(whole["data"][0]["thumbnail"], headers=header).headers["content-type"] == "image/jpeg"
    again = {"moments": [{"moment": names[1], "note": "again", "tags": ["x"]}]}
    changed = team.client.post(f"{path}/moments", json=again, headers=header).json()
    assert [(row["moment"], row["note"]) for row in changed["data"]] == [
        (names[0], HOSTILE), (names[1], "again"), (names[2], ""),
    ]  # fmt: skip
    order = {"name": "dogs", "order": names[::-1]}
    turned = team.client.patch(path, json=order, headers=header).json()
    assert (turned["name"], [row["moment"] for row in turned["data"]]) == ("dogs", names[::-1])
    unknown = {"moments": [names[0], "0" * 24 + "@0.000-1.000"]}
    assert team.client.request("DELETE", f"{path}/moments", json=unknown, headers=header).status_code == 404
    taken = team.client.request("DELETE", f"{path}/moments", json={"moments": names[:1]}, headers=header).json()
    assert [row["moment"] for row in taken["data"]] == [names[2], names[1]]
    assert team.client.delete(path, headers=header).status_code == 204
    assert team.client.get(path, headers=header).status_code == 404


@pytest.mark.parametrize("moment", ["{video}@2.000-1.000", "{video}@1.000-1.000", "{video}@99999.000-100000.000",
                                    "{none}@0.000-1.000", "{video}@nan-1.000", "x@0-1"])  # fmt: skip
def test_moments_that_are_none_are_refused_and_nothing_is_kept(kept: Kept, moment: str) -> None:
    team, header, identifier = kept
    name = moment.format(video=team.moment().partition("@")[0], none="0" * 24)
    body = {"moments": [{"moment": team.moment(place=3)}, {"moment": name}]}
    answer = team.client.post(f"/v1/collections/{identifier}/moments", json=body, headers=header)
    assert answer.status_code in (404, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert team.client.get(f"/v1/collections/{identifier}", headers=header).json()["moments"] == 3


# Links


def test_a_link_shows_its_moments_and_nothing_else(kept: Kept) -> None:
    team, header, identifier = kept
    share = f"/v1/collections/{identifier}/share"
    first = team.client.post(share, headers=header).json()
    assert first["url"] == f"http://127.0.0.1/v1/shared/{first['secret']}"
    assert first["secret"].encode() not in (team.services.folder.path / "collections.db").read_bytes()
    shown = team.client.get(f"/v1/shared/{first['secret']}").json()
    assert [row["note"] for row in shown["data"]] == [HOSTILE, "", ""]
    assert "by" not in json.dumps(shown)
    assert team.client.get(shown["data"][0]["thumbnail"]).headers["content-type"] == "image/jpeg"
    clip = team.client.get(shown["data"][0]["play"])
    assert clip.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(clip.content)) as media:
        assert media.duration / av.time_base == pytest.approx(1.5, abs=0.15), "no second more than the moment"
    opaque = team.moment().partition("@")[0]
    for path in (f"/v1/videos/{opaque}/media?library=library", f"/v1/collections/{identifier}", "/v1/libraries"):
        assert team.client.get(path).status_code == 401
    assert team.client.get(f"/v1/shared/{first['secret']}/moments/3/thumbnail").status_code == 404
    second = team.client.post(share, headers=header).json()
    assert team.client.get(f"/v1/shared/{first['secret']}").status_code == 404, "a new link ends the old one"
    assert team.client.delete(share, headers=header).status_code == 204
    assert team.client.get(f"/v1/shared/{second['secret']}").status_code == 404
    assert second["secret"] not in team.client.get("/v1/audit", headers=team.token(["admin"])).text


def test_links_cannot_be_guessed_at_speed(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    from reelseek.web.guesses import Guesses

    monkeypatch.setattr("reelseek.web.v1.shared._guesses", Guesses(tries=5))
    statuses = [team.client.get(f"/v1/shared/{number:043}").status_code for number in range(8)]
    assert statuses == [404] * 5 + [429] * 3


def test_a_link_works_where_a_token_is_needed_for_the_rest(start_team: Callable[..., Team]) -> None:
    team = start_team(accounts=False, token="a secret word")
    row = team.services.collections.add("library", "cats", by="me")
    secret = team.services.collections.share(row.id)
    assert team.client.get(f"/v1/shared/{secret}").json()["name"] == "cats"
    assert team.client.get("/v1/collections").status_code == 401


# Tables and timelines


def _row(start: float, end: float, *, note: str = "", name: str = "a.mp4", fps: float | None = 25.0) -> ExportRow:
    return ExportRow(
        SavedMoment(name, start, end, note, ("=x",)), f"{opaque_id(name)}@{start}", name, None, "c", 4000.0, fps
    )


def test_a_moment_ends_with_its_video_and_a_title_is_no_path(tmp_path: Path) -> None:
    with Library.open(tmp_path / "library", create=True) as library:
        with library.saving():
            library.db.execute("INSERT INTO videos(id, duration) VALUES ('a.mp4', 10.0), ('b.mp4', NULL)")
        saved = [SavedMoment("a.mp4", 1.0, 99999.0), SavedMoment("a.mp4", 1.0, 2.0), SavedMoment("b.mp4", 1.0, 99999.0)]
        rows = export_rows(library, saved)
    assert [(row.moment.start, row.moment.end) for row in rows] == [(1.0, 10.0), (1.0, 2.0), (1.0, 99999.0)]
    assert rows[0].id == f"{opaque_id('a.mp4')}@1.000-99999.000"  # as it is named everywhere else
    assert 'filename="Tom _ Jerry.csv"' in _attachment("Tom / Jerry", "csv")


@pytest.mark.parametrize("note", [HOSTILE, "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", '"=1"', "＝1", "'=1"])
def test_no_cell_of_a_table_is_a_formula(note: str) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv([_row(0, 1, note=note, name=note)]))))
    for cell in (rows[0]["note"], rows[0]["video"], rows[0]["tags"]):
        assert cell.startswith("'")
    assert (rows[0]["start"], rows[0]["end"]) == ("0.000", "1.000")


@pytest.mark.parametrize("rate", [None, 23.976, 24, 25, 29.97, 30, 50, 60])
def test_edit_lists_are_read_back_to_the_frame(rate: float | None) -> None:
    rows = [_row(1.2, 2.72), _row(100.04, 3723.4, name=NAME), _row(0.0, 0.01), _row(7.5, 9.5)]
    frames = edit_rate(rows, rate)
    text = to_edl("my\ntitle", rows, rate=rate)
    timeline = opentimelineio.adapters.read_from_string(text, "cmx_3600", rate=frames)
    clips = list(timeline.find_clips())
    assert len(clips) == len(rows)
    record = 0
    for clip, row in zip(clips, rows, strict=True):
        first, last = round(row.moment.start * frames), round(row.moment.end * frames)
        assert clip.source_range.start_time.value == first
        assert clip.source_range.duration.value == max(1, last - first)
        assert clip.range_in_parent().start_time.value == record
        record += clip.source_range.duration.value
    assert text.count("FROM CLIP NAME") - text.count("FROM CLIP NAME: x") == len(rows)


def test_timelines_are_read_back_at_each_video_s_own_rate() -> None:
    rows = [_row(1.2, 2.72), _row(100.04, 3723.4, name=NAME, note=HOSTILE, fps=30000 / 1001), _row(0, 1, fps=None)]
    timeline = opentimelineio.adapters.read_from_string(to_otio("cats", rows), "otio_json")
    clips = list(timeline.find_clips())
    for clip, row in zip(clips, rows, strict=True):
        rate = row.fps or 25.0
        assert clip.source_range.start_time.to_seconds() == pytest.approx(row.moment.start, abs=0.5 / rate)
        assert clip.source_range.end_time_exclusive().to_seconds() == pytest.approx(row.moment.end, abs=0.5 / rate)
        assert clip.metadata["reelseek"]["note"] == row.moment.note
        assert clip.media_reference.available_range.duration.to_seconds() == pytest.approx(4000, abs=0.1)


@pytest.mark.parametrize(("fps", "rate"), [(15.0, 30.0), (12.5, 25.0), (12.0, 24.0), (30000 / 1001, 30000 / 1001),
                                           (23.976, 24000 / 1001), (None, 25.0), (7.3, 25.0)])  # fmt: skip
def test_a_rate_that_timecode_knows(fps: float | None, rate: float) -> None:
    assert edit_rate([_row(0, 1, fps=fps)]) == pytest.approx(rate)


def test_rates_and_lengths_that_edit_lists_cannot_have() -> None:
    with pytest.raises(UsageError, match="none of timecode"):
        edit_rate([], 17)
    with pytest.raises(UsageError, match="at most 999 events"):
        to_edl("x", [_row(0, 1)] * 1000)


def test_subtitles_follow_one_another_and_hold_no_foreign_cue() -> None:
    rows = [_row(10, 11.5, note="a cat\n\n2\n00:00:00,000 --> 00:00:09,000\nevil"), _row(3, 4, name=NAME)]
    cues = pysubs2.SSAFile.from_string(to_srt(rows), format_="srt")
    assert [(cue.start, cue.end) for cue in cues] == [(0, 1500), (1500, 2500)]


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..",
        "C:\\a<b>.mp4",
        "con.mp4",
        "a\u202egpj.exe",
        "/",
        "a\0b",
        "é" * 300,
        " . ",
        "a\nb",
        "nul",
        "",
    ],
)
def test_names_that_no_system_is_hurt_by(name: str) -> None:
    safe = safe_file_name(name)
    assert safe not in ("", ".", "..")
    assert not set(safe) & set('/\\<>:"|?*\0\n\u202e')
    assert len(safe.encode()) <= 121
    assert safe.partition(".")[0].lower() not in ("con", "nul")
    assert safe == safe.strip(" .")


# Cut files


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds at 25 frames a second, each frame's number in eight bars of black and white, a key frame each 2 s."""
    path = tmp_path_factory.mktemp("numbered") / "film.mp4"
    with av.open(str(path), "w") as out:
        video, audio = out.add_stream("libx264", rate=25), out.add_stream("aac", rate=48_000)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        video.options = {"crf": "10", "g": "50", "sc_threshold": "0"}
        for number in range(250):
            bars = np.unpackbits(np.uint8(number)) * 255
            pixels = np.ascontiguousarray(np.broadcast_to(bars.repeat(8)[None, :, None], (64, 64, 3)).astype(np.uint8))
            out.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(video.encode(None))
        times = np.arange(480_000) / 48_000
        tone = np.where(times < 5, np.sin(2 * np.pi * 440 * times), 0).astype(np.float32)
        for begin in range(0, len(tone), 1024):
            frame = av.AudioFrame.from_ndarray(tone[None, begin : begin + 1024], format="fltp", layout="mono")
            frame.rate, frame.pts, frame.time_base = 48_000, begin, Fraction(1, 48_000)
            out.mux(audio.encode(frame))
        out.mux(audio.encode(None))
    return path


def _numbers(path: Path) -> list[int]:
    with av.open(str(path)) as media:
        bars = (frame.to_ndarray(format="gray")[32, 4::8] > 128 for frame in media.decode(video=0))
        return [int(np.packbits(bits)[0]) for bits in bars]


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.2, 2.72), (4.0, 4.04), (9.0, 10.0), (3.333, 6.667)])
def test_an_exact_cut_has_the_very_frames(numbered: Path, tmp_path: Path, start: float, end: float) -> None:
    made = cut(CutTask(numbered, tmp_path / "cut", start, end, exact=True))
    assert _numbers(made.path) == list(range(round(start * 25), round(end * 25)))
    with av.open(str(made.path)) as media:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in media.decode(audio=0)])
        assert len(samples) / 48_000 == pytest.approx(end - start, abs=0.03)
        if start < 5 < end:  # the tone ends where it ends in the film
            loud = np.nonzero(np.abs(samples) > 0.1)[0]
            assert start + loud[-1] / 48_000 == pytest.approx(5, abs=0.03)


def test_a_copied_cut_begins_at_the_key_frame_before_and_loses_nothing(numbered: Path, tmp_path: Path) -> None:
    made = cut(CutTask(numbered, tmp_path / "cut", 4.6, 5.4, exact=False))
    assert (made.start, made.exact, made.path.suffix) == (pytest.approx(4.0), False, ".mp4")
    numbers = _numbers(made.path)
    expected = list(range(100, 135))
    assert numbers[: len(expected)] == expected
    assert len(numbers) <= len(expected) + 4  # what the last frames are made of


def test_a_cut_of_nothing_is_refused(numbered: Path, tmp_path: Path) -> None:
    from reelseek.errors import MediaError

    for start, end in ((2.0, 2.0), (3.0, 2.0), (50.0, 51.0), (float("nan"), 1.0)):
        for exact in (True, False):
            with pytest.raises(MediaError):
                cut(CutTask(numbered, tmp_path / "cut", start, end, exact))


@pytest.mark.parametrize("mode", ["copy", "exact"])
def test_an_archive_of_cuts(kept: Kept, mode: str) -> None:
    team, header, identifier = kept
    team.services.collections.put_moments(identifier, [SavedMoment("gone.mp4", 0, 1)], "me")
    path = f"/v1/collections/{identifier}/export?format=zip&mode={mode}"
    answer = team.client.get(path, headers=header)
    assert answer.headers["content-type"] == "application/zip"
    assert 'filename="cats.zip"' in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert [name[:4] for name in names[:3]] == ["001 ", "002 ", "003 "]
        assert "004 gone.mp4: its file is not at hand" in archive.read("LEFT OUT.txt").decode()
        assert archive.read("moments.csv").decode().count("\n") >= 5
        if mode == "exact":
            with av.open(io.BytesIO(archive.read(names[0]))) as media:
                assert media.duration / av.time_base == pytest.approx(1.5, abs=0.15)
    assert not list(team.services.folder.path.glob("scratch/*"))


@pytest.mark.long
def test_an_archive_on_a_full_disk_says_what_it_lacks_or_breaks_off(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    team, *_ = kept
    moment = SavedMoment(team.libraries["library"].videos()[0].id, 0.0, 1.0)
    rows = export_rows(team.libraries["library"], [moment])

    async def read(archive: Archive) -> bytes:
        async with asyncio.timeout(60):
            return b"".join([chunk async for chunk in archive.chunks()])

    monkeypatch.setattr("reelseek.web.collections.archive._cuts", _no_space)
    with zipfile.ZipFile(io.BytesIO(asyncio.run(read(Archive(rows, exact=False, scratch=tmp_path))))) as archive:
        assert "No space left on device" in archive.read("LEFT OUT.txt").decode()
    with pytest.raises(OSError, match="No such file"):  # not even a folder can be made
        asyncio.run(read(Archive(rows, exact=False, scratch=tmp_path / "none")))


def _no_space(task: CutTask) -> Iterator[Cut]:
    raise OSError(errno.ENOSPC, "No space left on device")
    yield


@pytest.mark.parametrize("format", ["csv", "jsonl", "edl", "otio", "srt"])
def test_exports_by_http(kept: Kept, format: str) -> None:
    team, header, identifier = kept
    answer = team.client.get(f"/v1/collections/{identifier}/export?format={format}", headers=header)
    assert answer.status_code == 200
    assert f'filename="cats.{format}"' in answer.headers["content-disposition"]
    assert str(team.libraries["library"].videos()[0].path.parent) not in answer.text, "paths are nobody's business"
    empty = team.client.post("/v1/collections", json={"library": "library", "name": "none"}, headers=header).json()[
        "id"
    ]
    assert team.client.get(f"/v1/collections/{empty}/export?format={format}", headers=header).status_code == 422


_COPY_LONG = """
import resource, sys
from fractions import Fraction
from pathlib import Path
import av, numpy as np
from reelseek.media.cut import Cut, CutTask, cut
folder = Path(sys.argv[1])
with av.open(str(folder / "film.mkv"), "w") as out:
    stream = out.add_stream("ffv1", rate=10)
    stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv422p"
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(noise, format="rgb24").reformat(format="yuv422p")
    for number in range(250):
        frame.pts, frame.time_base = number, Fraction(1, 10)
        out.mux(stream.encode(frame))
taken = []
for name, end in (("short", 2.0), ("long", 25.0)):
    made = cut(CutTask(folder / "film.mkv", folder / name, 0.0, end, False))
    assert not made.exact, made
    taken.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print((folder / "long.mkv").stat().st_size / 2**20, taken[1] - taken[0])
"""


@pytest.mark.long
def test_a_long_moment_is_copied_without_holding_it_in_memory(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _COPY_LONG, str(tmp_path)], capture_output=True, text=True, check=True)
    megabytes, held = map(float, done.stdout.split())
    assert megabytes > 100
    assert held < 50
