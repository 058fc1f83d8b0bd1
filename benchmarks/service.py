"""`reelseek serve` under load: many clients that search, slow ones that never finish a request, and those that give up.

Run: python benchmarks/service.py [CLIENTS] [SECONDS]   (default 200 clients for 30 s, on this machine alone)

Prints errors, requests per second, and the median and 99th percentile of a search over HTTP, then the same with
half-open connections beside them, and how long /healthz took meanwhile.
"""

import asyncio
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx

from reelseek.library import Library, add
from reelseek.studio import write_archive

QUERIES = ("a cat", "a dog on a beach", "coffee", "a red car", "someone is speaking", "EXIT", "birthday cake")
HALF_OPEN = 60


def build(folder: Path) -> Path:
    write_archive(folder / "films", 8, seed=3, clips=False)
    with Library.open(folder / "library", create=True) as library:
        add(library, [folder / "films"], captions=folder / "films" / "captions.csv")
    return folder / "library"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def search_until(
    client: httpx.AsyncClient, end: float, number: int, took: list[float], outcomes: Counter[str]
) -> None:
    turn = number
    while time.monotonic() < end:
        begin = time.perf_counter()
        try:
            reply = await client.post("/v1/search", json={"query": QUERIES[turn % len(QUERIES)], "limit": 10})
            outcomes[str(reply.status_code)] += 1
        except httpx.HTTPError as error:
            outcomes[type(error).__name__] += 1
        took.append(time.perf_counter() - begin)
        turn += 1


async def watch_health(address: str, end: float, took: list[float]) -> None:
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        while time.monotonic() < end:
            begin = time.perf_counter()
            (await client.get("/healthz")).raise_for_status()
            took.append(time.perf_counter() - begin)
            await asyncio.sleep(0.2)


async def load(address: str, clients: int, seconds: float) -> tuple[list[float], Counter[str], list[float]]:
    took: list[float] = []
    health: list[float] = []
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        searches = (search_until(client, end, number, took, outcomes) for number in range(clients))
        await asyncio.gather(*searches, watch_health(address, end, health))
    return took, outcomes, health


def half_open(port: int) -> list[socket.socket]:
    """Connections that began a request and say no more."""
    connections = []
    for _ in range(HALF_OPEN):
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        connections.append(connection)
    return connections


def report(name: str, took: Sequence[float], outcomes: Counter[str], health: Sequence[float], seconds: float) -> None:
    ordered = sorted(took)
    median, high = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    print(
        f"{name}: {len(took) / seconds:.0f} requests/s, median {median * 1e3:.0f} ms, p99 {high * 1e3:.0f} ms "
        f"({high / median:.1f} x), outcomes {dict(outcomes)}; /healthz at most {max(health) * 1e3:.0f} ms"
    )


def main(clients: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        library, port = build(Path(folder)), free_port()
        address = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "reelseek.cli.main", "serve", str(library), "--port", str(port)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(600):
                try:
                    httpx.get(f"{address}/healthz", timeout=5)
                    break
                except httpx.HTTPError:
                    time.sleep(0.2)
            report("one client", *asyncio.run(load(address, 1, seconds / 5)), seconds / 5)
            report(f"{clients} clients", *asyncio.run(load(address, clients, seconds)), seconds)
            connections = half_open(port)
            report(f"beside {HALF_OPEN} half-open", *asyncio.run(load(address, 8, seconds / 3)), seconds / 3)
            for connection in connections:
                connection.close()
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200, float(sys.argv[2]) if len(sys.argv) > 2 else 30.0)
