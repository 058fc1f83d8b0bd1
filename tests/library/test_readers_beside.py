"""Readers see a whole, current library: without write permission, on a full disk, beside a writer that compacts."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from reelseek.errors import LibraryError
from reelseek.experts.expert import Track
from reelseek.library import Library
from reelseek.library.catalog import connection as database_module
from reelseek.library.shards import Shards

STEPS = 400


def _track(value: float) -> Track:
    return Track(np.full((STEPS, 16), value, np.float32), np.stack([np.arange(STEPS), np.arange(STEPS) + 1.0], 1))


def put(library: Library, *videos: str, value: float = 1.0) -> None:
    with library.writing(), library.saving():
        for video in videos:
            library.db.execute("INSERT OR IGNORE INTO videos(id) VALUES (?)", (video,))
            library.put_track(f"id:{video}", "x", "x:import-1", "motion", _track(value))


def _with_log(path: Path) -> None:
    """A library one of whose two videos is only in the write-ahead log, with nobody connected to it."""
    with Library.open(path.with_name("live"), create=True) as live:
        put(live, "one")
        live.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        put(live, "two")
        shutil.copytree(live.path, path)
    (path / "library.db-shm").unlink()
    assert (path / "library.db-wal").stat().st_size > 0


def _read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions do not bite root, so what asks for them is told that there are none."""
    monkeypatch.setattr(database_module.os, "access", lambda path, mode: mode != os.W_OK)


def test_changes_that_are_only_in_the_log_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_log(tmp_path / "lib")
    _read_only(monkeypatch)
    before = {path.name: path.read_bytes() for path in (tmp_path / "lib").glob("library.db*")}
    with Library.open(tmp_path / "lib") as library:
        assert [video.id for video in library.videos()] == ["one", "two"]
        library.digest(verify=True)
        with pytest.raises(LibraryError, match="cannot be written"):
            put(library, "three")
    after = {path.name: path.read_bytes() for path in (tmp_path / "lib").glob("library.db*")}
    assert after == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a user who may not write")
