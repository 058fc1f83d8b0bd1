"""Segments are merged while others add, erase and search: nobody waits, nothing comes back, nothing is left over."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.models.worlds import small
from tests.search.test_erase import _bytes_of
from tests.search.test_index_segments import _BACKGROUND, _answers, _flip, _put, _remove, _same

from reelseek.errors import LibraryError
from reelseek.library import Library
from reelseek.models.model import RetrievalModel
from reelseek.search import (
    Index,
    Searcher,
    build_index,
    erase_videos,
    merge_due,
    merge_index,
    open_index,
    update_index,
)
from reelseek.search import build as build_module
from reelseek.search import erase as erase_module
from reelseek.search import merge as merge_module
from reelseek.search import merging as merging_module
from reelseek.search import neighbours as neighbours_module
from reelseek.search import scoring as scoring_module
from reelseek.search.generation import MANIFEST, read_manifest
from reelseek.search.index import verify
from reelseek.search.merging_folder import claim_merging_folder

_ERASED = "a name of no other bytes"


@pytest.fixture
def model() -> RetrievalModel:
    return small("late_fusion")


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (build_module, scoring_module):
        monkeypatch.setattr(module, "background_queries", lambda: list(_BACKGROUND))
    for name, value in (("_SMALL", 4), ("_SEVERAL", 2)):
        monkeypatch.setattr(merge_module, name, value)


@pytest.fixture
def divided(tmp_path: Path, model: RetrievalModel) -> Iterator[Library]:
    """A library whose index has two segments of ten clips, which are due to be merged."""
    rng = np.random.default_rng(8)  # of which a video of either segment has what is written
    with Library.open(tmp_path / "library", create=True) as library:
        for names in (("a1", _ERASED), ("b1", "b2")):
            with library.saving():
                for name in names:
                    _put(library, name, rng, clips=5)
            index = update_index(library, model, merge=False)
        assert [len(segment) for segment in index.segments] == [10, 10]
        assert set(index.experts) == {"speech", "ocr"}
        yield library


def _during_merges(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], *, times: int = 1) -> list[int]:
    """Do something in the middle of the first merges, when their columns are written; says how often that was."""
    finish, calls = merging_module.finish, []

    def act_and_finish(*arguments):
        calls.append(len(calls))
        if len(calls) <= times:
            act()
        return finish(*arguments)

    monkeypatch.setattr(merging_module, "finish", act_and_finish)
    return calls


def _is_clean(folder: Path, index: Index) -> bool:
    return {path.name for path in folder.iterdir()} == {MANIFEST, *index.files()}


def _equals_one_built_anew(library: Library, model: RetrievalModel, index: Index) -> bool:
    answers = _answers(library, model, index)
    return _same(answers, _answers(library, model, build_index(library, model, embed_again=True)))


def test_what_others_add_and_delete_meanwhile_counts(
    divided: Library, model: RetrievalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process adds, changes and removes videos, and searches, in the middle of a merge."""
    before = open_index(divided, model)
    hits = []

    def act() -> None:
        with Library.open(divided.path) as other:
            with other.saving():
                _put(other, "c1", np.random.default_rng(1), clips=5)
                _put(other, "a1", np.random.default_rng(2), clips=3)
                _remove(other, "b2")
            index = update_index(other, model, merge=False)
            assert [segment.record.deleted for segment in index.segments] == [5, 5, 0]
            hits.append(_answers(other, model, index))

    calls = _during_merges(monkeypatch, act)
    index = merge_index(divided, model)
    assert calls == [0]  # nothing was lost
    merged = next(segment for segment in index.segments if len(segment) == 20)
    assert (merged.record.deleted, index.live) == (10, 18)
    assert not {segment.record.name for segment in before.segments} & {s.record.name for s in index.segments}
    assert _is_clean(index.folder, index)
    assert (verify(divided), open_index(divided, model).live) == ([], 18)
    assert _same(hits[0], _answers(divided, model, index))
    assert _equals_one_built_anew(divided, model, index)


def _traces_in(folder: Path, traces: list[bytes]) -> list[bytes]:
    content = b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
    return [trace for trace in traces if trace in content]


