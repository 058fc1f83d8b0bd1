"""Every route of `/v1` without and with each scope: who may not is refused, who may is not."""

from collections.abc import Iterator

import pytest
from tests.web.conftest import PASSWORD, Team

SCOPES = ("read", "review", "write", "admin")
# What each route takes; a route that is not here fails the test below, so that none is added without a decision.
TAKES = {
    "add_job": "write", "list_jobs": "read", "get_job": "read", "cancel_job": "write", "retry_job": "write",
    "follow_job": "write", "list_libraries": "read", "begin_library": "admin", "get_library": "read",
    "watch_folders": "write", "list_collections": "read", "add_collection": "review", "get_collection": "read",
    "change_collection": "review", "remove_collection": "review", "keep_moments": "review", "drop_moments": "review",
    "share_collection": "review", "unshare_collection": "review", "export_collection": "read",
    "list_accounts": "admin", "add_account": "admin", "change_account": "admin", "remove_account": "admin",
    "list_reviews": "review", "get_review": "review", "list_pairs": "review", "get_agreement": "review",
    "next_pairs": "review", "renew_leases": "review", "leave_review": "review", "judge_pairs": "review",
    "judge_pairs_below": "review", "undo_verdict": "review", "change_review": "write",
    "add_videos": "write", "remove_video": "write", "add_tags": "write", "remove_tags": "write",
    "list_tokens": "admin", "add_token": "admin", "remove_token": "admin", "read_audit": "admin",
}  # fmt: skip
PUBLIC = {"get_session", "sign_in", "sign_out", "get_shared", "get_shared_thumbnail", "get_shared_media"}
WRITES = {"add_job", "begin_library", "watch_folders"}
BODIES = {
    "add_job": {"kind": "index", "arguments": {"action": "verify"}, "library": "library"},
    "begin_library": {"name": "new", "arguments": {"paths": ["/nowhere"]}},
    "watch_folders": {"folders": []},
    "add_videos": {"paths": ["/nowhere"]},
    "add_tags": {"tags": ["x"]},
    "remove_tags": {"tags": ["x"]},
    "add_collection": {"library": "library", "name": "cats"},
    "change_collection": {"name": "dogs"},
    "keep_moments": {"moments": [{"moment": "0" * 24 + "@0.000-1.000"}]},
    "drop_moments": {"moments": ["0" * 24 + "@0.000-1.000"]},
    "add_account": {"name": "somebody", "scopes": ["read"]},
    "change_account": {"scopes": ["read"]},
    "add_token": {"account": "nobody"},
    "sign_in": {"name": "nobody", "password": PASSWORD},
}
VALUES = {"name": "library", "id": "0" * 16, "secret": "x" * 43, "number": "0"}


def _routes(team: Team) -> Iterator[tuple[str, str, str]]:
    """Operation, method and path of every route of /v1, as the server describes it."""
    for path, methods in team.client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/v1/"):
                yield operation["operationId"], method.upper(), path


def _filled(operation: str, path: str) -> str:
    for name, value in VALUES.items():
        value = "0" * 24 if "/videos/" in path and name == "id" else value
        value = "0" * 12 if operation == "remove_token" else value
        value = "nobody" if "account" in operation else value
        path = path.replace("{" + name + "}", value)
    return f"{path}?format=csv" if operation == "export_collection" else path


def _ask(team: Team, operation: str, method: str, path: str, headers: dict[str, str]) -> int:
    body = BODIES.get(operation, {} if method in ("POST", "PATCH", "PUT") else None)
    return team.client.request(method, _filled(operation, path), json=body, headers=headers).status_code


def test_every_route_takes_the_scope_that_it_should(team: Team) -> None:
    headers = {scope: team.token([scope]) for scope in SCOPES}
    routes = list(_routes(team))
    assert {operation for operation, _, _ in routes} >= set(TAKES) | PUBLIC
    wrong = []
    for operation, method, path in routes:
        if operation in PUBLIC:
            continue
        scope = TAKES.get(operation, "read")  # whatever else there is reads
        without = _ask(team, operation, method, path, {})
        if without != 401:
            wrong.append(f"{operation} without a token: {without}")
        for other in SCOPES:
            status = _ask(team, operation, method, path, headers[other])
            if (status == 403) != (other != scope) or status in (401, 500):
                wrong.append(f"{operation} with {other}: {status}")
    assert wrong == []


def test_metrics_need_a_reader_of_all_libraries(team: Team) -> None:
    for path in ("/v1/models", "/v1/no-such-route", "/metrics"):
        assert team.client.get(path).status_code == 401, path
    assert team.client.get("/metrics", headers=team.token(["read"])).status_code == 200
    for headers in (team.token(["write"]), team.token(["read"], libraries=["other"])):
        assert team.client.get("/metrics", headers=headers).status_code == 403


@pytest.mark.parametrize("path", ["/", "/index.html", "/healthz"])
def test_what_is_no_secret_is_open(team: Team, path: str) -> None:
    assert team.client.get(path).status_code == 200


def test_a_library_that_somebody_may_not_see_is_not_there(team: Team) -> None:
    everybody = team.token(SCOPES)
    ours = team.token(SCOPES, libraries=["library"])
    body = {"library": "other", "name": "theirs"}
    theirs = team.client.post("/v1/collections", json=body, headers=everybody).json()["id"]
    job = {"kind": "index", "library": "other", "arguments": {"action": "verify"}}
    jobs = team.client.post("/v1/jobs", json=job, headers=everybody).json()["id"]
    for method, path, json in (
        ("GET", "/v1/libraries/other", None), ("PUT", "/v1/libraries/other/folders", {"folders": []}),
        ("GET", f"/v1/collections/{theirs}", None), ("DELETE", f"/v1/collections/{theirs}", None),
        ("PATCH", f"/v1/collections/{theirs}", {"name": "x"}), ("POST", f"/v1/collections/{theirs}/share", None),
        ("GET", f"/v1/collections/{theirs}/export?format=csv", None), ("GET", f"/v1/jobs/{jobs}", None),
        ("GET", f"/v1/jobs/{jobs}/events", None), ("POST", f"/v1/jobs/{jobs}/cancel", None),
        ("POST", f"/v1/jobs/{jobs}/retry", None), ("POST", "/v1/jobs", job), ("POST", "/v1/collections", body),
        ("POST", "/v1/search", {"query": "cat", "library": "other"}),
    ):  # fmt: skip
        answer = team.client.request(method, path, json=json, headers=ours)
        assert answer.status_code == 404, (method, path, answer.text)
    listed = [row["name"] for row in team.client.get("/v1/libraries", headers=ours).json()["data"]]
    assert listed == ["library"]
    assert team.client.get("/v1/jobs", headers=ours).json()["data"] == []
    assert team.client.get("/v1/collections", headers=ours).json()["data"] == []
    assert team.client.get(f"/v1/collections/{theirs}", headers=everybody).json()["name"] == "theirs"
