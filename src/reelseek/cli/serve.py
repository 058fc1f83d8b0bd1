"""`reelseek serve`."""

import ipaddress
from pathlib import Path
from typing import Annotated

import typer

from reelseek.cli.show import say
from reelseek.errors import UsageError

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
) -> None:
    """A page to search the library and play its moments."""
    import uvicorn

    from reelseek.library import Library
    from reelseek.search import Searcher
    from reelseek.web.app import create_app

    if not _loopback(host) and not token:
        raise UsageError(
            f"{host} can be reached from other machines; choose a secret with --token, or leave --host out"
        )
    if token is not None and len(token) < 8:
        raise UsageError("--token needs at least 8 characters")
    with Library.open(library) as opened:
        app = create_app(Searcher(opened, model), token=token, host=host)
        say(f"http://{host}:{port}/{f'?token={token}' if token else ''}  (Ctrl-C ends it)")
        uvicorn.run(app, host=host, port=port, log_level="warning", server_header=False)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek serve my.library --port 8080")(serve)
