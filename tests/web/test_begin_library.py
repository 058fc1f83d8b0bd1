"""Libraries that are begun over HTTP: their names are those of folders of the server, and of nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from reelseek.web.app import create_app
from reelseek.web.jobs.roots import Roots
from reelseek.web.service import Service
from reelseek.web.state import StateFolder
from reelseek.web.state_services import StateServices


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """A server without libraries, whose jobs wait."""
    folder = StateFolder(tmp_path / "state")
    assert folder.claim()
    services = StateServices.open(folder, roots=Roots([tmp_path]))
    with TestClient(create_app(Service([]), services=services), base_url="http://127.0.0.1") as client:
        yield client


def _begin(client: TestClient, name: str, path: Path) -> int:
    return client.post("/v1/libraries", json={"name": name, "arguments": {"paths": [str(path)]}}).status_code


def test_a_name_is_no_path(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "state" / "libraries").mkdir()
    before = sorted(tmp_path.rglob("*.db"))
    for name in ("../x", "../../x", "x/y", "..", ".x", "/tmp/x", "a b", "a\n", "\na", "a" * 65, ""):
        assert _begin(client, name, tmp_path) == 422, name
    assert sorted(tmp_path.rglob("*.db")) == before
    assert client.get("/v1/libraries").json() == {"data": []}


def test_what_could_not_be_begun_can_be_begun_later(client: TestClient, tmp_path: Path) -> None:
    obstacle = tmp_path / "state" / "libraries" / "films"
    obstacle.parent.mkdir()
    obstacle.write_text("a file where the folder shall be")
    assert _begin(client, "films", tmp_path) >= 400
    assert client.get("/v1/libraries").json() == {"data": []}
    obstacle.unlink()
    assert _begin(client, "films", tmp_path) == 202
    assert [row["name"] for row in client.get("/v1/libraries").json()["data"]] == ["films"]
    assert _begin(client, "films", tmp_path) == 400  # the name is taken


def test_a_job_that_is_over_or_waits_says_so_in_words(client: TestClient, tmp_path: Path) -> None:
    assert _begin(client, "films", tmp_path) == 202
    (job,) = client.get("/v1/jobs").json()["data"]
    address = f"/v1/jobs/{job['id']}"
    assert client.post(f"{address}/retry").json()["detail"].startswith("the job waits; only")
    assert client.post(f"{address}/cancel").json()["state"] == "cancelled"
    assert client.post(f"{address}/cancel").json()["detail"] == "it was cancelled already"
    assert client.post(f"{address}/retry").status_code == 202
    assert client.post(f"{address}/retry").status_code == 409
    assert client.get(f"{address}/events", headers={"Last-Event-ID": "x"}).status_code == 422
