"""Search by replicas gives the hits of one machine, also while replicas die and the index grows."""

import logging
import os
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from reelseek.cluster import Cluster, connect
from reelseek.errors import ClusterError
from reelseek.experts.expert import Track
from reelseek.library import Library
from reelseek.models.model import RetrievalModel
from reelseek.search import Searcher, update_index
from reelseek.search import build as build_module
from reelseek.search import merge as merge_module
from reelseek.search import neighbours as neighbours_module
from reelseek.search import replicas as replicas_module
from reelseek.search import scoring as scoring_module
from reelseek.search.replicas import Replicas, SegmentReader
from tests.cluster.conftest import add_second
from tests.models.worlds import small
from tests.search.talks import add_talk

QUERIES = ("two dogs on the beach", '"old kitchen"', "a train leaves -soup", "red soup", "cook")
SYSTEMS = ("late_fusion", "mee", "xpool+heads")
PATIENCE = 100.0


@pytest.fixture(autouse=True)
def few_background_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (build_module, scoring_module):
        monkeypatch.setattr(module, "background_queries", lambda: ["a man walks", "music plays", "a car drives by"])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that becomes three segments under each system, the first two searched by inverted lists."""
    return tmp_path_factory.mktemp("replicas") / "library"


@pytest.fixture(scope="module")
def models() -> dict[str, RetrievalModel]:
    return {name: small(name) for name in SYSTEMS}


def _add(library: Library, first: int, count: int) -> None:
    """Videos with speech and its lines, every third one with something written, too."""
    rng = np.random.default_rng(first)
    with library.saving():
        for number in range(first, first + count):
            add_talk(library, f"v{number:03d}", rng, steps=8)
            if number % 3 == 0:
                written = Track(rng.normal(size=(1, 384)).astype(np.float32), np.array([[0.0, 8.0]]))
                library.put_track(f"id:v{number:03d}", "ocr", "ocr:test", "ocr", written)


@pytest.fixture(scope="module")
def library(path: Path, models: dict[str, RetrievalModel]) -> Iterator[Library]:
    with pytest.MonkeyPatch.context() as patch, Library.open(path, create=True) as library:
        for module, name, value in (
            (merge_module, "_SMALL", 4), (neighbours_module, "EXACT_UP_TO", 20), (merge_module, "EXACT_UP_TO", 20),
            (build_module, "background_queries", lambda: ["a man walks", "music plays", "a car drives by"]),
            (scoring_module, "background_queries", lambda: ["a man walks", "music plays", "a car drives by"]),
        ):  # fmt: skip
            patch.setattr(module, name, value)
        for first, count in ((0, 50), (50, 40), (90, 10)):
            _add(library, first, count)
            indexes = [update_index(library, model) for model in models.values()]
        with library.saving():
            library.db.execute("DELETE FROM videos WHERE id = 'v007'")
            library.catalog.remove_owner("id:v007")
        indexes = [update_index(library, model) for model in models.values()]
        for index in indexes:
            assert len(index.segments) == 3
            assert index.segments[0].record.deleted
        assert sum(bool(segment.record.lists) for segment in index.segments) == 2
        yield library


@pytest.fixture(scope="module")
def started(machines: Any, library: Library, models: dict[str, RetrievalModel]) -> Iterator[Replicas]:
    """Two groups of two replicas."""
    pytest.importorskip("ray.serve", reason="Ray Serve of the extra `ray` is not installed")
    with connect() as cluster, Replicas(cluster, library.path, replicas=2) as replicas:
        replicas.start(Searcher(library, models["late_fusion"], update=False).index)
        assert replicas.groups == 2
        yield replicas


@pytest.fixture
def replicas(started: Replicas) -> Replicas:
    """The two groups, once both answer: those that another test has killed are replaced meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while not all(group._up.is_set() for group in started._groups):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return started


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where this process reads a segment for a search itself."""
    monkeypatch.setattr(replicas_module, "run_here", lambda _: pytest.fail("replicas have to read the segments"))


def _searchers(library: Library, model: RetrievalModel, replicas: Replicas) -> tuple[Searcher, Searcher]:
    return Searcher(library, model, update=False), Searcher(library, model, update=False, run=replicas)


@pytest.mark.long
@pytest.mark.parametrize("system", SYSTEMS)
def test_hits_are_those_of_one_machine(
    replicas: Replicas, library: Library, models: dict[str, RetrievalModel], system: str, nothing_here: None
) -> None:
    here, remote = _searchers(library, models[system], replicas)
    for query in QUERIES:
        for k in (1, 10, 300):
            hits = remote.search(query, k=k)
            assert hits == here.search(query, k=k)
            assert hits
    assert remote.search("red soup", group_by="video") == here.search("red soup", group_by="video")
    if models[system].slots_apart:
        weights = {"speech": 0.25}
        assert remote.search("cook", weights=weights) == here.search("cook", weights=weights)


def test_segments_of_a_search_are_read_by_both_groups(
    replicas: Replicas, library: Library, models: dict[str, RetrievalModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[int, int]] = []
    send = replicas_module._Group.send

    def note(group: Any, message: Any) -> Any:
        sent.append((group.number, len(message.segments)))
        return send(group, message)

    monkeypatch.setattr(replicas_module._Group, "send", note)
    _, remote = _searchers(library, models["late_fusion"], replicas)
    remote.search("red soup")
    assert {group for group, _ in sent} == {0, 1}
    assert sum(segments for _, segments in sent[:2]) == 3


def _actors(replicas: Replicas) -> dict[str, Any]:
    """The replicas that Serve has, by name."""
    import ray
    from ray.util import list_named_actors

    names = [actor["name"] for actor in list_named_actors(all_namespaces=True) if replicas._name in actor["name"]]
    return {name: ray.get_actor(name, namespace="serve") for name in names}


def _until_replaced(replicas: Replicas, old: set[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while (
        len(actors := _actors(replicas)) < 4 or set(actors) & old or not all(g._up.is_set() for g in replicas._groups)
    ):
        assert time.monotonic() < deadline, f"no replica came for {old}"
        time.sleep(0.2)


@pytest.mark.long
@pytest.mark.parametrize("victims", [1, 4])
def test_a_replica_that_dies_fails_no_query_and_is_replaced(
    replicas: Replicas,
    library: Library,
    models: dict[str, RetrievalModel],
    victims: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of a group, whose questions the other one answers; and all at once, for which this process steps in."""
    import ray

    here, remote = _searchers(library, models["late_fusion"], replicas)
    expected = [here.search(query) for query in QUERIES]
    old = dict(list(_actors(replicas).items())[:victims])
    if victims == 4:
        for name in ("_ANSWER_SECONDS", "_RETRY_SECONDS"):
            monkeypatch.setattr(replicas_module, name, 0.3)  # no replica starts so soon
    killed, rounds = Event(), 0  # after the death of the last one
    killer = Thread(target=lambda: (time.sleep(0.3), [ray.kill(actor) for actor in old.values()], killed.set()))
    killer.start()
    with caplog.at_level(logging.WARNING, "reelseek"):
        while rounds < 10:
            assert [remote.search(query) for query in QUERIES] == expected
            rounds += killed.is_set()
    killer.join()
    if victims == 4:
        assert "no replica of group" in caplog.text
    else:
        assert "answers (" not in caplog.text
    _until_replaced(replicas, set(old))
    monkeypatch.setattr(replicas_module, "run_here", lambda _: pytest.fail("replicas have to read the segments"))
    assert [remote.search(query) for query in QUERIES] == expected


