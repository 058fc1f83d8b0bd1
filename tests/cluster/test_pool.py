"""A pool over nodes: outcomes of all items, whatever dies; and nothing that two nodes would compute differently."""

import errno
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from reelseek.cluster import Cluster, Resources
from reelseek.errors import ClusterError, LimitError, MediaError, UsageError
from reelseek.media.guard import WORKER_DIED

MEMORY = 2**30


def _behave(item: str) -> str:
    """Upper case; some words misbehave."""
    if item == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "hang":
        time.sleep(1000)
    if item == "wrong":
        raise ValueError("it is wrong")
    if item == "full here" and os.environ.get("SECOND"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if item == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return item.upper()


def _seconds(item: str) -> float:
    return 2.0 if item == "hang" else 600.0


@pytest.mark.long
def test_each_item_has_its_outcome_and_a_poisonous_one_costs_no_node(cluster: Cluster) -> None:
    items = ["a", "die", "b", "hang", "c", "wrong", "full here", "full", *(f"more {n}" for n in range(20))]
    with cluster.workers(_behave, memory_bytes=MEMORY) as pool:
        outcomes = dict(pool.map(iter(items), _seconds))
    assert outcomes.keys() == set(items)
    assert isinstance(outcomes["hang"], LimitError)
    assert isinstance(outcomes["wrong"], ValueError)
    assert str(outcomes["die"]).startswith("failed in 3 tries: on node ")
    assert "it ended its process (exit code" in str(outcomes["die"])
    assert not str(outcomes["die"]).startswith(WORKER_DIED)  # it is the file's own doing
    assert str(outcomes["full"]).count("is full") == 2  # once on each node
    assert {outcomes[item] for item in items if item[:4] in ("a", "b", "c", "more", "full")} >= {"A", "B", "FULL HERE"}
    assert [outcomes[f"more {n}"] for n in range(20)] == [f"MORE {n}" for n in range(20)]


class _PathOfTheSecondNode(type(Path())):  # type: ignore[misc]
    """A path that is another file's on every other node."""

    def __reduce__(self) -> tuple[object, ...]:
        return _path_on_this_node, (str(self),)


def _path_on_this_node(path: str) -> Path:
    return Path(path) if os.environ.get("SECOND") else Path(path).with_name("another.mp4")


def _where(path: Path) -> str:
    return os.environ.get("SECOND", "no")


def test_a_file_that_a_node_does_not_see_is_read_on_another_one(cluster: Cluster, tmp_path: Path) -> None:
    """The second node sees the file; the first one another one at this place, as where a folder is no shared one."""
    file = _PathOfTheSecondNode(tmp_path / "film.mp4")
    file.write_bytes(b"film")
    (tmp_path / "another.mp4").write_bytes(b"another film")
    with cluster.workers(_where, memory_bytes=MEMORY, files=lambda path: [path]) as pool:
        assert [outcome for _, outcome in pool.map([file] * 6)] == ["yes"] * 6
    from reelseek.cluster import actor

    assert actor.file_sizes([file, tmp_path / "none"]) == [(file, 4)]
    runner = actor.TaskActor(actor.Job(_where))
    assert runner.run(file, 1.0, [(file, 5)]) == actor.Unreadable(f"{file} has 4 bytes where the driver sees 5")
    missing = tmp_path / "none"
    assert runner.run(file, 1.0, [(missing, 5)]) == actor.Unreadable(
        f"{missing} cannot be read: No such file or directory"
    )


def test_a_file_that_no_node_sees_is_a_failure_with_its_reasons(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "only here.mp4"
    monkeypatch.setattr("reelseek.cluster.pool.file_sizes", lambda paths: [(path, 4) for path in paths])
    with cluster.workers(_where, memory_bytes=MEMORY, files=lambda path: [path]) as pool:
        [(_, outcome)] = pool.map([path])
    assert isinstance(outcome, MediaError)
    assert str(outcome).count(f"{path} cannot be read: No such file or directory") == 2
    for node in cluster.nodes():
        assert f"node {node.name}: " in str(outcome)


def _slow(item: int) -> tuple[int, int]:
    time.sleep(0.2)
    return item, os.getppid()


def test_killed_workers_lose_nothing(cluster: Cluster) -> None:
    """Actors are killed from outside, several times; every item still comes once."""
    killed: set[int] = set()
    numbers = []
    with cluster.workers(_slow, memory_bytes=MEMORY) as pool:
        for _, outcome in pool.map(range(24)):
            assert isinstance(outcome, tuple), outcome
            number, actor = outcome
            numbers.append(number)
            if len(killed) < 3 and actor not in killed and number % 4 == 3:
                killed.add(actor)
                os.kill(actor, signal.SIGKILL)
    assert len(killed) == 3
    assert sorted(numbers) == list(range(24))


@pytest.mark.long
def test_a_worker_that_dies_with_every_try_is_a_failure_that_may_be_tried_again(cluster: Cluster) -> None:
    """The actor itself is ended, not only the guarded process: nothing is said of the file."""
    with cluster.workers(_kill_parent, memory_bytes=MEMORY) as pool:
        outcomes = dict(pool.map(["a", "kill", "b"]))
    assert (outcomes["a"], outcomes["b"]) == ("a", "b")
    assert str(outcomes["kill"]).startswith(f"{WORKER_DIED} in 3 tries: the worker on node ")


def _kill_parent(item: str) -> str:
    if item == "kill":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return item


@pytest.mark.long
def test_a_slow_driver_holds_the_workers_back(cluster: Cluster, tmp_path: Path) -> None:
    count = partial(_touch, tmp_path)
    with cluster.workers(count, memory_bytes=MEMORY) as pool:
        outcomes = pool.map(iter(range(1000)))
        for _ in range(3):
            next(outcomes)
        time.sleep(1.5)
        assert len(list(tmp_path.iterdir())) <= 3 + 2 * 2  # two for each actor


def _touch(folder: Path, item: int) -> None:
    (folder / str(item)).touch()


def test_a_plain_map_raises_the_error_of_an_item(cluster: Cluster) -> None:
    assert sorted(cluster.map(_behave, ["a", "b", "c"])) == [("a", "A"), ("b", "B"), ("c", "C")]
    with pytest.raises(ValueError, match="it is wrong"):
        list(cluster.map(_behave, ["a", "wrong"]))


def test_several_calls_share_their_actors(cluster: Cluster) -> None:
    with cluster.mapping(_process, workers=1) as run:
        processes = {process for _ in range(2) for _, process in run(range(3))}
    assert len(processes) == 1


def _process(_: int) -> int:
    return os.getpid()


def _second_differs() -> dict[str, str]:
    return {"a folder": os.environ.get("SECOND", "no")}


def test_nodes_that_differ_are_named_before_work_begins(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match=r"node \S+ \(\w{8}\) has a folder yes where the driver has no"):
        cluster.require(_second_differs)


def test_what_no_node_lends_is_said(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="no node of the cluster lends an accelerator"):
        cluster.map(_behave, ["a"], resources=Resources(gpu=True)).__next__()
    assert cluster.device(None) == cluster.device("auto") == "cpu"
    with pytest.raises(UsageError, match="'cuda', and the nodes of the cluster lend cpu"):
        cluster.device("cuda")
