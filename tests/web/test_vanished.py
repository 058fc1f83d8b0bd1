"""Videos that another process removes, files that vanish, and files that cannot be decoded, while a page shows them."""

import functools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from reelseek.experts.expert import Text
from reelseek.library import Library
from reelseek.overlap.verdicts import Review, Verdicts
from reelseek.search import Searcher
from reelseek.web.app import create_app
from reelseek.web.media import opaque_id
from reelseek.web.review import create_review
from reelseek.web.service import Service, serve_library
from reelseek.web.v1.inside import thin


@pytest.fixture
def serve() -> Iterator[Callable[[Library], TestClient]]:
    """Serves a library; ends when the test does."""
    services: list[Service] = []

    def start(library: Library) -> TestClient:
        services.append(Service([serve_library(Searcher(library))]))
        return TestClient(create_app(services[-1]), base_url="http://127.0.0.1")

    yield start
    for service in services:
        service.close()
        for served in service.libraries():
            served.library.close()


@pytest.fixture
def own_library(library_path: Path, archive: Path, tmp_path: Path) -> Path:
    """A copy of the library, of which things may be taken."""
    shutil.copytree(library_path, tmp_path / "library")
    shutil.copytree(archive, tmp_path / "archive")
    with Library.open(tmp_path / "library") as library, library.db:
        for video in library.videos():
            moved = os.fsencode(tmp_path / "archive" / video.path.name)
            library.db.execute("UPDATE videos SET path = ? WHERE id = ?", (moved, video.id))
    return tmp_path / "library"


def _address(name: str, what: str, *, review: bool = False) -> str:
    return f"/{'api' if review else 'v1'}/videos/{opaque_id(name)}/{what}"


def test_removed_vanished_and_damaged(
    own_library: Path, tmp_path: Path, serve: Callable[[Library], TestClient]
) -> None:
    library = Library.open(own_library)
    search = serve(library)
    review = Review([], [], Verdicts(tmp_path / "said.jsonl"))
    strips = TestClient(create_review(review, library, title="x"), base_url="http://127.0.0.1")
    removed, vanished, damaged, *_ = [video.id for video in library.videos()]
    routes = [(search, "media", 200), (search, "thumbnail?at=1", 200), (search, "curve?q=cat", 200),
              (strips, "strip?start=1", 200), (strips, "media", 200)]  # fmt: skip
    for client, what, status in routes:
        address = functools.partial(_address, what=what, review=client is strips)
        assert client.get(address(removed)).status_code in (status, 503)
        unknown = client.get(address("unknown"))
        assert (unknown.status_code, unknown.json()["status"]) == (404, 404)
    with Library.open(own_library) as other:
        other.remove([removed])
        (other.video(vanished).path).unlink()
        other.video(damaged).path.write_bytes(os.urandom(5000))
    for client, what, _ in routes:
        address = functools.partial(_address, what=what, review=client is strips)
        gone = client.get(address(removed))
        assert (gone.status_code, "removed" in gone.json()["detail"]) == (410, True), what
        if what.startswith(("media", "strip")):
            gone = client.get(address(vanished))
            assert (gone.status_code, "moved or deleted" in gone.json()["detail"]) == (410, True), what
            bad = client.get(address(damaged))
            assert (bad.status_code, "not a readable media file" in bad.json()["detail"]) == (422, True), what
            assert damaged in bad.json()["detail"]
            assert str(tmp_path) not in bad.text  # where files lie is nobody's business


def test_a_video_that_is_added_meanwhile_is_served(own_library: Path, serve: Callable[[Library], TestClient]) -> None:
    library = Library.open(own_library)
    client = serve(library)
    assert client.get(_address("new", "thumbnail")).status_code == 404
    with Library.open(own_library) as other, other.db:
        other.db.execute("INSERT INTO videos (id) VALUES ('new')")
    time.sleep(1.1)  # it looks once a second
    answer = client.get(_address("new", "thumbnail"))
    assert (answer.status_code, answer.json()["detail"]) == (404, "the video has no pictures")


def test_answers_stay_bounded_whatever_the_library_holds(
    own_library: Path, serve: Callable[[Library], TestClient]
) -> None:
    library = Library.open(own_library)
    video = library.videos()[0]
    with library.saving():
        lines = [Text(f"zebra {number} " + "z" * 100_000 * (number == 0), 1.0, 2.0, "said") for number in range(10_000)]
        library.put_texts(video.owners[0], "speech", lines)
        rows = [(video.id, 1000 + number, f"a zebra {number}") for number in range(20_000)]
        library.db.executemany("INSERT INTO captions (video, position, text) VALUES (?, ?, ?)", rows)
    client = serve(library)
    answer = client.post("/v1/search", json={"query": "zebra 0", "limit": 100})
    assert answer.status_code == 200
    assert len(answer.content) < 100_000
    whys = [why for hit in answer.json()["data"] for why in hit["why"]]
    assert max(len(why["matched"]) for why in whys) <= 501
    assert len(client.get(_address(video.id, "curve?q=zebra")).content) < 100_000


def test_a_curve_of_a_day_comes_in_two_hours_values() -> None:
    seconds = np.arange(86_400.0)
    values = np.sin(seconds / 500)
    spans, curve, merged = thin(np.stack([seconds, seconds + 1], axis=1), values)
    assert (len(spans), len(curve), merged) == (7200, 7200, 12)
    assert curve.max() == values.max()
    assert (spans[0].tolist(), spans[-1].tolist()) == ([0, 12], [86_388, 86_400])
    assert curve[5] == values[60:72].max()
    assert thin(spans[:5], curve[:5])[2] == 1
