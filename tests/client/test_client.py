"""The client against the OpenAPI document, against a real server, and against what servers and proxies do wrong."""

import ast
import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

import reelseek.client
from reelseek.client import (
    AsyncClient,
    Client,
    Conflict,
    ConnectionFailed,
    InvalidRequest,
    NotFound,
    NotSignedIn,
    ProblemError,
    Unavailable,
)
from reelseek.client.generate import operations_source, schema_source
from reelseek.client.operations import OPERATIONS
from reelseek.client.transport import Operation
from reelseek.library import Library
from reelseek.search import Searcher
from reelseek.web.app import create_app
from reelseek.web.server import bind, uvicorn_config
from reelseek.web.service import Service, serve_library

FOLDER = Path(reelseek.client.__file__).parent
TOKEN = "a-secret-word"


@pytest.fixture(scope="module")
def address(library_path: Path) -> Iterator[str]:
    """Of a server of the films, which takes a token."""
    with Library.open(library_path) as library:
        service = Service([serve_library(Searcher(library))])
        service.start()
        server = uvicorn.Server(uvicorn_config(create_app(service, token=TOKEN)))
        (listener,) = bind("127.0.0.1", 0)
        listener.listen(16)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(60)


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address, token=TOKEN, wait_seconds=60) as client:
        yield client


# The document


def test_the_clients_are_what_the_document_says() -> None:
    document = create_app(Service([])).openapi()
    for name, source in (("schema.py", schema_source), ("operations.py", operations_source)):
        assert _meaning((FOLDER / name).read_text("utf-8")) == _meaning(source(document)), (
            f"{name} is of another document; write it again with: python -m reelseek.client.generate openapi.json"
        )


def _meaning(source: str) -> str:
    """A module without its layout and the order of names in imports."""
    tree = ast.parse(source)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            node.names.sort(key=lambda alias: alias.name)
    return ast.dump(tree)


