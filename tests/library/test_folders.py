"""Folders as servers, cameras and systems leave them, and names in every form."""

import os
import shutil
import unicodedata
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import CollectionError, UsageError
from reelseek.library import Library, add
from reelseek.library.collection import read_collection
from reelseek.library.folders import walk_folder
from reelseek.library.names import same_name
from reelseek.media.container import FORMATS, probe
from reelseek.media.suffixes import MEDIA_SUFFIXES
from reelseek.overlap.ids import matching
from reelseek.overlap.sources import open_source

NFC, NFD = "caf\u00e9.mp4", "cafe\u0301.mp4"


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def _walk(folder: Path) -> tuple[list[str], str]:
    files, notices = walk_folder(folder)
    return [str(file.relative_to(folder)) for file in files], "\n".join(map(str, notices))


SYSTEM = [
    "@eaDir/x.mp4/SYNOPHOTO_FILM_M.mp4",
    "deep/@eaDir/y.mp4",
    "#recycle/x.mp4",
    "$RECYCLE.BIN/S-1-5/x.mp4",
    ".Trashes/501/x.mp4",
    "System Volume Information/x.mp4",
    ".Trash-1000/files/x.mp4",
    "lost+found/x.mp4",
    ".AppleDouble/x.mp4",
    "@Recycle/x.mp4",
    "Catalog Previews.lrdata/a/x.mp4",
    "Catalog Smart Previews.lrdata/x.mp4",
    ".thumbnails/x.mp4",
    ".snapshot/h.0/x.mp4",
    "Mine.photoslibrary/resources/x.mov",
    "Old.photolibrary/Thumbnails/x.mov",
    "iPhoto Library/Previews/x.mov",
    "__MACOSX/x.mp4",
    "Cut.fcpbundle/day/Render Files/x.mov",
    "RECYCLER/x.avi",
    ".@__thumb/x.mp4",
    "@Recently-Snapshot/x.mp4",
]


@pytest.mark.parametrize("name", SYSTEM)
def test_what_systems_keep_for_themselves_is_passed_over_and_counted(name: str, tmp_path: Path) -> None:
    _touch(tmp_path, "x.mp4", "Mine.photoslibrary/originals/a/y.mov", name)
    files, said = _walk(tmp_path)
    assert files == ["Mine.photoslibrary/originals/a/y.mov", "x.mp4"]
    assert "1 folder of systems and servers passed over: " in said


def test_hidden_and_other_files_are_counted(tmp_path: Path) -> None:
    _touch(
        tmp_path,
        "x.MP4",
        "._x.mp4",
        ".cache/y.mp4",
        "a.jpg",
        "b/B.JPG",
        "c.doc",
        "README",
        "x.srt",
        "x.csv",
        "Thumbs.db",
    )
    (tmp_path / ".DS_Store").touch()
    files, said = _walk(tmp_path)
    assert files == ["x.MP4"]
    assert "4 other files: 2 .jpg, 1 without an ending, 1 .doc" in said
    assert "2 hidden files and folders passed over: ._x.mp4, .cache" in said


def test_a_library_in_the_folder_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "my.library" / "copies").mkdir(parents=True)
    (tmp_path / "my.library" / "library.db").write_bytes(b"x")
    (tmp_path / "my.library" / "copies" / "c.mp4").write_bytes(b"x")
    files, notices = walk_folder(tmp_path)
    assert [path.name for path in files] == ["a.mp4"]
    assert notices == []


def test_links(tmp_path: Path) -> None:
    _touch(tmp_path, "outside/o.mp4", "f/real/r.mp4", "f/x.mp4")
    top = tmp_path / "f"
    (top / "a-loop").symlink_to(top)
    (top / "a-link-to-real").symlink_to(top / "real")
    (top / "one").symlink_to(tmp_path / "outside")
    (top / "two").symlink_to(tmp_path / "outside")
    (top / "gone").symlink_to(tmp_path / "nowhere")
    (top / "self").symlink_to(top / "self")
    (top / "file.mp4").symlink_to(tmp_path / "outside" / "o.mp4")
    files, notices = walk_folder(top)
    assert [str(file.relative_to(top)) for file in files] == ["file.mp4", "one/o.mp4", "real/r.mp4", "x.mp4"]
    said = {notice.lost: notice.message for notice in notices}
    assert said[True] == "2 broken links passed over: gone, self"
    assert said[False] == "3 links to folders that were read already passed over: a-link-to-real, a-loop, two"


