"""`reelseek serve`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.device import Device, Exact, named_device
from reelseek.cli.show import say
from reelseek.cli.spaces import follow_library, say_joint_model
from reelseek.errors import UsageError
from reelseek.web import DEFAULT_COPIES_GB

if TYPE_CHECKING:
    from fastapi import FastAPI

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
) -> None:
    """A page to search the library and play its moments."""
    from reelseek.library import Library
    from reelseek.search import Searcher
    from reelseek.web.app import create_app
    from reelseek.web.server import serve_app

    check_copies_gb(copies_gb)
    with Library.open(library) as opened:
        follow_library(opened)
        computing_device = named_device(device)

        def create() -> "FastAPI":
            searcher = Searcher(opened, model, device=computing_device, exact=exact)
            say_joint_model(searcher.model)
            say("loading what the first search needs ...")
            searcher.search("a first search", k=1)
            return create_app(searcher, token=token, host=host, copies_gb=copies_gb)

        serve_app(create, host=host, port=port, token=token)


def check_copies_gb(copies_gb: float) -> None:
    """Refuse a number that is no size of copies.

    Raises:
        UsageError: it is below 0 or above a million.
    """
    if not 0 <= copies_gb <= 1e6:
        raise UsageError(f"--copies-gb is {copies_gb}; it takes a number from 0 (no copies) to a million")


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek serve my.library --port 8080")(serve)
