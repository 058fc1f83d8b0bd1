"""The page and its interface: answers, ranges, refusals."""

import time

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


def test_search_pictures_and_ranges(client: TestClient) -> None:
    hits = client.get("/api/search", params={"q": "a cat", "k": 8}).json()["data"]
    assert len(hits) == 8
    assert all(hit["path"] is None for hit in hits)
    picture = client.get(hits[0]["thumbnail"])
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.content[:2] == b"\xff\xd8"
    part = client.get(hits[0]["play"], headers={"Range": "bytes=0-99"})
    assert (part.status_code, len(part.content)) == (206, 100)
    assert "default-src 'none'" in part.headers["content-security-policy"]
    assert client.get("/openapi.json").json()["info"]["title"] == "Reelseek"
    assert client.get("/api/library").json()["videos"] == 8


def test_what_a_browser_cannot_play_comes_as_h264(client: TestClient, searcher: Searcher) -> None:
    from reelseek.media.container import probe

    for video in searcher.library.videos():
        if video.path.suffix in (".avi", ".mkv"):
            hit = client.get("/api/search", params={"q": "video", "k": 100, "group_by": "video"}).json()["data"]
            address = next(h["play"] for h in hit if h["video"] == video.id)
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
        "/api/videos/..%2flibrary",
        "/api/videos/%2e%2e%2f%2e%2e/media",
        "/api/videos/x%00/media",
        "/..%2f..%2fpyproject.toml",
    ],
)
def test_nothing_but_ids_reaches_a_file(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (404, 405)
    assert b"[project]" not in answer.content


def test_wrong_requests_are_problems_in_words(client: TestClient) -> None:
    for query, words in (
        ({"q": ""}, "empty"),
        ({"q": "x", "k": 1000}, "100"),
        ({"q": "x", "without": "smell"}, "unknown"),
    ):
        answer = client.get("/api/search", params=query)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert words in answer.json()["detail"]
    assert client.get("/api/library", headers={"Host": "evil.example"}).status_code == 421


def test_a_token_is_needed_when_there_is_one(searcher: Searcher) -> None:
    client = TestClient(
        create_app(Service([serve_library(searcher)]), token="a secret word", host="0.0.0.0"), base_url="http://box.lan"
    )
    assert client.get("/api/library").status_code == 401
    assert client.get("/api/library?token=wrong").status_code == 401
    assert client.get("/api/library", headers={"Authorization": "Bearer a secret word"}).status_code == 200
    assert client.get("/", params={"token": "a secret word"}).status_code == 200
    assert client.get("/api/library").status_code == 200  # the cookie
