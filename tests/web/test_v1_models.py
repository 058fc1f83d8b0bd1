"""Models that were trained here: listed, searched with once they are indexed, and closed to make room."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from reelseek.library import Library
from reelseek.search import Searcher
from reelseek.training import read_recipe, train
from reelseek.web import models
from reelseek.web.app import create_app
from reelseek.web.service import Service, serve_library

RECIPE = {"model": {"system": "mee"}, "train": {"epochs": 1, "batch": 16}}


@pytest.fixture
def client(library_path: Path, tmp_path: Path) -> Iterator[TestClient]:
    """A server of a library, with a state folder that holds the model `mine`, of which there is no index yet."""
    with Library.open(shutil.copytree(library_path, tmp_path / "films")) as library:
        train(read_recipe(RECIPE), library, tmp_path / "state" / "models" / "mine")
        service = Service([serve_library(Searcher(library))], state=tmp_path / "state")
        with TestClient(create_app(service), base_url="http://127.0.0.1") as client:
            yield client


def _rows(client: TestClient) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in client.get("/v1/models").json()["data"]}


@pytest.mark.long
def test_a_trained_model_searches_once_it_is_indexed(client: TestClient, tmp_path: Path) -> None:
    mine = tmp_path / "state" / "models" / "mine"
    body = {"query": "a cat", "limit": 5, "model": "mine"}
    refused = client.post("/v1/search", json=body)
    assert (refused.status_code, "start a job of the kind `index`" in refused.json()["detail"]) == (409, True)
    rows = _rows(client)
    assert [(row["default"], row["searchable"]) for row in rows.values()] == [(True, True), (False, False)]
    assert "not indexed" in rows["mine"]["note"]
    with Library.open(tmp_path / "films") as library:
        searcher = Searcher(library, mine)
        expected = searcher.search("a cat", k=5)
        curve = searcher.within("a cat", expected[0].video, k=1).hits[0]
        assert (_rows(client)["mine"]["searchable"], _rows(client)["mine"]["clips"]) == (True, searcher.index.live)
    answer = client.post("/v1/search", json=body).json()
    assert [(hit["name"], hit["start"], hit["score"]) for hit in answer["data"]] == [
        (hit.video, hit.start, pytest.approx(hit.similarity, abs=1e-6)) for hit in expected
    ]
    parameters = {"q": "a cat", "model": "mine"}
    inside = client.get(f"/v1/videos/{answer['data'][0]['video']}/curve", params=parameters).json()
    assert inside["peaks"][0]["score"] == pytest.approx(curve.similarity, abs=1e-4)
    other = client.post("/v1/search", json={**body, "model": "concepts"}).json()
    assert [hit["score"] for hit in other["data"]] != [hit["score"] for hit in answer["data"]]
    # A token is of one model's hits; a model that cannot be read any more is said to be that.
    token = client.post("/v1/search", json={**body, "limit": 1}).json()["page"]["next_token"]
    assert client.post("/v1/search", json={**body, "model": "concepts", "page_token": token}).status_code == 400
    (mine / "model.safetensors").write_bytes(b"no weights")
    (mine / "config.json").touch()
    assert (_rows(client)["mine"]["searchable"], bool(_rows(client)["mine"]["note"])) == (False, True)
    assert client.post("/v1/search", json=body).status_code in (400, 409, 422)


@pytest.mark.long
def test_models_that_are_idle_make_room(client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_MOST_OPEN", 1)
    folder = tmp_path / "state" / "models"
    shutil.copytree(folder / "mine", folder / "same")
    with Library.open(tmp_path / "films") as library:
        Searcher(library, folder / "mine")
    for _ in range(2):
        for name in ("mine", "same"):
            assert client.post("/v1/search", json={"query": "a cat", "model": name}).status_code == 200
            assert len(client.app.state.service.models._open) == 1
