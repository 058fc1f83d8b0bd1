"""A library survives: moves, copies, changes, bad files, kills; and forgets when told to."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from reelseek.errors import CollectionError, LibraryError, UsageError
from reelseek.library import Library, add
from reelseek.library.collection import read_collection

EXPERTS = ("motion", "audio")


def _add(library: Library, *paths: Path, **how: object):
    return add(library, paths, experts=EXPERTS, workers=1, **how)


@pytest.fixture
def videos(make_video, tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    make_video("one.mp4", sound_seconds=2).rename(folder / "one.mp4")
    make_video("two.mp4", size=(80, 48), sound_seconds=1, tone=1500.0).rename(folder / "deep" / "two.mp4")
    return folder


@pytest.mark.long
def test_a_second_run_does_nothing_and_one_new_file_costs_one_file(videos: Path, tmp_path: Path, make_video) -> None:
    with Library.open(tmp_path / "lib", create=True) as library:
        first = _add(library, videos)
        assert (first.videos_new, first.extracted, first.failed) == (2, 2, [])
        assert [video.id for video in library.videos()] == ["deep/two.mp4", "one.mp4"]
        digest = library.digest(verify=True)
        assert _add(library, videos).nothing_new
        assert library.digest() == digest
        make_video("three.mp4", size=(96, 48)).rename(videos / "three.mp4")
        third = _add(library, videos)
        assert (third.videos_new, third.extracted) == (1, 1)


@pytest.mark.long
def test_copies_share_a_decode_moves_keep_the_id_changes_redo(videos: Path, tmp_path: Path, make_video) -> None:
    with Library.open(tmp_path / "lib", create=True) as library:
        shutil.copy(videos / "one.mp4", videos / "copy.mp4")
        report = _add(library, videos)
        assert (report.videos_new, report.extracted) == (3, 2)
        (videos / "one.mp4").rename(videos / "moved.mp4")
        report = _add(library, videos)
        assert (report.videos_new, report.extracted) == (0, 0)
        assert library.video("one.mp4").path == videos / "moved.mp4"
        old = library.video("deep/two.mp4").content
        make_video("new.mp4", times=[0, 0.5, 1.0], sound_seconds=0.5).rename(videos / "deep" / "two.mp4")
        assert _add(library, videos).extracted == 1
        assert library.video("deep/two.mp4").content != old
        assert not [row for row in library.track_rows() if row.owner == old]


@pytest.mark.long
def test_the_digest_does_not_depend_on_order_or_runs(videos: Path, tmp_path: Path) -> None:
    with Library.open(tmp_path / "a", create=True) as once, Library.open(tmp_path / "b", create=True) as twice:
        _add(once, videos)
        add(twice, [videos / "deep"], experts=["audio"], workers=1)
        twice.remove(["two.mp4"])
        add(twice, [videos], experts=["audio"], workers=2)
        _add(twice, videos)
        assert once.digest(verify=True) == twice.digest(verify=True)


def test_bad_files_are_named_and_never_end_the_run(videos: Path, tmp_path: Path) -> None:
    (videos / "empty.mp4").touch()
    (videos / "noise.mkv").write_bytes(os.urandom(5000))
    (videos / "loop").symlink_to(videos)
    (videos / "gone.mp4").symlink_to(videos / "nowhere.mp4")
    with Library.open(tmp_path / "lib", create=True) as library:
        report = _add(library, videos)
        assert report.extracted == 2
        assert {name for name, _, _ in report.failed} == {"empty.mp4", "noise.mkv", "gone.mp4"}
        again = _add(library, videos)
        assert (again.failed, again.known_failures) == ([], 3)
        retried = _add(library, videos, retry_failed=True)
        assert len(retried.failed) == 3
        assert {f["attempts"] for f in library.failures()} == {2}
        (videos / "empty.mp4").write_bytes((videos / "one.mp4").read_bytes())
        assert _add(library, videos).videos_new == 1
        assert len(library.failures()) == 2


def test_remove_forgets_everything_derived(videos: Path, tmp_path: Path) -> None:
    (videos / "one.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nzebracorn\n")
    with Library.open(tmp_path / "lib", create=True) as library:
        add(library, [videos], experts=["audio", "speech"], workers=1)
        content = library.video("one.mp4").content
        marker = next(library.read(row)[0][5].tobytes() for row in library.track_rows("audio") if row.owner == content)
        assert library.remove(["one.mp4"]) == ["one.mp4"]
        assert not [row for row in library.track_rows() if row.owner == content]
        library.digest(verify=True)
        with pytest.raises(UsageError, match="no video"):
            library.remove(["one.mp4"])
    on_disk = b"".join(p.read_bytes() for p in (tmp_path / "lib").rglob("*") if p.is_file())
    assert b"zebracorn" not in on_disk
    assert marker not in on_disk
    assert (videos / "one.mp4").is_file()


def test_an_expert_can_be_erased(videos: Path, tmp_path: Path) -> None:
    with Library.open(tmp_path / "lib", create=True) as library:
        _add(library, videos)
        assert library.remove_expert("audio") == 2
        assert set(library.experts()) == {"motion"}
        assert not list((tmp_path / "lib" / "tracks").glob("audio*"))
        with pytest.raises(UsageError, match="no tracks"):
            library.remove_expert("audio")


def test_tables_lists_and_captions(videos: Path, tmp_path: Path) -> None:
    table = videos / "captions.csv"
    table.write_text('video,caption,start,end,split\none.mp4,"first, quoted",0,1,test\ntwo,"[""a"", ""b""]",,,train\n')
    with Library.open(tmp_path / "lib", create=True) as library:
        report = _add(library, videos, captions=table)
        assert not report.failed
        told = [(c.video, c.text, c.start_seconds, c.split) for c in library.captions()]
        assert told == [
            ("one.mp4", "first, quoted", 0.0, "test"),
            ("two", "a", None, "train"),
            ("two", "b", None, "train"),
        ]
        assert _add(library, videos, captions=table).nothing_new
    (tmp_path / "list.txt").write_text("videos/one.mp4\n")
    assert [entry.id for entry in read_collection([tmp_path / "list.txt"]).entries] == ["videos/one.mp4"]


def test_bad_rows_of_a_table_are_told_and_the_rest_is_used(videos: Path, tmp_path: Path) -> None:
    table = tmp_path / "bad.csv"
    rows = [
        "one.mp4,fine,,",
        f"one.mp4,{'x' * 10**6},,",
        "one.mp4,nul\0here,,",
        "one.mp4,late,5,1",
        "one.mp4,when,soon,",
    ]
    table.write_text("video,caption,start,end\n" + "\n".join(rows) + "\n,nobody,,\n")
    with Library.open(tmp_path / "lib", create=True) as library:
        report = _add(library, videos, captions=table)
        assert [c.text for c in library.captions()] == ["fine"]
        reasons = " ".join(reason for _, _, reason in report.failed)
        for words in ("1000000 characters", "NUL", "before or where it starts", "not a number", "names no video"):
            assert words in reasons
    (tmp_path / "odd.csv").write_text("colour\nred\n")
    with pytest.raises(CollectionError, match="no column that names the video"):
        read_collection([tmp_path / "odd.csv"])
    with pytest.raises(CollectionError, match="no such file"):
        read_collection([tmp_path / "missing"])


def test_rows_without_media(tmp_path: Path) -> None:
    table = tmp_path / "rows.jsonl"
    table.write_text('{"video": "v1", "captions": ["a", "b"], "split": "train"}\n{"video": "v2", "caption": "c"}\n')
    with Library.open(tmp_path / "lib", create=True) as library:
        report = add(library, [table], media=False)
        assert (report.videos_new, report.captions, report.failed) == (2, 3, [])
        assert all(video.path is None for video in library.videos())


def test_two_folders_with_the_same_names(videos: Path, tmp_path: Path, make_video) -> None:
    other = tmp_path / "other"
    other.mkdir()
    make_video("x.mp4", size=(96, 48)).rename(other / "one.mp4")
    with Library.open(tmp_path / "lib", create=True) as library:
        _add(library, videos, other)
        assert {v.id for v in library.videos()} == {"one.mp4", "deep/two.mp4", "other/one.mp4"}


def test_one_writer_and_another_version(videos: Path, tmp_path: Path) -> None:
    with Library.open(tmp_path / "lib", create=True) as one, Library.open(tmp_path / "lib") as two:
        with one.writing(), pytest.raises(LibraryError, match="another process"):
            _add(two, videos)
        one.db.execute("PRAGMA user_version = 99")
    with pytest.raises(LibraryError, match="version 99"):
        Library.open(tmp_path / "lib")
    with pytest.raises(LibraryError, match="not a library"):
        Library.open(tmp_path / "nothing")
    with pytest.raises(LibraryError, match="not a library"):
        Library.open(videos, create=True)


@pytest.mark.long
def test_a_full_disk_loses_nothing(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reelseek.library.shards import Shards

    with Library.open(tmp_path / "lib", create=True) as library:
        _add(library, videos / "one.mp4")
        before = library.digest(verify=True)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device", str(library.path / "tracks"))

        with monkeypatch.context() as patched:
            patched.setattr(Shards, "append", full)
            with pytest.raises(LibraryError, match="No space left"):
                _add(library, videos / "deep" / "two.mp4")
        library.digest(verify=True)
        assert len(library.track_rows()) == 2
        assert _add(library, videos / "deep" / "two.mp4").extracted == 1
        assert before != library.digest(verify=True)


def _track_count(path: Path) -> int:
    """Tracks of a library that another process may be laying out just now."""
    if not (path / "library.db").is_file():
        return 0
    try:
        with Library.open(path) as library:
            return len(library.track_rows())
    except (LibraryError, sqlite3.Error):
        return 0


@pytest.mark.long
def test_killed_at_any_moment_it_ends_with_the_same_tables(archive: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom reelseek.library import Library, add\n"
        "if __name__ == '__main__':\n"
        "    add(Library.open(sys.argv[1], create=True), [sys.argv[2]], experts=['motion', 'audio'], workers=2)\n"
    )
    program = tmp_path / "run.py"
    program.write_text(script)
    interrupted = 0
    for delay in (0.0, *np.random.default_rng(1).uniform(0.0, 0.4, size=2)):  # after the first track of each run
        before = _track_count(tmp_path / "lib")
        process = subprocess.Popen([sys.executable, program, tmp_path / "lib", archive], stderr=subprocess.DEVNULL)
        while process.poll() is None and _track_count(tmp_path / "lib") == before:
            time.sleep(0.01)
        time.sleep(float(delay))
        process.send_signal(signal.SIGKILL)
        interrupted += process.wait() == -signal.SIGKILL
    assert interrupted
    with Library.open(tmp_path / "lib", create=True) as killed, Library.open(tmp_path / "calm", create=True) as calm:
        _add(killed, archive)
        _add(calm, archive)
        assert killed.digest(verify=True) == calm.digest(verify=True)
        assert len(calm.videos()) == 8
