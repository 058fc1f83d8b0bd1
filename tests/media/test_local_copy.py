"""Files by address: what an address means, and local copies that are whole, bounded and shared."""

import errno
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest
from tests.stores import FaultyStore, faulty_store  # noqa: F401 - a fixture

from reelseek.errors import CollectionError, LimitError, MediaError
from reelseek.media.address import Address, is_address, member, parse_path
from reelseek.media.beside import files_in
from reelseek.media.local_copy import Copies
from reelseek.media.store import NOT_FETCHED, fetch, file_numbers, is_file, list_objects, object_state, with_states
from reelseek.media.tar import read_shard

pytestmark = pytest.mark.usefixtures("faulty_store")


def _put(name: str, payload: bytes) -> Address:
    FaultyStore.put_object(name, payload)
    return Address(f"faulty://{name}")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("text", "name", "parent", "parts"),
    [
        ("s3://bucket/a/b.mp4", "b.mp4", "s3://bucket/a", ("s3:", "bucket", "a", "b.mp4")),
        ("tar://x/y.mp4::s3://b/s.tar", "y.mp4", "tar://x::s3://b/s.tar", ("s3:", "b", "s.tar", "x", "y.mp4")),
        ("tar://y.mp4::/data/s.tar", "y.mp4", "/data/s.tar", ("/", "data", "s.tar", "y.mp4")),
        ("tar://a::b.mp4::/s.tar", "a::b.mp4", "/s.tar", ("/", "s.tar", "a::b.mp4")),
    ],
)
def test_an_address_has_the_parts_of_a_path(text: str, name: str, parent: str, parts: tuple[str, ...]) -> None:
    address = parse_path(text)
    assert isinstance(address, Address)
    assert (address.name, str(address.parent), address.parts, str(address)) == (name, parent, parts, text)


def test_local_names_stay_local(tmp_path: Path) -> None:
    odd = tmp_path / "100%25.mp4"
    odd.touch()
    assert parse_path(f"file://{odd}") == odd, "a name on the disk wins over what its escapes would mean"
    assert parse_path(f"file://{tmp_path}/a%20b.mp4") == tmp_path / "a b.mp4"
    assert not any(map(is_address, ("a:b.mp4", "C:/v.mp4", "/x/s3://y", "file:///x")))


def test_a_copy_is_of_the_bytes_that_are_there_now(tmp_path: Path) -> None:
    copies = Copies(tmp_path / "copies", 10_000)
    address = _put("b/film.mp4", b"first")
    for payload in (b"first", b"other"):
        FaultyStore.put_object("b/film.mp4", payload)
        for _ in range(2):
            with copies.hold(address) as path:
                assert path.read_bytes() == payload
                assert path.name == "film.mp4"
    assert len(FaultyStore.opened) == 2, "what is here already is not fetched again"


def test_an_object_that_changes_while_it_is_read_is_read_again_or_refused(tmp_path: Path) -> None:
    copies = Copies(tmp_path / "copies", 10_000)
    address = _put("b/film.mp4", b"abc")
    FaultyStore.changes["/b/film.mp4"] = 99
    with pytest.raises(MediaError, match=f"^{NOT_FETCHED}.*changes while it is read"), copies.hold(address):
        pass
    assert _size(tmp_path / "copies") == 0, "no half of anything stays"
    FaultyStore.changes.clear()
    numbers = file_numbers(address)
    FaultyStore.put_object("b/film.mp4", b"xyz")
    with pytest.raises(MediaError, match="changed since it was looked at"), copies.hold(address, numbers=numbers):
        pass
    with copies.hold(address, numbers=file_numbers(address)) as path:
        assert path.read_bytes() == b"xyz"


def test_a_store_without_rights_is_told(tmp_path: Path) -> None:
    address = _put("b/film.mp4", b"abc")
    FaultyStore.refused.add("/b/film.mp4")
    copies = Copies(tmp_path / "copies", 10_000)
    with pytest.raises(MediaError, match=f"^{NOT_FETCHED}.*does not let it be read.*credentials"), copies.hold(address):
        pass
    assert is_file(address), "what is refused is not gone"
    assert not is_file(Address("faulty://b/none.mp4"))