def test_every_operation_has_a_method_in_both_clients() -> None:
    paths = create_app(Service([])).openapi()["paths"]
    described = {
        operation["operationId"]: (method.upper(), path)
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    assert {name: (operation.method, operation.path) for name, operation in OPERATIONS.items()} == described
    for name in described:
        assert callable(getattr(Client, name))
        assert callable(getattr(AsyncClient, name))


# A server


def test_a_search_page_by_page_and_a_look_inside(client: Client, library_path: Path) -> None:
    with Library.open(library_path) as library:
        hits = Searcher(library).search("a cat", k=100, group_by="video")
    rows = list(client.iterate_hits("a cat", group_by="video", limit=3))
    assert [(row["name"], row["score"], row["rank"]) for row in rows] == [
        (hit.video, hit.similarity, hit.rank) for hit in hits
    ]
    video = client.get_video(rows[0]["video"])
    assert video["name"] == rows[0]["name"]
    assert client.get_thumbnail(video["id"], at=1)[:2] == b"\xff\xd8"
    assert client.get_strip(video["id"], start=0, end=1, frames=3)[:2] == b"\xff\xd8"
    assert client.get_curve(video["id"], q="a cat")["seconds"] >= 1
    assert [step["step"] for step in client.place_steps(video["id"], steps=["a cat", "a dog"])["data"]] == [1, 2]
    assert len(list(client.iterate_videos(limit=3))) == len({row["video"] for row in rows})
    assert client.get_health() == {"status": "ok"}
    assert "reelseek_http_requests_total" in client.get_metrics()


@pytest.mark.long
def test_an_upload_is_searched_by(client: Client) -> None:
    (first, *_) = client.search(query="a cat", limit=1)["data"]
    upload = client.upload(content=client.get_thumbnail(first["video"]), content_type="image/jpeg")
    assert upload["kind"] == "image"
    assert client.search(image=upload["id"], limit=1)["data"][0]["video"] == first["video"]


def test_the_asynchronous_client_does_the_same(address: str, client: Client) -> None:
    async def ask() -> tuple[object, list[str]]:
        async with AsyncClient(address, token=TOKEN) as other:
            answer = await other.search(query="a cat", limit=5)
            return answer, [row["name"] async for row in other.iterate_videos(limit=3)]

    answer, names = asyncio.run(ask())
    assert answer == client.search(query="a cat", limit=5)
    assert names == [row["name"] for row in client.iterate_videos()]


@pytest.mark.parametrize(
    ("ask", "kind", "words"),
    [
        (lambda client: client.search(query='"'), InvalidRequest, "looked for"),
        (lambda client: client.search(query="a", limit=0), InvalidRequest, "greater"),
        (lambda client: client.search(query="a", page_token="x"), InvalidRequest, "page_token"),
        (lambda client: client.get_video("0" * 24), NotFound, "no video"),
        (lambda client: client.search(query="a", library="other"), NotFound, "no library"),
        (lambda client: client.upload(content=b"x", content_type="text/plain"), InvalidRequest, "Content-Type"),
        (lambda client: client.get_video("../../healthz"), NotFound, "Not Found"),
    ],
)
def test_problems_are_exceptions(
    client: Client, ask: Callable[[Client], object], kind: type[ProblemError], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        ask(client)
    assert 400 <= caught.value.status < 500
    assert caught.value.detail


def test_a_wrong_token_and_no_server(address: str) -> None:
    with Client(address, token="wrong-token") as client, pytest.raises(NotSignedIn):
        client.search(query="a cat")
    with Client("http://127.0.0.1:9", timeout=5) as client, pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:9"):
        client.get_health()


# What is sent, and what comes back


def _answering(*answers: httpx.Response) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    """A transport that gives these answers, one after another, and what it was sent."""
    sent: list[httpx.Request] = []
    waiting = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return waiting.pop(0)

    return httpx.MockTransport(answer), sent


def test_not_yet_is_asked_again_for_as_long_as_the_client_waits() -> None:
    later = httpx.Response(503, json={"title": "a copy is being prepared"}, headers={"Retry-After": "0"})
    transport, sent = _answering(later, later, httpx.Response(200, json={"data": []}))
    with Client(transport=transport, wait_seconds=30) as client:
        assert client.list_models() == {"data": []}
    assert len(sent) == 3
    transport, sent = _answering(
        httpx.Response(503, json={"title": "too busy"}, headers={"Retry-After": "20"}),
        httpx.Response(503, text="<h1>Bad Gateway</h1>"),
    )
    with Client(transport=transport, wait_seconds=1) as client:
        begin = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            client.list_models()
        assert (caught.value.retry_seconds, time.monotonic() - begin < 15) == (20.0, True)
        with pytest.raises(Unavailable, match="Bad Gateway"):  # a proxy's page is no problem document
            client.list_models()


def test_what_was_not_given_is_not_sent_and_names_are_quoted() -> None:
    transport, sent = _answering(
        httpx.Response(200, json={}),
        httpx.Response(409, json={"title": "x", "errors": [{"field": "a", "detail": "b"}]}),
    )
    with Client("http://box/films/", transport=transport, token="t") as client:
        client.search(query="a", without=["speech"])
        assert json.loads(sent[0].content) == {"query": "a", "without": ["speech"]}
        assert (str(sent[0].url), sent[0].headers["authorization"]) == ("http://box/films/v1/search", "Bearer t")
        with pytest.raises(Conflict) as caught:
            client.get_curve("a/b?c", q="x y", without=["ocr", "face"])
    assert sent[1].url.raw_path == b"/films/v1/videos/a%2Fb%3Fc/curve?q=x+y&without=ocr&without=face"
    assert caught.value.errors == [{"field": "a", "detail": "b"}]


FOLLOW = Operation("GET", "/v1/jobs/{id}/events", "events")
EVENTS = (
    b'retry: 2000\n\nid: 1\nevent: progress\ndata: {"done": 1}\n\n: still here\n\n'
    b'event: log\ndata: {"text": "\\u2028"}\n\n'
    b'id: 3\nevent: end\ndata: {"state": "succeeded"}\n\n'
)


def test_events_are_followed_to_their_end() -> None:
    stream = {"headers": {"Content-Type": "text/event-stream"}, "content": EVENTS}
    transport, sent = _answering(httpx.Response(200, **stream), httpx.Response(204), httpx.Response(404, json={}))
    with Client(transport=transport) as client:
        follow = client._transport.follow
        events = list(follow(FOLLOW, {"id": "7"}, {"Last-Event-ID": "0"}))
        assert [(event.kind, event.id) for event in events] == [("progress", "1"), ("log", "1"), ("end", "3")]
        assert events[1].data == {"text": "\u2028"}
        assert sent[0].headers["last-event-id"] == "0"
        assert list(follow(FOLLOW, {"id": "7"}, {})) == []
        with pytest.raises(NotFound):
            list(follow(FOLLOW, {"id": "8"}, {}))


def test_events_are_followed_by_the_asynchronous_client() -> None:
    stream = {"headers": {"Content-Type": "text/event-stream"}, "content": EVENTS}
    transport, _ = _answering(httpx.Response(200, **stream))

    async def follow() -> list[object]:
        async with AsyncClient(transport=transport) as client:
            return [event.data async for event in client._transport.follow(FOLLOW, {"id": "7"}, {})]

    assert asyncio.run(follow()) == [{"done": 1}, {"text": "\u2028"}, {"state": "succeeded"}]
