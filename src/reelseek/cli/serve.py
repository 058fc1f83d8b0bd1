"""`reelseek serve`."""

from pathlib import Path
from typing import Annotated

import typer

from reelseek.cli.device import Device, named_device

__all__ = ["register"]


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
    device: Device = None,
) -> None:
    """A page to search the library and play its moments."""
    from reelseek.library import Library
    from reelseek.search import Searcher
    from reelseek.web.app import create_app
    from reelseek.web.shell import serve_app

    with Library.open(library) as opened:
        place = named_device(device)
        serve_app(
            lambda: create_app(Searcher(opened, model, device=place), token=token, host=host),
            host=host, port=port, token=token,
        )  # fmt: skip


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek serve my.library --port 8080")(serve)
