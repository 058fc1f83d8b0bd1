"""What an earlier version extracted is made anew where this one treats the file differently, and only there."""

import json
from pathlib import Path

import pytest

from reelseek.library import Library, add
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
