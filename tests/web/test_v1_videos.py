"""Lists of videos, what a video says of itself, pictures, uploads that expire, and what the server says of itself."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from reelseek.library import Library
from reelseek.library.records import Failure
from reelseek.search import Searcher
from reelseek.search.hit import Why
from reelseek.web import uploads
from reelseek.web.app import create_app
from reelseek.web.media import opaque_id
from reelseek.web.problems import Problem
from reelseek.web.service import Service, serve_library
from reelseek.web.uploads import Uploads
from reelseek.web.v1.hits import reason_json


@pytest.fixture(scope="module")
def searcher(library_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    """Of a library in which something of two videos failed, one of them altogether."""
    folder = tmp_path_factory.mktemp("failed") / "library"
    shutil.copytree(library_path, folder)
    library = Library.open(folder)
    first = library.videos()[0]
    with library.saving():
        library.catalog.failures.put(Failure(first.id, "speech", f"{first.path}: no such sound", 2), None, None)
        library.catalog.failures.put(Failure("broken.mp4", "", "it is no video", 1), None, None)
    return Searcher(library)


@pytest.fixture
def client(searcher: Searcher) -> Iterator[TestClient]:
    with TestClient(create_app(Service([serve_library(searcher)])), base_url="http://127.0.0.1") as client:
        yield client


def test_videos_are_listed_page_by_page_filtered_and_by_what_failed(client: TestClient, searcher: Searcher) -> None:
    names, token = [], None
    while True:
        page = client.get("/v1/videos", params={"limit": 3, **({"page_token": token} if token else {})}).json()
        assert len(page["data"]) <= 3
        names += [row["name"] for row in page["data"]]
        if (token := page["page"]["next_token"]) is None:
            break
    videos = searcher.library.videos()
    assert names == [video.id for video in videos]
    rows = client.get("/v1/videos").json()["data"]
    assert [row["size"] for row in rows] == [video.path.stat().st_size for video in videos]
    assert [row["failed"] for row in rows] == [1, *[0] * (len(videos) - 1)]
    (named,) = client.get("/v1/videos", params={"filter": "name:film0001"}).json()["data"]
    assert named["name"].startswith("film0001")
    failed = client.get("/v1/videos", params={"failed": True}).json()["data"]
    assert [(row["name"], row["failed"], row["play"] is None) for row in failed] == [
        ("broken.mp4", 1, True), (videos[0].id, 1, False),
    ]  # fmt: skip
    wrong = ({"filter": "nme:x"}, {"page_token": "x"}, {"page_token": "WzFd"}, {"failed": True, "filter": "name:x"})
    assert [client.get("/v1/videos", params=one).status_code for one in wrong] == [400, 400, 400, 422]


def test_a_video_has_its_texts_shots_captions_and_failures(client: TestClient, searcher: Searcher) -> None:
    library, video = searcher.library, searcher.library.videos()[0]
    row = client.get(f"/v1/videos/{opaque_id(video.id)}").json()
    assert [track["expert"] for track in row["tracks"]] == sorted(
        track.expert for track in library.catalog.tracks.of_owners(video.owners)
    )
    assert [text["text"] for text in row["texts"]] == [t.text for o in video.owners for _, t in library.texts(o)]
    assert row["captions"] == client.get(f"/v1/videos/{opaque_id(video.id)}/captions").json()["data"]
    assert [caption["text"] for caption in row["captions"]] == [
        c.text for c in library.captions() if c.video == video.id
    ]
    assert (row["shots"][0][0], row["shots"][-1][1]) == (0, pytest.approx(video.duration))
    (failure,) = row["failures"]
    assert (failure["expert"], failure["attempts"]) == ("speech", 2)
    assert str(video.path.parent) not in str(row)  # where files lie is nobody's business
    assert "no such sound" in failure["reason"]


def test_strips_have_as_many_frames_as_are_asked_for(client: TestClient, searcher: Searcher, tmp_path: Path) -> None:
    address = f"/v1/videos/{opaque_id(searcher.library.videos()[0].id)}/strip"
    widths = []
    for frames in (1, 4):
        (tmp_path / "strip.jpg").write_bytes(client.get(address, params={"end": 2, "frames": frames}).content)
        with Image.open(tmp_path / "strip.jpg") as picture:
            widths.append(picture.width)
            assert picture.height == 120
    assert widths[1] == 4 * widths[0]
    for wrong in ({"start": 5, "end": 4}, {"frames": 0}, {"frames": 31}, {"start": -1}, {"start": "nan"}):
        answer = client.get(address, params=wrong)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


def test_a_page_of_a_library_that_has_changed_is_refused_in_words(client: TestClient, searcher: Searcher) -> None:
    body = {"query": "a cat", "limit": 2}
    token = client.post("/v1/search", json=body).json()["page"]["next_token"]
    assert client.post("/v1/search", json={**body, "page_token": token}).status_code == 200
    with Library.open(searcher.library.path) as writer, writer.saving():
        writer.catalog.failures.put(Failure("other.mp4", "", "it is no video", 1), None, None)
    answer = client.post("/v1/search", json={**body, "page_token": token})
    assert (answer.status_code, "ask again from the first page" in answer.json()["detail"]) == (409, True)
    assert client.post("/v1/search", json=body).status_code == 200


@pytest.mark.parametrize(
    ("modality", "matched", "sentence"),
    [
        ("speech", "the cake is ready", "heard: “the cake is ready”"),
        ("ocr", "EXIT", "on screen: EXIT"),
        ("object", "dog", "looks like: dog"),
        ("audio", "", "it sounds like it"),
        ("machine-written", "a dog runs", "described as: a dog runs"),
    ],
)
def test_reasons_are_sentences(searcher: Searcher, modality: str, matched: str, sentence: str) -> None:
    served = serve_library(searcher)
    try:
        reason = reason_json(served, Why(modality, 0.5, matched))
        assert (reason.sentence, reason.matched, reason.gave) == (sentence, matched, 0.5)
        long = reason_json(served, Why(modality, 0.5, "x" * 600 + "\ud800"))
        assert long.matched == "x" * 500 + "…"
    finally:
        served.close()


# Uploads


async def _parts(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def test_uploads_expire_make_room_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    store = Uploads(tmp_path, clock=lambda: now[0])
    monkeypatch.setattr(uploads, "_MOST_UPLOADS", 2)

    def add(content: bytes) -> str:
        return store.add(asyncio.run(store.receive(_parts(content), "image")), "image", None, "ann").id

    first, second, third = add(b"1"), add(b"2"), add(b"3")
    with pytest.raises(Problem):
        store.get(first, "ann")
    assert store.get(second, "ann").path.read_bytes() == b"2"
    with pytest.raises(Problem):
        store.get(second, "bob")
    now[0] += 3601
    with pytest.raises(Problem, match="no such upload"):
        store.get(third, "ann")
    assert [path for folder in tmp_path.iterdir() for path in folder.iterdir()] == []
    with pytest.raises(Problem):
        asyncio.run(store.receive(_parts(), "image"))
    store.close()
    assert list(tmp_path.iterdir()) == []


# The server


def test_the_server_says_how_it_is_and_what_it_did(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service([serve_library(searcher, "films")])
    with TestClient(create_app(service), base_url="http://127.0.0.1") as client:
        assert client.get("/readyz").json() == {"status": "ready"}
        for _ in range(3):
            client.get("/v1/models")
        client.head("/v1/models")
        client.get(f"/v1/videos/{'0' * 24}")
        client.get("/v1/nothing/of/this/kind")
        text = client.get("/metrics").text
        assert 'reelseek_http_requests_total{method="GET",route="/v1/models",status="200"} 3.0' in text
        assert 'reelseek_http_requests_total{method="GET",route="/v1/videos/{id}",status="404"} 1.0' in text
        assert 'reelseek_http_requests_total{method="HEAD",route="/v1/models",status="200"} 1.0' in text
        assert 'route="other",status="404"' in text
        assert "nothing" not in text
        assert f'reelseek_videos{{library="films"}} {len(searcher.library.videos())}.0' in text
        assert f'reelseek_clips{{library="films"}} {searcher.index.live}.0' in text

        def unreadable() -> int:
            raise OSError("the disk is gone")

        monkeypatch.setattr(searcher.library, "revision", unreadable)
        answer = client.get("/readyz")
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert client.get("/healthz").status_code == 200