def test_every_suffix_of_the_formats_that_are_opened_is_looked_at() -> None:
    pictures_and_others = {"avif", "heic", "heif", "mks", "ism", "psp", "avs", "apl", "mac"}
    formats = set(FORMATS.split(","))
    for name in av.formats_available:
        try:
            container = av.ContainerFormat(name, "r")
        except ValueError:
            continue  # it can only be written
        if formats & set(container.name.split(",")):
            assert {f".{ending}" for ending in container.extensions - pictures_and_others} <= MEDIA_SUFFIXES, name
    for (
        ending
    ) in "mod tod m2t mts m2ts divx 3gpp mxf dav insv lrv trp tp f4p ismv roq nsv ogx wtv dvr-ms amv bik".split():
        assert f".{ending}" in MEDIA_SUFFIXES
    assert not formats & {"hls", "dash", "concat", "image2", "sdp", "rtsp", "webm_dash_manifest", "imf", "tty", "lavfi"}


@pytest.mark.parametrize(
    "ending", ["mod", "tod", "m2t", "mts", "trp", "divx", "3gpp", "f4p", "ismv", "insv", "amv", "dav"]
)
def test_camcorder_suffixes_open_by_what_is_in_them(ending: str, make_video) -> None:
    inside = {"mod": "vob", "dav": "vob", "divx": "avi", "amv": "avi"}
    inside |= dict.fromkeys(("tod", "m2t", "mts", "trp"), "ts")
    film = make_video(f"x.{inside.get(ending, 'mp4')}")
    film = film.rename(film.with_suffix(f".{ending}"))
    files, said = _walk(film.parent)
    assert files == [film.name]
    assert not said
    assert probe(film).width == 64


@pytest.mark.parametrize(("on_disk", "in_table"), [(NFD, NFC), (NFC, NFD), (f"d/{NFD}", f"d\\{NFC}"), (NFD, NFC[:-4])])
def test_a_table_reaches_files_in_any_form(on_disk: str, in_table: str, tmp_path: Path) -> None:
    _touch(tmp_path / "videos", on_disk)
    (tmp_path / "c.csv").write_text(f"video,caption\n{in_table},a cup\n")
    collection = read_collection([tmp_path / "videos"], tmp_path / "c.csv")
    (entry,) = collection.entries
    assert entry.path == tmp_path / "videos" / on_disk
    assert [caption.video for caption in collection.captions] == [entry.id]


@pytest.mark.parametrize(
    "line",
    [NFC, NFD, f"videos/../videos/{NFC}", f"videos\\{NFC}", '"videos/a b.mp4"', "{folder}/videos/a b.mp4", "file://{folder}/videos/a%20b.mp4"],
)  # fmt: skip
def test_a_list_reaches_files_in_any_form(line: str, tmp_path: Path) -> None:
    _touch(tmp_path, NFD, f"videos/{NFD}", "videos/a b.mp4")
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + line.format(folder=tmp_path).encode() + b"\r\n")
    (entry,) = read_collection([tmp_path / "list.txt"]).entries
    assert entry.path is not None
    assert entry.path.is_file()


def test_a_list_names_files_by_their_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    (tmp_path / name).touch()
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.mp4\n")
    collection = read_collection([tmp_path / "list.txt"])
    assert [(entry.id, entry.path) for entry in collection.entries] == [("caf\\xe9.mp4", tmp_path / name)]
    assert not collection.problems
    (tmp_path / "list.txt").write_bytes(b"x.mp4\nno\0ne.mp4\n")
    collection = read_collection([tmp_path / "list.txt"])
    assert [entry.id for entry in collection.entries] == ["x.mp4"]
    assert [str(notice).partition("list.txt, ")[2] for notice in collection.problems] == [
        "line 2: a name holds a NUL byte"
    ]
    (tmp_path / "list.txt").write_bytes("é.mp4\n".encode("cp1252"))
    assert [notice.lost for notice in read_collection([tmp_path / "list.txt"]).problems] == [False]


def test_paths_of_another_machine_reach_the_files_at_hand(tmp_path: Path) -> None:
    _touch(tmp_path / "videos", "a/x.mp4", "b/x.mp4", "y.mp4")
    rows = ["D:\\data\\videos\\a\\x.mp4,one", "\\\\server\\share\\b\\x.mp4,two", "/mnt/old/y.mp4,three"]
    (tmp_path / "c.csv").write_text("path,caption\n" + "\n".join(rows) + "\n")
    collection = read_collection([tmp_path / "videos"], tmp_path / "c.csv")
    by_id = {entry.id: entry.path.relative_to(tmp_path / "videos") for entry in collection.entries if entry.path}
    assert {str(by_id[c.video]): c.text for c in collection.captions} == {
        "a/x.mp4": "one",
        "b/x.mp4": "two",
        "y.mp4": "three",
    }


