"""Reviewing inside the application: verdicts under the account's name, for who may see the library."""

import json
from pathlib import Path

import pytest
from tests.web.conftest import Team

from reelseek.overlap.pairs import Pair
from reelseek.overlap.scan import Scan, ScanOptions, save_scan
from reelseek.overlap.verdicts import Verdicts


def write_scan(folder: Path, library: Path, names: list[str], identifier: str = "scan1", count: int = 6) -> None:
    """A scan of some videos of a library, as its job leaves it."""
    every = [(one, two) for place, one in enumerate(names) for two in names[place + 1 :]][:count]
    pairs = tuple(Pair(one, two, 0.9 - place / 10, 0.5, 1.0, 3.0) for place, (one, two) in enumerate(every))
    scan = Scan(str(library), "", ScanOptions("test", "train"), {}, {}, {}, (), (), len(pairs), None, pairs)
    folder.mkdir(exist_ok=True)
    save_scan(folder / f"{identifier}.jsonl", scan)


@pytest.fixture
def reviewed(team: Team) -> Team:
    library = team.libraries["other"]
    names = [video.id for video in library.videos()]
    write_scan(team.services.folder.path / "scans", library.path, names)
    write_scan(team.services.folder.path / "scans", library.path / "elsewhere", names, "of-no-library")
    yield team
    (library.path / "decisions.jsonl").unlink(missing_ok=True)


def test_two_accounts_judge_under_their_names(reviewed: Team) -> None:
    ann, bo = reviewed.token(["review"]), reviewed.token(["review", "read"])
    client, path = reviewed.client, "/v1/reviews/scan1"
    (row,) = client.get("/v1/reviews", headers=ann).json()["data"]
    assert (row["id"], row["library"], row["title"]) == ("scan1", "other", "test and train")
    assert (row["counts"]["pairs"], row["reviewers"]) == (6, {})
    first = client.post(f"{path}/queue", json={"count": 2}, headers=ann).json()["data"]
    second = client.post(f"{path}/queue", json={"count": 2}, headers=bo).json()["data"]
    assert [pair["place"] for pair in first + second] == [0, 1, 2, 3]  # what Ann has is not Bo's
    side = first[0]["test"]
    strip = client.get(f"{side['strip']}&start=0.5&end=2&frames=6&height=60", headers=bo)
    assert strip.headers["content-type"] == "image/jpeg"
    assert client.get(side["play"], headers={**bo, "Range": "bytes=0-9"}).status_code == 206
    verdict = {"places": [0], "verdict": "duplicate"}
    assert client.post(f"{path}/verdicts", json={**verdict, "who": "bo"}, headers=ann).status_code == 422
    said = client.post(f"{path}/verdicts", json=verdict, headers=ann).json()["data"][0]["said"]
    name = client.get(path, headers=ann).json()["who"]
    assert [(opinion["who"], opinion["verdict"]) for opinion in said] == [(name, "duplicate")]
    refused = client.post(f"{path}/verdicts", json={"places": [1], "verdict": "not"}, headers=bo)
    assert (refused.status_code, name in refused.json()["detail"]) == (400, True)
    assert client.post(f"{path}/leave", headers=ann).status_code == 200
    assert client.post(f"{path}/verdicts", json={"places": [1], "verdict": "not"}, headers=bo).status_code == 200
    below = client.post(f"{path}/below", json={"below": 0.65}, headers=bo).json()
    assert (below["judged"], below["before"], below["counts"]["not"]) == (3, 0, 4)
    undone = client.post(f"{path}/undo", headers=ann).json()
    assert (undone["place"], undone["verdict"], undone["card"]["mine"]) == (0, "duplicate", None)
    other = client.get(path, headers=bo).json()["who"]
    log = Verdicts(reviewed.libraries["other"].path / "decisions.jsonl")
    assert [(opinion.who, opinion.verdict) for opinion in log.opinions()] == [(other, "not")] * 4
    assert client.get(path, headers=ann).json()["reviewers"] == {other: 4}
    mine = client.get(f"{path}/pairs", params={"view": "mine"}, headers=bo).json()
    assert ([pair["place"] for pair in mine["data"]], mine["more"]) == ([1, 3, 4, 5], 0)
    assert client.get(f"{path}/agreement", headers=bo).json() == {"data": [], "more": 0}
    actions = [(row["action"].rpartition("/")[2], row["who"]) for row in reviewed.services.audit.rows()]
    assert [row for row in actions if row[0] in ("queue", "leases", "leave")] == []
    assert actions[:2] == [("undo", name), ("below", other)]


def test_who_may_not_see_the_library_sees_no_review_of_it(reviewed: Team) -> None:
    stranger, reader = reviewed.token(["review"], libraries=["library"]), reviewed.token(["read"])
    assert reviewed.client.get("/v1/reviews", headers=stranger).json()["data"] == []
    for path in ("scan1", "of-no-library", "..%2fscan1", "nothing"):
        answer = reviewed.client.get(f"/v1/reviews/{path}", headers=stranger)
        assert answer.status_code in (404, 422), path
    assert reviewed.client.get("/v1/reviews/scan1", headers=reader).status_code == 403


def test_two_opinions_a_pair_are_asked_for_if_a_writer_says_so(reviewed: Team) -> None:
    writer, ann, bo = reviewed.token(["write"]), reviewed.token(["review"]), reviewed.token(["review"])
    client, path = reviewed.client, "/v1/reviews/scan1"
    assert client.patch(path, json={"opinions": 2}, headers=ann).status_code == 403
    assert client.patch(path, json={"opinions": 2}, headers=writer).json()["opinions"] == 2
    for header, verdict in ((ann, "duplicate"), (bo, "not")):
        (pair,) = client.post(f"{path}/queue", json={"count": 1}, headers=header).json()["data"]
        assert (pair["place"], pair["said"]) == (0, [])  # each judges without the other's opinion
        body = {"places": [0], "verdict": verdict}
        assert client.post(f"{path}/verdicts", json=body, headers=header).status_code == 200
    disputed = client.get(f"{path}/pairs", params={"view": "disagreements"}, headers=ann).json()["data"]
    assert [len(pair["said"]) for pair in disputed] == [2]
    reviewed.services.reviews._open.clear()  # as after a restart
    assert client.get(path, headers=ann).json()["opinions"] == 2


def test_a_scan_that_was_made_anew_is_read_anew_and_a_damaged_one_left_out(reviewed: Team) -> None:
    header, library = reviewed.token(["review"]), reviewed.libraries["other"]
    assert reviewed.client.get("/v1/reviews/scan1", headers=header).json()["counts"]["pairs"] == 6
    write_scan(reviewed.services.folder.path / "scans", library.path, [video.id for video in library.videos()], count=3)
    assert reviewed.client.get("/v1/reviews/scan1", headers=header).json()["counts"]["pairs"] == 3
    broken = reviewed.services.folder.path / "scans" / "broken.jsonl"
    broken.write_text("no pair\n")
    broken.with_name("broken.jsonl.scan.json").write_text(json.dumps({"source": str(library.path)}))
    assert [row["id"] for row in reviewed.client.get("/v1/reviews", headers=header).json()["data"]] == ["scan1"]
    assert reviewed.client.get("/v1/reviews/broken", headers=header).status_code in (422, 404)
