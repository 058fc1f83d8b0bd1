"""Reaching a cluster within bounded time, or starting one on this machine."""

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from reelseek.cluster.cluster import Cluster
from reelseek.cluster.nodes import list_nodes, software_agreement
from reelseek.errors import ClusterError, UsageError

__all__ = ["connect"]

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 60.0  # a busy machine takes 20 to import Ray
_HOST_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[\w.-]+):(?P<port>\d{1,5})")


@contextmanager
def connect(address: str = "auto") -> Iterator[Cluster]:
    """Connect to a cluster of Ray and check its nodes.

    Args:
        address: `HOST:PORT` of a cluster whose node this machine is; `local` starts one on this machine and ends it
            after; `auto` takes RAY_ADDRESS, else the cluster of `ray start` on this machine, else `local`.

    Raises:
        UsageError: Ray is not installed, or the address is none.
        ClusterError: nobody answers there, or a node runs other versions.

    Example:
        with connect("10.0.0.5:6379") as cluster:
            library.add(["films"], cluster=cluster)
    """
    ray = _import_ray()
    if ray.is_initialized():  # by the script that calls this; it ends what it began
        yield _checked("this process's own cluster")
        return
    place = _resolve(address)
    _start(ray, place)
    try:
        yield _checked(place or "local")
    finally:
        ray.shutdown()


def _import_ray() -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before the import: nothing is reported to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the coming default, of which Ray warns
    try:
        import ray
    except ImportError as error:
        raise UsageError("--ray needs Ray; install it with: pip install 'reelseek[ray]'") from error
    return ray


def _checked(address: str) -> Cluster:
    nodes = list_nodes()
    if not nodes:
        raise ClusterError(f"{address}: no node of the cluster lends a processor; see: ray status")
    agreement = software_agreement()
    agreement.check(nodes)
    return Cluster(address, agreement)


def _resolve(address: str) -> str | None:
    """`HOST:PORT` of a cluster that answers, or None to start one here."""
    if address == "local":
        return None
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "").strip()
        if address in ("", "auto", "local"):
            running = _running_here() if address != "local" else None
            return running if running and _problem(running) is None else None
    match = _HOST_PORT.fullmatch(address)
    if match is None or int(match["port"]) > 65535:
        client = "; a command runs on a machine of the cluster, not through ray://" if "://" in address else ""
        raise UsageError(f"--ray {address}: wanted HOST:PORT of a cluster, local or auto{client}")
    problem = _problem(address)
    if problem is not None:
        raise ClusterError(
            f"the cluster at {address} cannot be reached: {problem}; see: ray status --address {address}"
        )
    return address


def _running_here() -> str | None:
    """The cluster that `ray start` began on this machine, as Ray itself looks it up."""
    file = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "ray_current_cluster"
    try:
        return file.read_text("utf-8").strip() or None
    except OSError:
        return None


def _problem(address: str) -> str | None:
    """Why nobody answers; None if a cluster does. `ray.init` itself would wait for hours."""
    match = _HOST_PORT.fullmatch(address)
    if match is None:
        return "it is no HOST:PORT"
    try:
        with socket.create_connection((match["host"].strip("[]"), int(match["port"])), _CONNECT_SECONDS):
            pass
    except OSError as error:
        return f"no connection within {_CONNECT_SECONDS:.0f} s ({error.strerror or error})"
    command = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "health-check",
        "--address",
        address,
        "--skip-version-check",
    ]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"what listens there is no cluster of Ray, or did not answer within {_ANSWER_SECONDS:.0f} s"
    return None if done.returncode == 0 else "what listens there did not answer as a cluster of Ray does"


def _start(ray: Any, address: str | None) -> None:
    """Connect this process, or start a cluster for it."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    options |= {"address": "local", "include_dashboard": False} if address is None else {"address": address}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises nearly everything here, ConnectionError and RuntimeError among them
        reason = " ".join(str(error).split())
        raise ClusterError(f"the cluster at {address or 'this machine'} refused the driver: {reason}") from error
    finally:
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGTERM, handler)  # Ray sets one that other parts of the program do not expect
