"""Derived files: damaged ones are noticed and built again, and what is left out is said."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.search.talks import add_talk, make_talks

from reelseek.cli.add import update_indexes
from reelseek.errors import LibraryError, ModelError
from reelseek.library import Library
from reelseek.library.files import read_checked, write_checked, write_whole_by
from reelseek.models import load_model
from reelseek.models.embedding import Embedding
from reelseek.models.systems import concepts
from reelseek.search import Searcher, build_index, open_index
from reelseek.search import neighbours as neighbours_module
from reelseek.search.generation import MANIFEST, array_file, read_manifest, write_files, write_manifest
from reelseek.search.index import verify

_QUERY = "a dog on the beach"
_VIDEOS = 400


@pytest.fixture(scope="module")
def model() -> object:
    return load_model("concepts")


def _want_lists(patch: pytest.MonkeyPatch) -> None:
    """Let so few vectors have inverted lists, so that there is a file of every kind."""
    patch.setattr(neighbours_module, "EXACT_UP_TO", 100)
    patch.setattr(neighbours_module, "_RECALL_WANTED", 0.1)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, model: object) -> Path:
    folder = tmp_path_factory.mktemp("talks") / "library"
    with pytest.MonkeyPatch.context() as patch:
        _want_lists(patch)
        with make_talks(folder, _VIDEOS) as library:
            build_index(library, model)
    return folder


@pytest.fixture
def talks(original: Path, tmp_path: Path) -> Iterator[Library]:
    shutil.copytree(original, tmp_path / "library")
    with Library.open(tmp_path / "library") as library:
        yield library


def _files(library: Library) -> list[Path]:
    return sorted(path for path in (library.path / "index").rglob("*") if path.is_file())


def _answers(library: Library, model: object) -> list[dict]:
    return [hit.as_json() for hit in Searcher(library, model).search(_QUERY, k=5)]


def _flip(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place // 8)
        (byte,) = file.read(1)
        file.seek(place // 8)
        file.write(bytes([byte ^ 1 << place % 8]))


def test_every_flipped_bit_is_noticed(talks: Library, model: object, caplog: pytest.LogCaptureFixture) -> None:
    files = _files(talks)
    kinds = {path.name.split("-", 1)[-1] for path in files}
    assert {
        "index.json",
        "values.npy",
        "places.npy",
        "010.faiss",
        "videos.npy",
        "ids.npy",
        "unrelated.values.npy",
    } <= kinds
    rng = np.random.default_rng(0)
    for path in files:
        for place in rng.integers(8 * path.stat().st_size, size=12).tolist():
            _flip(path, place)
            assert [file for file, _ in verify(talks)] == [str(path)], place
            caplog.clear()
            assert open_index(talks, model) is None
            assert "cannot be used" in caplog.text
            _flip(path, place)
    assert verify(talks) == []
    assert open_index(talks, model) is not None


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


@pytest.mark.long
@pytest.mark.parametrize("damage", [_empty, _halve, _lengthen, Path.unlink, lambda path: _flip(path, 4001)])
def test_damage_is_said_and_mended(
    talks: Library,
    model: object,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
) -> None:
    _want_lists(monkeypatch)
    before = _answers(talks, model)
    for kind in ("-values.npy", "places.npy", "010.faiss", "clips.npy", "videos.npy", "ids.npy", MANIFEST):
        (path,) = (path for path in _files(talks) if path.name.endswith(kind))
        caplog.clear()
        damage(path)
        assert _answers(talks, model) == before, kind
        if path.name != MANIFEST or damage is not Path.unlink:  # without a manifest there is no index to be damaged
            assert path.name in caplog.text
            assert "building the index of concepts again" in caplog.text
        assert verify(talks) == []


def test_the_folder_of_an_earlier_version_is_built_again(talks: Library, model: object) -> None:
    before = _answers(talks, model)
    folder = open_index(talks, model).folder
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / MANIFEST).write_text('{"format": 1, "clips": [], "signatures": []}', "utf-8")
    (folder / "values.npy").write_bytes(b"")
    (folder / "background-1-1-1.npy").write_bytes(b"")
    assert verify(talks) == []
    assert _answers(talks, model) == before
    assert not (folder / "values.npy").exists()


def test_a_search_writes_nothing(talks: Library, model: object) -> None:
    before = {path: path.stat().st_mtime_ns for path in _files(talks)}
    searcher = Searcher(talks, model)
    searcher.search(_QUERY)
    searcher.search(_QUERY, weights={"speech": 2})
    searcher.within(_QUERY, "v003")
    assert {path: path.stat().st_mtime_ns for path in _files(talks)} == before


def test_what_unrelated_queries_reach_is_what_searching_for_them_gives(talks: Library, model: object) -> None:
    build_index(talks, model)  # of vectors that are searched exactly
    searcher = Searcher(talks, model)
    queries = concepts.background_queries()
    for number in (0, 50, 130):
        best = searcher.search(queries[number], k=1)[0].similarity
        assert searcher.index.background[number] == pytest.approx(best, abs=2e-6)


_FULL_DISK = """
import resource, sys
from reelseek.errors import LibraryError
from reelseek.library import Library
from reelseek.models import load_model
from reelseek.search import build_index
library = Library.open(sys.argv[1])
model = load_model("concepts")
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    build_index(library, model)
except LibraryError as error:
    print("refused:", error)