@pytest.mark.long
def test_a_node_that_dies_fails_no_query_and_its_replicas_come_back(
    machines: Any, replicas: Replicas, library: Library, models: dict[str, RetrievalModel]
) -> None:
    """A whole machine goes, with every replica on it, in the middle of questions."""
    here, remote = _searchers(library, models["late_fusion"], replicas)
    expected = [here.search(query) for query in QUERIES]
    old = set(_actors(replicas))
    killed, rounds = Event(), 0

    def kill() -> None:
        machines.remove_node(machines.second, allow_graceful=False)
        killed.set()

    killer = Thread(target=kill)
    killer.start()
    try:
        while rounds < 3:
            assert [remote.search(query) for query in QUERIES] == expected
            rounds += killed.is_set()
    finally:
        killer.join()
        machines.second = add_second(machines)
    deadline = time.monotonic() + PATIENCE
    while len(actors := _actors(replicas)) < 4 or set(actors) == old:
        assert time.monotonic() < deadline, f"no replica came for those of the node that is gone: {set(actors)}"
        time.sleep(0.2)
    assert [remote.search(query) for query in QUERIES] == expected


def test_an_index_that_grows_meanwhile_is_followed(
    replicas: Replicas, library: Library, models: dict[str, RetrievalModel], nothing_here: None
) -> None:
    model = models["mee"]
    here, remote = _searchers(library, model, replicas)
    before = remote.index
    remote.search("red soup")
    _add(library, 300, 5)
    update_index(library, model)
    hits = remote.search("red soup", k=300)
    assert hits == here.search("red soup", k=300)
    assert {"v300", "v304"} <= {hit.video for hit in hits}
    assert {segment.record.name for segment in remote.index.segments} - {
        segment.record.name for segment in before.segments
    }


def test_what_a_replica_cannot_read_is_read_here_and_said(
    replicas: Replicas, library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    """Files that another process deleted when it replaced the index; this one has them open."""
    model = small("ce")
    update_index(library, model)
    here, remote = _searchers(library, model, replicas)
    for file in remote.index.folder.glob("*-*"):
        file.unlink()
    assert remote.search("red soup") == here.search("red soup")
    assert re.search(r"a replica of group \d cannot read what it is asked for \(node ", caplog.text)
    assert all(group._up.is_set() for group in replicas._groups)


@pytest.mark.long
def test_a_node_that_does_not_see_the_library_is_named(
    cluster: Cluster, library: Library, models: dict[str, RetrievalModel], tmp_path: Path, monkeypatch: Any
) -> None:
    with pytest.raises(ClusterError, match=r"node \S+ \(\w{8}\) does not see .*missing"):
        SegmentReader(tmp_path / "missing")
    index = Searcher(library, models["mee"], update=False).index
    monkeypatch.setattr(replicas_module, "_files_reader", lambda folder, sizes: partial(_second_is_blind, len(sizes)))
    with (
        pytest.raises(ClusterError, match=r"node \S+ \(\w{8}\) has the index \(0 of \d+ files\) where"),
        Replicas(cluster, library.path) as blind,
    ):
        blind.start(index)


def _second_is_blind(files: int) -> dict[str, str]:
    return {"the index": f"({0 if 'SECOND' in os.environ else files} of {files} files)"}
