"""Videos that another process removes, files that vanish, and files that cannot be decoded, while a page shows them."""

import os
import shutil
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from reelseek.library import Library
from reelseek.overlap.verdicts import Review, Verdicts
from reelseek.search import Searcher
from reelseek.web.app import create_app
from reelseek.web.media import opaque_id
from reelseek.web.review import create_review


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


def _address(name: str, what: str) -> str:
    return f"/api/videos/{opaque_id(name)}/{what}"


def test_removed_vanished_and_damaged(own_library: Path, tmp_path: Path) -> None:
    library = Library.open(own_library)
    search = TestClient(create_app(Searcher(library)), base_url="http://127.0.0.1")
    review = Review([], [], Verdicts(tmp_path / "said.jsonl"))
    strips = TestClient(create_review(review, library, title="x"), base_url="http://127.0.0.1")
    removed, vanished, damaged, *_ = [video.id for video in library.videos()]
    routes = [(search, "media", 200), (search, "thumbnail?at=1", 200), (search, "curve?q=cat", 200),
              (strips, "strip?start=1", 200), (strips, "media", 200)]  # fmt: skip
    for client, what, status in routes:
        assert client.get(_address(removed, what)).status_code in (status, 503)
        unknown = client.get(f"/api/videos/{'0' * 24}/{what}")
        assert (unknown.status_code, unknown.json()["status"]) == (404, 404)
    with Library.open(own_library) as other:
        other.remove([removed])
        (other.video(vanished).path).unlink()
        other.video(damaged).path.write_bytes(os.urandom(5000))
    for client, what, _ in routes:
        gone = client.get(_address(removed, what))
        assert (gone.status_code, "removed" in gone.json()["detail"]) == (410, True), what
        if what.startswith(("media", "strip")):
            gone = client.get(_address(vanished, what))
            assert (gone.status_code, "moved or deleted" in gone.json()["detail"]) == (410, True), what
            bad = client.get(_address(damaged, what))
            assert (bad.status_code, "not a readable media file" in bad.json()["detail"]) == (422, True), what
            assert damaged in bad.json()["detail"]
            assert str(tmp_path) not in bad.text  # where files lie is nobody's business
    library.close()


def test_a_video_that_is_added_meanwhile_is_served(own_library: Path) -> None:
    library = Library.open(own_library)
    client = TestClient(create_app(Searcher(library)), base_url="http://127.0.0.1")
    assert client.get(_address("new", "thumbnail")).status_code == 404
    with Library.open(own_library) as other, other.db:
        other.db.execute("INSERT INTO videos (id) VALUES ('new')")
    time.sleep(1.1)  # it looks once a second
    answer = client.get(_address("new", "thumbnail"))
    assert (answer.status_code, answer.json()["detail"]) == (404, "the video has no pictures")
    library.close()
