"""Erasing a video in place: no byte of it stays, the rest is searched as before, and nobody takes it for damage."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.worlds import small
from tests.search.test_index_segments import (
    _BACKGROUND,
    _answers,
    _flip,
    _put,
    _same,
)

from reelseek.errors import LibraryError
from reelseek.experts.expert import Track
from reelseek.library import Library
from reelseek.models.model import RetrievalModel
from reelseek.search import Index, build_index, erase_videos, generation, open_index, scoring, update_index
from reelseek.search import build as build_module
from reelseek.search import erase as erase_module
from reelseek.search import neighbours as neighbours_module
from reelseek.search.changes import Source, find_stale
from reelseek.search.index import open_folder, problem_of, verify
from reelseek.search.nearest import search_parts
from reelseek.search.patches import Patch, overlay, patched_checksum, write_patches


@pytest.fixture
def model() -> RetrievalModel:
    return small("late_fusion")


@pytest.fixture(autouse=True)
def in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every segment is large: erased in place, with lists, in files that are mapped."""
    for module in (build_module, scoring):
        monkeypatch.setattr(module, "background_queries", lambda: list(_BACKGROUND))
    monkeypatch.setattr(erase_module, "_REWRITTEN", 0)
    monkeypatch.setattr(neighbours_module, "EXACT_UP_TO", 5)
    monkeypatch.setattr(generation, "_SMALL", 64)


