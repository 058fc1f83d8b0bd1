"""Searches side by side: the hits of one alone, in turn, without waiting for an index that is built."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from reelseek.errors import LibraryError
from reelseek.experts.sentence import sentence_encoder
from reelseek.library import Library
from reelseek.models.systems.concepts import background_queries
from reelseek.search import Searcher, current
from reelseek.search.current import IndexPending
from reelseek.search.views import SharedIndexes
from reelseek.web.problems import Problem
from reelseek.web.searching import SideBySide

QUERIES = ["a cat", "dog -cat", "a red car^2 street", "exit", "someone speaks", '"cat"', "has:speech a voice"]


class _Client:
    """A request whose client may have gone."""

    gone = False

    async def is_disconnected(self) -> bool:
        return self.gone


@pytest.fixture
def searcher(library_path: Path, tmp_path: Path) -> Iterator[Searcher]:
    """Of a library of its own, which a test may change."""
    shutil.copytree(library_path, tmp_path / "library")
    with Library.open(tmp_path / "library") as library:
        yield Searcher(library)


@pytest.fixture
def side_by_side(searcher: Searcher) -> Iterator[SideBySide]:
    turns = SideBySide(searcher, 2, threads=1)
    yield turns
    turns.close()


# Turns


def test_searches_take_turns_in_order_and_too_many_are_refused(side_by_side: SideBySide) -> None:
    async def scenario() -> None:
        end, order = threading.Event(), []
        waits = asyncio.create_task(side_by_side.result(_Client(), lambda searcher: end.wait(60)))
        await asyncio.sleep(0)
        others = [
            asyncio.create_task(side_by_side.result(_Client(), lambda searcher, number=number: order.append(number)))
            for number in range(2)
        ]
        await asyncio.sleep(0)
        assert side_by_side.callers == 3
        with pytest.raises(Problem) as refused:
            await side_by_side.result(_Client(), lambda searcher: None)
        assert (refused.value.status, refused.value.retry_seconds) == (503, 2)
        end.set()
        assert await waits
        await asyncio.gather(*others)
        assert order == [0, 1]
        assert await side_by_side.result(_Client(), lambda searcher: 7, text="a cat") == 7
        assert side_by_side.callers == 0

    asyncio.run(scenario())


def test_a_search_whose_client_has_gone_is_not_made(side_by_side: SideBySide) -> None:
    async def scenario() -> None:
        end, calls, client = threading.Event(), [], _Client()
        waits = asyncio.create_task(side_by_side.result(_Client(), lambda searcher: end.wait(60)))
        await asyncio.sleep(0)
        client.gone = True
        with pytest.raises(Problem):
            await side_by_side.result(client, lambda searcher: calls.append(1))
        end.set()
        assert await waits
        await side_by_side.result(_Client(), lambda searcher: None)
        assert calls == []

    asyncio.run(scenario())


def test_what_takes_long_keeps_no_search_waiting(side_by_side: SideBySide) -> None:
    async def scenario() -> None:
        end = threading.Event()
        looks = asyncio.create_task(side_by_side.result(_Client(), lambda searcher: end.wait(60), long=True))
        await asyncio.sleep(0)
        hits = await side_by_side.result(_Client(), lambda searcher: searcher.search("a cat", k=1))
        assert (len(hits), looks.done()) == (1, False)
        end.set()
        assert await looks

    asyncio.run(scenario())


# The same hits


def test_threads_find_what_one_searcher_does_to_the_last_bit(searcher: Searcher) -> None:
    ask: list[Callable[[Searcher], object]] = [
        *(partial(lambda query, one: one.search(query, k=20), query) for query in QUERIES),
        *(partial(lambda query, one: one.search(query, k=5, without=["speech"]), query) for query in QUERIES[:3]),
        lambda one: one.search("a cat", weights={"ocr": 2.0}),
        lambda one: one.within("a cat", one.library.videos()[0].id).hits,
    ]
    expected = [function(searcher) for function in ask]
    shared = SharedIndexes(searcher)
    try:
        with ThreadPoolExecutor(4, initializer=lambda: setattr(local, "view", shared.view())) as threads:
            answers = list(threads.map(lambda number: ask[number % len(ask)](local.view), range(4 * len(ask))))
    finally:
        shared.close()
    for number, answer in enumerate(answers):
        assert answer == expected[number % len(ask)], number


local = threading.local()


def test_texts_that_are_encoded_together_are_bit_for_bit_what_they_are_alone() -> None:
    encoder = sentence_encoder()
    texts = [*background_queries()[:40], "a", "x " * 400, "", "  "]
    alone = {text: encoder._encode([text])[0] for text in texts if text.strip()}
    encoder._cache = {}
    encoder.encode_apart(texts)
    assert encoder._cache.keys() == alone.keys()
    assert all(np.array_equal(encoder._cache[text], vector) for text, vector in alone.items())


# Indexes that change


@pytest.fixture
def slow_build(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Building an index begins with setting the first event, and waits for the second."""
    begun, end = threading.Event(), threading.Event()
    update = current.update_index

    def wait_and_update(*arguments: object, **options: object) -> object:
        begun.set()
        assert end.wait(300)
        return update(*arguments, **options)

    monkeypatch.setattr(current, "update_index", wait_and_update)
    monkeypatch.setattr(current, "_QUIET_SECONDS", 0.0)
    yield begun, end
    end.set()


