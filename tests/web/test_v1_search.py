"""`POST /v1/search` and `GET /v1/videos/{id}`: the hits of `reelseek search`, in pages, with opaque ids."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from reelseek.library import Library
from reelseek.search import Searcher, Then
from reelseek.web.app import create_app
from reelseek.web.media import opaque_id
from reelseek.web.service import Service, serve_library


@pytest.fixture(scope="module")
def searcher(library_path) -> Searcher:
    return Searcher(Library.open(library_path))


@pytest.fixture
def client(searcher: Searcher) -> Iterator[TestClient]:
    with TestClient(create_app(Service([serve_library(searcher)])), base_url="http://127.0.0.1") as client:
        yield client


def test_the_hits_are_those_of_a_search_to_the_last_digit(client: TestClient, searcher: Searcher) -> None:
    hits = searcher.search("a cat", k=10)
    body = client.post("/v1/search", json={"query": "a cat", "limit": 10}).json()
    shown = [
        (row["video"], row["start"], row["end"], row["score"], row["confidence"], row["rank"]) for row in body["data"]
    ]
    assert shown == [
        (opaque_id(hit.video), hit.start, hit.end, hit.similarity, hit.confidence, hit.rank) for hit in hits
    ]
    assert [[(why["modality"], why["gave"], why["matched"]) for why in row["why"]] for row in body["data"]] == [
        [(why.modality, why.gave, why.matched) for why in hit.why] for hit in hits
    ]
    assert body["page"]["total_clips"] == searcher.index.live


def test_pages_join_to_the_hits_of_one(client: TestClient, searcher: Searcher) -> None:
    question = {"query": "a cat", "group_by": "video"}
    rows, token = [], None
    while True:
        answer = client.post("/v1/search", json={**question, "limit": 3, "page_token": token}).json()
        rows += answer["data"]
        if (token := answer["page"]["next_token"]) is None:
            break
    assert [row["video"] for row in rows] == [
        opaque_id(h.video) for h in searcher.search("a cat", k=100, group_by="video")
    ]
    first = client.post("/v1/search", json={**question, "limit": 3}).json()["page"]["next_token"]
    other = client.post("/v1/search", json={"query": "a dog", "limit": 3, "page_token": first})
    assert (other.status_code, other.headers["content-type"]) == (400, "application/problem+json")
    assert "another request" in other.json()["detail"]


def test_a_video_says_what_is_in_it(client: TestClient, searcher: Searcher) -> None:
    hit = client.post("/v1/search", json={"query": "a cat", "limit": 1}).json()["data"][0]
    video = client.get(f"/v1/videos/{hit['video']}").json()
    assert (video["id"], video["name"]) == (hit["video"], hit["name"])
    assert {track["expert"] for track in video["tracks"]} <= set(searcher.library.experts())
    assert video["captions"]
    assert client.get(video["thumbnail"]).content[:2] == b"\xff\xd8"
    assert client.get("/v1/videos/0123456789abcdef").status_code == 404


def test_sources_alone_count_names_and_captions_included(client: TestClient, searcher: Searcher) -> None:
    def reasons(**question: object) -> set[str]:
        answer = client.post("/v1/search", json={"query": "a cat", "limit": 50, **question})
        assert answer.status_code == 200, answer.text
        return {why["modality"] for hit in answer.json()["data"] for why in hit["why"]}

    assert {"captions", "object"} <= reasons()
    assert reasons(sources=["object"]) == {"object"}
    assert "captions" in reasons(sources=["object", "captions"])


def test_an_answer_says_what_the_command_line_says_of_it(client: TestClient, searcher: Searcher) -> None:
    question = {"query": "a cat before:2100", "then": {"query": "一只猫", "within": 30}}
    notes = client.post("/v1/search", json=question).json()["notes"]
    assert notes == searcher.notes(question["query"], then=Then("一只猫", within=30))
    assert [any(words in note for note in notes) for words in ("dates:", "word for word only")] == [True, True]
