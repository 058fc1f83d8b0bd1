"""The catalog tells which videos changed or went since a revision, whoever changed them and however it ended."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelseek.experts.expert import Text, Track
from reelseek.library import Caption, Library
from reelseek.library.catalog import changes, connection

_SPANS = np.array([[0.0, 1.0], [1.0, 2.0]])
_STORED = Path(__file__).parents[1] / "data" / "library-version-1" / "library"


def _track(value: float = 1.0, *texts: Text) -> Track:
    return Track(np.full((2, 3), value, np.float32), _SPANS, texts=texts)


def _put(library: Library, owner: str, track: Track) -> None:
    with library.writing(), library.saving():
        library.put_track(owner, "x", "x:import-1", "motion", track)


@pytest.fixture
def library(tmp_path: Path):
    """Three videos: `twin` and `copy` are one content `c`, and `other` is alone."""
    with Library.open(tmp_path / "lib", create=True) as opened:
        with opened.db:
            for video in ("other", "copy", "twin"):
                opened.catalog.videos.add(video)
            opened.catalog.contents.add("c", {}, 4.0)
            for video in ("copy", "twin"):
                opened.catalog.videos.set_file(video, Path(f"/films/{video}.mp4"), "c", (1, 2), 4.0)
        _put(opened, "c", _track())
        _put(opened, "id:other", _track())
        yield opened


def _changed(library: Library, revision: int, subject: changes.Subject = "features") -> set[str | None]:
    return {change.video for change in library.catalog.changed_since(revision, subject)}


def _in_transaction(write: Callable[[Library], object]) -> Callable[[Library], object]:
    def change(library: Library) -> None:
        with library.db:
            write(library)

    return change


_LINE = Text("a line", 0.0, 1.0, "said")
_WRITES: dict[str, tuple[Callable[[Library], object], set[str], set[str]]] = {
    "track of a content": (lambda opened: _put(opened, "c", _track(2)), {"copy", "twin"}, set()),
    "imported track": (lambda opened: _put(opened, "id:twin", _track()), {"twin"}, set()),
    "track with a line": (lambda opened: _put(opened, "c", _track(3, _LINE)), {"copy", "twin"}, {"copy", "twin"}),
    "line": (_in_transaction(lambda opened: opened.put_texts("id:other", "captions", [_LINE])), set(), {"other"}),
    "caption": (_in_transaction(lambda opened: opened.catalog.captions.add([Caption("twin", "a")])), set(), {"twin"}),
    "removed track": (_in_transaction(lambda opened: opened.drop_track("c", "x")), {"copy", "twin"}, set()),
    "removed expert": (lambda opened: opened.remove_expert("x"), {"copy", "twin", "other"}, set()),
    "cuts": (
        _in_transaction(lambda opened: opened.catalog.contents.set_pictures("c", 4.0, [2.0], [])),
        {"copy", "twin"},
        set(),
    ),
    "length": (_in_transaction(lambda opened: opened.catalog.videos.set_duration("c", 5.0)), *[{"copy", "twin"}] * 2),
    "new video": (_in_transaction(lambda opened: opened.catalog.videos.add("new")), {"new"}, {"new"}),
    "raw rows": (
        _in_transaction(lambda opened: opened.db.execute("UPDATE tracks SET sha256 = 'z' WHERE owner = 'c'")),
        {"copy", "twin"},
        set(),
    ),
    "same length": (_in_transaction(lambda opened: opened.catalog.videos.set_duration("c", 4.0)), set(), set()),
    "split": (_in_transaction(lambda opened: opened.put_split("test", ["twin"])), set(), set()),
    "place of the file": (
        _in_transaction(
            lambda opened: opened.catalog.videos.set_file("twin", Path("/elsewhere.mp4"), "c", (1, 3), 4.0)
        ),
        set(),
        set(),
    ),
    "bytes moved": (
        _in_transaction(lambda opened: opened.catalog.tracks.move("x:import-1", (0, 0), 4, (7, 0))),
        set(),
        set(),
    ),
}


@pytest.mark.parametrize("name", _WRITES)
def test_a_write_changes_the_videos_that_it_concerns_and_no_others(name: str, library: Library) -> None:
    write, features, words = _WRITES[name]
    before = library.revision()
    write(library)
    assert library.revision() > before
    assert (_changed(library, before), _changed(library, before, "words")) == (features, words)
    assert not _changed(library, library.revision()) | _changed(library, library.revision(), "words")


def test_a_removed_video_leaves_its_number_and_not_its_name(library: Library) -> None:
    (number,) = library.catalog.changes.numbers(["other"]).values()
    before = library.revision()
    library.remove(["other"])
    assert [(c.number, c.video) for c in library.catalog.changed_since(before)] == [(number, None)]
    assert library.catalog.changes.videos([number]) == {}
    database = b"".join(path.read_bytes() for path in library.path.glob("library.db*"))
    assert b"other" not in database
    assert b"twin" in database
    with library.db:
        library.catalog.videos.add("other")  # it comes back as another video
    assert library.catalog.changes.numbers(["other", "nobody"])["other"] > number


def test_pages_are_read_on_while_others_write(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "_ROWS_A_PAGE", 1)
    ids = []
    for change in library.catalog.changed_since(0):
        if not ids:
            with library.db:
                library.catalog.videos.add("new")
        ids.append(change.video)
    assert sorted(filter(None, ids)) == ["copy", "new", "other", "twin"]
    assert len(list(library.catalog.changed_since(0))) == 4


@pytest.mark.parametrize("subject", ["features", "words"])
def test_the_query_goes_by_its_index(library: Library, subject: str) -> None:
    queries: list[str] = []
    library.db.set_trace_callback(queries.append)
    assert len(list(library.catalog.changed_since(0, subject))) == 3
    library.db.set_trace_callback(None)
    plans = [str(row[3]) for query in queries for row in library.db.execute(f"EXPLAIN QUERY PLAN {query}")]
    assert sum("SEARCH changes USING" in plan and f"changes_{subject}" in plan for plan in plans) == 2
    assert not [plan for plan in plans if "SCAN changes" in plan or "TEMP B-TREE" in plan]


def test_what_was_rolled_back_is_no_change(library: Library) -> None:
    before = library.revision()
    with contextlib.suppress(ZeroDivisionError), library.saving():
        library.put_track("c", "x", "x:import-1", "motion", _track(2))
        raise ZeroDivisionError
    assert _changed(library, before) == set()


_KILLED = """
import sys
from reelseek.library import Library
library = Library.open(sys.argv[1])
for number in range(1000):
    if number == 20:
        print(flush=True)
    with library.db:
        library.catalog.videos.add(f"v{number}")
        library.catalog.videos.set_split(f"v{number}", "train")
