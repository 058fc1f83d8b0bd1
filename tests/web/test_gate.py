"""What stands before every route: refusals, bounded bodies and addresses, guessed tokens, slow clients, the log."""

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from reelseek.web import server
from reelseek.web.gate import MOST_BODY_BYTES
from reelseek.web.guesses import Guesses
from reelseek.web.media import library_media
from reelseek.web.server import FloodLimit, uvicorn_config
from reelseek.web.shell import new_app

TOKEN = "a-secret-word"


def _app(token: str | None = None) -> FastAPI:
    app = new_app([library_media(None)], token=token, host="127.0.0.1")

    @app.post("/size")
    async def size(request: Request) -> int:
        return len(await request.body())

    @app.get("/fails")
    def fails() -> None:
        raise RuntimeError("of the server's own\nin two lines")

    return app


def _client(app: FastAPI, client: str = "192.0.2.1") -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1", client=(client, 50_000))


def test_wrong_tokens_are_slowed_by_address_and_nobody_who_is_in_is_put_out() -> None:
    app = _app(TOKEN)
    inside = _client(app)
    assert inside.get("/healthz", params={"token": TOKEN}).status_code == 200
    assert TOKEN not in str(inside.cookies)  # the cookie is no token, and no token is a cookie
    assert _client(app).get("/healthz", headers={"Cookie": f"reelseek_token={TOKEN}"}).status_code == 401
    thief = _client(app)
    answers = [thief.get("/healthz", headers={"Authorization": f"Bearer guess{i}"}) for i in range(30)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 20
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 7
    assert thief.get("/healthz", params={"token": TOKEN}).status_code == 429  # or it would tell which guess was right
    assert thief.get("/healthz").status_code == 401  # no guess
    assert inside.get("/healthz").status_code == 200
    assert _client(app, "192.0.2.2").get("/healthz", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200


def test_a_guess_comes_back_every_six_seconds_and_addresses_are_forgotten() -> None:
    now = [0.0]
    guesses = Guesses(lambda: now[0])
    for _ in range(10):
        assert guesses.seconds_to_wait("2001:db8::1") == 0
        guesses.add_wrong("2001:db8::1")
    assert guesses.seconds_to_wait("2001:db8::ffff") == pytest.approx(6)  # the same machine's
    assert guesses.seconds_to_wait("2001:db8:0:1::1") == 0
    now[0] = 6.0
    assert guesses.seconds_to_wait("2001:db8::1") == 0
    for number in range(10_000):
        guesses.add_wrong(f"10.0.{number // 256}.{number % 256}")
    assert len(guesses._debts) <= 4096


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"url": "/size", "content": b"x" * MOST_BODY_BYTES}, 200),
        ({"url": "/size", "content": b"x" * (MOST_BODY_BYTES + 1)}, 413),
        ({"url": "/size", "content": (b"x" * 1000 for _ in range(64))}, 200),
        ({"url": "/size", "content": (b"x" * 1000 for _ in range(10_000))}, 413),
        ({"url": "/size", "content": b"x", "headers": {"Content-Length": "9" * 400}}, 413),
        ({"url": "/size", "content": b"x", "headers": {"Content-Length": "-1"}}, 400),
        ({"url": "/size?" + "x" * 9000}, 414),
        ({"url": "/size", "headers": {"Origin": "http://evil.example"}, "content": b"x" * 10**6}, 403),
        ({"url": "/size", "headers": {"Host": "evil.example"}, "content": b"x" * 10**6}, 421),
        ({"url": "/size", "headers": {"Host": "LOCALHOST:1"}}, 200),
        ({"url": "/size", "headers": {"Host": "[::1]:1"}}, 200),
        ({"url": "/size", "headers": {"Host": "127.0.0.1.evil.example"}}, 421),
        ({"url": "/size", "headers": {"Host": "[::1"}}, 421),
        ({"url": "/size", "headers": {"Host": ""}}, 421),
    ],
)
def test_what_is_too_large_or_from_elsewhere_is_refused(request_: dict[str, object], status: int) -> None:
    answer = _client(_app()).post(**request_)  # type: ignore[arg-type]
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    if status >= 400:
        assert answer.json()["status"] == status


def test_an_error_of_the_server_is_one_line_in_its_log(caplog: pytest.LogCaptureFixture) -> None:
    answer = _client(_app()).get("/fails")
    assert (answer.status_code, answer.json()["status"]) == (500, 500)
    assert "two lines" not in answer.text
    (record,) = caplog.records
    assert "RuntimeError: of the server's own\\nin two lines" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_a_flood_of_lines_is_counted_instead() -> None:
    now = [0.0]
    limit = FloodLimit(lambda: now[0])
    records = [logging.LogRecord("x", 30, "", 0, "line %d", (i,), None) for i in range(1000)]
    assert sum(limit.filter(record) for record in records) == 20
    now[0] = 1.5
    assert limit.filter(records[0])
    assert records[0].getMessage() == "line 0  (980 lines before were left out)"


@pytest.fixture
def port() -> Iterator[int]:
    running = uvicorn.Server(uvicorn_config(_app()))
    (listener,) = server.bind("127.0.0.1", 0)
    listener.listen(128)
    thread = threading.Thread(target=running.run, args=([listener],), daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.02)
    yield listener.getsockname()[1]
    running.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


def _open(port: int, sent: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.sendall(sent)
    return client


def _rest(client: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65536):
            parts.append(part)
    client.close()
    return b"".join(parts)


def test_headers_without_end_and_what_is_no_http_are_problems(port: int) -> None:
    for sent, status in ((b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000, 431), (b"\x16\x03\x01hello\r\n\r\n", 400)):
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            answer = _rest(_open(port, sent))
            assert answer.startswith(f"HTTP/1.1 {status} ".encode())
            assert b"application/problem+json" in answer
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


@pytest.mark.long
def test_clients_that_say_nothing_end_lose_their_connection(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 0.5)
    head = b"POST /size HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n"
    for sent in (b"", b"GET / HT", head, head + b"half"):
        assert _rest(_open(port, sent)) == b""
    slow = _open(port, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
    begin = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - begin < 30:  # a byte now and then is not enough
            slow.sendall(b"X: y\r\n")
            time.sleep(0.1)
    assert time.monotonic() - begin < 25
    slow.close()
    two = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 2  # pipelined
    answers = _rest(_open(port, two))
    assert answers.count(b'{"status":"ok"}') == 2


def test_slow_clients_lock_nobody_out(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MOST_CONNECTIONS", 20)
    slow = [_open(port, b"GET / HTTP/1.1\r\nX:") for _ in range(60)]
    slow += [_open(port, b"POST /size HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n") for _ in range(30)]
    for _ in range(5):
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=20).status_code == 200
    for client in slow:
        client.close()


def test_a_refused_body_is_not_waited_for(port: int) -> None:
    head = b"POST /size HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n"
    answer = _rest(_open(port, head))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()


async def _never() -> dict[str, object]:
    await asyncio.sleep(3600)
    return {}


def test_a_body_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reelseek.web.gate._BODY_SECONDS", 0.1)
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/size", "raw_path": b"/size", "query_string": b"", "client": None,
        "headers": [(b"host", b"127.0.0.1"), (b"content-length", b"5")], "server": ("127.0.0.1", 1), "scheme": "http",
        "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    asyncio.run(_app()(scope, _never, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 408
