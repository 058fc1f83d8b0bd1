"""Subtitle files that come, change, go, and lie beside one copy of a film only."""

import os
import shutil
from pathlib import Path

import pytest

from reelseek.library import Library, add


def _add(library: Library, *paths: Path):
    return add(library, paths, experts=["speech"], workers=1)


def _write(path: Path, *lines: str) -> None:
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text("".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n},500\n{line}\n\n" for n, line in enumerate(lines)))
    os.utime(path, ns=(before + 1, before + 1))


def _said(library: Library, video: str) -> list[str]:
    return [text.text for _, text in library.texts(library.video(video).content) if text.kind == "said"]


@pytest.mark.long
def test_subtitle_files_come_change_and_go(make_video, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    make_video("film.mp4").rename(folder / "film.mp4")
    with Library.open(tmp_path / "lib", create=True) as library:
        _add(library, folder)
        assert _said(library, "film.mp4") == []
        _write(folder / "film.en.srt", "a giraffe")
        assert _add(library, folder).extracted == 1
        assert _said(library, "film.mp4") == ["a giraffe"]
        assert _add(library, folder).nothing_new
        _write(folder / "film.en.srt", "a zebra!!")  # of the same size
        assert _add(library, folder).extracted == 1
        assert _said(library, "film.mp4") == ["a zebra!!"]
        _write(folder / "film.srt", "one more")
        (folder / "film.en.srt").rename(folder / "film.en.txt")
        _add(library, folder)
        assert _said(library, "film.mp4") == ["one more"]
        (folder / "film.srt").unlink()
        assert _add(library, folder).extracted == 1
        assert _said(library, "film.mp4") == []
        assert _add(library, folder).nothing_new


@pytest.mark.long
def test_what_was_noted_of_a_subtitle_file_is_replaced_when_it_is_read_again(make_video, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    make_video("film.mp4").rename(folder / "film.mp4")
    (folder / "film.srt").write_text("1\n00:00:0x,000 --> 00:00:01,000\nlost\n")
    (folder / "film.ru.srt").write_bytes("1\n00:00:00,000 --> 00:00:01,000\nЗебра спит\n".encode("cp1251"))
    with Library.open(tmp_path / "lib", create=True) as library:
        report = _add(library, folder)
        assert [(video, "film.srt" in reason) for video, _, reason in report.failed] == [("film.mp4", True)]
        assert [notice.place for _, notice in report.notices] == ["film.ru.srt"]
        assert {(notice.place, notice.lost) for _, notice in library.notices()} == {
            ("film.srt", True),
            ("film.ru.srt", False),
        }
        assert _add(library, folder).nothing_new
        _write(folder / "film.srt", "found")
        assert _add(library, folder).failed == []
        assert [notice.place for _, notice in library.notices()] == ["film.ru.srt"]
        assert library.failures() == []
        (folder / "film.ru.srt").unlink()
        _add(library, folder)
        assert library.notices() == []
        assert _said(library, "film.mp4") == ["found"]


@pytest.mark.long
def test_copies_of_a_film_share_what_lies_beside_any_of_them(make_video, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copy(make_video("film.mp4"), tmp_path / name / f"{name}.mp4")
    _write(tmp_path / "one" / "one.srt", "a giraffe")
    with Library.open(tmp_path / "lib", create=True) as library:
        _add(library, tmp_path / "one")
        assert _said(library, "one.mp4") == ["a giraffe"]
        _write(tmp_path / "two" / "two.de.srt", "eine Giraffe", "ein Zebra")
        _add(library, tmp_path / "two")
        assert set(_said(library, "one.mp4")) == {"a giraffe", "eine Giraffe", "ein Zebra"}
        assert _said(library, "one.mp4") == _said(library, "two.mp4")
        assert _add(library, tmp_path / "one", tmp_path / "two").nothing_new
        (tmp_path / "two" / "two.de.srt").unlink()
        _add(library, tmp_path / "one")
        assert _said(library, "two.mp4") == ["a giraffe"]