"""


@pytest.mark.long
def test_a_full_disk_leaves_the_index_that_was_there(talks: Library, model: object) -> None:
    before = {path.name: path.read_bytes() for path in _files(talks)}
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, talks.path], capture_output=True, text=True, timeout=300, check=False
    )
    assert "refused:" in done.stdout, done.stderr
    assert "cannot be written" in done.stdout
    assert {path.name: path.read_bytes() for path in _files(talks)} == before


def test_files_that_are_replaced_while_they_are_opened_belong_together(tmp_path: Path) -> None:
    folder, stop = tmp_path / "index", threading.Event()

    def write(number: int) -> None:
        folder.mkdir(exist_ok=True)
        files = {f"{number}-{name}.npy": array_file(np.full(1000, number)) for name in "abc"}
        write_manifest(folder, {"number": number}, write_files(folder, files))

    def keep_writing() -> None:
        number = 1
        while not stop.is_set():
            write(number)
            number += 1

    def numbers() -> set[int] | None:
        generation = read_manifest(folder)
        assert generation is not None
        try:
            arrays = [generation.open(name).array() for name in generation.files]
        except FileNotFoundError:  # it was replaced
            return None
        return {generation.description["number"], *(int(v) for array in arrays for v in set(array))}

    write(0)
    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        opened = [row for row in (numbers() for _ in range(400)) if row is not None]
    finally:
        stop.set()
        writer.join(60)
    assert all(len(row) == 1 for row in opened)
    assert len(set.union(*opened)) > 1
    assert len(list(folder.iterdir())) == 4


def test_an_open_index_outlives_its_files(talks: Library, model: object) -> None:
    reader = Searcher(talks, model)
    before = [hit.as_json() for hit in reader.search(_QUERY)]
    index = reader.index
    with Library.open(talks.path) as writer:
        build_index(writer, model)
    assert [hit.as_json() for hit in reader.search(_QUERY)] == before
    assert reader.index is not index


# What cannot be embedded


def _damage_track(library: Library, video: str) -> None:
    (row,) = (row for row in library.track_rows() if row.owner == f"id:{video}")
    (shard,) = (library.path / "tracks").rglob("*.values")
    _flip(shard, 8 * (row.place[1] * row.dim * 4 + 100) + 3)


@pytest.mark.long
def test_a_video_with_a_damaged_track_is_named_counted_and_left_out(
    tmp_path: Path, model: object, caplog: pytest.LogCaptureFixture
) -> None:
    with make_talks(tmp_path / "library", 6) as library:
        _damage_track(library, "v002")
        searcher = Searcher(library, model)
        assert [(each.video, each.clips) for each in searcher.index.left_out] == [("v002", 1)]
        assert "left out of the index: v002" in caplog.text
        assert [failure["video"] for failure in library.failures()] == ["v002"]  # so that `add` makes it again
        assert "1 clips are missing from the index" in caplog.text
        assert {hit.video for hit in searcher.search(_QUERY)} == {f"v00{n}" for n in (0, 1, 3, 4, 5)}
        assert open_index(library, model).left_out == searcher.index.left_out
        with pytest.raises(LibraryError, match=r"v002.*not what was written"):
            searcher.within(_QUERY, "v002")
    done = _reelseek("search", tmp_path / "library", _QUERY)
    assert done.returncode == 1
    assert "v003" in done.stdout
    assert "v002" not in done.stdout
    assert "1 clips are missing from the index" in done.stderr
    with Library.open(tmp_path / "library") as library:  # mended, it is indexed again by whoever adds or removes
        _damage_track(library, "v002")
        assert update_indexes(library).left_out == ()
        assert "v002" in {hit.video for hit in Searcher(library, model).search(_QUERY)}


def test_missing_shards_leave_every_video_out(tmp_path: Path, model: object) -> None:
    with make_talks(tmp_path / "library", 3) as library:
        for shard in (tmp_path / "library" / "tracks").rglob("*.values"):
            shard.unlink()
        searcher = Searcher(library, model)
        assert len(searcher.index.left_out) == 3
        assert searcher.search(_QUERY) == []


def _reelseek(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reelseek.cli.main", *map(str, arguments)],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


class _Broken(concepts.Concepts):
    """Makes NaN of some things."""

    nothing_of_texts = False
    value = float("nan")

    def encode_videos(self, tokens: object) -> Embedding:
        made = super().encode_videos(tokens)
        if not self.nothing_of_texts:
            made.values[min(1, len(made) - 1), made.present[0].nonzero()[0]] = self.value
        return made

    def encode_texts(self, texts: list[str]) -> Embedding:
        made = super().encode_texts(texts)
        if self.nothing_of_texts:
            made = Embedding(torch.full_like(made.values, self.value), made.present, made.weights)
        return made


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_a_model_that_makes_no_numbers_is_refused(talks: Library, value: float) -> None:
    broken = _Broken(concepts.ConceptsConfig())
    broken.value = value
    shutil.rmtree(talks.path / "index")
    with pytest.raises(ModelError, match="values of up to 1e" if value == 1e6 else "NaN or infinity of v001"):
        build_index(talks, broken)
    assert not (talks.path / "index").exists()
    broken.nothing_of_texts = True
    if value != 1e6:
        with pytest.raises(ModelError, match="NaN or infinity of the text"):
            build_index(talks, broken)


# Files that carry their checksum


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 10_000))
def test_a_checked_file_is_what_was_written_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, payload: bytes, place: int
) -> None:
    path = tmp_path_factory.mktemp("checked") / "file"
    write_checked(path, payload)
    assert read_checked(path) == payload
    _flip(path, place % (8 * path.stat().st_size))
    with pytest.raises(ValueError, match="not what was written"):
        read_checked(path)
    os.truncate(path, place % path.stat().st_size)
    with pytest.raises(ValueError, match="not what was written"):
        read_checked(path)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    (tmp_path / "file").write_bytes(b"before")
    with pytest.raises(OSError, match="No space"):
        write_whole_by(tmp_path / "file", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"before"


def test_a_damaged_cache_of_label_vectors_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(concepts, "imagenet_labels", lambda: ["cat, kitten", "dog", "red car"])
    monkeypatch.setattr(concepts.SentenceEncoder, "remembers", lambda *_: False)  # as no shipped vectors are
    vectors = concepts.label_vectors.__wrapped__()
    (path,) = tmp_path.rglob("labels-*.npy")
    whole = path.read_bytes()
    for damage in (_empty, _halve, _lengthen, lambda path: _flip(path, 2500)):
        damage(path)
        assert torch.equal(concepts.label_vectors.__wrapped__(), vectors)
        assert path.read_bytes() == whole


# Libraries that change, or cannot


_AS_NOBODY = """
import os, sys
import rich.console, rich.progress, rich.table
from reelseek.cli.main import main
from reelseek.library import Library
from reelseek.search import Searcher
with Library.open(sys.argv[1]) as library:  # while everything can still be imported
    Searcher(library).search("a dog on the beach")
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.argv = ["reelseek", "search", sys.argv[2], "a dog on the beach", "-k", "5"]
main()
"""


@pytest.fixture
def as_nobody(original: Path) -> Iterator[tuple[Path, Callable[[], subprocess.CompletedProcess[str]]]]:
    """A library, and a search of it by a user who may not write to it."""
    if os.getuid() != 0:
        pytest.skip("only root can become a user who may not write here")
    # pytest's own folders are closed to other users whenever one starts
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        other, path = Path(folder) / "other", Path(folder) / "library"
        for copy in (other, path):
            shutil.copytree(original, copy)
        command = [sys.executable, "-c", _AS_NOBODY, str(other), str(path)]
        yield path, lambda: subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.long
def test_a_library_that_cannot_be_written_is_searched_all_the_same(
    model: object, as_nobody: tuple[Path, Callable[[], subprocess.CompletedProcess[str]]]
) -> None:
    path, search = as_nobody
    with Library.open(path) as library:
        expected = [hit.video for hit in Searcher(library, model).search(_QUERY, k=5)]
    listed = lambda done: [line.split()[0] for line in done.stdout.splitlines()[1:]]  # noqa: E731
    current = search()
    assert (listed(current), current.stderr, current.returncode) == (expected, "", 0)
    with Library.open(path) as library, library.saving():
        add_talk(library, "w000", np.random.default_rng(9))
    old = search()
    assert listed(old) == expected, old.stderr
    assert "older than the library" in old.stderr
    assert "1 videos are not in the index yet: w000" in old.stderr
    shutil.rmtree(path / "index")
    without = search()
    assert "built in memory" in without.stderr
    assert len(listed(without)) == 5
    assert not (path / "index").exists()
