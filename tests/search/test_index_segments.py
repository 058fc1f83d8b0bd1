"""An index in segments answers as one that is built anew, whatever was added, changed, removed and merged before."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.worlds import small
from tests.search.in_memory import InMemory
from tests.search.talks import add_talk, make_talks
from typer.testing import CliRunner, Result

from reelseek.cli.main import app
from reelseek.errors import LibraryError
from reelseek.experts.expert import Track
from reelseek.library import Library
from reelseek.models import load_model
from reelseek.models.model import RetrievalModel
from reelseek.search import Index, Searcher, build_index, erase_videos, merge_index, open_index, update_index
from reelseek.search import build as build_module
from reelseek.search import columns as columns_module
from reelseek.search import erase as erase_module
from reelseek.search import merge as merge_module
from reelseek.search import neighbours as neighbours_module
from reelseek.search import scoring as scoring_module
from reelseek.search import segments as segments_module
from reelseek.search.changes import Source, find_stale
from reelseek.search.generation import MANIFEST, StoredFile, read_manifest
from reelseek.search.index import describe_indexes, verify
from reelseek.search.nearest import search_parts
from reelseek.search.segment import Record, Segment

_QUERIES = ("two dogs at a red car", "an old kitchen", "a train leaves the beach")
_BACKGROUND = ("a man walks", "music plays", "a car drives by", "two people talk")


@pytest.fixture
def model() -> RetrievalModel:
    return small("late_fusion")


@pytest.fixture(autouse=True)
def few_background_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (build_module, scoring_module):
        monkeypatch.setattr(module, "background_queries", lambda: list(_BACKGROUND))


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which a few videos make many segments."""
    monkeypatch.setattr(merge_module, "_SMALL", 4)


def _put(library: Library, video: str, rng: np.random.Generator, *, clips: int = 2) -> None:
    """A video of so many clips with speech, and of every second one with what is written; call it inside `saving`."""
    library.db.execute("INSERT OR IGNORE INTO videos(id) VALUES (?)", (video,))
    library.db.execute(
        "UPDATE videos SET content = ?, duration = ? WHERE id = ?", (f"file of {video}", 8.0 * clips, video)
    )
    spans = np.stack([np.arange(clips), np.arange(clips) + 1.0], 1) * 8
    for name in ("speech", "ocr") if rng.random() < 0.5 else ("speech",):
        values = rng.normal(size=(clips, 384)).astype(np.float32)
        library.put_track(f"id:{video}", name, f"{name}:test", name, Track(values, spans))


def _remove(library: Library, video: str) -> None:
    library.db.execute("DELETE FROM videos WHERE id = ?", (video,))
    library.catalog.remove_owner(f"id:{video}")


def _answers(library: Library, model: RetrievalModel, index: Index) -> list[list[tuple[str, float | None, float]]]:
    searcher = Searcher(library, model, update=False)
    assert searcher.index.live == index.live
    return [[(hit.video, hit.start, hit.similarity) for hit in searcher.search(query, k=50)] for query in _QUERIES]


def _same(answers: Sequence[Sequence[tuple]], others: Sequence[Sequence[tuple]]) -> bool:
    for hits, rest in zip(answers, others, strict=True):
        if [hit[:2] for hit in hits] != [hit[:2] for hit in rest]:
            return False
        np.testing.assert_allclose([hit[2] for hit in hits], [hit[2] for hit in rest], atol=3e-6)
    return True


_STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "change", "remove", "merge", "erase"]), st.integers(0, 8), st.integers(1, 5)),
    min_size=3,
    max_size=8,
)