@given(
    st.binary(min_size=50, max_size=200),
    st.lists(st.tuples(st.integers(0, 41), st.binary(min_size=1, max_size=9)), min_size=1, max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_a_checksum_follows_patches_without_reading_the_rest(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, pieces: list[tuple[int, bytes]]
) -> None:
    path, end = tmp_path_factory.mktemp("patch") / "file", 0
    path.write_bytes(content)
    patches: list[Patch] = []
    for offset, piece in sorted(pieces):
        if offset >= end and offset + len(piece) <= len(content):
            patches.append(Patch(offset, piece))
            end = offset + len(piece)
    expected = patched_checksum(path, len(content), zlib.crc32(content), patches)
    blocks = [overlay(content[start : start + 7], start, patches) for start in range(0, len(content), 7)]
    write_patches(path, [Patch.from_json(patch.as_json()) for patch in patches])
    assert zlib.crc32(path.read_bytes()) == expected
    assert b"".join(blocks) == path.read_bytes()


def _bytes_of(index: Index, video: str) -> list[bytes]:
    """What files of an index hold of a video: its id, its file, its signature, its hash and its embeddings."""
    segment, _ = index.locate(index.rows_of(video)[0])
    hashes = segment.file("id_hashes.npy").array()
    (number,) = segment.find([video], hashes := np.array([_hash(video)], np.uint64))
    numbers = np.array([number])
    values = segment.slots.packed(segment.rows_of(numbers))
    facts = [segment.contents(numbers)[0], segment.signatures(numbers)[0], hashes.tobytes(), video.encode()]
    return [bytes(fact) for fact in facts] + [row.tobytes() for row in values]


def _hash(video: str) -> int:
    from reelseek.search.columns import hash_ids

    return int(hash_ids([video])[0])


def _content(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


@pytest.fixture
def talks(tmp_path: Path, model: RetrievalModel) -> Iterator[Library]:
    """A library of twelve videos of four clips in one segment with lists; two videos are equal."""
    rng = np.random.default_rng(0)
    with Library.open(tmp_path / "library", create=True) as library:
        with library.saving():
            for number in range(12):
                _put(library, f"video{number:02}", rng, clips=4)
            copy = library.read(next(row for row in library.track_rows("speech") if row.owner == "id:video03"))
            for video in ("video03", "video07"):
                library.catalog.remove_owner(f"id:{video}")
                library.put_track(f"id:{video}", "speech", "speech:test", "speech", Track(*map(np.array, copy)))
        build_index(library, model)
        yield library


def test_no_byte_stays_and_the_rest_is_found_as_before(talks: Library, model: RetrievalModel) -> None:
    before = open_index(talks, model)
    (segment,) = before.segments
    assert segment.record.lists
    assert any(name.endswith("groups.npy") for name in segment.sums)
    lists = sorted(before.folder.glob("*.faiss"))
    codes = [path.read_bytes() for path in lists]
    inodes = {path.name: path.stat().st_ino for path in before.folder.glob(f"{segment.record.name}-*")}
    for removed in ("video03", "video00", "video11", "video05"):  # the first of two equals, the first, the last
        traces = _bytes_of(open_index(talks, model), removed)
        if removed == "video03":  # what its twin has is the twin's
            traces = [trace for trace in traces if trace not in _bytes_of(open_index(talks, model), "video07")]
        assert all(trace in _content(before.folder) for trace in traces)
        talks.remove([removed], erase=lambda ids: erase_videos(talks, ids))
        assert not any(trace in _content(before.folder) for trace in traces)
        assert verify(talks) == []
        index = open_index(talks, model)
        assert index.damaged == ()
        assert [s.record.name for s in index.segments] == [segment.record.name]
        assert not find_stale(Source(talks, model, index.rule, None), index)
        assert [len(index.rows_of(f"video{n:02}")) for n in (1, 2, 4, 6, 7, 8, 9, 10)] == [4] * 8
    assert index.live == 32
    after = {path.name: path.stat().st_ino for path in before.folder.glob(f"{segment.record.name}-*")}
    assert {name: inode for name, inode in after.items() if "deleted" not in name} == inodes
    assert [path.read_bytes() for path in lists] != codes
    assert update_index(talks, model).live == 32
    expected = _answers(talks, model, index)
    assert _same(expected, _answers(talks, model, build_index(talks, model, embed_again=True)))


def test_the_code_of_an_erased_vector_is_gone(talks: Library, model: RetrievalModel) -> None:
    import faiss

    index = open_index(talks, model)
    (segment,) = index.segments
    talks.remove(["video05"], erase=lambda ids: erase_videos(talks, ids))
    rows = segment.rows_of(np.array([5]))
    zeros = live = 0
    for pattern in segment.patterns:
        path = index.folder / f"{segment.record.name}-{pattern}.faiss"
        if not path.exists():
            continue
        neighbours = open_index(talks, model).segments[0].neighbours(pattern)
        erased = set(np.flatnonzero(np.isin(neighbours.rows, rows)).tolist())
        lists = faiss.read_index(str(path))
        inner = faiss.downcast_index(lists.index)
        for number in range(inner.nlist):
            size = inner.invlists.list_size(number)
            groups = faiss.rev_swig_ptr(inner.invlists.get_ids(number), size) if size else []
            codes = faiss.rev_swig_ptr(inner.invlists.get_codes(number), size * inner.code_size) if size else []
            for group, code in zip(groups, np.reshape(codes, (size, -1)), strict=True):
                places = neighbours._groups.places(np.array([group]))[0] if neighbours._groups else [group]
                if set(np.array(places).tolist()) <= erased:
                    assert not code.any()
                    zeros += 1
                else:
                    live += bool(code.any())
    assert zeros
    assert live


def test_who_has_the_index_open_finds_the_others_meanwhile(talks: Library, model: RetrievalModel) -> None:
    """With lists that were opened before, and with those that are opened afterwards."""
    readers = [open_index(talks, model) for _ in range(2)]
    pattern = next(iter(readers[0].patterns))
    query = np.random.default_rng(3).normal(size=(1, 16 * sum(pattern))).astype(np.float32)

    def search(index: Index) -> list[tuple[str, float]]:
        (((scores, rows),),) = search_parts([(index.patterns[pattern], query)], 48)
        matches = [
            (index.clips[int(row)].video, round(float(score), 4)) for score, row in zip(scores, rows, strict=True)
        ]
        return [match for match in matches if match[0] in {f"video{n:02}" for n in (1, 2, 4, 6, 8, 9, 10)}]

    expected = search(readers[0])
    assert expected
    talks.remove(["video03", "video05"], erase=lambda ids: erase_videos(talks, ids))
    assert [search(reader) for reader in readers] == [expected, expected]


def test_erased_in_the_middle_of_it_an_index_is_whole(
    talks: Library, model: RetrievalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest names what is overwritten next: files fit it before, between and after."""
    opened = open_index(talks, model)
    states = []

    def write(path: Path, patches: list[Patch]) -> None:
        for number in range(len(patches)):
            write_patches(path, patches[number : number + 1])
            states.append((verify(talks), open_index(talks, model).damaged, open_index(talks, model).live))

    monkeypatch.setattr(erase_module, "write_patches", write)
    talks.remove(["video02", "video05"], erase=lambda ids: erase_videos(talks, ids))
    assert len(states) > 10
    assert set(map(str, states)) == {str(([], (), 40))}
    assert problem_of(opened.segments[0]) is None
    _flip(max(opened.folder.glob("*-values.npy")))
    assert "does not hold what was written" in str(problem_of(opened.segments[0]))


@pytest.mark.parametrize("written", [0, 1, 3])
def test_an_erasure_that_was_stopped_is_finished_by_the_next(
    talks: Library, model: RetrievalModel, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    index = open_index(talks, model)
    traces = _bytes_of(index, "video05")
    assert all(trace in _content(index.folder) for trace in traces)
    count = 0

    def stop(path: Path, patches: list[Patch]) -> None:
        nonlocal count
        if count == written:
            raise OSError(28, "No space left on device")
        count += 1
        write_patches(path, patches)

    with monkeypatch.context() as patch:
        patch.setattr(erase_module, "write_patches", stop)
        with pytest.raises(LibraryError, match="No space"):
            talks.remove(["video05"], erase=lambda ids: erase_videos(talks, ids))
    talks.remove(["video05"], erase=lambda ids: erase_videos(talks, ids))
    assert not any(trace in _content(index.folder) for trace in traces)
    assert verify(talks) == []
    assert (open_index(talks, model).damaged, open_index(talks, model).live) == ((), 44)


def test_an_index_that_is_opened_while_a_video_is_erased_is_not_damaged(
    talks: Library, model: RetrievalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest was read before, the files after."""
    from reelseek.search import index as index_module

    load, removed = index_module._load, []

    def load_late(*arguments, **options) -> Index:
        if not removed:
            removed.append("video04")
            talks.remove(["video04"], erase=lambda ids: erase_videos(talks, ids))
        return load(*arguments, **options)

    folder = open_index(talks, model).folder
    monkeypatch.setattr(index_module, "_load", load_late)
    index = open_folder(folder)
    assert (removed, index.damaged, index.live) == (["video04"], (), 44)
