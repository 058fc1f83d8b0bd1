"""`reelseek serve` with 1, 8, 32 and 100 clients against the same searches without HTTP, on generated clips.

Run: python benchmarks/serve.py [CLIPS] [SECONDS]   (default 50,000 clips, 10 s for each round)
     python benchmarks/serve.py CLIPS SECONDS --requests 50000   (memory alone: so many searches, in SECONDS at most)

Rounds with and without HTTP alternate, so that whatever else the machine does falls on both. Prints for each number of
clients the searches per second, their share of those without HTTP, the median and the 99th percentile of a search, what
the client that was answered least got of the mean, and the server's memory before and after. With `--requests` eight
clients ask, and the server's resident memory is printed after every thousand answers.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import uvicorn

from reelseek.library import Library
from reelseek.models.systems.concepts import background_queries
from reelseek.search import Searcher
from reelseek.web.app import create_app
from reelseek.web.server import bind, uvicorn_config
from reelseek.web.service import Service, serve_library
from search import build

CLIENTS = (1, 8, 32, 100)
ROUNDS = 3


def queries(seed: int) -> Iterator[str]:
    """Ever new mixtures of two everyday sentences."""
    rng, sentences = np.random.default_rng(seed), background_queries()
    while True:
        yield " ".join(rng.choice(sentences, 2))


@dataclass(frozen=True)
class Round:
    """What came of some seconds: how long each search took, and how many each client got."""

    took: list[float]
    counts: list[int]
    seconds: float

    @property
    def rate(self) -> float:
        return len(self.took) / self.seconds


# The process that searches


def search_process(library: Path, pipe: Connection) -> None:
    """Serve, or search without HTTP, as the pipe says; one process does both, so that both have the same state."""
    with Library.open(library) as opened:
        service = Service([serve_library(Searcher(opened))])
        app = create_app(service)
        service.start()
        (listener,) = bind("127.0.0.1", 0)
        listener.listen(128)
        listener.setblocking(False)
        server = uvicorn.Server(uvicorn_config(app))
        (served,) = service.libraries()
        views = [served.turns.shared.view() for _ in range(served.turns.threads)]
        with ThreadPoolExecutor(1) as thread:
            serving = thread.submit(server.run, [listener])
            pipe.send(listener.getsockname()[1])
            while (seconds := pipe.recv()) is not None:
                pipe.send(direct(views, seconds) if seconds else resident_bytes())
            server.should_exit = True
            serving.result()


def direct(views: Sequence[Searcher], seconds: float) -> Round:
    """The same searches in a thread for each view."""
    begin = time.perf_counter()

    def search(number: int) -> list[float]:
        view, took = views[number], []
        for query in queries(1000 + number + int(begin)):
            started = time.perf_counter()
            if started - begin > seconds:
                return took
            view.search(query, k=10)
            took.append(time.perf_counter() - started)
        return took

    with ThreadPoolExecutor(len(views)) as pool:
        parts = list(pool.map(search, range(len(views))))
    return Round([one for part in parts for one in part], [len(part) for part in parts], time.perf_counter() - begin)


def resident_bytes() -> int:
    """Of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# The clients


async def ask_until(end: float, port: int, seed: int, answered: Callable[[], bool] = lambda: False) -> list[float]:
    """One client on one connection, which asks again as soon as it is answered.

    Args:
        answered: called after each answer; True ends it.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    took = []
    for query in queries(seed):
        if time.perf_counter() > end:
            break
        body = json.dumps({"query": query, "limit": 9}).encode()
        head = f"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        started = time.perf_counter()
        writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        took.append(time.perf_counter() - started)
        if answered():
            break
    writer.close()
    return took


async def load(port: int, clients: int, seconds: float, seed: int) -> Round:
    begin = time.perf_counter()
    parts = await asyncio.gather(*(ask_until(begin + seconds, port, seed + number) for number in range(clients)))
    return Round([one for part in parts for one in part], [len(part) for part in parts], time.perf_counter() - begin)


class MemoryLog:
    """Prints the server's resident memory after every thousand answers, until there were enough."""

    def __init__(self, pipe: Connection, requests: int) -> None:
        self.pipe, self.requests, self.answers, self.begin = pipe, requests, 0, time.perf_counter()
        self.megabytes: list[float] = []

    def answered(self) -> bool:
        self.answers += 1
        if self.answers % 1000 == 0:
            self.pipe.send(0)
            self.megabytes.append(self.pipe.recv() / 1e6)
            seconds = time.perf_counter() - self.begin
            load = os.getloadavg()[0]
            print(
                f"{self.answers:7,d} searches: {self.megabytes[-1]:6.0f} MB, {self.answers / seconds:5.1f} searches/s, "
                f"load {load:.1f}",
                flush=True,
            )
        return self.answers >= self.requests


