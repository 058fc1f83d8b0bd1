"""What strangers try: other names of this machine, pages of other sites, paths, ids and bytes that are not theirs."""

import asyncio
import errno
import io
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from reelseek.experts.expert import Text
from reelseek.library import Library
from reelseek.search import Searcher
from reelseek.web import gate, server, uploads
from reelseek.web.app import create_app
from reelseek.web.media import opaque_id
from reelseek.web.server import bind, uvicorn_config
from reelseek.web.service import SCOPES, Caller, Service, serve_library

SEARCH = {"query": "a cat", "limit": 3}
NAMES = ("<img src=x onerror=alert(1)>.mp4", '"><script>alert(1)</script>', "a\u2028b\u202e.mp4", "../../etc/passwd")


async def _who(request: Request) -> Caller:
    """Somebody who may read one of the libraries, as a header says."""
    name = request.headers.get("x-name", "anybody")
    scopes = frozenset() if name == "nobody" else SCOPES
    return Caller(name, scopes, frozenset(("one",)) if name == "reader of one" else None)


@pytest.fixture(scope="module")
def app(library_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """Two libraries: `one`, and `two`, in which a video has the names and texts of an attack."""
    folder = tmp_path_factory.mktemp("two") / "library"
    shutil.copytree(library_path, folder)
    with Library.open(library_path) as one, Library.open(folder) as two:
        with two.saving():
            for number, name in enumerate(NAMES):
                two.catalog.videos.add(name)
                lines = [Text(f"zebra {number} <script>alert(1)</script>", 0.0, 1.0, "said")]
                two.put_texts(f"id:{name}", "speech", lines)
        searchers = [Searcher(one), Searcher(two)]
        service = Service([serve_library(s, name) for s, name in zip(searchers, ("one", "two"), strict=True)], who=_who)
        service.start()
        yield create_app(service)
        service.close()


@pytest.fixture(autouse=True)
def busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that checks uploads may take long to start."""
    monkeypatch.setattr("reelseek.web.v1.uploads._CHECK_SECONDS", 300)


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1")


def _assert_problem(answer: httpx.Response, *statuses: int) -> None:
    assert answer.status_code in statuses, (answer.status_code, answer.text[:300])
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code


# Who asks, and from where


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "0.0.0.0", "", "[::1"]
)
def test_a_name_that_was_rebound_to_this_machine_reaches_nothing(client: TestClient, host: str) -> None:
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/search"), ("GET", "/metrics"), ("GET", "/openapi.json")):
        _assert_problem(client.request(method, path, headers={"Host": host}), 421)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1.evil.example"]
)
def test_a_page_of_another_site_can_do_nothing_in_a_visitors_name(client: TestClient, origin: str) -> None:
    simple = {"Origin": origin, "Content-Type": "text/plain"}  # what a browser sends without asking first
    for path in ("/v1/search", "/v1/uploads", f"/v1/videos/{'0' * 24}/steps"):
        _assert_problem(client.post(path, content=json.dumps(SEARCH), headers=simple), 403)
    answer = client.post("/v1/search", json={**SEARCH, "library": "one"})
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_libraries_and_ids_of_others_are_not_there(client: TestClient, app: FastAPI) -> None:
    of_one = {"X-Name": "reader of one"}
    hit, *_ = client.post("/v1/search", json={**SEARCH, "library": "two"}).json()["data"]
    only_in_two = opaque_id(NAMES[0])
    assert client.get(f"/v1/videos/{only_in_two}", params={"library": "two"}).status_code == 200
    for path in ("", "/thumbnail", "/strip", "/media", "/captions", "/curve?q=zebra"):
        joined = "&" if "?" in path else "?"
        _assert_problem(client.get(f"/v1/videos/{only_in_two}{path}{joined}library=two", headers=of_one), 404)
        _assert_problem(client.get(f"/v1/videos/{only_in_two}{path}", headers=of_one), 404)
    for body in ({"library": "two"}, {"moment": f"{only_in_two}@0-1"}, {"like": [f"{only_in_two}@0-1"]}):
        _assert_problem(client.post("/v1/search", json={**SEARCH, **body}, headers=of_one), 404)
    assert [row["library"] for row in client.get("/v1/models", headers=of_one).json()["data"]] == ["one"]
    _assert_problem(client.post("/v1/search", json=SEARCH), 422)  # which library?
    _assert_problem(client.get("/v1/models", headers={"X-Name": "nobody"}), 403)
    assert hit["video"]


@pytest.mark.long
def test_an_upload_is_its_senders_alone(client: TestClient) -> None:
    hit, *_ = client.post("/v1/search", json={**SEARCH, "library": "one"}).json()["data"]
    jpeg = client.get(hit["thumbnail"]).content
    upload = client.post("/v1/uploads", content=jpeg, headers={"Content-Type": "image/jpeg", "X-Name": "ann"}).json()
    body = {"image": upload["id"], "library": "one", "limit": 1}
    assert client.post("/v1/search", json=body, headers={"X-Name": "ann"}).status_code == 200
    _assert_problem(client.post("/v1/search", json=body, headers={"X-Name": "bob"}), 404)
    _assert_problem(
        client.post("/v1/search", json={**body, "image": None, "clip": upload["id"]}, headers={"X-Name": "ann"}), 422
    )
    for other in ("../../../etc/passwd", "/etc/passwd", "..", "", "%2e%2e", "\x00"):
        _assert_problem(client.post("/v1/search", json={**body, "image": other}, headers={"X-Name": "ann"}), 404)


@pytest.mark.long
def test_no_path_of_an_upload_is_told(
    client: TestClient, make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reelseek.search.likeness._MOST_SECONDS", 0.5)
    film = make_video("film.mp4", times=[number / 10 for number in range(20)], size=(64, 48)).read_bytes()
    upload = client.post("/v1/uploads", content=film, headers={"Content-Type": "video/mp4"}).json()
    answer = client.post("/v1/search", json={"clip": upload["id"], "library": "one"})
    _assert_problem(answer, 400)
    assert answer.json()["detail"].startswith("the upload lasts"), answer.text
    folder = client.app.state.service.uploads._folder
    assert str(folder) not in answer.text


# Paths and names


@pytest.mark.parametrize(
    "path", ["..%2f..%2flibrary.db", "%2e%2e", "%2fetc%2fpasswd", "x%00", "..\\..\\x", "a" * 65, "%ff"]
)
def test_nothing_but_ids_reaches_a_file(client: TestClient, path: str) -> None:
    for part in ("", "/media", "/thumbnail", "/strip", "/captions"):
        answer = client.get(f"/v1/videos/{path}{part}?library=one")
        _assert_problem(answer, 404, 422)
        assert b"SQLite" not in answer.content
    for static in ("/../app.py", "/..%2fapp.py", "/%2e%2e/app.py", "/app/..%2f..%2fapp.py", "//etc/passwd"):
        assert b"create_app" not in client.get(static).content


def test_names_and_lines_that_are_html_stay_text_in_json(client: TestClient) -> None:
    """The page writes them as text; what asks for JSON gets JSON that no browser takes for a page."""
    answer = client.post("/v1/search", json={"query": "zebra", "library": "two", "limit": 50})
    listed = client.get("/v1/videos", params={"library": "two", "limit": 1000})
    names = {row["name"] for row in listed.json()["data"]}
    assert set(NAMES) <= names
    detail = client.get(f"/v1/videos/{opaque_id(NAMES[0])}", params={"library": "two"})
    assert detail.json()["texts"][0]["text"] == "zebra 0 <script>alert(1)</script>"
    for one in (answer, listed, detail):
        assert one.headers["content-type"] == "application/json"
        assert one.headers["x-content-type-options"] == "nosniff"
        assert "script-src 'self'" in one.headers["content-security-policy"]
        assert "\u2028" not in one.text
    metrics = client.get("/metrics").text
    client.get("/v1/<script>alert(1)</script>")
    client.request("<SCRIPT>", "/v1/search")
    assert "<script>" not in client.get("/metrics").text.lower()
    assert len(client.get("/metrics").text) < 2 * len(metrics)


# Bodies and ranges


def test_bodies_are_bounded_and_read_in_parts(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    _assert_problem(client.post("/v1/search", content=b" " * 10**6), 413)
    _assert_problem(
        client.post("/v1/search", content=b"[" * 60_000, headers={"Content-Type": "application/json"}), 400, 422
    )
    image = {"Content-Type": "image/png"}
    _assert_problem(client.post("/v1/uploads", content=b"", headers=image), 422)
    _assert_problem(client.post("/v1/uploads", content=b"\x89PNG" + b"\0" * 100_000, headers=image), 422)
    monkeypatch.setattr(uploads, "_MOST_IMAGE_BYTES", 2**20)
    _assert_problem(client.post("/v1/uploads", content=b"x" * (2**20 + 1), headers=image), 413)
    folder = client.app.state.service.uploads._folder
    assert [path.stat().st_size for path in folder.iterdir() if path.stat().st_size > 2**20] == []


def test_a_full_disk_is_said_and_nothing_of_an_upload_stays(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullFile(io.BytesIO):
        def write(self, part: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    image = {"Content-Type": "image/png"}
    _assert_problem(client.post("/v1/uploads", content=b"no picture", headers=image), 422)
    folder = client.app.state.service.uploads._folder
    before = set(folder.iterdir())
    monkeypatch.setattr(Path, "open", lambda path, mode: FullFile())
    answer = client.post("/v1/uploads", content=b"x" * 1000, headers=image)
    monkeypatch.undo()
    _assert_problem(answer, 507)
    assert "No space left on device" in answer.json()["detail"]
    assert set(folder.iterdir()) == before


def test_clips_of_no_length_and_filters_that_contradict(client: TestClient) -> None:
    clip = io.BytesIO()
    with av.open(clip, "w", format="mpegts") as out:
        stream = out.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        black = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24").reformat(format="yuv420p")
        for frame in (black, None):
            out.mux(stream.encode(frame))
    still = client.post("/v1/uploads", content=clip.getvalue(), headers={"Content-Type": "video/mp2t"})
    _assert_problem(still, 422)
    assert "lasts 0 s" in still.json()["detail"]
    contrary = client.post("/v1/search", json={**SEARCH, "library": "one", "filter": "before:2020 after:2021"})
    _assert_problem(contrary, 400, 422)
    assert "contradict" in contrary.json()["detail"]


@pytest.mark.parametrize("model", ["../models", "..", "/etc", "mine/../..", "none", "", "-x", "a\0", "a" * 65])
def test_a_model_is_a_name_and_never_a_path(client: TestClient, model: str) -> None:
    answer = client.post("/v1/search", json={**SEARCH, "library": "one", "model": model})
    _assert_problem(answer, 400, 422)
    curve = client.get(f"/v1/videos/{opaque_id('x')}/curve", params={"q": "cat", "library": "one", "model": model})
    _assert_problem(curve, 400, 404, 422)


@pytest.mark.parametrize(
    "wrong", ["bytes=0-0,-1,5-4", "bytes=-0", "bytes=99999999999-", "bytes=" + "0-1," * 50, "x=0-1"]
)
def test_no_range_breaks_the_media(client: TestClient, wrong: str) -> None:
    hit, *_ = client.post("/v1/search", json={**SEARCH, "library": "one"}).json()["data"]
    whole = client.get(hit["play"])
    answer = client.get(hit["play"], headers={"Range": wrong})
    assert answer.status_code in (200, 206, 416)
    if answer.status_code == 416:
        assert answer.headers["content-range"] == f"bytes */{len(whole.content)}"
    else:
        assert len(answer.content) <= len(whole.content) + 2000


# Slow clients, over a real connection


@pytest.fixture
def port(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    config = uvicorn_config(app)
    config.lifespan = "off"  # the service goes on when this server ends
    running = uvicorn.Server(config)
    (listener,) = bind("127.0.0.1", 0)
    listener.listen(16)
    thread = threading.Thread(target=asyncio.run, args=(running.serve([listener]),), daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    running.should_exit = True
    thread.join(60)


def test_a_body_that_trickles_is_given_up_and_nothing_of_it_stays(
    port: int, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "_BODY_SECONDS", 1.0)
    head = b"POST /v1/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 1000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 60) as slow:
        slow.sendall(head + b"x" * 1000)
        answer = slow.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 408 ")
    folder = app.state.service.uploads._folder
    end = time.monotonic() + 60
    while any(path.stat().st_size == 1000 for path in folder.iterdir()):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.long
def test_an_upload_may_take_long_as_long_as_it_moves(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 3.0)
    monkeypatch.setattr(server, "_REQUEST_BYTES", 1000)
    head = b"POST /v1/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 6000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 60) as slow:
        slow.sendall(head)
        for _ in range(6):
            time.sleep(1.0)
            slow.sendall(b"x" * 1000)
        assert slow.recv(65_536).startswith(b"HTTP/1.1 422 ")  # all of it arrived, and it is no picture
    with socket.create_connection(("127.0.0.1", port), 60) as slow:
        slow.sendall(head + b"x" * 10)
        begin = time.monotonic()
        assert slow.recv(65_536) == b""  # it was cut off
        assert time.monotonic() - begin < 50