def _wait_for(happens: Callable[[], bool]) -> None:
    for _ in range(6000):
        if happens():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not happen")


def test_no_search_waits_for_an_index_that_is_brought_up_to_date(
    searcher: Searcher, slow_build: tuple[threading.Event, threading.Event]
) -> None:
    begun, end = slow_build
    shared = SharedIndexes(searcher)
    try:
        one, two = shared.view(), shared.view()
        clips = one.index.live
        first, *_ = searcher.library.videos()
        with Library.open(searcher.library.path) as writer, writer.saving():  # the same film under another id
            writer.catalog.videos.add("again")
            writer.catalog.connection.execute(
                "UPDATE videos SET content = ?, duration = ? WHERE id = 'again'", (first.content, first.duration)
            )
        for view in (one, two, one):  # the first looks, a later one starts the building
            assert view.search("a cat", k=50)
            assert view.index.live == clips
        assert begun.wait(60)
        hits = two.search("a cat", k=50)
        assert (hits != [], two.index.live) == (True, clips)
        end.set()
        _wait_for(lambda: bool(one.search("a cat")) and one.index.live > clips)
        assert "again" in {hit.video for hit in two.search("a cat", k=50)}
        assert one.index is two.index
    finally:
        end.set()
        shared.close()


def test_nothing_is_answered_from_an_expert_that_was_erased(
    searcher: Searcher, slow_build: tuple[threading.Event, threading.Event]
) -> None:
    begun, end = slow_build
    shared = SharedIndexes(searcher)
    try:
        view = shared.view()
        assert "object" in view.index.experts
        with Library.open(searcher.library.path) as writer:
            writer.remove_expert("object")
        for _ in range(3):
            with pytest.raises(IndexPending):
                view.search("a cat")
        assert begun.wait(60)
        end.set()
        shared.searcher.current._building[1].result(300)
        assert view.search("a cat", k=50) is not None
        assert "object" not in view.index.experts
    finally:
        end.set()
        shared.close()


def test_an_index_that_cannot_be_built_is_said_and_the_old_one_answers(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise LibraryError("the disk is full")

    monkeypatch.setattr(current, "update_index", fail)
    monkeypatch.setattr(current, "_QUIET_SECONDS", 0.0)
    shared = SharedIndexes(searcher)
    try:
        view = shared.view()
        with Library.open(searcher.library.path) as writer, writer.saving():
            writer.catalog.videos.add("again")
            first, *_ = searcher.library.videos()
            writer.catalog.connection.execute(
                "UPDATE videos SET content = ?, duration = ? WHERE id = 'again'", (first.content, first.duration)
            )
        _wait_for(lambda: bool(view.search("a cat")) and "the disk is full" in caplog.text)
        count = caplog.text.count("the disk is full")
        assert [bool(view.search("a cat")) for _ in range(5)] == [True] * 5
        assert caplog.text.count("the disk is full") == count  # not tried again before the library changes
    finally:
        shared.close()


def test_a_search_that_takes_an_index_of_its_own_keeps_no_other_waiting(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, end = threading.Event(), threading.Event()
    opened = searcher.open_selection

    def open_slowly(*arguments: object) -> object:
        begun.set()
        assert end.wait(300)
        return opened(*arguments)

    monkeypatch.setattr(searcher, "open_selection", open_slowly)
    turns = SideBySide(searcher, 8, threads=1)
    experts = tuple(searcher.index.experts[:1])

    async def scenario() -> None:
        apart = asyncio.create_task(turns.result(_Client(), lambda one: one._selected(experts).index.experts))
        await asyncio.to_thread(begun.wait, 60)
        assert await turns.result(_Client(), lambda one: len(one.search("a cat", k=1))) == 1
        assert not apart.done()
        end.set()
        assert tuple(await apart) == experts

    try:
        asyncio.run(scenario())
    finally:
        end.set()
        turns.close()
