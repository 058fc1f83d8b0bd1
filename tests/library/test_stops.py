"""Every stop can be finished: removals, kills, damaged tracks and killed workers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reelseek.cli.main import app
from reelseek.errors import LibraryError, UsageError
from reelseek.experts.expert import Text, Track
from reelseek.library import Library, add, removal
from reelseek.library.arrays import import_features
from reelseek.library.outcomes import put_failure
from reelseek.library.report import AddReport
from reelseek.media.guard import WORKER_DIED

VIDEOS = [f"v{number:02}" for number in range(12)]


def _fill(library: Library) -> None:
    rng = np.random.default_rng(0)
    with library.writing(), library.saving():
        for video in VIDEOS:
            library.db.execute("INSERT OR IGNORE INTO videos(id) VALUES (?)", (video,))
            values = rng.normal(size=(50, 32)).astype(np.float32)
            spans = np.stack([np.arange(50.0), np.arange(50.0) + 1], 1)
            texts = (Text(f"secret{video}", 0.0, 1.0, "said"),)
            library.put_track(f"id:{video}", "x", "x:import-1", "motion", Track(values, spans, texts))


def _interrupt(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """A removal that is killed when its rows are gone and nothing else is."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(removal, "_finish", stop)
        with pytest.raises(KeyboardInterrupt):
            library.remove(VIDEOS[:9])


def _bytes_on_disk(library: Library) -> bytes:
    library.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return b"".join(path.read_bytes() for path in library.path.rglob("*") if path.is_file())


def _assert_erased(library: Library) -> None:
    left = _bytes_on_disk(library)
    assert b"secretv00" not in left
    assert b"secretv11" in left
    assert not (library.path / "index").exists()
    assert sum(path.stat().st_size for path in (library.path / "tracks").rglob("*.values")) == 3 * 50 * 32 * 4


def test_the_same_removal_again_finishes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Library.open(tmp_path / "lib", create=True) as library:
        _fill(library)
        (library.path / "index" / "m").mkdir(parents=True)
        (library.path / "index" / "m" / "values.npy").write_bytes(b"secretv00")
        _interrupt(library, monkeypatch)
    with Library.open(tmp_path / "lib") as library:
        assert library.remove(VIDEOS[:9]) == VIDEOS[:9]
        _assert_erased(library)
        with pytest.raises(UsageError, match="no video"):
            library.remove(VIDEOS[:1])


def test_any_other_writer_finishes_a_removal_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Library.open(tmp_path / "lib", create=True) as library:
        _fill(library)
        _interrupt(library, monkeypatch)
        table = tmp_path / "rows.csv"
        table.write_text("video,caption\nv11,words\n")
        add(library, [table], media=False)
        assert "a removal of 9 videos had been interrupted; it is finished now" in caplog.text
        _assert_erased(library)


def test_a_reader_of_the_log_delays_the_erasure_and_it_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Library.open(tmp_path / "lib", create=True) as library, Library.open(tmp_path / "lib") as reader:
        _fill(library)
        library.db.execute("PRAGMA busy_timeout = 100")
        reader.db.execute("BEGIN")
        reader.videos()
        with pytest.raises(LibraryError, match="another process reads"):
            library.remove(VIDEOS[:9])
        assert len(library.videos()) == 3
        reader.db.rollback()
        library.set_meta("key", "value")
        with library.writing():
            assert "is finished now" in caplog.text
        _assert_erased(library)


def test_a_video_that_also_failed_is_removed_with_its_tracks(tmp_path: Path) -> None:
    with Library.open(tmp_path / "lib", create=True) as library:
        _fill(library)
        with library.db:
            library.db.execute("INSERT INTO contents VALUES ('c', '{}', 0, '[]')")
            library.db.execute("UPDATE videos SET content = 'c' WHERE id = 'v00'")
            library.db.execute("UPDATE tracks SET owner = 'c' WHERE owner = 'id:v00'")
            put_failure(library.catalog, "v00", "", "damaged: 3 packets", None)
        library.remove(["v00"])
        assert len(library.track_rows()) == 11


# Damage


def _damage(library: Library, owner: str, *, lost: bool) -> None:
    row = next(row for row in library.track_rows() if row.owner == owner)
    path = library.path / "tracks" / row.fingerprint.replace(":", "-") / f"{row.place[0]:04d}.values"
    if lost:
        path.unlink()
        return
    width = row.dim * np.dtype(row.dtype).itemsize
    with path.open("r+b") as file:
        file.seek(row.place[1] * width)
        file.write(b"\x13\x37")


@pytest.mark.long
@pytest.mark.parametrize("lost", [True, False])
def test_a_damaged_track_is_named_and_made_again(lost: bool, make_video, tmp_path: Path, capsys) -> None:
    film = make_video("film.mp4", sound_seconds=1.0)
    lib = str(tmp_path / "lib")
    with Library.open(lib, create=True) as library:
        add(library, [film], experts=["audio"], workers=1)
        digest = library.digest(verify=True)
        _damage(library, str(library.video("film.mp4").content), lost=lost)
    assert app(["info", lib, "--verify"], standalone_mode=False) == 1
    printed = capsys.readouterr()
    assert "damaged: film.mp4: the track audio of film.mp4 is damaged" in printed.err
    assert f"reelseek add {lib} {film}" in printed.err
    with Library.open(lib) as library:
        assert library.digest() == digest
        assert [failure["video"] for failure in library.failures()] == ["film.mp4"]
        table = tmp_path / "captions.csv"
        table.write_text("video,caption\nfilm.mp4,words\n")
        report = add(library, [film], experts=["audio"], workers=1)
        assert (report.remade, report.failed) == ([("film.mp4", "audio")], [])
        assert library.digest(verify=True) == digest
        assert library.failures() == library.verify() == []
    assert app(["info", lib, "--verify"], standalone_mode=False) == 0


