"""A cluster of three nodes on this machine; starting it takes seconds, so all tests share it."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from reelseek.cluster import Cluster, connect

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's own spelling; else all other work comes first
NODE = {"object_store_memory": 80 * 2**20, "include_dashboard": False}


def add_second(machines: Any) -> Any:
    """Add the node whose tasks see SECOND=yes."""
    return machines.add_node(num_cpus=1, env_vars={"SECOND": "yes"}, **NODE)


@pytest.fixture(scope="package")
def machines() -> Iterator[Any]:
    """A head that lends no processor, and two nodes that lend one; the second one's tasks see SECOND=yes."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster as Machines

    machines = Machines(initialize_head=True, head_node_args={"num_cpus": 0, **NODE})
    machines.add_node(num_cpus=1, **NODE)
    machines.second = add_second(machines)
    ray.init(address=machines.address, log_to_driver=False, logging_level="ERROR")
    yield machines
    ray.shutdown()
    machines.shutdown()


@pytest.fixture(scope="package")
def cluster(machines: Any) -> Iterator[Cluster]:
    """One connection for all tests: to ask the nodes what they run takes seconds."""
    with connect() as cluster:
        yield cluster