"""


def test_every_video_of_a_killed_writer_is_counted(tmp_path: Path) -> None:
    with Library.open(tmp_path / "lib", create=True) as library:
        writer = subprocess.Popen([sys.executable, "-c", _KILLED, library.path], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
        rows = list(library.catalog.changed_since(0))
        assert {row.video for row in rows} == {video.id for video in library.videos()}
        assert [row.revision for row in rows] == list(range(1, library.revision() + 1))


def test_two_connections_write_at_once_and_no_change_is_missed(tmp_path: Path) -> None:
    """A follower that asks again and again from the revision it saw has every video at the end."""
    with Library.open(tmp_path / "lib", create=True) as library:

        def write(name: str) -> None:
            with Library.open(library.path) as other:
                for number in range(40):
                    with other.db:
                        other.catalog.videos.add(f"{name}{number}")

        writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
        for writer in writers:
            writer.start()
        followed: set[str | None] = set()
        revision = 0
        running = True
        while running:
            running = any(writer.is_alive() for writer in writers)
            present = library.revision()
            followed |= _changed(library, revision)
            revision = present
        assert followed == {f"{name}{number}" for name in "ab" for number in range(40)}
        assert revision == 80


def test_videos_of_a_library_of_version_1_have_changed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = shutil.copytree(_STORED, tmp_path / "library")
    with monkeypatch.context() as patched, contextlib.ExitStack() as stack:
        patched.setattr(connection.os, "access", lambda *_: False)
        read_only = stack.enter_context(Library.open(stored)).catalog
        expected = [(change.number, change.video) for change in read_only.changed_since(0)]
        numbers = read_only.changes.numbers(["river.mp4", "nobody"])
        assert read_only.changes.videos(numbers.values()) == {number: video for video, number in numbers.items()}
    with Library.open(stored) as library:
        rows = list(library.catalog.changed_since(0))
        assert [(row.number, row.video) for row in rows] == expected
        assert {row.revision for row in rows} == {library.revision()}
        assert len(rows) == 3
        assert library.catalog.changes.numbers(["river.mp4", "nobody"]) == numbers
    with contextlib.closing(sqlite3.connect(stored / "library.db")) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)


_ACTIONS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "track", "line"]), st.sampled_from("abcd")), max_size=12
)


@settings(max_examples=25, deadline=None)
@given(before=_ACTIONS, after=_ACTIONS)
def test_who_follows_the_changes_has_what_the_library_has(before, after, tmp_path_factory) -> None:
    """The oracle: numbers, ids and tracks of all videos, compared with a copy that is renewed by the changes alone."""
    with Library.open(tmp_path_factory.mktemp("lib") / "lib", create=True) as library:
        copy: dict[int, tuple[str, list[str | None]]] = {}
        revision = 0
        for actions in (before, after):
            for action in actions:
                _act(library, *action)
            present = library.revision()
            for change in library.catalog.changed_since(revision):
                if change.video is None:
                    copy.pop(change.number, None)
                else:
                    copy[change.number] = change.video, _hashes(library, change.video)
            revision = present
        assert sorted(copy.values()) == [(video.id, _hashes(library, video.id)) for video in library.videos()]


def _act(library: Library, action: str, video: str) -> None:
    catalog = library.catalog
    with library.db:
        if action == "add":
            catalog.videos.add(video)
        elif action == "remove":
            catalog.videos.remove(video)
            catalog.remove_owner(f"id:{video}")
        elif action == "line" and catalog.videos.get(video):
            catalog.texts.put(f"id:{video}", "captions", [_LINE])
    if action == "track" and library.get(video):
        _put(library, f"id:{video}", _track(float(library.revision())))


def _hashes(library: Library, video: str) -> list[str | None]:
    return [library.catalog.tracks.sha256(f"id:{video}", "x")]
