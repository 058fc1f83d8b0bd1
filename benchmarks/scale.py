"""How extraction scales over the nodes of a cluster, and where the one writer saturates.

Stand-ins for experts that sleep run on 1, 2 and 4 nodes on this machine, so that its few cores do not matter. The same
runs are simulated: workers, their results in the object store, and one writer. The simulation then answers for more
nodes than there are here.

    python benchmarks/scale.py scale.json
"""

import argparse
import heapq
import json
import os
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's own spelling; else all other work comes first

import numpy as np
import ray
from ray.cluster_utils import Cluster as Machines

from reelseek.cluster import Cluster, connect
from reelseek.experts.expert import Track
from reelseek.library import Library
from reelseek.media.guard import Workers

NODE = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
ITEMS, SECONDS = 120, 0.5
AHEAD = 2  # items of an actor
WRITTEN = 200  # videos of which the writer's time is taken


def seconds_of(cluster: Cluster, items: int) -> float:
    """Wall time of stand-ins that sleep, on a cluster whose workers are up."""
    with cluster.workers(time.sleep, memory_bytes=2**30) as pool:
        list(pool.map([0.01] * 8 * len(cluster.nodes())))
        began = time.perf_counter()
        outcomes = [outcome for _, outcome in pool.map([SECONDS] * items)]
        assert outcomes == [None] * items, outcomes
        return time.perf_counter() - began


def overhead(cluster: Cluster) -> tuple[float, float]:
    """Seconds that an item takes which does nothing, in a local pool of one process and on one node."""
    times = []
    for start in (Workers, cluster.workers):
        pool: Any = start(abs, workers=1, memory_bytes=2**30)
        with pool:
            list(pool.map(range(50), lambda _: 600.0))
            batches = []
            for _ in range(10):
                began = time.perf_counter()
                assert sum(outcome for _, outcome in pool.map(range(100), lambda _: 600.0)) == 4950
                batches.append((time.perf_counter() - began) / 100)
            times.append(min(batches))  # the one that the rest of the machine disturbed least
    return times[0], times[1]


def writer_seconds(tracks: int, steps: int, dim: int) -> float:
    """Seconds that the writer takes for the tracks of one video, each in a transaction that is on disk."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name, Library.open(Path(name) / "lib", create=True) as library:
        spans = np.stack([np.arange(steps), np.arange(steps) + 1], 1).astype(np.float64)
        track = Track(rng.normal(size=(steps, dim)).astype(np.float16), spans)
        with library.writing():
            began = time.perf_counter()
            for number in range(WRITTEN):
                with library.saving():
                    for expert in range(tracks):
                        library.put_track(f"c{number}", f"e{expert}", f"e{expert}:0", "appearance", track)
            return (time.perf_counter() - began) / WRITTEN


def simulate(workers: int, items: int, seconds: float, writer: float) -> tuple[float, int]:
    """Simulate workers that hold at most `AHEAD` results or items, and one writer.

    Args:
        seconds: that a worker takes for an item.
        writer: seconds that the driver takes for a result.

    Returns:
        Wall seconds, and the most results that waited in the object store at a time.
    """
    free = [(0.0, worker) for worker in range(workers)]  # when a worker can begin its next item
    held: list[list[float]] = [[] for _ in range(workers)]  # when the writer takes each of a worker's results
    stored: deque[float] = deque()  # when it takes those that are in the object store
    finished: list[tuple[float, int]] = []
    heapq.heapify(free)
    begun, busy, most = 0, 0.0, 0
    while begun < items or finished:
        if free and begun < items and (not finished or free[0][0] <= finished[0][0]):
            at, worker = heapq.heappop(free)
            heapq.heappush(finished, (at + seconds, worker))
            begun += 1
            continue
        clock, worker = heapq.heappop(finished)
        start = max(busy, clock)
        busy = start + writer
        held[worker] = [taken for taken in held[worker] if taken > clock] + [busy]
        stored.append(busy)
        while stored[0] <= clock:
            stored.popleft()
        most = max(most, len(stored))
        again = clock if len(held[worker]) < AHEAD else held[worker][-AHEAD]
        heapq.heappush(free, (again, worker))
    return busy, most


def measure() -> dict[str, Any]:
    """Run on 1, 2 and 4 nodes."""
    machines = Machines(initialize_head=True, head_node_args={"num_cpus": 0, **NODE})
    machines.add_node(num_cpus=1, **NODE)
    ray.init(address=machines.address, log_to_driver=False, logging_level="ERROR")
    rows: dict[str, Any] = {"items": ITEMS, "seconds_per_item": SECONDS, "nodes": {}}
    for count in (1, 2, 4):
        while len(machines.worker_nodes) < count:
            machines.add_node(num_cpus=1, **NODE)
        with connect() as cluster:
            rows["nodes"][count] = round(seconds_of(cluster, ITEMS), 2)
            if count == 1:
                rows["overhead_local"], rows["overhead_ray"] = (round(value, 5) for value in overhead(cluster))
        print(json.dumps(rows), flush=True)
    ray.shutdown()
    machines.shutdown()
    return rows


def main() -> None:
    """Measure, simulate the same, and then more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?")
    options = parser.parse_args()
    rows = measure()
    one = rows["nodes"][1]
    rows["speed_up"] = {count: round(one / seconds, 2) for count, seconds in rows["nodes"].items()}
    rows["writer_per_video"] = round(writer_seconds(tracks=8, steps=60, dim=512), 5)
    rows["simulated"] = {
        count: round(simulate(count, ITEMS, SECONDS, rows["overhead_ray"])[0], 2) for count in rows["nodes"]
    }
    rows["saturation"] = []
    cost = rows["overhead_ray"] + rows["writer_per_video"]
    for seconds in (1.0, 10.0, 60.0):
        for workers in (10, 100, 1000, 10_000):
            wall, most = simulate(workers, 20 * workers, seconds, cost)
            share = 20 * seconds / wall
            rows["saturation"].append(
                {"seconds_per_video": seconds, "workers": workers, "use": round(share, 3), "waiting_results": most}
            )
    print(json.dumps(rows, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    sys.exit(rows["speed_up"][2] < 1.9 or rows["speed_up"][4] < 3.6)


if __name__ == "__main__":
    main()
