"""Reports over HTTP: figures of jobs with intervals, pages that run nothing, and for whom they are."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from reelseek.web.app import create_app
from reelseek.web.jobs.queue import JobQueue
from reelseek.web.reports import Reports
from reelseek.web.service import SCOPES, Caller, Service
from reelseek.web.state import StateFolder
from reelseek.web.state_services import StateServices

EVERYBODY = Caller("ada", SCOPES)
SCRIPT = "<script>document.title = 'ran'</script>"


def direction(recall: float, queries: int = 40) -> dict[str, float]:
    """Metrics of one direction as `evaluate --json` has them."""
    recalls = {f"recall_at_{k}": recall for k in (1, 5, 10, 50)}
    return {**recalls, "median_rank": 2.0, "mean_rank": 3.25, "queries": queries}


def add_evaluation(
    queue: JobQueue, model: str, recall: float, *, library: str = "films", split_hash: str = "aa"
) -> str:
    """A job that evaluated a model, as its runner leaves it."""
    identifier = queue.add("evaluate", library, Path("/films"), {"model": model, "split": "test"}, by="ada").id
    measured = {
        "text_to_video": direction(recall), "video_to_text": direction(0.0), "gallery": 9, "queries": 40,
        "protocol": "strict", "says": "every caption a query", "split": "test", "split_hash": split_hash,
        "by_modalities": {"object<b>": direction(1.0, 2)}, "warnings": ["seen in training"], "published_gallery": 1000,
    }  # fmt: skip
    queue.claim()
    queue.finish(identifier, "succeeded", result={"documents": [measured]})
    return identifier


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateServices]:
    folder = StateFolder(tmp_path / "state")
    assert folder.claim()
    services = StateServices.open(folder)
    yield services
    services.close()


def test_an_evaluation_is_tables_with_intervals_beside_others_of_the_same_queries(state: StateServices) -> None:
    queue, reports = state.jobs.queue, state.reports
    first = add_evaluation(queue, "concepts", 0.5)
    add_evaluation(queue, "mine", 0.625)
    add_evaluation(queue, "mine", 0.9, split_hash="bb")
    add_evaluation(queue, "mine", 0.9, library="other")
    failed = queue.add("evaluate", "films", Path("/films"), {"model": "concepts"}, by="ada").id
    queue.claim()
    queue.finish(failed, "failed", error="no such split")
    rows = reports.all(EVERYBODY)
    assert (len(rows), rows[-1].title) == (4, "concepts on test")
    assert rows[-1].summary == "R@1 50.0 [35.2, 64.8] text to video"  # Wilson's interval of 20 of 40
    report = reports.get(f"evaluation-{first}", EVERYBODY)
    assert report is not None
    tables = {table.title: table for table in report.tables}
    assert tables["Both directions"].rows[0].cells[1] == "50.0 [35.2, 64.8]"
    assert tables["Both directions"].rows[1].cells[1] == "0.0 [0.0, 8.8]"
    beside = tables["Models side by side, text to video"].rows
    assert [(row.cells[0], row.cells[1][:4]) for row in beside] == [("mine", "62.5"), ("concepts (this one)", "50.0")]
    assert [row.report is None for row in beside] == [False, True]
    assert report.notes[1] == "seen in training"
    assert "1000 videos" in report.notes[2]
    other = Caller("bo", SCOPES, frozenset(["other"]))
    assert [row.library for row in reports.all(other)] == ["other"]
    assert reports.get(f"evaluation-{first}", other) is None
    assert reports.get(f"training-{first}", EVERYBODY) is None


def test_a_training_is_its_epochs_and_what_was_measured_since(state: StateServices) -> None:
    folder = state.folder.path / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"system": "mmt", "steps": 20, "warnings": ["few clips"]}))
    header = "epoch,loss,recall_at_1,recall_at_5,recall_at_10,median_rank,mean_rank,score,best\n"
    (folder / "log.csv").write_text(
        f"{header}0,nan,0.1,0.2,0.3,9.0,9.5,0.2,False\n1,0.5,0.2,0.4,0.6,3.0,4.5,0.4,True\n"
    )
    queue = state.jobs.queue
    job = queue.add("train", "films", Path("/films"), {"name": "mine", "recipe": ""}, by="ada").id
    queue.claim()
    queue.finish(job, "succeeded", result={"output": ""})
    measured = add_evaluation(queue, "mine", 0.5)
    report = state.reports.get(f"training-{job}", EVERYBODY)
    assert report is not None
    assert [list(row.cells) for row in report.tables[0].rows] == [
        ["0", "", "10.0", "20.0", "30.0", "9", "9.5", ""], ["1", "0.5000", "20.0", "40.0", "60.0", "3", "4.5", "best"],
    ]  # fmt: skip
    assert [row.report for row in report.tables[1].rows] == [f"evaluation-{measured}"]
    assert report.notes == ["System mmt, 20 steps.", "few clips"]
    (folder / "log.csv").unlink()
    gone = state.reports.get(f"training-{job}", EVERYBODY)
    assert gone is not None
    assert "no longer" in gone.notes[0]


def test_a_page_is_shown_without_programs_to_who_may_see_all(state: StateServices, tmp_path: Path) -> None:
    folder = state.folder.path / "reports"
    (folder / "my table-runs").mkdir(parents=True)
    (folder / "my table.html").write_text(f"<title>Systems</title>{SCRIPT}<a href='my table-runs/a.run'>a</a>")
    (folder / "my table-runs" / "a.run").write_text("q0 Q0 film 1 0.5 a\n")
    (folder / "my table.svg").write_text(f"<svg xmlns='http://www.w3.org/2000/svg'>{SCRIPT}</svg>")
    (folder / "other.md").write_text("# of no page")
    (tmp_path / "secret.html").write_text("secret")
    (folder / "linked.html").symlink_to(tmp_path / "secret.html")
    client = TestClient(create_app(Service([]), services=state), base_url="http://127.0.0.1")
    (row,) = client.get("/v1/reports").json()["data"]
    assert (row["id"], row["kind"], row["title"]) == ("page-my table", "page", "Systems")
    report = client.get(f"/v1/reports/{row['id']}").json()
    assert [file["name"] for file in report["files"]] == ["my table.html", "my table.svg", "my table-runs/a.run"]
    page = client.get(report["page"])
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for file in report["files"]:
        policy = client.get(file["url"]).headers["content-security-policy"]
        assert policy.startswith("sandbox; default-src 'none'"), file
        assert "script" not in policy, file
    assert client.get(report["files"][2]["url"]).headers["content-type"].startswith("text/plain")
    for name in ("../jobs.db", "other.md", "..%2f..%2fsecret.html", "%2fetc%2fpasswd"):
        assert client.get(f"/v1/reports/page-my%20table/files/{name}").status_code == 404, name
    assert client.get("/v1/reports/page-linked").status_code == 404
    assert Reports(state.folder.path, state.jobs.queue).all(Caller("bo", SCOPES, frozenset(["other"]))) == []