def test_a_user_who_may_not_write_reads_all_of_it(tmp_path: Path) -> None:
    _with_log(tmp_path / "lib")
    for path in [tmp_path / "lib", *(tmp_path / "lib").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    script = (
        "import mmap, os, sys; from reelseek.library import Library; os.setgid(65534); os.setuid(65534)\n"
        "library = Library.open(sys.argv[1]); library.digest(verify=True); print(*[v.id for v in library.videos()])"
    )
    open_path = Path(tempfile.gettempdir()) / f"reelseek-read-only-{os.getpid()}"  # tmp_path is its owner's alone
    shutil.copytree(tmp_path / "lib", open_path)
    try:
        found = subprocess.run([sys.executable, "-c", script, open_path], capture_output=True, text=True, check=False)
        assert (found.stdout.split(), found.stderr) == (["one", "two"], "")
    finally:
        shutil.rmtree(open_path)


def test_a_log_that_cannot_be_copied_is_not_overlooked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_log(tmp_path / "lib")
    _read_only(monkeypatch)
    full = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(database_module.shutil, "disk_usage", lambda _: full)
    with pytest.raises(LibraryError, match="only in library"):
        Library.open(tmp_path / "lib")


def test_a_copy_is_of_one_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that commits between the copies of database and log makes them be taken again."""
    _with_log(tmp_path / "lib")
    with Library.open(tmp_path / "lib") as writer:
        copy, videos = shutil.copyfile, iter(["three", "four", "five"])

        def copy_beside_a_writer(source: Path, target: Path) -> None:
            copy(source, target)
            put(writer, *([video] if (video := next(videos, None)) else []))

        monkeypatch.setattr(database_module.shutil, "copyfile", copy_beside_a_writer)
        paths = [tmp_path / "lib" / name for name in ("library.db", "library.db-wal")]
        with closing(database_module._connect_to_copy(*paths)) as reader:
            rows = [identifier for (identifier,) in reader.execute("SELECT id FROM videos ORDER BY id")]
        assert rows == ["five", "four", "one", "three", "two"]


def test_a_reader_without_permission_follows_the_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_log(tmp_path / "lib")
    with monkeypatch.context() as patched:
        _read_only(patched)
        reader = Library.open(tmp_path / "lib")
    before = reader.revision()
    with Library.open(tmp_path / "lib") as writer:
        put(writer, "three")
        assert reader.revision() == writer.revision() > before
        assert len(reader.videos()) == 3
    reader.close()


def test_a_reader_goes_on_where_a_compaction_moved_its_tracks(tmp_path: Path) -> None:
    with Library.open(tmp_path / "lib", create=True) as writer, Library.open(tmp_path / "lib") as reader:
        put(writer, "one", value=1.0)
        put(writer, "two", value=2.0)
        rows = {row.owner: row for row in reader.track_rows()}
        writer.remove(["one"])
        values, _ = reader.read(rows["id:two"])
        assert (values == 2.0).all()
        with pytest.raises(LibraryError, match=r"was changed.*open the library again"):
            reader.read(rows["id:one"])


def test_a_number_of_a_file_is_never_used_again(tmp_path: Path) -> None:
    """Else a reader's old map would pass for the new file."""
    with Library.open(tmp_path / "lib", create=True) as writer, Library.open(tmp_path / "lib") as reader:
        put(writer, "one", value=1.0)
        assert (reader.read(reader.track_rows()[0])[0] == 1.0).all()
        for value in (2.0, 3.0):
            writer.remove_expert("x")
            put(writer, "one", value=value)
            assert (reader.read(reader.track_rows()[0])[0] == value).all()


_MAPPING = """
import sys
from reelseek.library import Library
library = Library.open(sys.argv[1])
views = [library.read(row) for row in library.track_rows()]
print("mapped", flush=True)
for line in sys.stdin:
    print(sum(float(values.sum()) + float(spans.sum()) for values, spans in views), flush=True)
"""


def test_a_process_that_holds_a_map_lives_on(tmp_path: Path) -> None:
    """Files are grown and unlinked under it, never cut: a page beyond the end of a file would kill it (SIGBUS)."""
    with Library.open(tmp_path / "lib", create=True) as writer:
        put(writer, "one", "two")
        shards = writer.shards(writer.track_rows()[0])
        track = _track(9.0)
        shards.append(track.values, track.spans, (0, 2 * STEPS))  # a writer that was killed before it could commit
        shards.sync()
        with subprocess.Popen(
            [sys.executable, "-c", _MAPPING, writer.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as reader:
            assert reader.stdin is not None
            assert reader.stdout is not None
            assert reader.stdout.readline() == "mapped\n"

            def ask() -> float:
                print("sum", file=reader.stdin, flush=True)
                return float(reader.stdout.readline() or "nan")

            before = ask()

            def replace_the_last() -> None:
                with writer.writing(), writer.saving():
                    writer.drop_track("id:two", "x")
                put(writer, "three", value=5.0)

            for change in (replace_the_last, lambda: writer.remove(["one"]), writer.compact,
                           lambda: writer.remove_expert("x")):  # fmt: skip
                change()
                assert ask() == before
            reader.stdin.close()
            assert reader.wait() == 0


def test_the_same_tracks_again_do_not_grow_the_library(tmp_path: Path) -> None:
    with Library.open(tmp_path / "lib", create=True) as library:
        put(library, "one", "two")
        places = [row.place for row in library.track_rows()]
        sizes = {path: path.stat().st_size for path in (library.path / "tracks").rglob("*.*")}
        put(library, "one", "two")
        assert [row.place for row in library.track_rows()] == places
        assert sizes == {path: path.stat().st_size for path in (library.path / "tracks").rglob("*.*")}


def test_half_a_row_is_stepped_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Library.open(tmp_path / "lib", create=True) as library:
        put(library, "one")
        with (library.path / "tracks" / "x-import-1" / "0000.values").open("ab") as file:
            file.write(b"half")
        put(library, "two", value=2.0)
        library.digest(verify=True)
        assert len(list((library.path / "tracks" / "x-import-1").iterdir())) == 2
        library.compact()
        library.digest(verify=True)
        sizes = sum(path.stat().st_size for path in (library.path / "tracks").rglob("*.values"))
        assert sizes == 2 * STEPS * 16 * 4


_FULL = """
import resource, sys
from reelseek.errors import LibraryError
from reelseek.experts.expert import Track
from reelseek.library import Library
from tests.library.test_readers_beside import put
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
library = Library.open(sys.argv[1])
print(len(library.videos()), library.digest(verify=True))
for write in (lambda: put(library, "two"), lambda: library.remove(["one"]), lambda: library.set_meta("a", "b" * 70_000),
              library.compact):
    try:
        write()
        print("written")
    except LibraryError as error:
        print("LibraryError" if "cannot be written" in str(error) else error)
"""


@pytest.mark.parametrize("most", [0, 1000, 40_000])
def test_a_full_disk_is_told_and_nothing_is_lost(most: int, tmp_path: Path) -> None:
    """No file may grow beyond `most` bytes, in a process of its own."""
    with Library.open(tmp_path / "lib", create=True) as library:
        put(library, "one")
        digest = library.digest(verify=True)
    found = subprocess.run(
        [sys.executable, "-c", _FULL, tmp_path / "lib", str(most)], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    lines = found.stdout.splitlines()
    assert (lines[:2], found.stderr) == ([f"1 {digest}", "LibraryError"], "")
    assert len(lines) == 5
    assert set(lines[1:]) <= {"LibraryError", "written"}
    with Library.open(tmp_path / "lib") as library:
        left = library.digest(verify=True)
        assert "written" in lines or left == digest or not library.videos()  # the removal was the last to commit
        put(library, "one", "two")
        library.remove(["one"])
        assert [video.id for video in library.videos()] == ["two"]
        library.digest(verify=True)


@pytest.mark.parametrize("method", ["append", "sync", "drop"])
def test_no_room_at_any_step_of_a_removal_is_told(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "lib" / "tracks"))

    with Library.open(tmp_path / "lib", create=True) as library:
        put(library, "one", "two")
        with monkeypatch.context() as patched:
            patched.setattr(Shards, method, full)
            with pytest.raises(LibraryError, match="No space left"):
                library.remove(["one"])
        library.digest(verify=True)
        assert library.remove(["one"]) == ["one"]
        assert library.digest(verify=True)
        assert sum(path.stat().st_size for path in (library.path / "tracks").rglob("*.values")) == STEPS * 16 * 4
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
