"""Files that are deleted leave the hits, renamed ones are shown by their new names."""

import json
from pathlib import Path

import pytest

from reelseek.library import Library, add
from reelseek.library.absent import absent_videos
from reelseek.library.names import shown_name
from reelseek.models.model import load_model
from reelseek.search.searcher import Searcher
from tests.library.test_long_files import _Pool


def test_videos_without_their_files_are_absent_until_they_are_back(
    make_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reelseek.library.ingest.Workers", _Pool)
    folder = tmp_path / "videos"
    (folder / "day 1").mkdir(parents=True)
    names = ("a.mp4", "b.mp4", "day 1/c.mp4")
    for number, name in enumerate(names):
        make_video("film.mp4", times=[i / 2 for i in range(4 + number)]).rename(folder / name)
    other = make_video("elsewhere.mp4", times=[0.0, 0.5])
    with Library.open(tmp_path / "library", create=True) as library:

        def add_again() -> tuple[list[str], frozenset[str]]:
            report = add(library, [folder], experts=["plain"])
            told = [video for video, notice in report.notices if "its file is gone" in notice.message]
            return told, absent_videos(library.catalog)

        add(library, [other], experts=["plain"])
        assert add_again() == ([], frozenset())
        (folder / "a.mp4").rename(folder / "beach.mp4")
        (folder / "day 1/c.mp4").rename(tmp_path / "c.mp4")
        other.unlink()  # of another folder
        assert add_again() == (["day 1/c.mp4"], {"day 1/c.mp4"})
        renamed = library.get("a.mp4")
        assert renamed is not None
        assert shown_name("a.mp4", str(renamed.path)) == "beach.mp4"
        assert add_again() == ([], {"day 1/c.mp4"}), "it is said once"
        (tmp_path / "c.mp4").rename(folder / "day 1/c.mp4")
        assert add_again() == ([], frozenset())
        away = folder.rename(tmp_path / "away")
        folder.mkdir()
        assert add_again() == ([], frozenset()), "an empty folder may be a disk that is not mounted"
        assert away.is_dir()


def test_absent_videos_are_no_hits_and_their_miss_says_why(library: Library) -> None:
    model = load_model("concepts")
    with library.writing():
        searcher = Searcher(library, model, update=False)
        best, *others = searcher.search("a bouncing ball", k=8, group_by="video")
        assert others
        try:
            library.catalog.set_meta("absent", json.dumps([best.video]))
            hits = searcher.search("a bouncing ball", k=8, group_by="video")
            assert [hit.video for hit in hits][: len(others)] == [hit.video for hit in others]
            assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
            assert "its file was gone" in searcher.why_not("a bouncing ball", best.video).note
            assert "its file was gone" not in searcher.why_not("a bouncing ball", others[0].video).note
        finally:
            library.catalog.remove_meta("absent")
        assert searcher.search("a bouncing ball", k=1)[0].video == best.video


def test_names_that_are_no_file_names_stay() -> None:
    assert shown_name("video7012", "/films/x.mp4") == "video7012"
    assert shown_name("b/x.mp4", None) == "b/x.mp4"
    assert shown_name("b/x.mp4", "/films/b/x.mp4") == "b/x.mp4"
    assert shown_name("x.mp4", "/films/day/x.mp4") == "x.mp4"
