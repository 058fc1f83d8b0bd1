"""Collections in stores and shards: the same library as from a folder, and what goes wrong is told."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from reelseek.errors import CollectionError, UsageError
from reelseek.library import AddReport, Library, add
from reelseek.library.arrays import import_features
from reelseek.library.collection import read_collection
from reelseek.library.outcomes import put_failure
from reelseek.library.tasks import is_final
from reelseek.media.address import Address, parse_path
from reelseek.media.store import NOT_FETCHED, file_numbers
from tests.stores import FaultyStore, faulty_store  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("faulty_store")


def _write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, payload in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
    return path


def _add(path: Path, *names: object) -> AddReport:
    with Library.open(path, create=True) as library:
        return add(library, [str(name) for name in names], experts=["plain", "speech"], workers=1)


def _facts(path: Path) -> dict[str, object]:
    with Library.open(path) as library:
        texts = {video.id: library.texts(str(video.content)) for video in library.videos()}
        return {"digest": library.digest(verify=True), "texts": texts}


@pytest.mark.long
def test_a_folder_in_a_store_gives_the_library_that_the_folder_gives(
    tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    folder = tmp_path / "films"
    (folder / "day").mkdir(parents=True)
    film = make_video("film.mp4", sound_seconds=1.0)
    shutil.copy(film, folder / "a.mp4")
    shutil.copy(film, folder / "day" / "same.mp4")
    (folder / "broken.mp4").write_bytes(b"no film")
    (folder / "notes.pdf").write_bytes(b"")
    (folder / "a.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello there\n")
    local, remote = tmp_path / "local", tmp_path / "remote"
    reports = [_add(local, folder), _add(remote, f"local://{folder}")]
    assert _facts(remote) == _facts(local)
    for report in reports:
        assert (report.videos_new, report.extracted, len(report.failed)) == (2, 1, 1)
        assert [str(notice).partition(": ")[2] for _, notice in report.notices] == ["1 other file: 1 .pdf"]
    with Library.open(remote) as library:
        assert [text.text for _, text in library.texts(str(library.videos()[0].content))] == ["hello there"]
        assert str(library.video("a").path) == f"local://{folder}/a.mp4"
    assert _add(remote, f"local://{folder}").videos_new == 0
    (folder / "a.mp4").rename(folder / "b.mp4")
    (folder / "day" / "same.mp4").write_bytes(make_video("other.mp4", size=(96, 64)).read_bytes())
    moved = _add(remote, f"local://{folder}")
    assert (moved.videos_new, moved.extracted) == (0, 2), "the one moved away from its subtitles, the other is new"
    with Library.open(remote) as library:
        assert {video.id for video in library.videos()} == {"a.mp4", "day/same.mp4"}
        assert str(library.video("a").path) == f"local://{folder}/b.mp4"


@pytest.mark.long
def test_videos_of_a_shard_come_with_the_texts_beside_them(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    film, other = make_video("1.mp4").read_bytes(), make_video("2.mp4", size=(96, 64)).read_bytes()
    shard = _write_tar(
        tmp_path / "shard-000.tar",
        {
            "0001.mp4": film,
            "0001.txt": b"a grey wall",
            "0001.json": json.dumps({"caption": "a grey wall", "Split": "train", "key": "1"}).encode(),
            "./x/0002.json": b'{"captions": ["one", "two"]}',
            "./x/0002.mp4": other,
            "x/0003.mp4": b"no film",
            "x/0003.json": b"{broken",
        },
    )
    path = tmp_path / "library"
    report = _add(path, shard)
    assert (report.videos_new, report.captions, report.lost_rows) == (2, 3, 1)
    assert sorted(name for name, _, _ in report.failed) == [f"{shard}, x/0003.json", "shard-000.tar/x/0003.mp4"]
    moved = shard.rename(tmp_path / "shard-009.tar")
    assert _add(path, moved).captions == 0
    with Library.open(path) as library:
        captions = [(caption.video, caption.text, caption.split) for caption in library.captions()]
        assert captions == [
            ("shard-000.tar/0001.mp4", "a grey wall", "train"),
            ("shard-000.tar/x/0002.mp4", "one", None),
            ("shard-000.tar/x/0002.mp4", "two", None),
        ]
        assert str(library.video("0001").path) == f"tar://0001.mp4::{moved}"


def test_what_is_passed_over_in_a_shard_is_said(tmp_path: Path) -> None:
    """A name that two members have, a text that is too long, and texts and pictures without a video."""
    first, second = tmp_path / "1.tar", tmp_path / "2.tar"
    with tarfile.open(first, "w") as tar:
        texts = [("a.json", b"[" + b" " * 2**20 + b"]"), ("b.txt", b"of no video"), ("b.jpg", b"x"), ("a.srt", b"1")]
        for name, payload in [("a.mp4", b"one"), ("x/../a.mp4", b"other"), ("a.mp4", b"two!"), *texts]:
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
    _write_tar(second, {"c.mp4": b"c", "d.cls": b"3"})
    collection = read_collection([first, second])
    assert [entry.id for entry in collection.entries] == ["1.tar/a.mp4", "1.tar/x/../a.mp4", "2.tar/c.mp4"]
    address = collection.entries[0].path
    assert isinstance(address, Address)
    assert file_numbers(address)[0] == 4, "the later one, as tar has it"
    assert [(notice.place, notice.message.partition(",")[0], notice.lost) for notice in collection.problems] == [
        (str(first), "1 member left out", True),
        (str(first), "1 text longer than 1 MiB not read", True),
        ("shards", "3 other members of tar shards: 1 .txt", False),
    ]
    for folder in (tmp_path, Address(f"local://{tmp_path}")):
        assert read_collection([folder]).problems[-1].message.endswith("1 .txt, 1 .jpg, 1 .cls")


def test_an_empty_name_is_not_the_folder_at_hand(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a path is empty"):
        read_collection([tmp_path, ""])
    with Library.open(tmp_path / "library", create=True) as library, pytest.raises(UsageError, match="a path is empty"):
        import_features(library, "deep", [" "], modality="motion")


@pytest.mark.long
def test_a_server_plays_what_lies_in_a_shard(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    from reelseek.web.media import library_media, opaque_id
    from reelseek.web.shell import add_videos, new_app

    film = make_video("1.mp4").read_bytes()
    shard = _write_tar(tmp_path / "s.tar", {"1.mp4": film})
    _add(tmp_path / "library", shard)
    with Library.open(tmp_path / "library") as library:
        media = library_media(library)
        app = new_app([media], token=None, host="127.0.0.1")
        add_videos(app, media)
        with TestClient(app, base_url="http://127.0.0.1") as client:
            address = f"/api/videos/{opaque_id('s.tar/1.mp4')}/media"
            answer = client.get(address, headers={"Range": "bytes=10-19"})
            assert (answer.status_code, answer.content) == (206, film[10:20])
            shard.unlink()
            assert client.get(address).content == film, "one that plays stays while it is used"


def test_names_in_lists_tables_and_patterns(tmp_path: Path) -> None:
    for name in ("v/1.mp4", "v/2.mp4", "v/3.mov", "v/.hidden.mp4"):
        FaultyStore.put_object(f"b/{name}", b"x")
    FaultyStore.put_object("b/list.txt", b"v/1.mp4\nfaulty://b/v/2.mp4\nx/../v/3.mov\n")
    FaultyStore.put_object("b/v/table.csv", b"video,caption\n1.mp4,one\n9.mp4,nine\n")
    table = tmp_path / "table.jsonl"
    table.write_text('{"video": "two", "path": "faulty://b/v/2.mp4", "caption": "two"}\n')

    def entries(*names: object) -> list[tuple[str, str | None]]:
        collection = read_collection([parse_path(str(name)) for name in names])
        return [(entry.id, str(entry.path) if entry.path else None) for entry in collection.entries]

    all_three = [f"faulty://b/v/{name}" for name in ("1.mp4", "2.mp4", "3.mov")]
    assert [path for _, path in entries("faulty://b/list.txt")] == all_three
    assert entries("faulty://b/v/") == list(zip(("1.mp4", "2.mp4", "3.mov"), all_three, strict=True))
    assert [path for _, path in entries("faulty://b/v/[0-9].mp4")] == all_three[:2]
    assert [path for _, path in entries("faulty://b/v/{1..2}.mp4")] == all_three[:2]
    for number in ("08", "09", "10"):
        FaultyStore.put_object(f"b/w/{number}.mp4", b"x")
    assert [name for name, _ in entries("faulty://b/w/{08..10}.mp4")] == ["08.mp4", "09.mp4", "10.mp4"]
    assert entries("faulty://b/v/table.csv") == [("1.mp4", all_three[0]), ("9.mp4", None)]
    assert entries(table) == [("two", all_three[1])]
    for wrong in ("faulty://b/none.mp4", "faulty://b/v/{1..9}.mp4", "faulty://b/w/x*.mp4", "nosuch://b/x.mp4"):
        with pytest.raises(CollectionError):
            entries(wrong)


def test_what_the_store_refuses_is_tried_again_next_time(tmp_path: Path) -> None:
    address = Address("faulty://b/v/1.mp4")
    FaultyStore.put_object("b/v/1.mp4", b"x")
    FaultyStore.refused.add("/b/v/1.mp4")
    with pytest.raises(CollectionError, match="credentials"):
        read_collection([address])
    with Library.open(tmp_path / "library", create=True) as library, library.writing():
        with library.catalog.transaction():
            put_failure(library.catalog, "a", "", f"{NOT_FETCHED}: {address}: refused", address)
            put_failure(library.catalog, "b", "", "no film", address)
        failures = {failure.video: failure for failure in library.catalog.failures.all()}
        assert (is_final(failures["a"]), is_final(failures["b"])) == (False, True)
        assert {str(path) for path, _, _ in library.catalog.failures.of_files([address])} == {str(address)}


def test_features_by_address_are_those_of_the_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    folder = tmp_path / "features"
    (folder / "a").mkdir(parents=True)
    for name in ("a/one", "two"):
        np.save(folder / f"{name}.npy", rng.normal(size=(4, 3)).astype(np.float32))
    np.savez(folder / "more.npz", three=rng.normal(size=(2, 3)).astype(np.float32))
    digests = []
    for number, source in enumerate((str(folder), f"local://{folder}", f"local://{folder}/*")):
        with Library.open(tmp_path / str(number), create=True) as library:
            with library.catalog.transaction():
                for name in ("a/one", "two", "three"):
                    library.catalog.videos.add(name)
            names = [source] if number < 2 else [source, f"local://{folder}/a/one.npy"]
            report = import_features(library, "deep", names, modality="motion")
            assert (report.imported, report.failed) == (3, [])
            digests.append(library.digest())
    assert len(set(digests)) == 1


def test_a_table_in_an_unknown_store_is_one_error() -> None:
    with pytest.raises(CollectionError, match="nosuch"):
        read_collection([], captions=parse_path("nosuch://b/x.csv"))
