"""A library of the first format version, made by the code of then, is carried forward; later ones are refused."""

import contextlib
import re
import shutil
import sqlite3
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from reelseek.errors import LibraryError
from reelseek.library import Caption, Library, add
from reelseek.library.arrays import import_features
from reelseek.library.catalog import FORMAT_VERSION, connection, schema
from reelseek.search.fulltext import lines_with_phrase, matching_lines

DATA = Path(__file__).parents[1] / "data" / "library-version-1"
DIGEST = "810d941c2b3cd3df15e8481d8b767ed7e01d66b2f6f1527b5d1e555cf73047b0"  # by the code that made it


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return shutil.copytree(DATA / "library", tmp_path / "library")


def _layout(database: Path) -> dict[str, str]:
    """SQL of every table, index and trigger by name, without comments and blanks."""
    with contextlib.closing(sqlite3.connect(database)) as opened:
        rows = opened.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {name: re.sub(r"\s+", "", re.sub(r"--[^\n]*", "", sql)).rstrip(";") for name, sql in rows}


def _version(library: Path) -> int:
    with contextlib.closing(sqlite3.connect(library / "library.db")) as opened:
        return int(opened.execute("PRAGMA user_version").fetchone()[0])


def _read(library: Library) -> None:
    assert library.digest(verify=True) == DIGEST
    assert [video.id for video in library.videos()] == ["day/café.mp4", "day/kitchen.mp4", "river.mp4"]
    assert library.captions("train") == [
        Caption("day/kitchen.mp4", "a cook chops onions", 0.0, 1.0, "train"),
        Caption("day/kitchen.mp4", "garlic is chopped", 1.0, 2.0, "train"),
    ]
    assert (library.splits(), library.memberships(), library.notices()) == ({"test": 2, "train": 2}, {}, [])
    assert [(failure["video"], failure["expert"]) for failure in library.failures()] == [("broken.mp4", None)]
    assert [line.text for line in matching_lines(library, "onion")] == ["I chop the onions for the soup"]
    assert [line.text for line in lines_with_phrase(library, "部署")] == ["今天讨论一下部署方案"]
    assert [line.text for line in lines_with_phrase(library, "STRASSENFEST")] == ["The Straßenfest begins"]
    about = library.catalog.about
    assert about.names(["cafe"], 9) == [("day/café.mp4", "day cafe")]
    assert [caption.text for caption in about.captions(["chopped"], 9)] == ["garlic is chopped", "a cook chops onions"]
    assert [caption.video for caption in about.some_captions(2)] == ["day/café.mp4", "river.mp4"]
    assert library.verify() == []


def test_a_library_of_version_1_is_carried_forward(stored: Path, tmp_path: Path) -> None:
    assert _version(stored) == 1
    Library.open(stored).close()
    assert _version(stored) == FORMAT_VERSION
    with Library.open(stored) as library:
        _read(library)
    Library.open(tmp_path / "new", create=True).close()
    assert _layout(stored / "library.db") == _layout(tmp_path / "new" / "library.db")


@pytest.mark.long
def test_a_library_of_version_1_is_added_to_and_removed_from(stored: Path, tmp_path: Path, make_video) -> None:
    films = tmp_path / "films"
    films.mkdir()
    shutil.copy(DATA / "river.mp4", films / "stream.mp4")  # the same bytes elsewhere: it was moved
    make_video("films/new.mp4", sound_seconds=1)
    (films / "new.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nThe Zamboni arrives\n", "utf-8")
    np.save(films / "kitchen.npy", np.ones((2, 4), np.float32))
    with Library.open(stored) as library:
        report = add(library, [films], workers=1)
        assert (report.videos_seen, report.videos_new) == (2, 1)
        # The file of these tracks is gone, and they were made by another version of their experts.
        assert {video for video, _, _ in report.failed} == {"day/café.mp4", "day/kitchen.mp4"}
        assert all("put its file back" in reason for _, _, reason in report.failed)
        assert {video.id for video in library.videos()} == {"day/café.mp4", "day/kitchen.mp4", "river.mp4", "new.mp4"}
        assert library.video("river.mp4").path == films / "stream.mp4"
        assert [line.text for line in matching_lines(library, "zamboni")] == ["The Zamboni arrives"]
        assert import_features(library, "mine", [films / "kitchen.npy"], modality="motion").imported == 1
        library.put_split("list", ["river.mp4"])
        assert library.remove(["day/kitchen.mp4"]) == ["day/kitchen.mp4"]
        assert matching_lines(library, "onion") == []
        assert library.verify() == []
    assert b"onions" not in (stored / "library.db").read_bytes()


def test_a_library_of_version_1_that_cannot_be_written_is_read(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()}
    monkeypatch.setattr(connection.os, "access", lambda *_: False)
    with Library.open(stored) as library:
        _read(library)
        assert library.video("kitchen").id == "day/kitchen.mp4"
    assert {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()} == before


def test_a_step_that_fails_leaves_the_library_as_it_was(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(opened: sqlite3.Connection) -> None:
        opened.execute("DROP TABLE failures")
        raise sqlite3.OperationalError("database or disk is full")

    before = _layout(stored / "library.db")
    with monkeypatch.context() as patched:
        patched.setattr(schema, "_STEPS", {**schema._STEPS, FORMAT_VERSION: fail})
        with Library.open(stored) as library:  # it is read as it is
            _read(library)
            with pytest.raises(LibraryError, match="disk is full"), library.writing():
                pass
    assert (_version(stored), _layout(stored / "library.db")) == (1, before)
    with Library.open(stored) as library:
        _read(library)
    assert _version(stored) == FORMAT_VERSION


def test_of_two_processes_one_carries_a_library_forward(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carry, steps, ran = schema.carry_forward, dict(schema._STEPS), []

    class Slow(connection.Connection):
        """Between its look at the version and its transaction another process does the same work."""

        file = stored / "library.db"

        def execute(self, query: str, *values: object) -> sqlite3.Cursor:
            if query == "BEGIN IMMEDIATE":
                with contextlib.closing(sqlite3.connect(self.file, factory=connection.Connection)) as other:
                    carry(other)
            return super().execute(query, *values)

    def step(number: int, opened: sqlite3.Connection) -> None:
        ran.append(number)
        steps[number](opened)

    monkeypatch.setattr(schema, "_STEPS", {number: partial(step, number) for number in steps})
    with contextlib.closing(sqlite3.connect(stored / "library.db", factory=Slow)) as late:
        carry(late)
    assert ran == sorted(steps)
    with Library.open(stored) as library:
        _read(library)


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 99, -1])
def test_a_later_version_is_refused_and_not_touched(tmp_path: Path, version: int) -> None:
    Library.open(tmp_path / "lib", create=True).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "lib" / "library.db")) as opened:
        opened.execute(f"PRAGMA user_version = {version}")
    before = (tmp_path / "lib" / "library.db").read_bytes()
    with pytest.raises(LibraryError, match=f"format version {version}; this Reelseek reads versions 1 to"):
        Library.open(tmp_path / "lib")
    assert (tmp_path / "lib" / "library.db").read_bytes() == before


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "lib" / "library.db")) as opened:
        opened.executescript("PRAGMA application_id = 77; PRAGMA user_version = 1; CREATE TABLE films (id)")
    with pytest.raises(LibraryError, match="another program"):
        Library.open(tmp_path / "lib")