@pytest.mark.parametrize("in_place", [False, True])
def test_an_erased_video_is_nowhere_though_it_is_being_merged(
    divided: Library, model: RetrievalModel, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    """Its embeddings, its hash, its file's and its id; the merge begins again, without it."""
    if in_place:
        monkeypatch.setattr(erase_module, "_REWRITTEN", 0)
        monkeypatch.setattr(neighbours_module, "EXACT_UP_TO", 5)
    index = open_index(divided, model)
    traces = _bytes_of(index, _ERASED)
    merging = index.folder / "merging"
    assert _traces_in(divided.path, traces) == traces

    def act() -> None:
        assert set(_traces_in(merging, traces)) > {_ERASED.encode()}
        with Library.open(divided.path) as other:
            other.remove([_ERASED], erase=lambda ids: erase_videos(other, ids))
        assert _traces_in(divided.path, traces) == []

    calls = _during_merges(monkeypatch, act)
    index = merge_index(divided, model)
    assert calls == [0, 1]
    assert _traces_in(divided.path, traces) == []
    assert (len(index.segments), index.live, verify(divided)) == (1, 15, [])
    assert _is_clean(index.folder, index)
    assert _equals_one_built_anew(divided, model, index)


def test_a_merge_that_read_the_manifest_just_before_an_erasure_copies_nothing(
    divided: Library, model: RetrievalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins when the erasure has deleted what was being merged before, and goes on when the video is removed."""
    traces = _bytes_of(open_index(divided, model), _ERASED)
    copied, erased = threading.Event(), threading.Event()
    lost = []

    def merge() -> None:
        with Library.open(divided.path) as other:
            lost.append(merge_due(other, model))

    thread = threading.Thread(target=merge)
    put_index = erase_module.put_index

    def put(*arguments) -> Index:
        thread.start()
        assert copied.wait(300)
        return put_index(*arguments)

    _during_merges(monkeypatch, lambda: (copied.set(), erased.wait(300)))
    monkeypatch.setattr(erase_module, "put_index", put)
    divided.remove([_ERASED], erase=lambda ids: erase_videos(divided, ids))
    assert _traces_in(divided.path, traces) == []
    erased.set()
    thread.join()
    assert _traces_in(divided.path, traces) == []
    index = open_index(divided, model)
    assert (lost[0].live, index.live, _is_clean(index.folder, index)) == (15, 15, True)


_KILLED = """
import os, signal, sys
from tests.models.worlds import small
from reelseek.library import Library
from reelseek.search import merge_index, merging, scoring

scoring.background_queries = lambda: sys.argv[3:]

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

for stage, path in zip(("finish", "put_index"), sys.argv[1:3]):
    if not (child := os.fork()):
        setattr(merging, stage, kill)
        with Library.open(path) as library:
            merge_index(library, small("late_fusion"))
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
"""


@pytest.mark.long
def test_nothing_is_left_of_a_merge_that_was_killed(divided: Library, model: RetrievalModel, tmp_path: Path) -> None:
    """While it copied, and when its files were in place and no manifest named them yet."""
    expected = _answers(divided, model, open_index(divided, model))
    shutil.copytree(divided.path, tmp_path / "copy")
    command = [sys.executable, "-c", _KILLED, divided.path, tmp_path / "copy", *_BACKGROUND]
    subprocess.run(command, check=True, timeout=600)
    for path, was_moved in ((divided.path, False), (tmp_path / "copy", True)):
        with Library.open(path) as library:
            folder = next((path / "index").iterdir())
            names = {path.name for path in folder.iterdir()}
            assert "merging" in names
            assert bool(names - {MANIFEST, "merging", *read_manifest(folder).files}) == was_moved
            index = open_index(library, model)
            assert _is_clean(index.folder, index), was_moved
            assert _same(expected, _answers(library, model, index))


def test_a_writer_of_a_moment_is_waited_for_and_others_are_named(divided: Library) -> None:
    with Library.open(divided.path) as other:
        with divided.writing(), pytest.raises(LibraryError, match="another process is writing"), other.writing():
            pass
        entered, ended = threading.Event(), []

        def hold() -> None:
            with Library.open(divided.path) as third, third.writing(brief=True):
                entered.set()
                time.sleep(1.0)
                ended.append(True)

        thread = threading.Thread(target=hold)
        thread.start()
        assert entered.wait(300)
        with other.writing():
            assert ended == [True]
        thread.join()


def test_segments_are_left_to_a_later_merge_while_another_process_writes_or_merges(
    divided: Library, model: RetrievalModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(merging_module, "_PATIENCE", 0.0)
    with Library.open(divided.path) as other, other.writing():
        assert len(merge_due(divided, model).segments) == 2
        with pytest.raises(LibraryError, match="another process is writing"):
            merge_index(divided, model)
    assert "are not merged, and searched as they are: another process is writing" in caplog.text
    index = open_index(divided, model)
    with claim_merging_folder(index.folder):
        assert len(merge_due(divided, model).segments) == 2
        with pytest.raises(LibraryError, match="is not merged: another process merges them; try again later"):
            merge_index(divided, model)
    assert _is_clean(index.folder, index)
    assert len(merge_due(divided, model).segments) == 1


def test_damaged_segments_are_not_merged_and_it_is_said(
    divided: Library, model: RetrievalModel, caplog: pytest.LogCaptureFixture
) -> None:
    index = open_index(divided, model)
    _flip(next(index.folder.glob(f"{index.segments[0].record.name}-values.npy")))
    before = (index.folder / MANIFEST).read_bytes()
    assert merge_due(divided, model).damaged
    assert (index.folder / MANIFEST).read_bytes() == before
    assert _is_clean(index.folder, index)


def test_a_service_merges_in_the_background_and_follows(divided: Library, model: RetrievalModel) -> None:
    """It answers from the segments that it opened until then."""
    searcher = Searcher(divided, model)
    expected = [(hit.video, hit.start) for hit in searcher.search("two dogs at a red car", k=50)]
    searcher.current.build_in_background()
    deadline = time.monotonic() + 300
    while len(searcher.current.index.segments) > 1 and time.monotonic() < deadline:
        assert [(hit.video, hit.start) for hit in searcher.search("two dogs at a red car", k=50)] == expected
    assert len(searcher.current.index.segments) == 1
    searcher.current.close()
    assert _is_clean(searcher.current.index.folder, searcher.current.index)
    assert [(hit.video, hit.start) for hit in searcher.search("two dogs at a red car", k=50)] == expected