async def watch_memory(port: int, pipe: Connection, requests: int, seconds: float) -> MemoryLog:
    """Eight clients until there were so many answers, or the time is over."""
    log, end = MemoryLog(pipe, requests), time.perf_counter() + seconds
    await asyncio.gather(*(ask_until(end, port, number, log.answered) for number in range(8)))
    return log


def report(clients: int, rounds: list[Round], bare: list[Round]) -> None:
    """One line for a number of clients."""
    took = np.concatenate([np.array(one.took) for one in rounds])
    p50, p99 = np.quantile(took, [0.5, 0.99])
    share = statistics.median(one.rate / other.rate for one, other in zip(rounds, bare, strict=True))
    least = min(min(one.counts) / max(1e-9, statistics.mean(one.counts)) for one in rounds)
    print(
        f"{clients:4d} clients: {statistics.median(one.rate for one in rounds):6.1f} searches/s, {share:4.0%} of "
        f"{statistics.median(one.rate for one in bare):.1f} without HTTP; median {1e3 * p50:.0f} ms, p99 "
        f"{1e3 * p99:.0f} ms ({p99 / p50:.1f} x); the client that got least got {least:.0%} of the mean",
        flush=True,
    )


@contextmanager
def started_server(clips: int) -> Iterator[tuple[int, Connection]]:
    """Its port and its pipe; the library is built first."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(os.environ.get("REELSEEK_BENCHMARK_LIBRARY", folder)) / "lib"
        if not library.is_dir():
            with build(library.parent, clips) as built:
                Searcher(built)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=search_process, args=(library, theirs))
        process.start()
        yield ours.recv(), ours
        ours.send(None)
        process.join()


def measure_memory(clips: int, seconds: float, requests: int) -> None:
    """Print the server's memory over so many searches."""
    with started_server(clips) as (port, pipe):
        log = asyncio.run(watch_memory(port, pipe, requests, seconds))
    if len(log.megabytes) > 1:
        later = log.megabytes[len(log.megabytes) // 2 :]
        print(
            f"after 1,000: {log.megabytes[0]:.0f} MB; second half: {min(later):.0f} to {max(later):.0f} MB; "
            f"after {log.answers:,}: {log.megabytes[-1]:.0f} MB"
        )


def measure_load(clips: int, seconds: float) -> None:
    """Print searches per second by the number of clients, with and without HTTP."""
    with started_server(clips) as (port, ours):
        asyncio.run(load(port, 8, seconds / 2, 0))
        ours.send(0)
        before = ours.recv()
        total = 0
        for clients in CLIENTS:
            rounds, bare = [], []
            for number in range(ROUNDS):
                rounds.append(asyncio.run(load(port, clients, seconds, 10_000 * clients + 200 * number)))
                ours.send(seconds)
                bare.append(ours.recv())
            total += sum(len(one.took) for one in (*rounds, *bare))
            report(clients, rounds, bare)
        ours.send(0)
        print(f"memory: {before / 1e6:.0f} MB before, {ours.recv() / 1e6:.0f} MB after {total} searches")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Load on `reelseek serve`.")
    parser.add_argument("clips", type=int, nargs="?", default=50_000)
    parser.add_argument("seconds", type=float, nargs="?", default=10.0)
    parser.add_argument("--requests", type=int, help="measure memory over so many searches")
    options = parser.parse_args()
    if options.requests:
        measure_memory(options.clips, options.seconds, options.requests)
    else:
        measure_load(options.clips, options.seconds)
