"""Hostile values for every parameter of every route of both pages: answered in words, never with a traceback."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from reelseek.library import Library
from reelseek.overlap.pairs import Pair
from reelseek.overlap.verdicts import Review, Verdicts, pair_key
from reelseek.search import Searcher
from reelseek.web.app import create_app
from reelseek.web.media import opaque_id
from reelseek.web.review import create_review
from reelseek.web.service import Service, serve_library

NUMBERS = [
    "NaN",
    "inf",
    "-inf",
    "1e400",
    "-1",
    "0",
    "1" + "0" * 30,
    "-1" + "0" * 30,
    "9" * 5000,
    "",
    " ",
    "1_0",
    "٣",
    "0x10",
]
TEXTS = [
    "%00",
    "%ed%a0%80",
    "%ff%fe",
    "a" * 3000,
    "-",
    '"',
    '""',
    "^",
    "car^nan",
    "car^1e999",
    '"a" -"b"',
    "\u202e",
    "*",
    "NEAR(a b)",
]
WRONG_JSON = [
    b"", b"null", b"[]", b"{}", b'"a"', b"{", b"\xff", b"[" * 20_000, b"1" * 5_000, b'{"who": NaN}', b"\xef\xbb\xbf{}",
]  # fmt: skip
WRONG_VALUES = [
    None, True, -1, -(10**30), 10**30, 1e308, float("nan"), float("inf"), float("-inf"), "", "x" * 10_000, "\ud800",
    "\x00", "=1+1", [], [[]], [None], [-1], [10**30], ["\ud800"], list(range(2000)), {}, {"\ud800": 1},
]  # fmt: skip
ANN = {"who": "Ann", "token": "ann-ann-ann"}


@pytest.fixture(scope="module")
def pages(library_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[FastAPI]]:
    library = Library.open(library_path)
    names = [video.id for video in library.videos()][:4]
    pairs = [Pair(one, two, float("nan"), 0.5, 1.0, 3.0) for one in names for two in names if one < two]
    pairs.append(Pair("no such \udcff.mp4", "n" * 5000, 0.1, -1e300, 1e300, float("inf")))
    verdicts = Verdicts(tmp_path_factory.mktemp("said") / "said.jsonl")
    review = Review(pairs, [pair_key(pair.test, pair.train) for pair in pairs], verdicts)
    service = Service([serve_library(Searcher(library))])
    service.start()
    yield [create_app(service), create_review(review, library, title="a \udcff title")]
    service.close()


def _routes(page: FastAPI, method: str) -> list[APIRoute]:
    """All of a page, those of its routers among them."""
    routes = [*page.routes, *(route for router in getattr(page.state, "routers", ()) for route in router.routes)]
    return [route for route in routes if isinstance(route, APIRoute) and method in route.methods]


def _check(answer: httpx.Response, what: object) -> None:
    assert answer.status_code < 500 or answer.status_code == 503, (what, answer.text)
    assert "Traceback" not in answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", (what, answer.text)
        assert answer.json()["status"] == answer.status_code
        assert len(answer.content) < 20_000
    if answer.headers.get("content-type") == "application/json":
        answer.json()


def _client(page: FastAPI) -> TestClient:
    return TestClient(page, base_url="http://127.0.0.1")


@pytest.mark.long
def test_hostile_values_in_every_query(
    pages: list[FastAPI], library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    requests = 0
    known_name = library.videos()[0].id
    for page in pages:
        client = _client(page)
        ids = [opaque_id(known_name)]
        for route in _routes(page, "GET"):
            fields = [field.alias for field in route.dependant.query_params]
            for opaque in (*ids, "0" * 24, "%00", "a" * 3000, "..%2f..", "%ed%a0%80"):
                path = route.path.replace("{opaque}", opaque).replace("{id}", opaque)
                queries = ["", *(f"{name}={value}" for name in fields for value in (*NUMBERS, *TEXTS))]
                for query in queries if opaque in ids or "{" not in route.path else queries[:3]:
                    if "q" in fields and not query.startswith("q="):
                        query += "&q=cat"
                    answer = client.get(f"{path}?{query}")
                    _check(answer, (path, query[:80]))
                    requests += 1
                if "{" not in route.path:
                    break
    assert requests > 150
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_hostile_bodies_of_every_post(pages: list[FastAPI], caplog: pytest.LogCaptureFixture) -> None:
    client = _client(pages[1])
    right = {
        "/api/leases": {"places": [0]},
        "/api/below": {"below": 0.0},
        "/api/pairs": {"view": "mine"},
        "/api/verdicts": {"places": [0], "verdict": "not"},
    }
    routes = _routes(pages[1], "POST")
    assert len(routes) >= 7
    for route in routes:
        body = {**ANN, **right.get(route.path, {})}
        assert client.post(route.path, json=body).status_code == 200
        for raw in WRONG_JSON:
            answer = client.post(route.path, content=raw, headers={"Content-Type": "application/json"})
            _check(answer, (route.path, raw[:40]))
            assert answer.status_code == 400
        names = [
            *body,
            *(("after", "count") if route.path in ("/api/queue", "/api/pairs") else ()),
            "unknown",
            "\ud800",
        ]
        for name in names:
            for value in WRONG_VALUES:
                content = json.dumps({**body, name: value}).encode()
                answer = client.post(route.path, content=content, headers={"Content-Type": "application/json"})
                _check(answer, (route.path, name, repr(value)[:60]))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_place_after_all_pairs_is_an_empty_page_and_none_is_negative(pages: list[FastAPI]) -> None:
    client = _client(pages[1])
    assert client.post("/api/queue", json={**ANN, "after": 10**9}).json()["data"] == []
    for wrong in (-2, 10**30, 1e30):
        assert client.post("/api/queue", json={**ANN, "after": wrong}).status_code == 400
    client.post("/api/leave", json=ANN)
    cards = client.post("/api/queue", json={**ANN, "after": -1, "count": 50}).json()["data"]
    assert all(card["place"] >= 0 for card in cards)
    assert any("\udcff" in card["test"]["name"] for card in cards)  # a name that is no UTF-8 reaches the page
    assert cards[0]["score"] is None  # NaN is no JSON


def test_methods_and_paths_that_no_route_has(pages: list[FastAPI]) -> None:
    for page in pages:
        client = _client(page)
        for path in (
            "/nothing",
            "/%00",
            "/" + "a" * 3000,
            "/static/../x",
            "/%ed%a0%80",
            "//",
            "/v1/videos//media",
            "/api/search",
        ):
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "FOO"):
                answer = client.request(method, path)
                assert answer.status_code in (200, 404, 405), (method, path, answer.text)
                if method != "HEAD":
                    _check(answer, (method, path))


def test_head_is_answered_wherever_get_is(pages: list[FastAPI]) -> None:
    for page in pages:
        client = _client(page)
        paths = ["/", "/style.css", "/healthz", "/openapi.json", *(route.path for route in _routes(page, "GET"))]
        for path in (path for path in paths if "{" not in path and path != "/metrics"):  # which counts each request
            got, head = client.get(path), client.head(path)
            assert head.status_code == got.status_code, path
            assert got.status_code == 200 or path.startswith("/v1/"), path  # jobs and accounts take a state folder
            assert head.headers["content-length"] == got.headers["content-length"]
            assert head.headers["content-type"] == got.headers["content-type"]
        assert "head" not in next(iter(client.get("/openapi.json").json()["paths"].values()))
