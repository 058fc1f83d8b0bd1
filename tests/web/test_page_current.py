"""A page that is open while another process changes its library."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from reelseek.library import Library
from reelseek.search import Searcher
from reelseek.web.app import create_app
from reelseek.web.service import Service, serve_library


@pytest.mark.long
def test_what_is_removed_while_it_is_served_is_listed_no_more_and_nothing_fails(
    library_path: Path, tmp_path: Path
) -> None:
    shutil.copytree(library_path, tmp_path / "library")
    with (
        Library.open(tmp_path / "library") as library,
        TestClient(create_app(Service([serve_library(Searcher(library))])), base_url="http://127.0.0.1") as client,
    ):
        listed = lambda: client.post("/v1/search", json={"query": "a cat", "limit": 50}).json()["data"]  # noqa: E731
        removed = listed()[0]
        videos = {hit["video"] for hit in listed()}
        command = [sys.executable, "-m", "reelseek.cli.main", "remove", str(library.path), removed["name"]]
        subprocess.run(command, timeout=600, check=True)
        assert {hit["video"] for hit in listed()} == videos - {removed["video"]}
        for address in (removed["thumbnail"], f"/v1/videos/{removed['video']}/curve?q=a"):
            answer = client.get(address)
            assert 400 <= answer.status_code < 500
            assert answer.headers["content-type"] == "application/problem+json"