def test_copies_stay_within_their_limit_and_the_longest_unused_go_first(tmp_path: Path) -> None:
    copies = Copies(tmp_path / "copies", 3_500)
    addresses = [_put(f"b/{number}.mp4", bytes([number]) * 1000) for number in range(6)]
    clock = iter(range(1, 1000))

    def use(address: Address) -> None:
        with copies.hold(address) as path:
            os.utime(path.parent / "lock", (next(clock),) * 2)

    with copies.hold(addresses[0]) as held:
        os.utime(held.parent / "lock", (0, 0))  # the first to go, were it not in use
        for number in (1, 2, 1, 3, 4, 5):
            use(addresses[number])
            assert _size(tmp_path / "copies") <= 3_500
        assert held.read_bytes() == bytes(1000), "one in use is never deleted"
    FaultyStore.opened.clear()
    use(addresses[5])
    use(addresses[4])
    assert not FaultyStore.opened
    with pytest.raises(LimitError, match="REELSEEK_CACHE_GB"), copies.hold(_put("b/huge.mp4", bytes(4000))):
        pass


def test_a_recently_used_copy_outlives_an_older_one(tmp_path: Path) -> None:
    copies = Copies(tmp_path / "copies", 2_500)
    first, second, third = (_put(f"b/{number}.mp4", bytes(1000)) for number in range(3))
    for number, address in enumerate((first, second, first)):
        with copies.hold(address) as path:
            os.utime(path.parent / "lock", (number + 1,) * 2)
    with copies.hold(third):
        FaultyStore.opened.clear()
    with copies.hold(first):
        assert FaultyStore.opened == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    class FullFile(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    copies = Copies(tmp_path / "copies", 10_000)
    address = _put("b/film.mp4", b"abc")
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(MediaError, match=f"^{NOT_FETCHED}.*no room.*REELSEEK_CACHE"), copies.hold(address):
            pass
    assert _size(tmp_path / "copies") == 0
    with pytest.raises(OSError, match="No space left"):
        fetch(address, FullFile())  # not the store's fault, and not tried again
    assert len(FaultyStore.opened) == 1
    with copies.hold(address) as path:
        assert path.read_bytes() == b"abc"


def test_many_readers_of_one_object_fetch_it_once(tmp_path: Path) -> None:
    address = _put("b/film.mp4", b"abc" * 1000)
    wrong: list[bytes] = []

    def read() -> None:
        with Copies(tmp_path / "copies", 10_000).hold(address) as path:
            if path.read_bytes() != b"abc" * 1000:
                wrong.append(path.read_bytes())

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(FaultyStore.opened) == 1


_KILLED = """
import os, signal, sys
from reelseek.media import local_copy
def fetch(address, file):
    file.write(b"half"); file.flush(); os.kill(os.getpid(), signal.SIGKILL)
local_copy.fetch = fetch
from pathlib import Path
with local_copy.Copies(Path(sys.argv[1]), 10_000).hold(local_copy.Address(sys.argv[2])): pass
"""


def test_a_process_killed_while_it_fetches_leaves_nothing_that_is_taken_for_whole(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"whole")
    address = f"local://{tmp_path}/film.mp4"
    ended = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path / "copies"), address], timeout=300)
    assert ended.returncode == -signal.SIGKILL
    assert list((tmp_path / "copies").rglob("film.mp4.partial")), "it was killed in the middle"
    with Copies(tmp_path / "copies", 10_000).hold(Address(address)) as path:
        assert path.read_bytes() == b"whole"
    assert not list((tmp_path / "copies").rglob("*.partial"))


def test_messages_name_the_address_and_not_the_copy(tmp_path: Path) -> None:
    copies = Copies(tmp_path / "copies", 10_000)
    with pytest.raises(MediaError, match=r"^'faulty://b/a\.mp4' is no film$"):  # noqa: SIM117
        with copies.hold(_put("b/a.mp4", b"abc")) as path:
            raise MediaError(f"{str(path)!r} is no film")


# Shards


def _tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, payload in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
    return out.getvalue()


