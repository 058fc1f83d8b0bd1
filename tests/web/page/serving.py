"""Applications on a port of this machine, for as long as a test needs them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI


@contextmanager
def served(app: FastAPI, *, lifespan: str = "on") -> Iterator[str]:
    """The address of an application while it is served; `off` leaves its end to others."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan=lifespan))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
