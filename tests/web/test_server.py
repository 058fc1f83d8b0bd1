"""`reelseek serve` as a process: what it says, when it answers, under load, beside another one, killed and ended."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import httpx
import numpy as np
import pytest

from reelseek.library import Library
from reelseek.media.verify import check_copy
from reelseek.web.media import opaque_id

COMMAND = [sys.executable, "-m", "reelseek.cli.main"]
SECONDS = 120  # for hangs


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of five films that no browser plays; copying the first takes a while."""
    folder = tmp_path_factory.mktemp("films")
    for number, (size, frames) in enumerate([((1280, 720), 500)] + [((320, 240), 50)] * 4):
        _film(folder / f"film{number}.avi", size, frames, seed=number)
    path = tmp_path_factory.mktemp("served") / "library"
    with Library.open(path, create=True) as library:
        assert not library.add([folder], experts=["object"], workers=1).failed
    return path


def _film(path: Path, size: tuple[int, int], frames: int, *, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for shift in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, shift, axis=1), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


class _Serve:
    """A running server."""

    def __init__(self, library: Path) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "serve", str(library), "--port", "0"], stderr=subprocess.PIPE, text=True
        )
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if line.startswith("http://"):
                break
        self.address = lines[-1].split()[0].rstrip("/")
        self.port = int(self.address.rsplit(":", 1)[1])

    def until_ready(self, path: str) -> httpx.Response:
        end = time.monotonic() + SECONDS
        while (answer := httpx.get(self.address + path, timeout=SECONDS)).status_code == 503:
            assert time.monotonic() < end, answer.text
            time.sleep(0.2)
        return answer

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(SECONDS)


@pytest.fixture
def serve(films: Path) -> Iterator[Callable[[], _Serve]]:
    started: list[_Serve] = []

    def start() -> _Serve:
        started.append(_Serve(films))
        return started[-1]

    yield start
    for server in started:
        server.process.kill()
        server.process.wait()
        server.process.stderr.close()


def _media(number: int) -> str:
    return f"/v1/videos/{opaque_id(f'film{number}.avi')}/media"


def _copy(films: Path, number: int) -> Path:
    with Library.open(films) as library:
        return films / "copies" / f"{library.video(f'film{number}.avi').content}.mp4"


@pytest.mark.long
@pytest.mark.parametrize("command", [["serve", "{library}"], ["overlap", "review", "{pairs}"]])
def test_a_port_in_use_is_said_before_any_address(command: list[str], films: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = [word.format(library=films, pairs=pairs) for word in command]
        ended = subprocess.run([*COMMAND, *words, "--port", str(port)], capture_output=True, text=True, timeout=SECONDS)
    assert ended.returncode == 1
    assert f"port {port} of 127.0.0.1 is in use" in ended.stderr
    assert "http://" not in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.long
@pytest.mark.timeout(900)  # three servers, one after the other
def test_load_abandoned_copies_kills_and_two_servers(films: Path, serve: Callable[[], _Serve]) -> None:
    one = serve()
    begin = time.monotonic()
    answer = httpx.post(f"{one.address}/v1/search", json={"query": "noise"}, timeout=SECONDS)
    assert len(answer.json()["data"]) >= 5
    first_search = time.monotonic() - begin
    begin = time.monotonic()
    httpx.post(f"{one.address}/v1/search", json={"query": "sound"}, timeout=SECONDS)
    assert first_search < 10 * (time.monotonic() - begin) + 5  # nothing was loaded for it
    _load(one)
    one.process.kill()  # in the middle of the first copy
    one.process.wait()
    assert not _copy(films, 0).exists()
    two, three = serve(), serve()
    for server in (two, three):
        assert httpx.get(server.address + _media(0), timeout=SECONDS).status_code == 503
    for server in (two, three):
        answer = server.until_ready(_media(0))
        assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    with Library.open(films) as library:
        check_copy((library.video("film0.avi").path, _copy(films, 0)))
    assert three.end() == 0
    assert len(list((films / "copies").glob(".making-*"))) == 1  # the second server's own
    _copy(films, 0).unlink()
    assert httpx.get(two.address + _media(0), timeout=SECONDS).status_code == 503
    begin = time.monotonic()
    assert two.end() == 0  # in the middle of a copy
    assert time.monotonic() - begin < 60
    assert "Traceback" not in two.process.stderr.read()
    assert not list((films / "copies").glob(".making-*"))


def _load(server: _Serve) -> None:
    """Sixty clients that never end their requests, and forty-five copies that nobody waits for."""
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
    for client in slow:
        client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
    for number in range(45):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(f"GET {_media(number % 5)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    longest = 0.0
    for _ in range(20):
        begin = time.monotonic()
        assert httpx.get(f"{server.address}/healthz", timeout=SECONDS).status_code == 200
        longest = max(longest, time.monotonic() - begin)
        time.sleep(0.02)
    assert longest < 20  # it took 49 s when each copy held a thread
    for client in slow:
        client.close()
