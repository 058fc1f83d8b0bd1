"""`reelseek serve`."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.cluster import OnRay, Ray, on_cluster
from reelseek.cli.device import Device, Exact, named_device
from reelseek.cli.show import say
from reelseek.cli.spaces import follow_library, say_joint_model
from reelseek.errors import UsageError
from reelseek.web import DEFAULT_COPIES_GB

if TYPE_CHECKING:
    from fastapi import FastAPI

    from reelseek.cluster import Cluster
    from reelseek.library import Library
    from reelseek.search.replicas import Replicas

__all__ = ["COPIES_GB", "check_copies_gb", "register"]

COPIES_GB = typer.Option(
    help="Disk space in GB for copies of videos that browsers cannot play as they are; the ones that were not played "
    "for longest make room. 0: no copies."
)


def serve(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port.")] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar="REELSEEK_TOKEN", help="Secret that every request must carry.")
    ] = None,
    model: Annotated[str, typer.Option(help="A model's folder, or concepts.")] = "concepts",
    copies_gb: Annotated[float, COPIES_GB] = DEFAULT_COPIES_GB,
    device: Device = None,
    exact: Exact = False,
    ray: Ray = None,
    replicas: Annotated[
        int,
        typer.Option(
            min=1,
            max=64,
            help="With --ray: how many replicas each group of the index's segments has, on nodes that all see the "
            "library's folder. A question goes to one of each group; one that dies is replaced.",
        ),
    ] = 1,
) -> None:
    """A page to search the library and play its moments.

    With --ray the segments of the index are searched by replicas on a cluster; hits are those of one machine.
    """
    from reelseek.library import Library
    from reelseek.search import Searcher
    from reelseek.search.nearest import run_here
    from reelseek.web.app import create_app
    from reelseek.web.server import serve_app
    from reelseek.web.service import Service, serve_library

    check_copies_gb(copies_gb)
    if ray is None and replicas != 1:
        raise UsageError("--replicas has no effect without --ray; add --ray, or leave out --replicas")
    if ray is not None and exact:
        raise UsageError("--exact scores every clip on this machine; leave out --ray or --exact")
    with Library.open(library) as opened, on_cluster(ray) as cluster, _replicas(cluster, opened, replicas) as remote:
        follow_library(opened)
        computing_device = named_device(device)

        def create() -> "FastAPI":
            searcher = Searcher(opened, model, device=computing_device, exact=exact, run=remote or run_here)
            say_joint_model(searcher.model)
            if remote is not None:
                remote.start(searcher.index)
                segments = len(searcher.index.segments)
                say(f"segments of the index: {segments}, in groups: {remote.groups}, replicas of each: {replicas}")
            say("loading what the first search needs ...")
            searcher.search("a first search", k=1)
            service = Service([serve_library(searcher, copies_gb=copies_gb)])
            return create_app(service, token=token, host=host)

        serve_app(create, host=host, port=port, token=token)


def _replicas(
    cluster: "Cluster | None", library: "Library", replicas: int
) -> "AbstractContextManager[Replicas | None]":
    if cluster is None:
        return nullcontext()
    from reelseek.search.replicas import Replicas

    return Replicas(cluster, library.path, replicas=replicas)


def check_copies_gb(copies_gb: float) -> None:
    """Refuse a number that is no size of copies.

    Raises:
        UsageError: it is below 0 or above a million.
    """
    if not 0 <= copies_gb <= 1e6:
        raise UsageError(f"--copies-gb is {copies_gb}; it takes a number from 0 (no copies) to a million")


def register(app: typer.Typer) -> None:
    app.command(cls=OnRay, epilog="Example: reelseek serve my.library --port 8080")(serve)