@pytest.mark.long
@settings(max_examples=8, deadline=None)
@given(_STEPS, st.sampled_from([0, 4096]))
def test_any_history_ends_in_the_answers_of_an_index_built_anew(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]], rewritten: int
) -> None:
    """Videos are erased in place, or segments are written anew without them."""
    model, rng = small("late_fusion"), np.random.default_rng(len(steps))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_SMALL", 4), ("_SEVERAL", 3), ("_GROWTH", 3)):
            patch.setattr(merge_module, name, value)
        patch.setattr(erase_module, "_REWRITTEN", rewritten)
        with Library.open(tmp_path_factory.mktemp("history") / "library", create=True) as library:
            with library.saving():
                _put(library, "v3", rng, clips=5)
            index = update_index(library, model)
            for verb, number, clips in steps:
                video = f"v{number}"
                if verb == "merge":
                    merge_index(library, model)
                elif verb == "erase" and library.get(video) and len(library.videos()) > 1:
                    library.remove([video], erase=lambda ids: erase_videos(library, ids))
                elif verb == "remove" and len(library.videos()) > 1:
                    with library.saving():
                        _remove(library, video)
                elif verb in ("add", "change"):
                    with library.saving():
                        _put(library, video, rng, clips=clips)
                index = update_index(library, model)
            answers = _answers(library, model, index)
            assert verify(library) == []
            assert index.live == open_index(library, model).live == describe_indexes(library)[0]["clips"]
            rebuilt = build_index(library, model, index.rule, embed_again=True)
            assert len(rebuilt.segments) == 1
            assert sorted((clip.video, clip.start_seconds) for clip in rebuilt.clips) == sorted(
                (index.clips[row].video, index.clips[row].start_seconds) for row in index.live_rows()
            )
            assert _same(answers, _answers(library, model, rebuilt))


def test_clips_of_equal_scores_stand_in_order_of_video_in_whatever_segments_they_lie(
    tmp_path: Path, model: RetrievalModel, small_segments: None
) -> None:
    with Library.open(tmp_path / "library", create=True) as library:
        for names in (("d", "b"), ("a", "e"), ("c",)):
            with library.saving():
                for name in names:
                    _put(library, name, np.random.default_rng(0), clips=3)
            index = update_index(library, model)
        assert len(index.segments) == 3
        hits = _answers(library, model, index)[0]
        assert len({score for _, _, score in hits}) < len(hits)
        assert _same([hits], _answers(library, model, build_index(library, model))[:1])


@pytest.fixture
def several(tmp_path: Path, model: RetrievalModel, small_segments: None) -> Iterator[Library]:
    """A library whose index has two segments of ten clips, and one of two."""
    rng = np.random.default_rng(0)
    with Library.open(tmp_path / "library", create=True) as library:
        for names in (("a1", "a2"), ("b1", "b2"), ("c1",)):
            with library.saving():
                for name in names:
                    _put(library, name, rng, clips=1 if name == "c1" else 5)
            index = update_index(library, model)
        assert [len(segment) for segment in index.segments] == [10, 10, 1]
        yield library