def test_a_lost_track_that_cannot_be_made_again_stays_a_failure(tmp_path: Path) -> None:
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    np.save(arrays / "one.npy", np.ones((3, 4), np.float32))
    table = tmp_path / "rows.csv"
    table.write_text("video,caption\none,words\n")
    with Library.open(tmp_path / "lib", create=True) as library:
        add(library, [table], media=False)
        import_features(library, "mine", [arrays], modality="motion")
        row, digest = library.track_rows()[0], library.digest()
        _damage(library, "id:one", lost=True)
    with Library.open(tmp_path / "lib") as library:
        with pytest.raises(LibraryError, match=r"the track mine of one is damaged.*features import"):
            library.read(row)
        for _ in range(2):
            report = add(library, [table], media=False)
            assert [(video, expert) for video, expert, _ in report.failed] == [("one", "mine")]
            assert [(f["video"], f["expert"]) for f in library.failures()] == [("one", "mine")]
        assert library.digest() == digest
        library.compact()
        import_features(library, "mine", [arrays], modality="motion")
        assert library.digest(verify=True) == digest
        assert library.failures() == []


def test_the_database_checks_itself(tmp_path: Path) -> None:
    with Library.open(tmp_path / "lib", create=True) as library:
        _fill(library)
        assert library.verify() == []
        library.db.execute("PRAGMA foreign_keys = OFF")
        with library.db:
            library.db.execute("INSERT INTO captions VALUES ('nobody', 0, 'words', NULL, NULL, NULL)")
        assert [name for name, _ in library.verify()] == ["library.db"]
        derived = library.verify([lambda _: [("index", "it is torn")]])
        assert derived[-1] == ("index", "it is torn")


# Workers and kills


def test_a_killed_worker_is_tried_again_twice(make_video, tmp_path: Path) -> None:
    film = make_video("film.mp4", sound_seconds=0.5)

    def run() -> AddReport:
        return add(library, [film], experts=["audio"], workers=1)

    with Library.open(tmp_path / "lib", create=True) as library:
        for deaths in (1, 2, 3):
            with library.db:
                put_failure(library.catalog, "film.mp4", "", f"{WORKER_DIED} (exit code -9)", film)
            assert library.failures()[0]["attempts"] == deaths
            if deaths == 2:
                with Library.open(tmp_path / "other", create=True) as other:
                    with other.db:
                        for _ in range(2):
                            put_failure(other.catalog, "film.mp4", "", f"{WORKER_DIED} (exit code -9)", film)
                    assert add(other, [film], experts=["audio"], workers=1).extracted == 1
                    assert other.failures() == []
                    with other.db:  # examined before, and killed while its experts ran
                        put_failure(other.catalog, "film.mp4", "", f"{WORKER_DIED} (exit code -9)", film)
                        other.drop_track(str(other.video("film.mp4").content), "audio")
                    assert add(other, [film], experts=["audio"], workers=1).extracted == 1
                    assert other.failures() == []
        assert (run().extracted, run().known_failures) == (0, 1)
        with library.db:
            put_failure(library.catalog, "film.mp4", "", "truncated", film)
        assert library.failures()[0]["attempts"] == 1


_COMMANDS: dict[str, str] = {
    "import": "import_features(library, 'mine', [Path(sys.argv[2])], modality='motion')",
    "remove": "library.remove([f'v{n:02}' for n in range(9)])",
    "remove an expert": "library.remove_expert('x')",
}
_PROGRAM = """
import sys
from pathlib import Path
from reelseek.library import Library
from reelseek.library.arrays import import_features
library = Library.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
{command}
"""


@pytest.mark.parametrize("name", _COMMANDS)
def test_killed_at_any_moment_a_command_ends_when_run_again(name: str, tmp_path: Path) -> None:
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    for number, video in enumerate(VIDEOS):
        np.save(arrays / f"{video}.npy", np.full((40, 8), number, np.float32))
    digests = set()
    rng = np.random.default_rng(2)
    for trial, moment in enumerate([9.0, *rng.uniform(0, 0.08, int(os.environ.get("REELSEEK_KILLS", "3")))]):
        path = tmp_path / f"lib{trial}"
        with Library.open(path, create=True) as library:
            _fill(library)
        _kill(_PROGRAM.format(command=_COMMANDS[name]), [str(path), str(arrays)], moment)
        again: dict[str, Callable[[Library], object]] = {
            "import": lambda library: import_features(library, "mine", [arrays], modality="motion"),
            "remove": lambda library: library.remove(VIDEOS[:9]),
            "remove an expert": lambda library: library.remove_expert("x"),
        }
        with Library.open(path) as library:
            assert library.verify() == []
            try:
                again[name](library)
            except UsageError:  # it had come to its end
                assert trial == 0 or not library.meta("removal")
            digests.add(library.digest(verify=True))
            if name == "remove":
                _assert_erased(library)
    assert len(digests) == 1


def _kill(program: str, arguments: list[str], seconds: float) -> None:
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("\n")
        process.stdin.flush()
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
