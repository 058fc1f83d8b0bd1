"""`reelseek serve`."""

import contextlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.cluster import OnRay, Ray, on_cluster
from reelseek.cli.device import Device, Exact, named_device
from reelseek.cli.show import say
from reelseek.cli.spaces import follow_library, say_joint_model
from reelseek.cli.state import (
    AccountsOption,
    Prefix,
    Roots,
    State,
    StateOptions,
    TLSCertificate,
    TLSKey,
    TrustProxy,
    UserHeader,
    tls_files,
)
from reelseek.errors import UsageError
from reelseek.web import DEFAULT_COPIES_GB

if TYPE_CHECKING:
    import torch
    from fastapi import FastAPI

    from reelseek.cluster import Cluster
    from reelseek.library import Library
    from reelseek.search.replicas import Replicas
    from reelseek.web.service import ServedLibrary

__all__ = ["COPIES_GB", "check_copies_gb", "register"]

COPIES_GB = typer.Option(
    help="Disk space in GB for copies of videos that browsers cannot play as they are; the ones that were not played "
    "for longest make room. 0: no copies."
)


Libraries = Annotated[list[Path], typer.Argument(help="Folders of libraries; each is served by its folder's name.")]
Host = Annotated[
    str, typer.Option(help="Address to listen on; any but this machine's own needs --accounts or --token.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port.")]
Token = Annotated[str | None, typer.Option(envvar="REELSEEK_TOKEN", help="Secret that every request must carry.")]
ReplicaCount = Annotated[
    int,
    typer.Option(
        min=1,
        max=64,
        help="With --ray: how many replicas each group of the index's segments has, on nodes that all see the "
        "library's folder. A question goes to one of each group; one that dies is replaced.",
    ),
]


def serve(
    library: Libraries,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    token: Token = None,
    model: Annotated[str, typer.Option(help="A model's folder, or concepts.")] = "concepts",
    copies_gb: Annotated[float, COPIES_GB] = DEFAULT_COPIES_GB,
    state: State = None,
    accounts: AccountsOption = False,
    roots: Roots = None,
    prefix: Prefix = "",
    trust_proxy: TrustProxy = None,
    proxy_user_header: UserHeader = None,
    tls_cert: TLSCertificate = None,
    tls_key: TLSKey = None,
    device: Device = None,
    exact: Exact = False,
    ray: Ray = None,
    replicas: ReplicaCount = 1,
) -> None:
    """A page to search libraries and play their moments, and an interface for programs; see docs/serve.md.

    With --ray the segments of the index are searched by replicas on a cluster; hits are those of one machine.
    """
    from reelseek.library import Library
    from reelseek.web.server import serve_app

    check_copies_gb(copies_gb)
    if ray is None and replicas != 1:
        raise UsageError("--replicas has no effect without --ray; add --ray, or leave out --replicas")
    if ray is not None and exact:
        raise UsageError("--exact scores every clip on this machine; leave out --ray or --exact")
    if ray is not None and len(library) > 1:
        raise UsageError("--ray serves one library; start a server for each of the others")
    options = StateOptions.of(state, accounts, roots, prefix, trust_proxy, proxy_user_header, token)
    tls = tls_files(tls_cert, tls_key)
    if accounts and host not in ("127.0.0.1", "localhost", "::1") and tls is None and not options.proxies:
        say("warning: passwords and tokens travel unencrypted; take --tls-cert and --tls-key, or a proxy with TLS")
    names = _names(library)
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(Library.open(folder)) for folder in library]
        cluster = stack.enter_context(on_cluster(ray))
        remote = stack.enter_context(_replicas(cluster, opened[0], replicas))
        follow_library(opened[0])
        serving = _Serving(model, named_device(device), exact, copies_gb, remote, replicas)
        serve_app(
            lambda: serving.app(list(zip(opened, names, strict=True)), options, token, host),
            host=host, port=port, token=token, accounts=accounts, tls=tls, path=f"{options.prefix}/",
        )  # fmt: skip


def _names(folders: list[Path]) -> list[str]:
    """The names by which libraries are served: those of their folders.

    Raises:
        UsageError: two have the same.
    """
    names = [folder.absolute().name for folder in folders]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two libraries are called {twice[0]!r}; rename the folder of one")
    return names


@dataclass(frozen=True)
class _Serving:
    """How libraries are opened for searching."""

    model: str
    device: "torch.device"
    exact: bool
    copies_gb: float
    remote: "Replicas | None"
    replicas: int

    def app(
        self, libraries: "list[tuple[Library, str]]", options: StateOptions, token: str | None, host: str
    ) -> "FastAPI":
        """The application, with models loaded and the state folder open."""
        from reelseek.web.app import create_app
        from reelseek.web.service import Service

        service = Service([self.served(library, name) for library, name in libraries])
        services = options.open(libraries[0][0].path)
        return create_app(service, token=token, host=host, services=services, opener=self.open)

    def open(self, folder: Path, name: str) -> "ServedLibrary":
        """A library that was begun while the server ran."""
        from reelseek.library import Library

        library = Library.open(folder)
        try:
            return replace(self, remote=None).served(library, name)  # replicas hold the segments of one library
        except BaseException:
            library.close()
            raise

    def served(self, library: "Library", name: str) -> "ServedLibrary":
        """One library, ready to be searched."""
        from reelseek.search import Searcher
        from reelseek.search.nearest import run_here
        from reelseek.web.service import serve_library

        searcher = Searcher(library, self.model, device=self.device, exact=self.exact, run=self.remote or run_here)
        say_joint_model(searcher.model)
        if self.remote is not None:
            self.remote.start(searcher.index)
            segments, groups = len(searcher.index.segments), self.remote.groups
            say(f"segments of the index: {segments}, in groups: {groups}, replicas of each: {self.replicas}")
        say("loading what the first search needs ...")
        searcher.search("a first search", k=1)
        threads = 1 if self.remote is not None else None  # replicas are asked one question at a time
        model = Path(self.model).absolute().name
        return serve_library(searcher, name, model=model, copies_gb=self.copies_gb, threads=threads)


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
