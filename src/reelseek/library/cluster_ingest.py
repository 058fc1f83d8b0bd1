"""How an ingest runs on a cluster: what its workers ask for, what nodes have to agree on, and which files they read."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from reelseek.cluster import Cluster, Resources
from reelseek.experts import load_expert
from reelseek.experts.extract import WorkerPlan
from reelseek.experts.hub import model_bytes
from reelseek.library.tasks import Task
from reelseek.media.address import Address

__all__ = ["StartPool", "workers_on"]

StartPool = Callable[..., Any]
"""Opens a pool of workers, with the arguments of `media.guard.Workers`."""


def workers_on(
    cluster: Cluster, specs: Sequence[str], device: str, plan: WorkerPlan | None
) -> tuple[WorkerPlan, StartPool]:
    """Plan the workers of a cluster, after a check that experts are the same on every node.

    Args:
        device: `cpu` or `cuda`.
        plan: how many workers, and on how many threads each computes; None takes as many as the nodes lend.

    Raises:
        ClusterError: a node lacks an expert, or has another version or model of it.
    """
    cluster.require(partial(_fingerprints, specs))
    needed = sum(model_bytes(model) for model in {spec.partition("@")[2] for spec in specs} if model)
    threads = plan.threads if plan else 1
    resources = Resources(cpus=threads, gpu=device == "cuda", memory_bytes=needed)
    start = partial(cluster.workers, resources=resources, files=_files_of)
    return plan or WorkerPlan(cluster.slots(resources), threads), start


def _fingerprints(specs: Sequence[str]) -> dict[str, str]:
    """What a node makes of the experts' names."""
    fingerprints = {}
    for spec in specs:
        try:
            fingerprints[f"expert {spec}"] = load_expert(spec).fingerprint
        except Exception as error:  # foreign code, or no model; the driver has it
            fingerprints[f"expert {spec}"] = f"not ({error})"
    return fingerprints


def _files_of(item: Any) -> list[Path]:
    """The video, and the subtitle files that lie beside it or a copy of it; of a member of a shard, the shard.

    Objects of a store are the same from every node.
    """
    path, copies = (item.path, item.copies) if isinstance(item, Task) else (item[0], ())
    local = path.shard if isinstance(path, Address) else path
    names = sorted(name for name, _, _ in item.sidecars) if isinstance(item, Task) else []
    beside = [copy.parent / name for copy in copies if isinstance(copy, Path) for name in names]
    return [*([local] if isinstance(local, Path) else []), *beside]