def test_a_change_costs_what_has_changed(
    several: Library, model: RetrievalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One video is compared and embedded, and no embedding of another segment is read, for one more."""
    index = open_index(several, model)
    compared: list[str] = []
    entries = Source.entries
    monkeypatch.setattr(Source, "entries", lambda self, numbers: compared.extend(numbers) or entries(self, numbers))
    read: list[Path] = []
    rows = StoredFile.rows
    monkeypatch.setattr(StoredFile, "rows", lambda self, *span: read.append(self.path) or rows(self, *span))
    embedded: list[int] = []
    with several.saving():
        _put(several, "d1", np.random.default_rng(1), clips=2)
    after = update_index(several, model, progress=lambda done, total: embedded.append(total))
    assert set(compared) == {"d1"}
    assert set(embedded) == {2}
    assert [segment.record.name for segment in after.segments[:2]] == [s.record.name for s in index.segments[:2]]
    assert not {path.name.partition("-")[0] for path in read} & {s.record.name for s in after.segments[:2]}
    before = {path.name for path in after.folder.iterdir()}
    with several.saving():
        _remove(several, "a2")
    after = update_index(several, model)
    assert after.segments[0].record.deleted == 5
    assert (
        len({path.name for path in after.folder.iterdir()} - before) == 1
    )  # a file of deletions, besides the manifest
    assert "a2" not in {hit[0] for hits in _answers(several, model, after) for hit in hits}


def test_a_small_segment_is_written_anew_with_what_is_added(several: Library, model: RetrievalModel) -> None:
    """Its clips are copied, not embedded again; what was deleted of it is not copied."""
    embedded: list[int] = []

    def add(video: str, clips: int) -> Index:
        with several.saving():
            _put(several, video, np.random.default_rng(1), clips=clips)
        return update_index(several, model, progress=lambda done, total: embedded.append(total))

    small = open_index(several, model).segments[2]
    index = add("d1", 2)
    assert [len(segment) for segment in index.segments] == [10, 10, 3]
    assert set(embedded) == {2}
    assert not [path for path in index.folder.iterdir() if path.name.startswith(small.record.name)]
    with several.saving():
        _remove(several, "c1")
    index = add("e1", 3)
    assert [len(segment) for segment in index.segments] == [10, 10, 5]
    assert index.segments[2].ids(np.arange(2)) == ["d1", "e1"]
    expected = _answers(several, model, index)
    assert _same(expected, _answers(several, model, build_index(several, model, embed_again=True)))


def test_a_damaged_small_segment_is_embedded_again_not_copied(several: Library, model: RetrievalModel) -> None:
    segment, files = _files_with(several, model, "c1")
    _flip(next(path for path in files if path.name.endswith("values.npy")))
    with several.saving():
        _put(several, "d1", np.random.default_rng(1), clips=2)
    index = update_index(several, model)
    assert (index.damaged, index.live, verify(several)) == ((), 23, [])
    assert segment.record.name not in {segment.record.name for segment in index.segments}
    expected = _answers(several, model, index)
    assert _same(expected, _answers(several, model, build_index(several, model, embed_again=True)))


@pytest.mark.parametrize("begin_with", [0, 1])  # another library's index, or that of a later state of this one
def test_an_index_that_was_not_made_of_this_database_is_compared_as_a_whole(
    tmp_path: Path, model: RetrievalModel, begin_with: int
) -> None:
    """Numbers and revisions of one database mean other videos in another."""
    rng = np.random.default_rng(0)

    def add(folder: str, names: str, *, index: bool) -> None:
        for name in names:
            with Library.open(tmp_path / folder, create=True) as library:
                with library.saving():
                    _put(library, name, rng)
                if index:
                    update_index(library, model)

    add("library", "ab"[:begin_with], index=True)
    if begin_with:
        shutil.copytree(tmp_path / "library", tmp_path / "copy")
    add("library", "cd", index=True)
    add("copy", "efgh", index=False)
    shutil.rmtree(tmp_path / "copy" / "index", ignore_errors=True)
    shutil.copytree(tmp_path / "library" / "index", tmp_path / "copy" / "index")
    with Library.open(tmp_path / "copy") as library:
        expected = {video.id for video in library.videos()}
        searcher = Searcher(library, model, update=False)
        assert {hit.video for query in _QUERIES for hit in searcher.search(query, k=50)} <= expected
        index = update_index(library, model)
        assert {clip.video for clip in index.clips} == expected
        revision = library.revision()
        assert update_index(library, model).description() == index.description()
        assert (library.revision(), index.revision) == (revision, revision), "to note an index is no change"


def test_an_update_without_a_change_writes_nothing(several: Library, model: RetrievalModel) -> None:
    folder = open_index(several, model).folder
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    update_index(several, model)
    several.set_meta("note", "changes no video")
    update_index(several, model)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_reader_keeps_the_segments_that_it_opened(
    several: Library, model: RetrievalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also lists that it has not looked into yet, when their files are gone."""
    monkeypatch.setattr(neighbours_module, "EXACT_UP_TO", 5)
    expected = _answers(several, model, build_index(several, model))
    reader = open_index(several, model)
    lists = [part for parts in reader.patterns.values() for part in parts if not part.neighbours.exact]
    assert lists
    reader = open_index(several, model)
    merge_index(several, model)
    build_index(several, model, embed_again=True)
    assert not any((reader.folder / name).exists() for name in reader.files() if name.endswith("values.npy"))
    for pattern in reader.patterns:
        query = np.ones((1, 16 * sum(pattern)), np.float32)
        (((_, rows),),) = search_parts([(reader.patterns[pattern], query)], 5)
        assert len(rows)
    assert _same(expected, _answers(several, model, open_index(several, model)))


# Damage


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


_DAMAGES: list[Callable[[Path], object]] = [_flip, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])]


def _files_with(library: Library, model: RetrievalModel, video: str) -> tuple[Segment, list[Path]]:
    """The segment that has a video, and its files."""
    index = open_index(library, model)
    segment, _ = index.locate(index.rows_of(video)[0])
    return segment, sorted(index.folder.glob(f"{segment.record.name}-*"))