def test_captions_reach_a_library_by_another_form_and_by_the_file(make_video, tmp_path: Path) -> None:
    film = make_video("x.mp4")
    folder = tmp_path / "videos"
    folder.mkdir()
    film.rename(folder / NFD)
    (tmp_path / "c.csv").write_text(f"video,caption,split\n{NFC},a cup,train\n")
    (tmp_path / "d.csv").write_text(f"video,caption\n{NFC[:-4]},a mug\n")
    with Library.open(tmp_path / "lib", create=True) as library:
        add(library, [folder], experts=["plain"], workers=1)
        report = add(library, [], captions=tmp_path / "c.csv", experts=["plain"], workers=1)
        assert (report.captions, report.unmatched) == (1, [])
        report = add(library, [folder], captions=tmp_path / "d.csv", experts=["plain"], workers=1)
        assert (report.captions, report.unmatched) == (1, [])
        (video,) = library.videos()
        assert video.split == "train"
        assert {caption.video for caption in library.captions()} == {video.id}
        assert library.video(NFC) == library.video(NFD) == library.video(f"videos\\{NFC}") == video


def test_names_of_one_form() -> None:
    assert same_name(NFD) == same_name(NFC) != same_name("cafe.mp4")
    assert matching([NFC, r"b\v1.mp4", "/data/b/v1.mp4", "/x/v1"], [NFD, "v1.mp4", "b/v1.mp4"])[0] == {
        NFC: [NFD], r"b\v1.mp4": ["b/v1.mp4"], "/data/b/v1.mp4": ["b/v1.mp4"], "/x/v1": ["v1.mp4"],
    }  # fmt: skip
    assert unicodedata.is_normalized("NFC", same_name(NFD))


def test_overlap_looks_names_up_before_it_extracts(make_video, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    for part in ("test", "train"):
        (folder / part).mkdir(parents=True)
        shutil.copy(make_video("x.mp4"), folder / part / "x.mp4")
    (tmp_path / "x.mp4").unlink()
    work = tmp_path / ".pairs.jsonl.library"
    command = ["overlap", "scan", str(folder), "--train", "train", "--out", str(tmp_path / "pairs.jsonl")]
    with pytest.raises(UsageError, match=r"did you mean test\? its splits are: test, train"):
        CliRunner().invoke(app, [*command, "--test", "tst"], catch_exceptions=False)
    assert not work.exists()
    (tmp_path / "list.txt").write_text("nobody.mp4\n")
    with pytest.raises(UsageError, match=r"lists 1 videos"):
        CliRunner().invoke(app, [*command, "--test", str(tmp_path / "list.txt")], catch_exceptions=False)
    assert not work.exists()


def test_overlap_takes_lists_of_paths_and_follows_links(tmp_path: Path) -> None:
    for name in ("f/a/v1", "f/b/v1", "outside/v2"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / f"{name}.npy", np.ones((5, 2), np.float32))
    (tmp_path / "f" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "f" / "again").symlink_to(tmp_path / "outside")
    source = open_source(tmp_path / "f", None, tmp_path / "work")
    assert source.names == ("a/v1", "again/v2", "b/v1")
    assert [n.message for n in source.notices] == ["1 link to folders that were read already passed over: link"]
    for lines, wanted in (
        ([tmp_path / "f/b/v1.npy", tmp_path / "f/a/v1.npy"], ("b/v1", "a/v1")),
        (["f/b/v1.npy"], ("b/v1",)),
        (["/elsewhere/b/v1"], ("b/v1",)),
        (["D:\\videos\\a\\v1"], ("a/v1",)),
    ):
        (tmp_path / "list.txt").write_text("".join(f"{line}\n" for line in lines))
        assert source.videos(str(tmp_path / "list.txt")) == wanted


@pytest.mark.long
def test_a_library_takes_a_list_of_paths_of_equal_names(make_video, tmp_path: Path) -> None:
    for folder, size in (("a", (64, 48)), ("b", (96, 48))):
        (tmp_path / folder).mkdir()
        make_video("x.mp4", size=size).rename(tmp_path / folder / "x.mp4")
    with Library.open(tmp_path / "lib", create=True) as library:
        add(library, [tmp_path / "a", tmp_path / "b"], experts=["plain"], workers=1)
        assert {video.id for video in library.videos()} == {"x.mp4", "b/x.mp4"}
    (tmp_path / "list.txt").write_text(f"{tmp_path}/b/x.mp4\n{tmp_path}/a/x.mp4\n")
    with open_source(tmp_path / "lib", "plain", tmp_path / "work") as source:
        assert source.videos(str(tmp_path / "list.txt")) == ("b/x.mp4", "x.mp4")


def test_a_folder_that_cannot_be_read_is_an_error_or_said(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="no such file or folder"):
        read_collection([tmp_path / "none"])
    long = "x" * 300
    (tmp_path / "c.csv").write_text(f"video,caption\n{long},a\n../../{'y/' * 3000}z,b\n")
    assert [entry.path for entry in read_collection([tmp_path / "c.csv"]).entries] == [None, None]
