"""Tags over HTTP: who may set them, what is refused, and one kind of tag for videos, moments and collections."""

from tests.web.conftest import Team

from reelseek.web.media import opaque_id


def test_tags_are_set_listed_filtered_and_taken_off(team: Team) -> None:
    writer, reader = team.token(["read", "write"]), team.token(["read", "review"])
    video = opaque_id(team.libraries["other"].videos()[0].id)
    path, query = f"/v1/videos/{video}/tags", {"library": "other"}

    def call(method: str, body: dict[str, object], header: dict[str, str] = writer) -> tuple[int, dict[str, object]]:
        answer = team.client.request(method, path, json=body, headers=header, params=query)
        return answer.status_code, answer.json()

    assert call("POST", {"tags": ["Rome", "<b>sun</b>"]}) == (200, {"tags": ["<b>sun</b>", "Rome"], "moments": []})
    moment = {"tag": "Rome", "start": 0.5, "end": 1.0}
    assert call("POST", {"tags": ["ROME"], "start": 0.5, "end": 1.0})[1]["moments"] == [moment]
    assert call("POST", {"tags": ["x"]}, reader)[0] == 403
    assert call("POST", {"tags": ["fine", "a\nb"]})[0] == 400
    assert call("POST", {"tags": ["x" * 601]})[0] == 422
    assert call("POST", {"tags": ["x"], "start": 1.0})[0] == 400
    assert call("POST", {"tags": ["x"], "start": 90000.0, "end": 90001.0})[0] == 422
    assert team.client.get("/v1/tags", headers=reader, params=query).json()["data"] == [
        {"tag": "<b>sun</b>", "videos": 1, "moments": 0}, {"tag": "Rome", "videos": 1, "moments": 1},
    ]  # fmt: skip
    assert team.client.get("/v1/tags", headers=reader, params={"library": "library"}).json()["data"] == []
    listed = team.client.get("/v1/videos", headers=reader, params={**query, "filter": "tag:rome"}).json()["data"]
    assert [(row["id"], row["tags"]) for row in listed] == [(video, ["<b>sun</b>", "Rome"])]
    found = team.client.post(
        "/v1/search", headers=reader, json={"library": "other", "query": "a cat tag:rome", "limit": 5}
    ).json()["data"]
    assert {row["video"] for row in found} == {video}
    assert call("DELETE", {"tags": ["rome", "nothing"]})[0] == 404
    assert call("DELETE", {"tags": ["rome"]}, reader)[0] == 403
    assert call("DELETE", {"tags": ["rome", "<b>sun</b>"]})[1] == {"tags": [], "moments": [moment]}
    assert call("DELETE", {"tags": ["rome"], "start": 0.5, "end": 1.0})[1] == {"tags": [], "moments": []}
    row = team.services.audit.rows(limit=1)[0]
    assert (row["action"], row["facts"]) == (f"DELETE {path}", {"library": "other", "tags": 1})


def test_a_kept_moment_shares_its_tags_with_its_video(team: Team) -> None:
    header = team.token(["read", "review", "write"])
    moment = team.moment("other", place=1, start=0.25, end=1.5)
    video = moment.partition("@")[0]
    body = {"library": "other", "name": "first"}
    first, second = (
        team.client.post("/v1/collections", json=body, headers=header).json()["id"] for _ in range(2)
    )  # fmt: skip
    kept = {"moments": [{"moment": moment, "tags": ["goal"]}]}
    assert team.client.post(f"/v1/collections/{first}/moments", json=kept, headers=header).status_code == 200
    kept = {"moments": [{"moment": moment, "note": "a note alone leaves them"}]}
    again = team.client.post(f"/v1/collections/{second}/moments", json=kept, headers=header).json()
    assert again["data"][0]["tags"] == ["goal"]
    about = team.client.get(f"/v1/videos/{video}", headers=header, params={"library": "other"}).json()
    assert (about["tags"], about["moment_tags"]) == ([], [{"tag": "goal", "start": 0.25, "end": 1.5}])
    hostile = {"moments": [{"moment": team.moment("other", place=2), "tags": ["a\u202eb"]}]}
    assert team.client.post(f"/v1/collections/{first}/moments", json=hostile, headers=header).status_code == 400
    assert team.client.get(f"/v1/collections/{first}", headers=header).json()["moments"] == 1
    kept = {"moments": [{"moment": moment, "tags": []}]}
    assert team.client.post(f"/v1/collections/{second}/moments", json=kept, headers=header).status_code == 200
    whole = team.client.get(f"/v1/collections/{first}", headers=header).json()
    assert [row["tags"] for row in whole["data"]] == [[]]