@pytest.mark.parametrize(("first", "damage"), list(enumerate(_DAMAGES)))
def test_a_damaged_segment_is_named_and_the_rest_answers(
    several: Library,
    model: RetrievalModel,
    first: int,
    damage: Callable[[Path], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every file of a segment is damaged in one of the ways."""
    expected = _answers(several, model, open_index(several, model))
    videos = {"a1", "a2", "b1", "b2", "c1"}
    for number in range(first, len(_files_with(several, model, "b1")[1]), len(_DAMAGES)):
        segment, files = _files_with(several, model, "b1")
        inside = set(segment.ids(np.arange(segment.record.videos)))
        damage(files[number])
        caplog.clear()
        searcher = Searcher(several, model, update=False)
        assert {hit.video for hit in searcher.search(_QUERIES[0], k=50)} == videos - inside
        (damaged,) = searcher.index.damaged
        assert (damaged.clips, files[number].name in damaged.reason) == (len(segment), True)
        assert f"{len(segment)} clips are not searched, since their segment {damaged.name}" in caplog.text
        assert [name for name, _ in verify(several)] == [str(files[number])]
        caplog.clear()
        assert Searcher(several, model).index.damaged == ()  # few clips: it is mended where it may be written
        assert f"building the index of late_fusion again for {len(segment)} clips" in caplog.text
        assert verify(several) == []
        assert _same(expected, _answers(several, model, open_index(several, model)))


def test_a_large_damaged_segment_is_not_embedded_again_by_a_search(
    several: Library, model: RetrievalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge_module, "EXACT_UP_TO", 5)
    model.save(tmp_path / "model")
    _flip(_files_with(several, model, "a1")[1][0])
    searcher = Searcher(several, model)
    assert {hit.video for hit in searcher.search(_QUERIES[0], k=50)} == {"b1", "b2", "c1"}
    assert len(searcher.index.damaged) == 1
    done = _reelseek("search", several.path, _QUERIES[0], "--model", tmp_path / "model")
    assert (done.exit_code, "b1" in done.stdout, "a1" in done.stdout) == (1, True, False)
    assert update_index(several, model).damaged == ()
    assert {hit.video for hit in searcher.search(_QUERIES[0], k=50)} == {"a1", "a2", "b1", "b2", "c1"}


def test_damage_is_neither_merged_nor_forgotten(
    several: Library, model: RetrievalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy would have checksums of its own, and a manifest without the segment would know nothing of its clips."""
    from reelseek.search import generation, index

    path = next(path for path in _files_with(several, model, "a1")[1] if path.name.endswith("values.npy"))
    _flip(path)
    manifest = path.parent / MANIFEST
    before = manifest.read_bytes()
    for at_once in (index.CHECKED_AT_ONCE, 10):  # found when the index is opened, or only when it is copied
        monkeypatch.setattr(index, "CHECKED_AT_ONCE", at_once)
        monkeypatch.setattr(generation, "_SMALL", min(generation._SMALL, at_once))
        with pytest.raises(LibraryError, match=r"is damaged: .*before merging, build it again"):
            merge_index(several, model)
        assert manifest.read_bytes() == before
    updated = update_index(several, model)
    assert updated.live == 21
    assert updated.damaged == ()


def test_damage_that_only_the_background_check_sees_takes_the_segment_out(
    several: Library, model: RetrievalModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    searcher = Searcher(several, model)
    name = searcher.index.segments[0].record.name
    searcher._current._check._damaged[name] = "values.npy does not hold what was written into it"
    assert {hit.video for hit in searcher.search(_QUERIES[0], k=50)} == {"b1", "b2", "c1"}
    assert "10 clips are not searched" in caplog.text


def test_a_large_index_is_checked_in_the_background(
    several: Library, model: RetrievalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reelseek.search import check, generation, index

    monkeypatch.setattr(generation, "_SMALL", 64)
    for module in (check, index):
        monkeypatch.setattr(module, "CHECKED_AT_ONCE", 1000)
    monkeypatch.setattr(check, "_SECONDS", 0.0)
    path = next(path for path in _files_with(several, model, "a1")[1] if path.name.endswith("values.npy"))
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    searcher = Searcher(several, model)
    for _ in range(1000):
        if {hit.video for hit in searcher.search(_QUERIES[0], k=50)} == {"b1", "b2", "c1"}:
            break
    (segment,) = searcher.index.damaged
    assert path.name in segment.reason


def test_an_index_of_the_earlier_form_is_built_again_and_it_is_said(
    several: Library, model: RetrievalModel, caplog: pytest.LogCaptureFixture
) -> None:
    import hashlib

    expected = _answers(several, model, open_index(several, model))
    folder = open_index(several, model).folder
    shutil.rmtree(folder)
    folder.mkdir()
    plain = {"format": 2, "generation": "0a", "about": {}, "files": {}}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps({**plain, "sha256": digest}), "utf-8")
    assert (verify(several), describe_indexes(several)) == ([], [])
    Searcher(several, model)
    assert "written by an earlier version" in caplog.text
    assert "building the index of late_fusion again" in caplog.text
    assert _same(expected, _answers(several, model, open_index(several, model)))


# Removing


def test_erasing_writes_anew_only_the_segments_that_hold_the_video(several: Library, model: RetrievalModel) -> None:
    other = small("umi")
    update_index(several, other)
    folders = [open_index(several, each).folder for each in (model, other)]
    first, second, _ = open_index(several, model).segments
    with several.saving():  # its old clips stay in their segment, deleted by a bit
        _put(several, "a1", np.random.default_rng(5), clips=3)
    assert update_index(several, model).segments[0].record.deleted == 5
    several.remove(["a1"], erase=lambda ids: erase_videos(several, ids))
    index = open_index(several, model)
    assert second.record.name in {segment.record.name for segment in index.segments}
    assert first.record.name not in {segment.record.name for segment in index.segments}
    assert index.live == 16
    assert "a1" not in {video for segment in index.segments for video in segment.ids(np.arange(segment.record.videos))}
    for folder in folders:
        assert not any(b"file of a1" in path.read_bytes() for path in folder.iterdir())
        assert {MANIFEST, *read_manifest(folder).files} == {path.name for path in folder.iterdir()}
    assert not find_stale(Source(several, model, index.rule, None), index)
    expected = _answers(several, model, index)
    assert _same(expected, _answers(several, model, build_index(several, model, embed_again=True)))


def test_an_index_that_cannot_be_read_is_deleted_when_a_video_is_erased(
    several: Library, model: RetrievalModel
) -> None:
    folder = open_index(several, model).folder
    _flip(folder / MANIFEST)
    several.remove(["b1"], erase=lambda ids: erase_videos(several, ids))
    assert not folder.exists()


# Merging


def test_there_are_few_segments_and_few_copies_however_clips_are_added() -> None:
    """Clips come one by one; each is copied about once for every size of segments."""

    class Sized:
        def __init__(self, clips: int) -> None:
            self.record = Record(f"s{clips}", clips, clips)

        def __len__(self) -> int:
            return self.record.clips

    segments: list[Sized] = []
    copied = largest = 0
    for _ in range(4_000):
        absorbed = [segment for segment in segments if merge_module.is_small(segment)]
        segments = [segment for segment in segments if segment not in absorbed]
        segments.append(Sized(5_000 + sum(len(segment) for segment in absorbed)))
        while group := merge_module.due(segments):
            segments = [segment for segment in segments if segment not in group]
            segments.append(Sized(sum(len(segment) for segment in group)))
            copied += len(segments[-1])
        largest = max(largest, len(segments))
        exact = [segment for segment in segments if merge_module.is_few(len(segment))]
        assert len(exact) <= 1 or sum(len(segment) for segment in exact) <= neighbours_module.EXACT_UP_TO
    total = 4_000 * 5_000
    assert sum(len(segment) for segment in segments) == total
    assert max(len(segment) for segment in segments) <= merge_module._LARGEST
    assert largest < 40 + total / 2**18
    assert 1 < copied / total < 8


def test_deleted_clips_are_neither_found_nor_do_they_hide_others(
    several: Library, model: RetrievalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours_module, "EXACT_UP_TO", 5)
    index = build_index(several, model)
    (segment,) = index.segments
    assert any(not part.neighbours.exact for parts in index.patterns.values() for part in parts)
    for pattern, parts in index.patterns.items():
        rows, vectors = segment.vectors(parts[0].pattern)
        query = np.random.default_rng(2).normal(size=(1, vectors.whole().shape[1])).astype(np.float32)
        order = rows[np.argsort(-(vectors.whole() @ query[0]), kind="stable")]
        part = type(parts[0])(0, segment.delete(order[:4], write=False), parts[0].pattern)
        (answer,) = part.search(query, 3)
        assert answer[1].tolist() == order[4:7].tolist(), pattern


def test_numbers_of_bytes_take_the_place_of_bits_that_say_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors that differ in the third digit: their bits are alike."""
    monkeypatch.setattr(neighbours_module, "EXACT_UP_TO", 1000)
    monkeypatch.setattr(neighbours_module, "_DEPTHS", {10: (16, 4)})
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=32) + 0.01 * rng.normal(size=(3000, 32))).astype(np.float32)
    neighbours = neighbours_module.Neighbours.build(np.arange(3000), InMemory(vectors), vectors[:20])
    queries = vectors[100:140] + np.float32(0.002) * rng.normal(size=(40, 32)).astype(np.float32)
    _, rows = neighbours.search(queries, 10)
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows.tolist(), exact.tolist(), strict=True)])
    assert recall >= 0.99


def test_videos_whose_ids_have_one_hash_are_told_apart(
    several: Library, model: RetrievalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (columns_module, segments_module):
        monkeypatch.setattr(module, "hash_ids", lambda ids: np.array([7 for _ in ids], np.uint64))
    index = build_index(several, model, embed_again=True)
    for video, clips in (("a1", 5), ("a2", 5), ("c1", 1), ("z", 0)):
        assert [index.clips[row].video for row in index.rows_of(video)] == clips * [video]


# The command


def _reelseek(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_an_export_says_which_embeddings_it_lacks(several: Library, model: RetrievalModel, tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    model.save(tmp_path / "model")

    def export(name: str) -> tuple[Result, set[str]]:
        done = _reelseek("export", several.path, tmp_path / name, "--embeddings", tmp_path / "model")
        return done, set(parquet.read_table(tmp_path / name / "embeddings/late_fusion.parquet")["video"].to_pylist())

    done, videos = export("whole")
    assert (done.exit_code, videos) == (0, {"a1", "a2", "b1", "b2", "c1"}), done.stderr
    with several.saving():
        _put(several, "new", np.random.default_rng(1))
    done, _ = export("old")
    assert (done.exit_code, "1 videos: they are not in the index yet" in done.stderr) == (1, True)
    update_index(several, model)
    _flip(next(path for path in _files_with(several, model, "a1")[1] if path.name.endswith("values.npy")))
    done, videos = export("damaged")
    assert (done.exit_code, videos) == (1, {"b1", "b2", "c1", "new"})
    assert "of the index: 10 clips: " in done.stderr
    assert "reelseek index build" in done.stderr


def test_the_command_builds_verifies_merges_and_rebuilds(tmp_path: Path) -> None:
    make_talks(tmp_path / "library", 4).close()
    library = tmp_path / "library"
    built = _reelseek("index", "build", library)
    assert (built.exit_code, built.stdout) == (0, "concepts: 4 clips in 1 segments, 0 deleted; exact\n"), built.stderr
    path = next((library / "index").rglob("*values.npy"))
    _flip(path)
    checked = _reelseek("index", "verify", library)
    assert checked.exit_code == 1
    assert str(path) in checked.stderr
    assert _reelseek("index", "rebuild", library).exit_code == 0
    whole = _reelseek("index", "verify", library)
    assert (whole.exit_code, whole.stdout) == (0, "1 indexes of 1 segments: 0 files are damaged or missing\n")
    with Library.open(library) as opened, opened.saving():
        add_talk(opened, "w000", np.random.default_rng(1))
    assert "5 clips" in _reelseek("index", "build", library).stdout
    assert _reelseek("index", "merge", library).exit_code == 0
    with Library.open(library) as opened:
        assert open_index(opened, load_model("concepts")).live == 5
    for verb in ("build", "verify", "merge", "rebuild"):
        assert "Example: reelseek index" in _reelseek("index", verb, "--help").stdout
