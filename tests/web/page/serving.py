"""Applications on a port of this machine, for as long as a test needs them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from reelseek.web.server import TLSFiles


@contextmanager
def served(app: ASGIApp, *, lifespan: str = "on", tls: TLSFiles | None = None) -> Iterator[str]:
    """The address of an application while it is served; `off` leaves its end to others."""
    certificate, key = tls if tls is not None else (None, None)
    config = uvicorn.Config(
        app, port=0, log_level="error", lifespan=lifespan, ssl_certfile=certificate, ssl_keyfile=key
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http{'s' if tls else ''}://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
