"""Files that are deleted leave the hits, renamed ones are shown by their new names."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from reelseek.library import Library, add
from reelseek.library.absent import absent_videos
from reelseek.library.names import shown_name
from reelseek.search.hit import Hit
from reelseek.search.moments import Page
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


@pytest.mark.parametrize(("k", "offset"), [(2, 0), (3, 2), (10, 0), (10, 5)])
def test_hits_are_counted_without_absent_videos(monkeypatch: pytest.MonkeyPatch, k: int, offset: int) -> None:
    videos = ["a", "gone", "gone", "b", "gone", "c", "a", "gone", "d", "e", "gone", "f"]
    hits = [Hit("1", "q", rank, video, None, 0.0, 1.0, 1.0 / rank, None) for rank, video in enumerate(videos, 1)]
    monkeypatch.setattr("reelseek.search.searcher.absent_videos", lambda catalog: frozenset({"gone"}))
    searcher: object = SimpleNamespace(library=SimpleNamespace(catalog=None))
    page = Page(k, offset, "moment", "1")
    shown = Searcher._with_files(searcher, lambda page: hits[page.offset :][: page.k], page)
    present = [video for video in videos if video != "gone"]
    assert [hit.video for hit in shown] == present[offset : offset + k]
    assert [hit.rank for hit in shown] == list(range(offset + 1, offset + 1 + len(shown)))


def test_names_that_are_no_file_names_stay() -> None:
    assert shown_name("video7012", "/films/x.mp4") == "video7012"
    assert shown_name("b/x.mp4", None) == "b/x.mp4"
    assert shown_name("b/x.mp4", "/films/b/x.mp4") == "b/x.mp4"
    assert shown_name("x.mp4", "/films/day/x.mp4") == "x.mp4"
