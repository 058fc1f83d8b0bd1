"""What an earlier version extracted is made anew where this one treats the file differently, and only there."""

import json
from pathlib import Path

import pytest

from reelseek.errors import UsageError
from reelseek.experts import load_expert
from reelseek.experts.speech import speech
from reelseek.library import Library, add
from reelseek.search import Searcher
from tests.media.colours import write_colours
from tests.media.test_upright import _corners, _write


def _forget_treatments(library: Library) -> None:
    """Leave the library as a version left it that knew no treatments."""
    for content, info in library.db.execute("SELECT hash, info FROM contents").fetchall():
        old = {name: value for name, value in json.loads(info).items() if name != "treatment"}
        library.db.execute("UPDATE contents SET info = ? WHERE hash = ?", (json.dumps(old), content))
    library.db.commit()


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    write_colours(folder / "ordinary.mp4")
    _write(folder / "wide.mp4", _corners(), aspect="4/3")
    return folder


@pytest.mark.long
def test_only_what_is_treated_differently_is_extracted_anew_and_only_once(videos: Path, tmp_path: Path) -> None:
    with Library.open(tmp_path / "library", create=True) as library:
        assert add(library, [videos], experts=["plain"], workers=1).extracted == 2
        contents = [library.video(name).content for name in ("ordinary.mp4", "wide.mp4")]
        digest = library.digest()
        copies = [library.path / "copies" / f"{content}.mp4" for content in contents]
        copies[0].parent.mkdir(exist_ok=True)
        for copy in copies:
            copy.write_bytes(b"of an earlier version")
        _forget_treatments(library)

        report = add(library, [videos / "ordinary.mp4"], experts=["plain"], workers=1)
        assert (report.extracted, report.notices) == (0, [])
        assert "treatment" not in library.media_info(contents[1])  # what this call does not name stays as it is
        assert copies[1].exists()

        report = add(library, [videos], experts=["plain"], workers=1)
        assert report.extracted == 1
        assert [(name, str(notice)) for name, notice in report.notices if "anew" in notice.message] == [
            ("wide.mp4", "extracted anew, since aspect is treated differently than before")
        ]
        assert library.digest(verify=True) == digest  # this version made the old track too
        assert [copy.exists() for copy in copies] == [False, False]
        assert [library.media_info(content)["treatment"] for content in contents] == [[], ["aspect"]]

        again = add(library, [videos], experts=["plain"], workers=1)
        assert again.nothing_new
        assert not again.notices


@pytest.fixture
def films(make_video, tmp_path: Path) -> list[Path]:
    paths = []
    for name, line in (("a", "a zebra sleeps"), ("b", "the river is wide"), ("c", "nobody is at home")):
        film = make_video(f"{name}.mp4", times=[index / 10 for index in range(10 + len(paths))])
        film.with_suffix(".srt").write_text(f"1\n00:00:00,200 --> 00:00:01,000\n{line}\n", "utf-8")
        paths.append(film)
    return paths


def _zebra(library: Library) -> str:
    return Searcher(library).search("a sleeping zebra", k=1)[0].video


def test_the_version_of_the_detector_of_speech_is_in_its_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    current = speech().fingerprint
    monkeypatch.setattr("reelseek.experts.speech.version", lambda package: {"silero-vad": "5.1"}[package])
    assert speech().fingerprint != current


@pytest.mark.long
def test_tracks_of_an_earlier_version_of_an_expert_are_renewed_and_that_is_said(
    films: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two films were heard with an earlier detector of speech; the file of one is away for a while."""
    away, empty = tmp_path / "away-a.mp4", tmp_path / "empty"
    empty.mkdir()
    with Library.open(tmp_path / "library", create=True) as library:
        with monkeypatch.context() as earlier:
            earlier.setattr("reelseek.experts.speech.version", lambda package: "5.1")
            load_expert.cache_clear()
            add(library, films[:2], experts=["speech"], workers=1)
        load_expert.cache_clear()
        films[0].rename(away)
        assert _zebra(library) == "a.mp4"  # all tracks are of one version

        report = add(library, films[2:], workers=1)  # it names none of the old ones, and a search has to take them all
        assert report.extracted == 2
        assert [str(notice) for video, notice in report.notices if not video] == [
            "speech: 1 tracks by another version or model of this expert were extracted anew"
        ]
        assert [failure[:2] for failure in report.failed] == [("a.mp4", "speech")]
        assert "reelseek remove" in report.failed[0][2]
        with pytest.raises(UsageError, match="2 different ways"):
            _zebra(library)

        away.rename(films[0])
        assert add(library, films[2:], workers=1).failed == []
        assert library.experts()["speech"]["fingerprints"] == [load_expert("speech").fingerprint]
        assert _zebra(library) == "a.mp4"
        again = add(library, films, workers=1)
        assert again.nothing_new
        assert not again.notices

        monkeypatch.setattr("reelseek.experts.speech.version", lambda package: "7.0")
        load_expert.cache_clear()
        for film in films:
            film.rename(tmp_path / f"gone-{film.name}")
        report = add(library, [empty], workers=1)
        load_expert.cache_clear()
        assert report.failed == []  # nothing stands in the way of a search
        assert [str(notice) for _, notice in report.notices if "version" in notice.message] == [
            "speech: 3 tracks by another version or model of this expert wait for their files to be extracted anew"
        ]
