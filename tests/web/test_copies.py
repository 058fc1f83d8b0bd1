"""Copies for browsers: whole or not there, one job a video, within a limit, and nothing left by killed processes."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reelseek.errors import DecodeError, MediaError
from reelseek.media.container import probe
from reelseek.media.picture import make_proxy
from reelseek.media.verify import check_copy
from reelseek.web.copies import CopyStore
from reelseek.web.problems import Problem

Make = Callable[..., Path]
SECONDS = 60  # for hangs


@pytest.fixture
def source(make_video: Make) -> Path:
    return make_video("film.avi", codec="mpeg4", times=[i / 10 for i in range(60)], sound_seconds=6.0)


@pytest.fixture
def stores() -> Iterator[list[CopyStore]]:
    opened: list[CopyStore] = []
    yield opened
    for store in opened:
        store.close()


def _store(stores: list[CopyStore], folder: Path, **options: object) -> CopyStore:
    stores.append(CopyStore([folder], **{"most_bytes": 10**9, **options}))  # type: ignore[arg-type]
    return stores[-1]


def _name(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def _copy(store: CopyStore, source: Path, content: str = _name(0)) -> Path:
    return store.request(content, source, 6.0).future.result(SECONDS)


@pytest.mark.long
def test_two_requests_share_one_job_and_a_truncated_copy_is_made_anew(
    source: Path, tmp_path: Path, stores: list[CopyStore]
) -> None:
    folder = tmp_path / "copies"
    store = _store(stores, folder)
    job = store.request(_name(0), source, 6.0)
    assert store.request(_name(0), source, 6.0) is job
    assert store.ready(_name(0)) is None
    copy = job.future.result(SECONDS)
    assert (copy, store.ready(_name(0))) == (folder / f"{_name(0)}.mp4", copy)
    check_copy((source, copy))
    whole = copy.read_bytes()
    first_made = copy.stat().st_mtime_ns
    again = _store(stores, folder)  # another server: it looks, and takes what is whole
    assert again.ready(_name(0)) is None
    assert _copy(again, source).stat().st_mtime_ns == first_made
    for damaged in (whole[: len(whole) // 2], whole[:200], b"", os.urandom(len(whole))):
        copy.write_bytes(damaged)
        assert store.ready(_name(0)) is None  # it is not what was found whole
        _copy(store, source)
        check_copy((source, copy))
    store.close()
    again.close()
    assert [path.name for path in folder.iterdir()] == [copy.name]


def test_what_a_copy_can_lack(source: Path, make_video: Make, tmp_path: Path) -> None:
    make_proxy((source, tmp_path / "copy.mp4"))
    check_copy((source, tmp_path / "copy.mp4"))
    silent = make_video("silent.mp4", times=[i / 10 for i in range(60)])
    with pytest.raises(DecodeError, match="no audio"):
        check_copy((source, silent))
    short = make_video("short.mp4", times=[i / 10 for i in range(20)], sound_seconds=2.0)
    with pytest.raises(DecodeError, match=r"lasts 2\.\d s, and the video is 6"):
        check_copy((source, short))
    cut = tmp_path / "cut.mp4"  # its header is whole, and its end is gone
    for lost in (1000, 20_000):
        cut.write_bytes((tmp_path / "copy.mp4").read_bytes()[:-lost])
        assert probe(cut).duration == pytest.approx(6, abs=0.5)
        with pytest.raises(DecodeError, match="ends before"):
            check_copy((source, cut))


def test_a_source_that_ends_early_may_have_a_copy_as_short(make_video: Make, tmp_path: Path) -> None:
    source = make_video("film.mkv", codec="mpeg4", times=[i / 10 for i in range(200)], options={"g": "10"})
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    assert probe(source).duration == pytest.approx(20, abs=0.5)  # so it says
    make_proxy((source, tmp_path / "copy.mp4"))
    assert probe(tmp_path / "copy.mp4").duration < 15
    check_copy((source, tmp_path / "copy.mp4"))


def test_what_failed_is_remembered_for_a_while(tmp_path: Path, stores: list[CopyStore]) -> None:
    now = [0.0]
    bad = tmp_path / "bad.avi"
    bad.write_bytes(os.urandom(5000))
    store = _store(stores, tmp_path / "copies", clock=lambda: now[0])
    with pytest.raises(MediaError, match="not a readable media file"):
        _copy(store, bad)
    with pytest.raises(MediaError, match="not a readable media file"):
        store.request(_name(0), bad, 6.0)
    now[0] = 601.0
    assert isinstance(store.request(_name(0), bad, 6.0).future.exception(SECONDS), MediaError)
    assert not list((tmp_path / "copies").glob("*.mp4"))


@pytest.mark.long
def test_the_longest_unused_copies_make_room(source: Path, tmp_path: Path, stores: list[CopyStore]) -> None:
    folder = tmp_path / "copies"
    first = _copy(_store(stores, folder), source)
    size = first.stat().st_size
    for number in (1, 2, 3):
        shutil.copy(first, folder / f"{_name(number)}.mp4")
    for number, used in ((0, 1000), (1, 4000), (2, 2000), (3, 3000)):
        os.utime(folder / f"{_name(number)}.mp4", (used, 500))
    (folder / "notes.txt").write_text("somebody's own")
    store = _store(stores, folder, most_bytes=int(3.5 * size))
    assert store.request(_name(0), source, 6.0).future.result(SECONDS)
    assert store.ready(_name(0))  # played now
    _copy(store, source, _name(9))
    assert {path.stem for path in folder.glob("*.mp4")} == {_name(0), _name(1), _name(9)}
    assert (folder / "notes.txt").exists()
    small = _store(stores, folder, most_bytes=size // 2)
    with pytest.raises(MediaError, match="--copies-gb"):
        _copy(small, source, _name(10))
    with pytest.raises(Problem) as refused:
        _store(stores, folder, most_bytes=0).request(_name(11), source, 6.0)
    assert (refused.value.status, "--copies-gb 0" in refused.value.detail) == (422, True)


def test_abandoned_requests_do_not_pile_up(source: Path, tmp_path: Path, stores: list[CopyStore]) -> None:
    now = [0.0]
    store = _store(stores, tmp_path / "copies", clock=lambda: now[0])
    jobs, refused = [], []
    for number in range(45):
        try:
            jobs.append(store.request(_name(number), source, 6.0))
        except Problem as busy:
            refused.append((busy.status, busy.retry_seconds))
    assert len(refused) >= 45 - 18  # 16 wait, and one or two are done
    assert set(refused) == {(503, 10)}
    now[0] = 31.0  # nobody asked again
    wanted = store.request(_name(50), source, 6.0)
    assert wanted.future.result(SECONDS).is_file()
    assert sum(job.future.cancelled() or job.future.exception(SECONDS) is not None for job in jobs) >= 14


def test_what_killed_processes_left_is_removed_and_what_live_ones_write_is_not(
    source: Path, tmp_path: Path, stores: list[CopyStore]
) -> None:
    folder = tmp_path / "copies"
    for name in (".making-dead", ".making-live"):
        (folder / name).mkdir(parents=True)
        (folder / name / "film.mp4").write_bytes(b"half")
    (folder / "old.partial.mp4").write_bytes(b"half")
    os.utime(folder / "old.partial.mp4", (0, 0))
    (folder / "new.partial.mp4").write_bytes(b"half")
    gone = folder / f"{_name(7)}.mp4"
    gone.write_bytes(b"a copy of a video that was removed")
    lock = os.open(folder / ".making-live", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    _store(stores, folder, is_current=lambda content: content != _name(7)).tidy()
    os.close(lock)
    assert {path.name for path in folder.iterdir()} == {".making-live", "new.partial.mp4"}


def test_a_library_that_cannot_be_written_has_its_copies_in_the_cache(
    source: Path, tmp_path: Path, stores: list[CopyStore]
) -> None:
    (tmp_path / "library").write_text("in its place")  # even root makes no folder in a file
    cache = tmp_path / "cache"
    store = CopyStore([tmp_path / "library" / "copies", cache], most_bytes=10**9)
    stores.append(store)
    assert _copy(store, source).parent == cache
    nowhere = CopyStore([tmp_path / "library" / "copies"], most_bytes=10**9)
    stores.append(nowhere)
    with pytest.raises(Problem, match="no copy") as refused:
        _copy(nowhere, source)
    assert "cannot be written" not in refused.value.title
    assert "no copy can be written (the library: Not a directory)" in refused.value.detail
