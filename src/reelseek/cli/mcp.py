"""`reelseek mcp`."""

import asyncio
import contextlib
import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.device import Device, named_device
from reelseek.cli.show import say
from reelseek.cli.spaces import follow_library
from reelseek.cli.state import Roots, State
from reelseek.errors import UsageError

if TYPE_CHECKING:
    from reelseek.web.accounts.audit import AuditLog
    from reelseek.web.jobs.service import Jobs
    from reelseek.web.service import ServedLibrary

__all__ = ["register"]


def mcp(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    http: Annotated[
        bool, typer.Option("--http", help="Over HTTP at /mcp instead of standard input and output.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="With --http: address; any but this machine's own needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --http: port.")] = 8765,
    token: Annotated[
        str | None, typer.Option(envvar="REELSEEK_TOKEN", help="With --http: secret that every request must carry.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="No jobs: nothing can be changed.")] = False,
    model: Annotated[str, typer.Option(help="A model's folder, or concepts.")] = "concepts",
    state: State = None,
    roots: Roots = None,
    device: Device = None,
) -> None:
    """Let assistants search, read, see and extend the library (Model Context Protocol)."""
    if importlib.util.find_spec("mcp") is None:
        raise UsageError("this needs the package mcp; install it with: pip install 'reelseek[mcp]'")
    from reelseek.library import Library
    from reelseek.mcp.server import create_server, http_app
    from reelseek.mcp.tools import LibraryTools
    from reelseek.search import Searcher
    from reelseek.web.server import serve_app
    from reelseek.web.service import serve_library

    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(Library.open(library))
        follow_library(opened)
        jobs, audit = (None, None) if read_only else stack.enter_context(_jobs(library, state, roots))
        if jobs is not None:
            jobs.start({opened.path: opened.path.name})

        def load() -> "ServedLibrary":
            served = serve_library(Searcher(opened, model, device=named_device(device)), copies_gb=0)
            stack.callback(served.close)
            return served

        # Clients wait for a server's first answer for a few seconds only: models are loaded meanwhile.
        loading = stack.enter_context(ThreadPoolExecutor(1)).submit(load)
        server = create_server(LibraryTools(loading.result, jobs, audit), read_only=read_only)
        if http:
            serve_app(lambda: http_app(server, token=token, host=host), host=host, port=port, token=token, path="/mcp")
            return
        asyncio.run(server.run_stdio_async())


@contextlib.contextmanager
def _jobs(library: Path, state: Path | None, roots: list[Path] | None) -> "Iterator[tuple[Jobs, AuditLog]]":
    """Jobs that run here, or that a server runs which has the state folder, and the log of who asked for them."""
    from reelseek.web.accounts.audit import AuditLog
    from reelseek.web.jobs.roots import Roots as AllowedRoots
    from reelseek.web.jobs.service import Jobs
    from reelseek.web.state import StateFolder, default_state
    from reelseek.web.state_services import AUDIT

    folder = StateFolder(state if state is not None else default_state(library))
    runs = folder.claim()
    if not runs:
        say(f"the server that uses {folder.path} runs the jobs")
    jobs = Jobs(folder, AllowedRoots(roots or ()), runs=runs)
    audit = AuditLog(folder.path / AUDIT)
    try:
        yield jobs, audit
    finally:
        audit.close()
        jobs.close()
        folder.close()


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek mcp my.library --read-only")(mcp)