def test_members_of_a_shard_are_read_by_their_place_in_it(tmp_path: Path) -> None:
    files = {f"d/{number}.mp4": os.urandom(700 * number + 1) for number in range(4)} | {"d/1.srt": b"1\n"}
    local = tmp_path / "s.tar"
    local.write_bytes(_tar(files))
    remote = _put("b/s.tar", _tar(files))
    copies = Copies(tmp_path / "copies", 10_000)
    for shard in (local, remote):
        for name, payload in files.items():
            with copies.hold(member(shard, name)) as path:
                assert path.read_bytes() == payload
        assert set(files_in(member(shard, "d"))) == {"0.mp4", "1.mp4", "2.mp4", "3.mp4", "1.srt"}
        assert not is_file(member(shard, "d/9.mp4"))
    before = file_numbers(member(remote, "d/1.mp4"))
    FaultyStore.put_object("b/s.tar", _tar(files))
    assert file_numbers(member(remote, "d/1.mp4")) != before, "a shard that was replaced has other members"


def test_a_damaged_shard_is_read_as_far_as_it_goes() -> None:
    whole = _tar({"0.mp4": bytes(600), "1.mp4": bytes(600), "2.mp4": bytes(600)})
    assert read_shard(_put("b/whole.tar", whole)).problem == ""
    for end, names in (
        (2 * 1536, ["0.mp4", "1.mp4"]),
        (2 * 1536 + 100, ["0.mp4", "1.mp4"]),
        (2 * 1536 + 700, ["0.mp4", "1.mp4"]),
    ):
        shard = read_shard(_put(f"b/cut{end}.tar", whole[:end]))
        assert [one.name for one in shard.members] == names
        assert shard.problem
    with pytest.raises(CollectionError, match="compressed one has to be unpacked"):
        read_shard(_put("b/packed.tar", _tar({"0.mp4": bytes(600)}, "w:gz")))
    with pytest.raises(CollectionError, match="no tar file"):
        read_shard(_put("b/none.tar", b"not a tar" * 200))


def test_hard_links_in_a_shard_are_files_and_other_links_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"film")
    os.link(tmp_path / "a.mp4", tmp_path / "b.mp4")
    os.symlink("a.mp4", tmp_path / "c.mp4")
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name in ("a.mp4", "b.mp4", "c.mp4"):
            tar.add(tmp_path / name, name)
    shard = read_shard(tmp_path / "s.tar")
    assert ([one.name for one in shard.members], shard.left_out) == (["a.mp4", "b.mp4"], 1)
    with Copies(tmp_path / "copies", 10_000).hold(member(tmp_path / "s.tar", "b.mp4")) as path:
        assert path.read_bytes() == b"film"


def test_a_store_that_is_down_for_a_moment_has_lost_no_member(monkeypatch: pytest.MonkeyPatch) -> None:
    shard = _put("b/s.tar", _tar({"1.mp4": bytes(600)}))
    one = member(shard, "1.mp4")
    assert is_file(one)
    monkeypatch.setattr(FaultyStore, "info", _refuse_connection)
    assert is_file(one)
    assert file_numbers(one) == (-1, -1)


def _refuse_connection(*_: object, **__: object) -> None:
    raise TimeoutError("Curl error 28: no answer for clip-1403.mp4 at 10.0.4.1:401")


def test_numbers_in_a_name_are_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FaultyStore, "info", _refuse_connection)
    with pytest.raises(OSError, match="cannot be reached") as caught:
        object_state(Address("faulty://b/clip-1403.mp4"))
    assert not isinstance(caught.value, PermissionError)


def test_states_of_many_objects_are_those_of_each() -> None:
    addresses = [_put(f"b/{number}.mp4", bytes(number)) for number in range(20)]
    missing = Address("faulty://b/none.mp4")
    stated = with_states([*addresses, missing, Path("/local.mp4")])
    assert [file_numbers(path) for path in addresses] == [path.state.numbers for path in stated[:20]]  # type: ignore[union-attr]
    assert stated[20:] == [missing, Path("/local.mp4")]
    assert {str(address) for address in list_objects(Address("faulty://b"))} == {str(one) for one in addresses}
