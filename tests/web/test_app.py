"""The page and its interface: answers, ranges, refusals."""

import time
from collections.abc import Iterator

import httpx
import pytest
from fastapi.testclient import TestClient

from reelseek.library import Library
from reelseek.search import Searcher
from reelseek.web.app import create_app
from reelseek.web.service import Service, serve_library


@pytest.fixture(scope="module")
def searcher(library_path) -> Searcher:
    return Searcher(Library.open(library_path))


@pytest.fixture
def client(searcher: Searcher) -> Iterator[TestClient]:
    with TestClient(create_app(Service([serve_library(searcher)])), base_url="http://127.0.0.1") as client:
        yield client


def test_search_pictures_and_ranges(client: TestClient, searcher: Searcher) -> None:
    answer = client.post("/v1/search", json={"query": "a cat", "limit": 8})
    hits = answer.json()["data"]
    assert len(hits) == 8
    assert str(searcher.library.videos()[0].path.parent) not in answer.text
    picture = client.get(hits[0]["thumbnail"])
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.content[:2] == b"\xff\xd8"
    _when_ready(client, hits[0]["play"])
    part = client.get(hits[0]["play"], headers={"Range": "bytes=0-99"})
    assert (part.status_code, len(part.content)) == (206, 100)
    assert "default-src 'none'" in part.headers["content-security-policy"]
    assert client.get("/openapi.json").json()["info"]["title"] == "Reelseek"


def test_what_a_browser_cannot_play_comes_as_h264(client: TestClient, searcher: Searcher) -> None:
    from reelseek.media.container import probe

    for video in searcher.library.videos():
        if video.path.suffix in (".avi", ".mkv"):
            body = {"query": "video", "limit": 100, "group_by": "video"}
            hits = client.post("/v1/search", json=body).json()["data"]
            address = next(hit["play"] for hit in hits if hit["name"] == video.id)
            assert _when_ready(client, address).headers["content-type"] == "video/mp4"
            copy = searcher.library.path / "copies" / f"{video.content}.mp4"
            info = probe(copy)
            assert (info.video_codec, info.duration) == ("h264", pytest.approx(video.duration, abs=0.3))
            assert (info.audio_codec is None) == (probe(video.path).audio_codec is None)
            return
    pytest.fail("the films hold no .avi or .mkv")


def _when_ready(client: TestClient | httpx.Client, address: str) -> httpx.Response:
    """The answer once a copy is not being prepared any more."""
    for _ in range(150):
        answer = client.get(address)
        if answer.status_code != 503:
            return answer
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["content-type"] == "application/problem+json"
        time.sleep(0.2)
    raise AssertionError(answer.text)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/videos/..%2flibrary",
        "/v1/videos/%2e%2e%2f%2e%2e/media",
        "/v1/videos/x%00/media",
        "/..%2f..%2fpyproject.toml",
    ],
)
def test_nothing_but_ids_reaches_a_file(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (404, 405)
    assert b"[project]" not in answer.content


def test_wrong_requests_are_problems_in_words(client: TestClient) -> None:
    for body, status, words in (
        ({"query": ""}, 400, "empty"),
        ({"query": "x", "limit": 1000}, 422, "100"),
        ({"query": "x", "without": ["smell"]}, 400, "unknown"),
        ({"query": "x", "sources": ["smell"]}, 400, "unknown"),
        ({"query": "x", "filter": "fold:er"}, 400, "folder"),
        ({"query": "x", "quary": "y"}, 422, "quary"),
    ):
        answer = client.post("/v1/search", json=body)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert words in answer.json()["detail"]
    assert client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 421


def test_what_is_wrong_is_said_in_words_that_help(client: TestClient) -> None:
    def refused(method: str, path: str, **request: object) -> tuple[int, str]:
        answer = client.request(method, path, **request)
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.status_code, answer.json()["detail"]

    assert refused("GET", "/v1/search")[0] == 405  # and not 404: the address is right, the method is not
    assert "GET" in refused("GET", "/v1/search")[1]
    assert refused("GET", "/v1/serach") == (404, refused("GET", "/v1/nothing")[1])
    assert "/openapi.json" in refused("GET", "/v1/serach")[1]
    status, detail = refused(
        "POST", "/v1/search", content=b'{"query": cat}', headers={"Content-Type": "application/json"}
    )
    assert status == 400
    assert "no JSON" in detail
    assert "letter" in detail
    for headers in ({}, {"Content-Type": "application/x-www-form-urlencoded"}):  # what curl -d sends
        assert "Content-Type: application/json" in refused("POST", "/v1/search", content=b"{}", headers=headers)[1]


def test_a_token_is_needed_when_there_is_one(searcher: Searcher) -> None:
    app = create_app(Service([serve_library(searcher)]), token="a secret word", host="0.0.0.0")
    with TestClient(app, base_url="http://box.lan") as client:
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models?token=wrong").status_code == 401
        assert client.get("/v1/models", headers={"Authorization": "Bearer a secret word"}).status_code == 200
        assert client.get("/", params={"token": "a secret word"}).status_code == 200
        assert client.get("/v1/models").status_code == 200  # the cookie


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_misspelt_parameter_is_refused_with_those_that_there_are(client: TestClient, method: str) -> None:
    assert client.request(method, "/v1/videos?limit=1&filter=").status_code == 200
    refused = client.request(method, "/v1/videos?limt=1&filter=&x%00=2")
    assert refused.status_code == 422
    if method == "GET":
        errors = {error["field"]: error["detail"] for error in refused.json()["errors"]}
        assert list(errors) == ["query.limt", "query.x\x00"]
        assert errors["query.limt"].startswith("not a parameter of this address, which takes library, filter, failed,")
    assert client.request(method, "/v1/libraries?limit=1").status_code == 422
    assert client.request(method, "/v1/libraries").status_code == 200
